"""A person's organs: the atlas, scaled to height and weight, with the chance that tells people apart."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from twobe3.phantom import atlas
from twobe3.phantom.atlas import Arms, Row
from twobe3.phantom.shapes import Ellipsoid, Node, Solid, Tube

Sex = Literal["M", "F"]


@dataclass(frozen=True)
class Organ:
    """A solid with one uptake."""

    name: str
    solid: Solid
    suv: float


@dataclass(frozen=True, eq=False)
class Body:
    """A person's organs in painter's order, the sites where lesions can grow, and the organs that no lesion touches."""

    organs: tuple[Organ, ...]
    sites: dict[str, tuple[Ellipsoid, ...]]
    keep_out: tuple[Ellipsoid, ...]


class _Frame:
    """From the reference person to this one, with random variation of each organ."""

    def __init__(self, height_m: float, weight_kg: float, rng: np.random.Generator) -> None:
        self.rng = rng
        self.tall = height_m / atlas.HEIGHT_M
        stout = np.sqrt(weight_kg / atlas.WEIGHT_KG / self.tall)
        self.stout = float(np.clip(stout, 0.8, 1.25))
        self.organ = self.stout**0.6
        self.head = float(np.clip(rng.normal(1.0, 0.025), 0.94, 1.06)) * self.tall**0.5
        bmi = weight_kg / height_m**2
        self.fat_mm = float(np.clip(4.0 + 1.3 * (bmi - 18.0) + rng.normal(0.0, 1.5), 3.0, 30.0))

    def ellipsoid(self, row: Row, jitter: float = 1.0) -> Ellipsoid:
        wide = self.head if row.centre[2] > atlas.HEAD_ENDS_MM else self.organ
        scale = np.array([wide, wide, self.tall])
        size = np.exp(self.rng.normal(0.0, 0.06 * jitter, 3))
        shift = self.rng.normal(0.0, 2.5 * jitter, 3) * (row.centre[0] != 0, 1.0, 1.0)
        x, y, z = (np.array(row.centre) * scale + shift).tolist()
        a, b, c = (np.array(row.radii) * scale * size).tolist()
        return Ellipsoid((x, y, z), (a, b, c), row.tilt)

    def ellipsoids(self, row: Row, jitter: float = 1.0) -> list[Ellipsoid]:
        x, y, z = row.centre
        mirror = [Row(row.name, row.tissue, (-x, y, z), row.radii, -row.tilt)] if row.paired else []
        return [self.ellipsoid(one, jitter) for one in (row, *mirror)]

    def tube(
        self,
        nodes: tuple[Node, ...],
        *,
        wide: float | None = None,
        thinner_mm: float = 0.0,
        mirrored: bool = False,
        squareness: float = 0.0,
    ) -> Tube:
        scale = wide or self.organ
        scaled = np.array(nodes) * (self.tall, -scale if mirrored else scale, scale, scale, scale)
        scaled[:, 3:] = np.maximum(scaled[:, 3:] - thinner_mm, 2.0)
        return Tube(tuple((z, x, y, a, b) for z, x, y, a, b in scaled.tolist()), squareness)

    def tubes(self, nodes: tuple[Node, ...], *, wide: float | None = None, thinner_mm: float = 0.0) -> list[Tube]:
        """A tube and its mirror image."""
        return [self.tube(nodes, wide=wide, thinner_mm=thinner_mm, mirrored=side) for side in (False, True)]


def build_body(*, height_m: float, weight_kg: float, sex: Sex, arms: Arms, rng: np.random.Generator) -> Body:
    """Draw a person's organs and their uptake.

    Height and weight scale the body: weight adds to the outline and the fat more than to the organs.
    """
    frame = _Frame(height_m, weight_kg, rng)
    suv = {
        tissue: float(median * np.exp(sd * np.clip(rng.normal(), -2.0, 2.0)))
        for tissue, (median, sd) in atlas.UPTAKE.items()
    }
    organs = [
        *_fat_and_muscle(frame, suv, arms),
        *(_organs(frame, suv, (atlas.BREAST,)) if sex == "F" else []),
        *_organs(frame, suv, atlas.HEAD),
        Organ("lung", frame.tube(atlas.LUNG_RIGHT), suv["lung"]),
        Organ("lung", frame.tube(atlas.LUNG_LEFT), suv["lung"]),
        *_skeleton(frame, suv),
        *_organs(frame, suv, atlas.SHOULDERS if arms == "down" else atlas.SHOULDERS[1:2]),
        *_vessels(frame, suv),
        *_bowel(frame, suv),
        *_organs(frame, suv, atlas.TRUNK),
        *_ureters(frame, suv),
    ]
    sites: dict[str, tuple[Ellipsoid, ...]] = {}
    for row in atlas.SITES:
        sites[row.name] = (*sites.get(row.name, ()), *frame.ellipsoids(row, jitter=0.0))
    hot = ("grey matter", "cerebellum", "bladder", "kidney", "left ventricle")
    keep_out = tuple(o.solid for o in organs if o.name in hot and isinstance(o.solid, Ellipsoid))
    return Body(tuple(organs), sites, keep_out)


def _organs(frame: _Frame, suv: dict[str, float], rows: tuple[Row, ...]) -> list[Organ]:
    return [Organ(row.name, solid, suv[row.tissue]) for row in rows for solid in frame.ellipsoids(row)]


def _fat_and_muscle(frame: _Frame, suv: dict[str, float], arms: Arms) -> list[Organ]:
    """Outline in fat, and inside it the same, thinner, in muscle."""
    organs = []
    head = frame.ellipsoid(Row("head", "fat", atlas.HEAD_OUTLINE.centre_mm, atlas.HEAD_OUTLINE.radii_mm), jitter=0.0)
    a, b, c = head.radii_mm
    skull = Ellipsoid(head.centre_mm, (a - 5.0, b - 5.0, c - 5.0))
    for tissue, top, thinner_mm in (("fat", head, 0.0), ("muscle", skull, frame.fat_mm)):
        limb_mm = 0.5 * thinner_mm
        solids: list[Solid] = [
            top,
            frame.tube(atlas.NECK, wide=frame.head, thinner_mm=0.4 * limb_mm),
            frame.tube(atlas.TORSO, wide=frame.stout, thinner_mm=thinner_mm, squareness=0.35),
            *frame.tubes(atlas.THIGH, wide=frame.stout, thinner_mm=limb_mm),
            *frame.tubes(atlas.ARM[arms], wide=frame.stout, thinner_mm=limb_mm),
        ]
        organs += [Organ(tissue, solid, suv[tissue]) for solid in solids]
    return organs


def _skeleton(frame: _Frame, suv: dict[str, float]) -> list[Organ]:
    spine = frame.tube(atlas.SPINE)
    organs = [Organ("spine", spine, 0.72 * suv["marrow"]), Organ("sternum", frame.tube(atlas.STERNUM), suv["marrow"])]
    organs += [Organ("femur", femur, suv["bone"]) for femur in frame.tubes(atlas.FEMUR)]
    z, _, y, a, b = np.array(sorted(spine.nodes)).T
    height = float(z[-1])
    while height > z[0]:
        deep, wide, long = (float(np.interp(height, z, values)) for values in (y, a, b))
        gap = 17.0 + 17.0 * (z[-1] - height) / (z[-1] - z[0])
        organs.append(Organ("vertebra", Ellipsoid((0.0, deep, height), (wide, long, 0.42 * gap)), suv["marrow"]))
        height -= gap * frame.tall
    return organs


def _vessels(frame: _Frame, suv: dict[str, float]) -> list[Organ]:
    tubes = [*map(frame.tube, (atlas.AORTA, atlas.CAVA)), *frame.tubes(atlas.ILIACS)]
    return [Organ("vessel", tube, 0.9 * suv["blood"]) for tube in tubes]


def _bowel(frame: _Frame, suv: dict[str, float]) -> list[Organ]:
    """A bed of loops, a colon in pieces, some of them hot as they are after metformin."""
    rng = frame.rng
    bed = Row("bowel", "bowel", atlas.BOWEL_BED.centre_mm, atlas.BOWEL_BED.radii_mm)
    organs = [Organ("bowel", frame.ellipsoid(bed), 0.75 * suv["bowel"])]
    liveliness = rng.gamma(2.0, 0.13)
    for _ in range(12):
        radii = (rng.uniform(9, 26), rng.uniform(8, 13), rng.uniform(8, 14))
        loop = Row("bowel", "bowel", atlas.BOWEL_BED.draw_inside(rng), radii, rng.uniform(-60, 60))
        organs.append(Organ("bowel", frame.ellipsoid(loop), suv["bowel"] * float(rng.lognormal(0.0, liveliness))))
    for start, end in pairwise(atlas.COLON):
        a, b = np.array(start), np.array(end)
        tilt = float(np.degrees(np.arctan2((b - a)[0], (b - a)[2])))
        x, y, z = ((a + b) / 2.0).tolist()
        piece = Row("colon", "bowel", (x, y, z), (14.0, 14.0, 0.62 * float(np.linalg.norm(b - a)) + 4.0), tilt)
        organs.append(Organ("colon", frame.ellipsoid(piece), suv["bowel"] * float(rng.lognormal(0.0, liveliness))))
    return organs


def _ureters(frame: _Frame, suv: dict[str, float]) -> list[Organ]:
    """Short columns of urine here and there between kidney and bladder."""
    rng, organs = frame.rng, []
    for side in (-1.0, 1.0):
        for _ in range(rng.integers(0, 3)):
            share = rng.uniform(0.05, 0.95)
            row = Row("ureter", "urine", (side * (42 - 14 * share), 30 - 18 * share, -700 - 130 * share), (3, 3, 13))
            organs.append(Organ("ureter", frame.ellipsoid(row), suv["urine"] * float(rng.uniform(0.4, 1.0))))
    return organs
