"""A map over the scan: projections and the slices through its maximum, with the CT where it is seen, as one PNG."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from scipy import ndimage

from twobe3.core.mip import SUV_WINDOW, choose_hu_window
from twobe3.report.mips import project_farthest

Volume = npt.NDArray[np.float32]
Spacing = Sequence[float]

COLOURS = LinearSegmentedColormap.from_list("risk", ("#053061", "#4393c3", "#f7f7f7", "#e66101", "#7f3b08"))
"""Orange raises the risk, blue lowers it: told apart in the common kinds of colour blindness (ColorBrewer)."""
CONTOUR = "#b5179e"
FUSED = "hot"  # of the PET over the CT
FAINTEST = 0.1  # of the strongest voxel: what is weaker has no colour
SMOOTHING_MM = 6.0  # full width at half maximum, of what is drawn; the map itself is not smoothed
WIDTH_INCH = 11.0
LEAST_SUV = 0.1  # of what is in the picture
BANNER_INCH = 0.4  # from the upper edge: below the title
MARGIN = 3  # voxels around it


@dataclass(frozen=True, eq=False)
class CTOverlay:
    """The CT of a scan on its grid, and what each of its voxels adds to the risk.

    Attributes
    ----------
    hu, relevance : ndarray of float32, shape (slices, rows, columns)
    """

    hu: Volume
    relevance: Volume


@dataclass(frozen=True, eq=False)
class _Panel:
    """One picture: a grey image, what is laid over it, and how much that is."""

    title: str
    grey: Volume
    over: Volume
    outline: npt.NDArray[np.bool_]
    aspect: float
    sides: tuple[str, str]
    window: tuple[float, float] = SUV_WINDOW
    of_ct: bool = False
    bound: float | None = None  # of a map; None: what lies over it is the PET


def draw_overlay(
    suv: Volume,
    spacing_mm: Spacing,
    relevance: Volume,
    contour: npt.NDArray[np.bool_] | None = None,
    *,
    ct: CTOverlay | None = None,
    title: str = "",
    failed: Sequence[str] = (),
) -> bytes:
    """Draw what raises and lowers a risk over inverse grey PET, and over the CT.

    Projections from the front and from the patient's left, and the axial and coronal slice through the voxel that
    raises the risk most. A projection shows the strongest value along its rays, with its sign. With a CT, below: PET
    and CT in one at the same place, and the slices of the CT through the voxel of it that raises the risk most. CT is
    shown in the window of soft tissue, and where there is lung at that place in that of the lung.

    Parameters
    ----------
    suv, relevance : ndarray of float32, shape (slices, rows, columns)
        From feet to head, front to back, right to left.
    spacing_mm : sequence of float
        Of slices, rows and columns.
    contour : ndarray of bool, optional
        Drawn as an outline.
    ct : CTOverlay, optional
        Of the same shape.
    title : str
    failed : sequence of str
        The checks that the map failed, which are written over it.

    Returns
    -------
    bytes
        A PNG; the same input gives the same bytes.
    """
    seen = _crop(suv)
    outline = np.zeros(suv.shape, np.bool_)[seen] if contour is None else contour[seen]
    suv, smooth = suv[seen], _smooth(relevance[seen], spacing_mm)
    rows = [list(_panels_of_pet(suv, smooth, outline, spacing_mm))]
    if ct is not None:
        ct = CTOverlay(ct.hu[seen], _smooth(ct.relevance[seen], spacing_mm))
        rows.append(list(_panels_of_ct(suv, smooth, ct, outline, spacing_mm)))
    with mpl.rc_context({"font.size": 9, "svg.hashsalt": "twobe3"}):
        figure = Figure(figsize=(WIDTH_INCH, _height_inch(suv.shape, spacing_mm, len(rows))), layout="constrained")
        panels = figure.subplots(len(rows), 4, squeeze=False)
        for axes, row in zip(panels, rows, strict=True):
            shown = [_draw_panel(axis, panel) for axis, panel in zip(axes, row, strict=True)]
            _draw_bars(figure, axes, row, shown)
        figure.suptitle(f"{title}\n\n" if failed else title, x=0.01, ha="left")  # room for what follows
        if failed:
            figure.text(
                0.015, 1 - BANNER_INCH / figure.get_figheight(),
                f"Not to be trusted: this map failed {', '.join(failed)}",
                va="top", color="white", weight="bold", bbox={"facecolor": "#a11", "edgecolor": "none", "pad": 4},
            )  # fmt: skip
        target = io.BytesIO()
        figure.savefig(target, format="png", dpi=130, metadata={"Software": None})
    return target.getvalue()


def _panels_of_pet(
    suv: Volume, relevance: Volume, outline: npt.NDArray[np.bool_], spacing_mm: Spacing
) -> Iterator[_Panel]:
    bound = _bound(relevance)
    slice_mm, row_mm, column_mm = spacing_mm
    for name, axis, aspect, sides in (
        ("front", 1, slice_mm / column_mm, ("R", "L")),
        ("from the left", 2, slice_mm / row_mm, ("front", "back")),
    ):
        drawn = np.asarray(outline.any(axis))
        yield _Panel(name, suv.max(axis), project_farthest(relevance, axis), drawn, aspect, sides, bound=bound)
    for name, cut, aspect in _slices(_find_strongest(relevance), spacing_mm):
        yield _Panel(name, suv[cut], relevance[cut], outline[cut], aspect, ("R", "L"), bound=bound)


def _panels_of_ct(
    suv: Volume, relevance: Volume, ct: CTOverlay, outline: npt.NDArray[np.bool_], spacing_mm: Spacing
) -> Iterator[_Panel]:
    for name, at, over, of_map in (
        ("PET on CT", _find_strongest(relevance), suv, None),
        ("CT", _find_strongest(ct.relevance), ct.relevance, _bound(ct.relevance)),
    ):
        window = choose_hu_window(ct.hu, at)
        for cut_name, cut, aspect in _slices(at, spacing_mm):
            yield _Panel(
                f"{name}, {cut_name}", ct.hu[cut], over[cut], outline[cut], aspect, ("R", "L"), window, True, of_map
            )


def _slices(at: tuple[int, ...], spacing_mm: Spacing) -> Iterator[tuple[str, tuple[slice | int, ...], float]]:
    """Name, index and aspect of the coronal and the axial slice through a voxel."""
    slice_mm, row_mm, column_mm = spacing_mm
    yield "coronal slice", (slice(None), at[1]), slice_mm / column_mm
    yield "axial slice", (at[0],), row_mm / column_mm


def _smooth(relevance: Volume, spacing_mm: Spacing) -> Volume:
    return np.asarray(ndimage.gaussian_filter(relevance, [SMOOTHING_MM / 2.355 / mm for mm in spacing_mm]))


def _bound(relevance: Volume) -> float:
    """Where the colours of a map end; each image has its own."""
    return float(np.abs(relevance).max()) or 1.0


def _find_strongest(relevance: Volume) -> tuple[int, ...]:
    """The voxel that raises the risk most."""
    return tuple(int(i) for i in np.unravel_index(int(relevance.argmax()), relevance.shape))


def _draw_panel(axes: Axes, panel: _Panel) -> tuple[mpl.image.AxesImage, mpl.image.AxesImage]:
    upright = "axial" not in panel.title
    grey, over, outline = (one[::-1] if upright else one for one in (panel.grey, panel.over, panel.outline))
    how: dict[str, Any] = {"aspect": panel.aspect, "interpolation": "nearest"}
    low, high = panel.window
    below = axes.imshow(grey, cmap="gray" if panel.of_ct else "gray_r", vmin=low, vmax=high, **how)
    if panel.bound is None:
        low, high = SUV_WINDOW
        weight = np.clip((over - low) / (high - low), 0, 1)
        above = axes.imshow(over, cmap=FUSED, vmin=low, vmax=high, alpha=0.8 * np.sqrt(weight), **how)
    else:
        weight = np.clip((np.abs(over) / panel.bound - FAINTEST) / (0.5 - FAINTEST), 0, 1)
        above = axes.imshow(over, cmap=COLOURS, vmin=-panel.bound, vmax=panel.bound, alpha=0.75 * weight, **how)
    if outline.any() and not outline.all():
        axes.contour(outline, levels=[0.5], colors=CONTOUR, linewidths=1.0)
    axes.set(xticks=[], yticks=[])
    axes.set_title(panel.title)
    for x, text, align in ((0.02, panel.sides[0], "left"), (0.98, panel.sides[1], "right")):
        axes.text(
            x, 0.02, text, transform=axes.transAxes, ha=align, va="bottom", color="white" if panel.of_ct else "black"
        )
    return below, above


def _draw_bars(
    figure: Figure,
    axes: npt.NDArray[np.object_],
    row: Sequence[_Panel],
    shown: Sequence[tuple[mpl.image.AxesImage, mpl.image.AxesImage]],
) -> None:
    """Below a row the scales of its first and of its last panels."""
    how: dict[str, Any] = {"shrink": 0.5, "location": "bottom", "fraction": 0.04}
    fused = row[0].bound is None
    figure.colorbar(shown[0][1 if fused else 0], ax=axes[:2], label="SUV", **how)
    bound = row[-1].bound or 1.0
    bar = figure.colorbar(shown[-1][1], ax=axes[2:], format="%.2g", ticks=[-bound, 0, bound], **how)
    bar.set_label("adds to the risk, per voxel")


def _crop(suv: Volume) -> tuple[slice, ...]:
    """The box around what has uptake, and a margin."""
    there = np.argwhere(suv > LEAST_SUV)
    if not len(there):
        return (slice(None),) * 3
    low, high = np.maximum(there.min(0) - MARGIN, 0), there.max(0) + MARGIN + 1
    return tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))


def _height_inch(shape: Sequence[int], spacing_mm: Spacing, rows: int) -> float:
    """Room for the tallest panels, the title and the bars."""
    lengths = [n * mm for n, mm in zip(shape, spacing_mm, strict=True)]
    tallest = max(lengths[0] / lengths[2], lengths[0] / lengths[1], lengths[1] / lengths[2])
    return rows * min(12.8, WIDTH_INCH / 4 * tallest + 1.0) + 0.6
