"""Lesions: how many, how large, how hot, and where."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np

from twobe3.phantom.anatomy import Body
from twobe3.phantom.shapes import Ellipsoid, Vector

MOST_LESIONS = 6
DIAMETER_MM = (6.0, 40.0)
SUV = (2.5, 20.0)
_TRIES = 60


class _Site(NamedTuple):
    region: str
    widest_mm: float  # where there is no room for the widest lesions
    background_suv: float = 0.0


SITES = {
    "neck node": _Site("neck", 30.0),
    "supraclavicular node": _Site("neck", 26.0),
    "lung": _Site("chest", 40.0),
    "mediastinal node": _Site("chest", 40.0, 1.5),
    "hilar node": _Site("chest", 32.0, 1.5),
    "axillary node": _Site("chest", 32.0),
    "liver": _Site("distant", 40.0, 2.2),
    "vertebra": _Site("distant", 28.0, 1.3),
    "iliac bone": _Site("distant", 32.0, 1.0),
    "sacrum": _Site("distant", 30.0, 1.3),
}
REGIONS = ("neck", "chest", "distant")


@dataclass(frozen=True)
class Lesion:
    """A lesion of uniform uptake, before the scanner."""

    site: str  # for instance "liver"
    centre_mm: Vector  # LPS
    radius_mm: float  # of the sphere of equal volume
    suv: float  # true uptake
    flattening: Vector = (1.0, 1.0, 1.0)  # factors of the radius along x, y and z; their product is 1

    @property
    def solid(self) -> Ellipsoid:
        """Its extent."""
        a, b, c = (self.radius_mm * f for f in self.flattening)
        return Ellipsoid(self.centre_mm, (a, b, c))

    @property
    def volume_ml(self) -> float:
        """True volume."""
        return 4.0 / 3.0 * float(np.pi) * self.radius_mm**3 / 1000.0


def total_lesion_glycolysis(lesions: tuple[Lesion, ...]) -> float:
    """Sum over the lesions of SUV × volume, SUV·ml."""
    return sum(lesion.suv * lesion.volume_ml for lesion in lesions)


def largest_distance_mm(lesions: tuple[Lesion, ...]) -> float:
    """Largest distance between two lesions' centres, 0 for fewer than two.

    Dissemination in the sense of Dmax of Cottereau et al., Ann Oncol 2020, 31, 404–411.
    """
    pairs = combinations((lesion.centre_mm for lesion in lesions), 2)
    return max((float(np.linalg.norm(np.subtract(a, b))) for a, b in pairs), default=0.0)


def draw_lesions(body: Body, rng: np.random.Generator, *, count: int | None = None) -> tuple[Lesion, ...]:
    """Draw a patient's lesions: advanced disease has more, larger and hotter ones.

    Without a ``count`` there are 0 to 6 by chance, none in about 10 % of patients; where the body has no room, fewer.
    """
    advance = rng.normal()
    if count is None:
        count = min(int(rng.poisson(2.6 * np.exp(0.35 * advance))), MOST_LESIONS)
    home = "neck" if rng.random() < 0.5 else "chest"
    spread = rng.beta(0.7, 1.6)
    lesions: list[Lesion] = []
    for _ in range(count):
        away = bool(lesions) and rng.random() < spread
        region = str(rng.choice([other for other in REGIONS if other != home])) if away else home
        for _ in range(_TRIES):
            lesion = _draw_lesion(body, region, advance, rng)
            if _is_free(lesion, body, lesions):
                lesions.append(lesion)
                break
    return tuple(lesions)


def _draw_lesion(body: Body, region: str, advance: float, rng: np.random.Generator) -> Lesion:
    name = str(rng.choice([name for name, site in SITES.items() if site.region == region]))
    site, places = SITES[name], body.sites[name]
    centre = places[rng.integers(len(places))].draw_inside(rng)
    diameter = float(np.clip(18.0 * np.exp(0.22 * advance + rng.normal(0.0, 0.38)), *DIAMETER_MM))
    suv = float(np.clip(7.0 * np.exp(0.15 * advance + rng.normal(0.0, 0.45)), *SUV))
    a, b = np.exp(rng.normal(0.0, 0.1, 2)).tolist()
    radius = min(diameter, site.widest_mm) / 2.0
    return Lesion(name, centre, radius, max(suv, 2.0 * site.background_suv), (a, b, 1.0 / (a * b)))


def _is_free(lesion: Lesion, body: Body, others: list[Lesion]) -> bool:
    """No contact with another lesion or with an organ that would hide it."""
    if any(math.dist(lesion.centre_mm, one.centre_mm) < lesion.radius_mm + one.radius_mm + 8.0 for one in others):
        return False
    x, y, z = (np.float32(v).reshape(1) for v in lesion.centre_mm)
    return all(organ.distance_mm(x, y, z)[0] > 1.3 * lesion.radius_mm + 6.0 for organ in body.keep_out)
