"""A map over the scan: projections and the slices through its maximum, as one PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from scipy import ndimage

from twobe3.core.mip import SUV_WINDOW
from twobe3.report.mips import project_farthest

Volume = npt.NDArray[np.float32]

COLOURS = LinearSegmentedColormap.from_list("risk", ("#053061", "#4393c3", "#f7f7f7", "#e66101", "#7f3b08"))
"""Orange raises the risk, blue lowers it: told apart in the common kinds of colour blindness (ColorBrewer)."""
CONTOUR = "#b5179e"
FAINTEST = 0.1  # of the strongest voxel: what is weaker has no colour
SMOOTHING_MM = 6.0  # full width at half maximum, of what is drawn; the map itself is not smoothed
WIDTH_INCH = 11.0
LEAST_SUV = 0.1  # of what is in the picture
BANNER_INCH = 0.4  # from the upper edge: below the title
MARGIN = 3  # voxels around it


def draw_overlay(
    suv: Volume,
    spacing_mm: Sequence[float],
    relevance: Volume,
    contour: npt.NDArray[np.bool_] | None = None,
    *,
    title: str = "",
    failed: Sequence[str] = (),
) -> bytes:
    """Draw what raises and lowers a risk over inverse grey PET.

    Projections from the front and from the patient's left, and the axial and coronal slice through the voxel that
    raises the risk most. A projection shows the strongest value along its rays, with its sign.

    Parameters
    ----------
    suv, relevance : ndarray of float32, shape (slices, rows, columns)
        From feet to head, front to back, right to left.
    spacing_mm : sequence of float
        Of slices, rows and columns.
    contour : ndarray of bool, optional
        Drawn as an outline.
    title : str
    failed : sequence of str
        The checks that the map failed, which are written over it.

    Returns
    -------
    bytes
        A PNG; the same input gives the same bytes.
    """
    seen = _crop(suv)
    suv, relevance = suv[seen], relevance[seen]
    sigma = [SMOOTHING_MM / 2.355 / mm for mm in spacing_mm]
    smooth = ndimage.gaussian_filter(relevance, sigma)
    at = np.unravel_index(int(smooth.argmax()), smooth.shape)
    slice_mm, row_mm, column_mm = spacing_mm
    bound = float(np.abs(smooth).max()) or 1.0
    with mpl.rc_context({"font.size": 9, "svg.hashsalt": "twobe3"}):
        figure = Figure(figsize=(WIDTH_INCH, _height_inch(suv.shape, spacing_mm)), layout="constrained")
        panels = figure.subplots(1, 4)
        outline = np.zeros(suv.shape, np.bool_) if contour is None else contour[seen]
        views = (
            ("front", suv.max(1), project_farthest(smooth, 1), outline.any(1), slice_mm / column_mm, ("R", "L")),
            (
                "from the left",
                suv.max(2),
                project_farthest(smooth, 2),
                outline.any(2),
                slice_mm / row_mm,
                ("front", "back"),
            ),
            ("coronal slice", suv[:, at[1]], smooth[:, at[1]], outline[:, at[1]], slice_mm / column_mm, ("R", "L")),
            ("axial slice", suv[at[0]], smooth[at[0]], outline[at[0]], row_mm / column_mm, ("R", "L")),
        )
        for panel, (name, grey, colour, drawn, aspect, sides) in zip(panels, views, strict=True):
            upright = name != "axial slice"
            pictures = [one[::-1] if upright else one for one in (grey, colour, drawn)]
            shown = _draw_view(panel, *pictures, bound=bound, aspect=aspect)
            panel.set_title(name)
            for x, text, align in ((0.02, sides[0], "left"), (0.98, sides[1], "right")):
                panel.text(x, 0.02, text, transform=panel.transAxes, ha=align, va="bottom", color="black")
        figure.colorbar(shown[0], ax=panels[:2], label="SUV", shrink=0.5, location="bottom", fraction=0.04)
        bar = figure.colorbar(
            shown[1],
            ax=panels[2:],
            shrink=0.5,
            location="bottom",
            fraction=0.04,
            ticks=[-bound, 0, bound],
            format="%.2g",
        )
        bar.set_label("adds to the risk, per voxel")
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


def _draw_view(
    panel: Axes,
    grey: Volume,
    colour: Volume,
    drawn: npt.NDArray[np.bool_],
    *,
    bound: float,
    aspect: float,
) -> tuple[mpl.image.AxesImage, mpl.image.AxesImage]:
    low, high = SUV_WINDOW
    pet = panel.imshow(grey, cmap="gray_r", vmin=low, vmax=high, aspect=aspect, interpolation="nearest")
    weight = np.clip((np.abs(colour) / bound - FAINTEST) / (0.5 - FAINTEST), 0, 1)
    over = panel.imshow(
        colour, cmap=COLOURS, vmin=-bound, vmax=bound, alpha=0.75 * weight, aspect=aspect, interpolation="nearest"
    )
    if drawn.any() and not drawn.all():
        panel.contour(drawn, levels=[0.5], colors=CONTOUR, linewidths=1.0)
    panel.set(xticks=[], yticks=[])
    return pet, over


def _crop(suv: Volume) -> tuple[slice, ...]:
    """The box around what has uptake, and a margin."""
    there = np.argwhere(suv > LEAST_SUV)
    if not len(there):
        return (slice(None),) * 3
    low, high = np.maximum(there.min(0) - MARGIN, 0), there.max(0) + MARGIN + 1
    return tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))


def _height_inch(shape: Sequence[int], spacing_mm: Sequence[float]) -> float:
    """Room for the tallest panel, the title and the bars."""
    lengths = [n * mm for n, mm in zip(shape, spacing_mm, strict=True)]
    tallest = max(lengths[0] / lengths[2], lengths[0] / lengths[1], lengths[1] / lengths[2])
    return min(14.0, WIDTH_INCH / 4 * tallest + 1.6)
