"""How far one scan is from itself, and from other patients' scans: the table in docs/reference/collections.md.

TWOBE3_DATA=... python benchmarks/duplicates.py
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from twobe3.core.volume import SUVVolume
from twobe3.dicom.series import choose_series, find_series
from twobe3.dicom.volume import read_suv
from twobe3.scans.fingerprint import Landmarks, Picture, compare_landmarks, find_landmarks, similarity


def main() -> None:
    data = Path(os.environ["TWOBE3_DATA"])
    scans = [picture(read_suv(one)) for one in choose_series(find_series([data / "sts/dicom"]).series)[0]]
    whole = picture(read_suv(choose_series(find_series([data / "ge_whole_body"]).series)[0][0]))
    prints = [find_landmarks(scan.suv, scan.spacing_mm) for scan in scans]
    print("| second scan | pairs | landmarks shared: lowest, median, highest | r: lowest, median, highest |")
    print("|---|---|---|---|")
    others = [compare_landmarks(prints, *pair) for pair in combinations(range(len(prints)), 2)]
    shared = [one.shared for one in others]
    row("another patient", shared, [similarity(scans[a.first], scans[a.second], a.offset_mm) for a in others])
    found: dict[str, list[tuple[int, float]]] = {}
    for own, scan in zip(prints, scans, strict=True):
        for what, changed in changes(scan):
            found.setdefault(what, []).append(distance(scan, own, changed))
    found["the whole body of which it is a crop"] = [distance(scans[0], prints[0], whole)]
    for what, pairs in found.items():
        row(what, [n for n, _ in pairs], [r for _, r in pairs])


def picture(volume: SUVVolume) -> Picture:
    return Picture(volume.array, volume.geometry.spacing_mm)


def distance(scan: Picture, own: Landmarks, other: Picture) -> tuple[int, float]:
    found = compare_landmarks([own, find_landmarks(other.suv, other.spacing_mm)], 0, 1)
    return found.shared, similarity(scan, other, found.offset_mm)


def changes(scan: Picture) -> Iterator[tuple[str, Picture]]:
    suv, top = scan.suv, float(scan.suv.max())
    noise = np.random.default_rng(0).normal(0, 0.05, suv.shape)
    changed = {
        "itself, encoded anew in 8 bits": np.round(suv / top * 255) * top / 255,
        "without its last 2 slices": suv[:-2],
        "without 3 slices at each end": suv[3:-3],
        "with 1.3 times the SUV, as by another weight": 1.3 * suv,
        "with noise of 0.05 SUV": np.abs(suv + noise),
    }
    for what, values in changed.items():
        yield what, Picture(values.astype(np.float32), scan.spacing_mm)


def row(what: str, shared: Sequence[int], r: Sequence[float]) -> None:
    counts = ", ".join(f"{value:.0f}" for value in (min(shared), np.median(shared), max(shared)))
    correlations = ", ".join(f"{value:.3f}" for value in (min(r), np.median(r), max(r)))
    print(f"| {what} | {len(shared)} | {counts} | {correlations} |", flush=True)


if __name__ == "__main__":
    main()
