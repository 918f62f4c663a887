"""The CT of a phantom patient: Hounsfield units of the organs that the PET shows, and the couch that it does not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from twobe3.core.volume import AIR_HU, CTVolume, Geometry
from twobe3.phantom.anatomy import Body
from twobe3.phantom.lesions import Lesion
from twobe3.phantom.shapes import Ellipsoid, Vector, VoxelGrid, paint, paint_exactly

Density = Literal["normal", "low"]

SPACING_MM = (4.0, 3.0, 3.0)
FIELD_MM = 510.0
NOISE_HU = 12.0
LESION_HU, COUCH_HU, EMPHYSEMA_HU = 40.0, -150.0, -950.0
CALCIFIED_HU = 900.0
_COUCH_MM = (146.0, 156.0, 210.0)  # front and back of the plate, and half its width

HU: dict[str, float] = {  # of each organ, within the usual ranges of a CT without contrast
    "fat": -100, "muscle": 50, "breast": -60, "lung": -820, "trachea": -1000, "sinus": -950,
    "skull": 800, "grey matter": 38, "white matter": 30, "basal ganglia": 38, "ventricle": 8, "cerebellum": 38,
    "brain stem": 32, "orbit": 12, "parotid": 10, "submandibular": 40, "tonsil": 50, "tongue": 50,
    "spine": 120, "vertebra": 220, "sternum": 180, "femur": 700, "humeral head": 260, "scapula": 400, "clavicle": 450,
    "sacrum": 220, "iliac wing": 300, "acetabulum": 320, "ischium": 450, "femoral head": 420,
    "vessel": 42, "aortic arch": 42, "mediastinum": 35, "hilum": 20, "heart": 42, "left ventricle": 48,
    "left cavity": 40, "liver": 58, "liver tip": 58, "left lobe": 58, "gallbladder": 10, "spleen": 50, "pancreas": 38,
    "stomach": 40, "stomach content": 15, "kidney": 32, "calyx": 8, "ureter": 8, "bladder": 5, "larynx": 45,
    "thyroid": 110, "bowel": 30, "colon": -60,
}  # fmt: skip


class Nodule(NamedTuple):
    """A nodule in the CT: its place in LPS mm, its radius and its density."""

    centre_mm: Vector
    radius_mm: float
    hu: float


def acquire_ct(
    body: Body,
    lesions: Sequence[Lesion],
    pet: Geometry,
    rng: np.random.Generator,
    *,
    lung: Density = "normal",
    nodules: Sequence[Nodule] = (),
    spacing_mm: tuple[float, float, float] = SPACING_MM,
) -> CTVolume:
    """Simulate the attenuation CT of a PET: its range along the body, and its frame of reference.

    Parameters
    ----------
    body : Body
    lesions : sequence of Lesion
        Soft tissue.
    pet : Geometry
        Of the PET.
    rng : Generator
        Of the noise.
    lung : {"normal", "low"}
        Whether the lungs are those of an emphysema, which the PET does not show.
    nodules : sequence of Nodule
        What only the CT shows.
    spacing_mm : tuple of float
        Of its voxels, along slices, rows and columns.
    """
    geometry = _place(pet, spacing_mm)
    grid = VoxelGrid.from_geometry(geometry)
    image = np.full(geometry.shape, AIR_HU, dtype=np.float32)
    _paint_couch(image, geometry)
    for organ in body.organs:
        hu = EMPHYSEMA_HU if organ.name == "lung" and lung == "low" else HU[organ.name]
        paint(image, grid, organ.solid, hu, edge_mm=max(spacing_mm))
    for lesion in lesions:
        paint_exactly(image, grid, lesion.solid, LESION_HU)
    for nodule in nodules:
        paint_exactly(image, grid, Ellipsoid(nodule.centre_mm, (nodule.radius_mm,) * 3), nodule.hu)
    image += NOISE_HU * rng.standard_normal(image.shape, dtype=np.float32)
    return CTVolume(np.clip(np.rint(image), -1024, 3071), geometry, history=("phantom",))


def _place(pet: Geometry, spacing_mm: tuple[float, float, float]) -> Geometry:
    """Voxels of the CT: as far along the body as the PET, in the middle of its slices."""
    n = round(FIELD_MM / spacing_mm[1])
    slices = round(pet.extent_mm[0] / spacing_mm[0])
    affine = np.eye(4)
    affine[:3, :3] = np.fliplr(np.eye(3)) * np.array(spacing_mm)
    centre_mm = pet.to_mm((np.array(pet.shape) - 1) / 2)
    affine[:3, 3] = centre_mm - affine[:3, :3] @ ((np.array((slices, n, n)) - 1) / 2)
    return Geometry((slices, n, n), affine, pet.frame_of_reference)


def _paint_couch(image: npt.NDArray[np.float32], geometry: Geometry) -> None:
    front, back, half_mm = _COUCH_MM
    y, x = (
        geometry.origin_mm[1 - i] + np.arange(n) * mm
        for i, (n, mm) in enumerate(zip(geometry.shape[1:], geometry.spacing_mm[1:], strict=True))
    )
    plate = ((y >= front) & (y <= back))[:, None] & (np.abs(x) <= half_mm)
    image[:, plate] = COUCH_HU
