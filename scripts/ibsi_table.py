"""Print IBSI-1's reference values beside what this project computes, as Markdown.

    python scripts/ibsi_table.py FOLDER [--chest PHANTOM]

``FOLDER`` holds ``digital_phantom/`` and the reference values, ``ibsi_1_dig_phantom.csv`` and
``ibsi_1_chest_config_c.csv``; ``PHANTOM``, at any depth, ``phantom.nii.gz`` and ``mask.nii.gz`` of IBSI's CT phantom
(https://github.com/theibsi/data_sets, ``ibsi_1_ct_radiomics_phantom/nifti``). Values of the 3D aggregations only, which
are those that the project uses. Within: by the published tolerance or, where that is 0, to the digits published.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from twobe3.features.radiomics import IBSI_FAMILIES, FeatureVector, RadiomicsSettings, ibsi_features
from twobe3.io.nifti import read_nifti

SUFFIXES = ("", "_3D_comb", "_3D")  # IBSI's, of the aggregations that the project uses
LEVELS = RadiomicsSettings(spacing_mm=None, bin_width_suv=None)


@dataclass(frozen=True)
class ChestC(RadiomicsSettings):
    """Configuration C of IBSI-1: CT on voxels of 2 mm, trilinear, −1000 to 400 HU, bins of 25 HU, of 2.5 HU for IVH."""

    spacing_mm: float | None = 2.0

    @property
    def modality(self) -> str:
        """CT, whose interpolated values MIRP rounds to whole HU, as the configuration says."""
        return "ct"

    def to_mirp(self) -> dict[str, Any]:
        """The configuration in MIRP's words, as its own tests of conformity have it."""
        return {
            "base_feature_families": list(IBSI_FAMILIES),
            "new_spacing": self.spacing_mm,
            "spline_order": 1,
            "anti_aliasing": False,
            "resegmentation_intensity_range": [-1000.0, 400.0],
            "base_discretisation_method": "fixed_bin_size",
            "base_discretisation_bin_width": 25.0,
            "ivh_discretisation_method": "fixed_bin_size",
            "ivh_discretisation_bin_width": 2.5,
        }


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
    """Reference value and tolerance by IBSI's tag; features without a consensus have none."""
    with path.open() as lines:
        rows = list(csv.DictReader(lines, delimiter=";"))
    return {
        row["tag"]: (float(row["reference value"]), float(row["tolerance"])) for row in rows if row["reference value"]
    }


def compare_with_published(found: FeatureVector, references: Mapping[str, tuple[float, float]]) -> list[Row]:
    """The published features that are computed, in their order."""
    ours = {name + suffix: value for name, value in zip(found.names, found.values, strict=True) for suffix in SUFFIXES}
    return [Row(tag, float(ours[tag]), *pair) for tag, pair in references.items() if tag in ours]


def format_rows(title: str, rows: Iterable[Row]) -> None:
    rows = list(rows)
    print(f"{title}: {sum(row.within for row in rows)} of {len(rows)} features within tolerance.\n")
    print("| feature | ours | reference | tolerance | within |\n|---|---|---|---|---|")
    for row in rows:
        said = "yes" if row.within else "**no**"
        print(f"| {row.tag} | {row.ours:.4g} | {row.reference:g} | {row.tolerance:g} | {said} |")
    print()


def _only(folder: Path, name: str) -> Path:
    found = sorted(folder.rglob(name))
    if len(found) != 1:
        raise SystemExit(f"{folder.name}: {len(found)} files are called {name}, one is needed")
    return found[0]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--chest", type=Path, metavar="PHANTOM")
    asked = parser.parse_args(arguments)
    digital = phantom_features(asked.folder / "digital_phantom", LEVELS)
    format_rows(
        "IBSI-1 digital phantom",
        compare_with_published(digital, read_published(asked.folder / "ibsi_1_dig_phantom.csv")),
    )
    if asked.chest is not None:
        references = read_published(asked.folder / "ibsi_1_chest_config_c.csv")
        format_rows(
            "IBSI-1 CT phantom, configuration C",
            compare_with_published(phantom_features(asked.chest, ChestC()), references),
        )


if __name__ == "__main__":
    main()
