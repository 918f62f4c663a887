"""Print the reference values of IBSI 1 and 2 beside what this project computes, as Markdown.

    python scripts/ibsi_table.py FOLDER [--chest PHANTOM] [--only-wrong]

``FOLDER`` holds ``digital_phantom/`` and the reference values of IBSI 1, ``ibsi_1_dig_phantom.csv`` and
``ibsi_1_chest_config_a.csv`` to ``…_e.csv``; ``PHANTOM``, at any depth, ``phantom.nii.gz`` and ``mask.nii.gz`` of
IBSI's CT phantom (https://github.com/theibsi/data_sets, ``ibsi_1_ct_radiomics_phantom/nifti``).

The digital phantom is computed as a study file can have it. Configurations A to E of the CT phantom, and 3.B of IBSI 2,
go through the same wrapper with MIRP's own settings, for a study file has no HU, no re-segmentation and no slices.
Within: by the published tolerance or to the three digits published.
"""

from __future__ import annotations

import argparse
import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from twobe3.features.radiomics import IBSI_FAMILIES, FeatureVector, RadiomicsSettings, ibsi_features
from twobe3.io.nifti import read_nifti

LEVELS = RadiomicsSettings(spacing_mm=None, bin_width_suv=None)
# What the wrapper's names say of an aggregation, and what IBSI's tags say: it leaves its own one out.
AGGREGATIONS = {
    "2d_avg": "2D_avg", "2d_s_mrg": "2D_comb", "2.5d_d_mrg": "2_5D_avg", "2.5d_v_mrg": "2_5D_comb", "3d_avg": "3D_avg",
    "2d": "2D", "2.5d": "2_5D",
}  # fmt: skip
OWN_AGGREGATION = {"cm": "_3D_comb", "rlm": "_3D_comb"} | dict.fromkeys(("szm", "dzm", "ngt", "ngl"), "_3D")


@dataclass(frozen=True)
class CTSettings(RadiomicsSettings):
    """A configuration for CT, whose interpolated values MIRP rounds to whole HU, in MIRP's words."""

    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def modality(self) -> Literal["ct"]:
        """CT."""
        return "ct"

    def to_mirp(self) -> dict[str, Any]:
        """The configuration."""
        return {"base_feature_families": list(IBSI_FAMILIES), "anti_aliasing": False, **self.arguments}


def _by_slice() -> dict[str, Any]:
    matrices = ["2d_average", "2d_slice_merge", "2.5d_direction_merge", "2.5d_volume_merge"]
    return {"by_slice": True, **_aggregated(matrices, ["2d", "2.5d"])}


def _aggregated(matrices: list[str], zones: list[str]) -> dict[str, Any]:
    return {f"{family}_spatial_method": matrices for family in ("glcm", "glrlm")} | {
        f"{family}_spatial_method": zones for family in ("glszm", "gldzm", "ngtdm", "ngldm")
    }


