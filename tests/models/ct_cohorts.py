"""Phantoms whose outcome one image alone does not tell: what only the CT shows, and what only the pair shows."""

from __future__ import annotations

from typing import Literal

import numpy as np

from twobe3.cohort.cohort import Cohort, Subject
from twobe3.core.endpoints import Binary
from twobe3.core.grid import Grid
from twobe3.core.volume import SUVCalibration, SUVVolume
from twobe3.io.cache import Cache
from twobe3.phantom.ct import CALCIFIED_HU, Nodule, acquire_ct
from twobe3.phantom.lesions import Lesion
from twobe3.phantom.patient import PhantomSpec, draw_phantom_subject
from twobe3.phantom.scanner import NORTH, Scanner, acquire, paint_uptake
from twobe3.scans.scan import ArrayScan

SPACING_MM = 12.0
GRID = Grid(SPACING_MM, (1008.0, 528.0, 528.0))
Label = Literal["ct", "pair"]


def make_cohort(n: int, label: Label, seed: int = 0, cache: Cache | None = None) -> Cohort:
    """Every other patient has the event.

    ``"ct"``: the lungs are those of an emphysema, which the PET does not show. ``"pair"``: each patient has two nodules
    in the thighs, one calcified, one not, of which one is hot; where they are the same there is the event. Which is
    calcified and which is hot is drawn apart from the outcome, so that neither image alone tells it.
    """
    subjects, rows = [], {}
    for number in range(n):
        rng = np.random.default_rng([seed, number])
        event = bool(number % 2)
        scanner = Scanner("coarse", SPACING_MM, NORTH.noise, (SPACING_MM,) * 3, round(528.0 / SPACING_MM))
        person = draw_phantom_subject(rng, spec=PhantomSpec(lesions=0, arms="down"))
        geometry = scanner.geometry(1008.0)
        dense = float(rng.choice([-1.0, 1.0]))
        hot = dense if event else -dense
        depth = rng.uniform(-960.0, -900.0)
        lesions: tuple[Lesion, ...] = ()
        nodules: tuple[Nodule, ...] = ()
        if label == "pair":
            lesions = (Lesion("thigh", (85.0 * hot, 15.0, depth), 18.0, 12.0),)
            nodules = (Nodule((85.0 * dense, 15.0, depth), 18.0, CALCIFIED_HU),)
        suv = acquire(paint_uptake(person.body, lesions, geometry, rng), scanner, geometry, rng)
        low = label == "ct" and event
        ct = acquire_ct(
            person.body, (), geometry, rng, lung="low" if low else "normal", nodules=nodules, spacing_mm=(6.0, 6.0, 6.0)
        )
        patient = f"P{number:03d}"
        rows[patient] = {"y": str(int(event))}
        volume = SUVVolume(suv, geometry, SUVCalibration("bw", "PHANTOM", 1.0, 1.0))
        subjects.append(Subject(patient, ArrayScan(volume, None, ct)))
    outcomes = Binary("y", "y").outcomes(rows)
    return Cohort(tuple(subjects), (outcomes,), grid=GRID, volumes=cache or Cache())
