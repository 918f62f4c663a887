"""The figures that code draws when the site is built, from a phantom and the packaged 2D network; nothing by hand."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch, FancyBboxPatch

from twobe3.features.backbones import load_backbone
from twobe3.features.stacks import POSITIONS, pool_stack
from twobe3.phantom import make_array

SEED, SPACING_MM, LAYER = 10, 6.0, 3
INK, ORANGE = "#30343b", "#c8571b"
HIGH, LOW, MIDDLE = 0.84, 0.02, 0.43  # of the pictures, as shares of the figure


def draw_twobe3net(path: Path) -> None:
    """How a scan becomes a risk: volume, slices, maps, stacks, 3D CNN."""
    suv = make_array(SEED, spacing_mm=SPACING_MM)
    stack = _compute_maps(suv)
    lesions = stack[int((stack.amax((1, 2, 3)) - stack.mean((1, 2, 3))).argmax())]  # the one that stands out most
    coarse = pool_stack(lesions[None], "image")[1].numpy()  # its maxima
    maps, size_mm = lesions.numpy(), tuple(SPACING_MM * np.array(suv.shape))
    hottest = int(maps.max(axis=(1, 2)).argmax())
    with matplotlib.rc_context({"font.size": 9, "svg.fonttype": "none", "svg.hashsalt": "twobe3", "text.color": INK}):
        figure = Figure(figsize=(11, 4.1), facecolor="white")
        volume = _show(figure, 0.01, 0.15, suv.max(axis=1)[::-1], size_mm, suv=True)
        _name(figure, 0.01, "1  SUV volume", f"{_sizes(suv.shape)} voxels")
        _name(figure, 0.20, "2  every slice", "of each plane")
        _name(figure, 0.36, "3  2D network", f"{len(stack)} maps of a slice, one shown")
        for place, number in enumerate(sorted({len(suv) - 14, hottest, len(suv) // 3}, reverse=True)):
            low = HIGH - 0.27 * (place + 1)
            height_mm = SPACING_MM * (number + 0.5)
            square = (size_mm[1], size_mm[2])
            slice_ = _show(figure, 0.20, 0.10, suv[number], square, low=low, height=0.25, suv=True)
            made = _show(figure, 0.36, 0.10, maps[number], square, low=low, height=0.25, most=maps.max())
            volume.axhline(height_mm, color=ORANGE, linewidth=0.8)
            _arrow(figure, (volume, (size_mm[2], height_mm)), (slice_, (0, square[0] / 2)))
            _arrow(figure, (slice_, (square[1], square[0] / 2)), (made, (0, square[0] / 2)))
        whole = _show(figure, 0.54, 0.15, maps.max(axis=1)[::-1], size_mm)
        _name(figure, 0.54, "4  maps stacked again", f"{_sizes(maps.shape)} positions")
        small = _show(figure, 0.71, 0.15, coarse.max(axis=1)[::-1], size_mm)
        _name(figure, 0.71, "5  pooled", f"{_sizes(POSITIONS['image'])} positions")
        _arrow(figure, (whole, (size_mm[2], size_mm[0] / 2)), (small, (0, size_mm[0] / 2)))
        boxes = figure.add_axes((0.87, LOW, 0.13, HIGH - LOW), xlim=(0, 1), ylim=(0, 1))
        boxes.set_axis_off()
        _name(figure, 0.875, "6  3D network", "an expert a stack")
        for place, (text, colour) in enumerate(
            (("3D CNN", INK), ("weighed by what\nit predicts of\nothers", INK), ("risk", ORANGE))
        ):
            low = 0.72 - 0.32 * place
            box = FancyBboxPatch((0.1, low), 0.78, 0.18, boxstyle="round,pad=0.03", fill=False, edgecolor=colour)
            boxes.add_patch(box)
            boxes.text(0.5, low + 0.09, text, ha="center", va="center", color=colour, fontsize=8.5)
            if place:
                boxes.annotate("", (0.5, low + 0.21), (0.5, low + 0.29), arrowprops={"arrowstyle": "->", "color": INK})
        _arrow(figure, (small, (size_mm[2], size_mm[0] / 2)), (boxes, (0.06, 0.81)))
        figure.savefig(path, metadata={"Date": None, "Creator": None})


def _compute_maps(suv: npt.NDArray[np.float32]) -> torch.Tensor:
    """Maps of every axial slice, stacked: (channels, slices, rows, columns)."""
    backbone = load_backbone("pet-lesions")
    parts = [backbone.maps(part.unsqueeze(1), LAYER) for part in torch.from_numpy(suv).split(32)]
    return torch.cat(parts).movedim(0, 1)


def _show(
    figure: Figure, left: float, width: float, picture: npt.NDArray[np.float32], size_mm: tuple[float, ...], *,
    low: float = LOW, height: float = HIGH - LOW, suv: bool = False, most: float | None = None,
) -> Axes:  # fmt: skip
    """A picture whose last and first length in mm are its sides, in inverse grey from SUV 0 to 7 or in warm colours."""
    axes = figure.add_axes((left, low, width, height))
    looks = {"cmap": "gray_r", "vmin": 0, "vmax": 7} if suv else {"cmap": "inferno", "vmin": 0, "vmax": most}
    axes.imshow(picture, extent=(0, size_mm[-1], 0, size_mm[0]), interpolation="nearest", **looks)
    axes.set_axis_off()
    return axes


def _name(figure: Figure, left: float, title: str, below: str) -> None:
    figure.text(left, 0.945, title, weight="bold")
    figure.text(left, 0.885, below, fontsize=8)


def _arrow(figure: Figure, start: tuple[Axes, tuple[float, float]], end: tuple[Axes, tuple[float, float]]) -> None:
    (a, at), (b, to) = start, end
    line = ConnectionPatch(
        at, to, "data", "data", axesA=a, axesB=b, arrowstyle="->", color=INK, linewidth=0.8, zorder=9
    )
    figure.add_artist(line)


def _sizes(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))


if __name__ == "__main__":
    draw_twobe3net(Path("twobe3net.svg"))