IN_3D = _aggregated(["3d_average", "3d_volume_merge"], ["3d"])
TRILINEAR_2_MM = {"new_spacing": 2.0, "spline_order": 1}
BINS_OF_25_HU = {"base_discretisation_method": "fixed_bin_size", "base_discretisation_bin_width": 25.0}
BINS_32 = {"base_discretisation_method": "fixed_bin_number", "base_discretisation_n_bins": 32}
LEVELS_OF_1_HU = {"ivh_discretisation_method": "none"}
# IBSI reference manual (arXiv:1612.07003), table of the configurations of the CT phantom.
CONFIGURATIONS = {
    "A": CTSettings(
        arguments={**_by_slice(), **BINS_OF_25_HU, **LEVELS_OF_1_HU, "resegmentation_intensity_range": [-500.0, 400.0]}
    ),
    "B": CTSettings(
        arguments={
            **_by_slice(), **TRILINEAR_2_MM, **BINS_32, **LEVELS_OF_1_HU,
            "resegmentation_intensity_range": [-500.0, 400.0],
        }
    ),
    "C": CTSettings(
        arguments={
            **IN_3D, **TRILINEAR_2_MM, **BINS_OF_25_HU, "resegmentation_intensity_range": [-1000.0, 400.0],
            "ivh_discretisation_method": "fixed_bin_size", "ivh_discretisation_bin_width": 2.5,
        }
    ),
    "D": CTSettings(arguments={**IN_3D, **TRILINEAR_2_MM, **BINS_32, **LEVELS_OF_1_HU, "resegmentation_sigma": 3.0}),
    "E": CTSettings(
        arguments={
            **IN_3D, **BINS_32, "new_spacing": 2.0, "spline_order": 3,
            "resegmentation_intensity_range": [-1000.0, 400.0], "resegmentation_sigma": 3.0,
            "ivh_discretisation_method": "fixed_bin_number", "ivh_discretisation_n_bins": 1000,
        }
    ),
}  # fmt: skip
# IBSI 2 (Whybra P et al., Radiology 310:e231319, 2024), phase 2, configuration 3.B: Laplacian of a Gaussian of 1.5 mm.
LAPLACIAN_3B = CTSettings(
    arguments={
        "base_feature_families": "none", "new_spacing": 1.0, "spline_order": 3,
        "resegmentation_intensity_range": [-1000.0, 400.0], "filter_kernels": ["laplacian_of_gaussian"],
        "laplacian_of_gaussian_sigma": [1.5], "response_map_feature_families": ["statistics"],
    }
)  # fmt: skip
PUBLISHED_3B = {
    "mean": (-2.94, 0.2), "var": (720, 33), "skew": (0.428, 0.009), "kurt": (6.13, 0.27), "median": (-0.919, 0.024),
    "min": (-173, 5), "p10": (-32.2, 0.5), "p90": (17.4, 1.9), "max": (204, 1), "iqr": (11.4, 0.3), "range": (377, 5),
    "mad": (15.5, 0.4), "rmad": (6.37, 0.19), "medad": (15.3, 0.4), "cov": (-9.12, 1.63), "qcod": (-2.34, 0.07),
    "energy": (2.61e8, 1.9e7), "rms": (27, 0.6),
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A feature: computed, published, and the published tolerance."""

    tag: str
    ours: float
    reference: float
    tolerance: float

    @property
    def within(self) -> bool:
        """Whether the two agree."""
        close = abs(self.ours - self.reference) <= self.tolerance
        return close or float(f"{self.ours:.3g}") == self.reference


def phantom_features(folder: Path, settings: RadiomicsSettings) -> FeatureVector:
    (levels, geometry), (labels, _) = (read_nifti(_only(folder, name)) for name in ("phantom.nii.gz", "mask.nii.gz"))
    image: npt.NDArray[np.float32] = levels.astype(np.float32)
    return ibsi_features(image, labels > 0, geometry.spacing_mm, settings)


def read_published(path: Path) -> dict[str, tuple[float, float]]:
    """Reference value and tolerance by IBSI's tag, of the features that there is a consensus on."""
    with path.open() as lines:
        rows = list(csv.DictReader(lines, delimiter=";"))
    of_image = re.compile("_(img|roi)$")  # sizes and ranges of image and region on the way
    return {
        row["tag"]: (float(row["reference value"]), float(row["tolerance"]))
        for row in rows
        if row["reference value"] and not of_image.search(row["tag"])
    }


def compare_with_published(found: FeatureVector, references: Mapping[str, tuple[float, float]]) -> list[Row]:
    """The published features that are computed, in their order."""
    ours = dict(zip(map(_to_ibsi, found.names), found.values, strict=True))
    return [Row(tag, float(ours[tag]), *pair) for tag, pair in references.items() if tag in ours]


def compare_laplacian(chest: Path) -> list[Row]:
    """Configuration 3.B of IBSI 2."""
    published = {f"log_s_1.5_stat_{name}": pair for name, pair in PUBLISHED_3B.items()}
    return compare_with_published(phantom_features(chest, LAPLACIAN_3B), published)


def format_rows(title: str, rows: Iterable[Row], *, only_wrong: bool = False) -> None:
    rows = list(rows)
    print(f"{title}: {sum(row.within for row in rows)} of {len(rows)} features within tolerance.\n")
    shown = [row for row in rows if not (only_wrong and row.within)]
    if shown:
        print("| feature | ours | reference | tolerance | within |\n|---|---|---|---|---|")
    for row in shown:
        said = "yes" if row.within else "**no**"
        print(f"| {row.tag} | {row.ours:.4g} | {row.reference:g} | {row.tolerance:g} | {said} |")
    print()


def _to_ibsi(name: str) -> str:
    """``"cm_contrast"`` becomes ``"cm_contrast_3D_comb"``, ``"cm_contrast_d1_2d_avg"`` ``"cm_contrast_2D_avg"``."""
    aggregated = re.fullmatch(r"(.+?)(?:_d1)?(?:_a0\.0)?_((?:2d|2\.5d|3d)(?:_\w+)?)", name)
    if aggregated:
        return f"{aggregated[1]}_{AGGREGATIONS[aggregated[2]]}"
    return name + OWN_AGGREGATION.get(name.split("_")[0], "")


def _only(folder: Path, name: str) -> Path:
    found = sorted(folder.rglob(name))
    if len(found) != 1:
        raise SystemExit(f"{folder.name}: {len(found)} files are called {name}, one is needed")
    return found[0]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--chest", type=Path, metavar="PHANTOM")
    parser.add_argument("--only-wrong", action="store_true", help="of the features, those out of tolerance only")
    asked = parser.parse_args(arguments)

    def show(title: str, rows: Iterable[Row]) -> None:
        format_rows(title, rows, only_wrong=asked.only_wrong)

    digital = phantom_features(asked.folder / "digital_phantom", LEVELS)
    published = read_published(asked.folder / "ibsi_1_dig_phantom.csv")
    show("IBSI-1 digital phantom", compare_with_published(digital, published))
    if asked.chest is None:
        return
    for letter, settings in CONFIGURATIONS.items():
        published = read_published(asked.folder / f"ibsi_1_chest_config_{letter.lower()}.csv")
        rows = compare_with_published(phantom_features(asked.chest, settings), published)
        show(f"IBSI-1 CT phantom, configuration {letter}", rows)
    show("IBSI-2 CT phantom, configuration 3.B", compare_laplacian(asked.chest))


if __name__ == "__main__":
    main()
