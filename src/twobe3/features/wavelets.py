"""What slices look like at each place, by a fixed bank of wavelets: nothing in it was learnt."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache

import torch
from torch.nn import functional

LEVELS = 4  # of a pyramid, each of half the size: wavelets of about 4, 8, 16 and 32 voxels
ORIENTATIONS = 4
RESPONSES = ORIENTATIONS + 2  # of each channel at each level
_RADIUS, _WIDTH, _WAVELENGTH = 3, 1.4, 4.0  # of a wavelet: kernel, Gaussian and wave, voxels
_TINY = 1e-12
_CENTRE, _SURROUND = 1.0, 2.0  # widths of the Gaussians whose difference tells a spot from a hole, voxels


def filter_slices(slices: torch.Tensor) -> Iterator[torch.Tensor]:
    """Apply the bank to slices: how strongly each place has a texture, an edge, a spot or a hole of each size.

    For each level of a pyramid (Burt & Adelson, IEEE Trans Commun 1983;31:532) the modulus of Morlet wavelets of four
    orientations, which are the first layer of a scattering network (Bruna & Mallat, IEEE Trans Pattern Anal Mach Intell
    2013;35:1872), and the two halves of a difference of Gaussians.

    Parameters
    ----------
    slices : Tensor, shape (n, channels, height, width)
        Pictures of one scale, for instance SUV windows.

    Yields
    ------
    Tensor, shape (n, 6 · channels, height / 2**level, width / 2**level)
        Rounded up. For each channel the four orientations, spots, holes.
    """
    n, channels = slices.shape[:2]
    bank, blur = _bank()
    for _ in range(LEVELS):
        height, width = slices.shape[-2:]
        pictures = slices.reshape(n * channels, 1, height, width)
        found = functional.conv2d(functional.pad(pictures, [_RADIUS] * 4, mode="replicate"), bank)
        even, odd, spots = torch.split(found, [ORIENTATIONS, ORIENTATIONS, 1], dim=1)
        modulus = torch.sqrt(even.square() + odd.square() + _TINY)  # whose gradient is finite at 0
        responses = torch.cat([modulus, spots.clamp(min=0.0), (-spots).clamp(min=0.0)], dim=1)
        yield responses.reshape(n, channels * RESPONSES, height, width)
        pictures = functional.conv2d(functional.pad(pictures, [2] * 4, mode="replicate"), blur, stride=2)
        slices = pictures.reshape(n, channels, *pictures.shape[-2:])


@cache
def _bank() -> tuple[torch.Tensor, torch.Tensor]:
    """The wavelets, even ones, odd ones, then the difference of Gaussians, (9, 1, 7, 7); the blur of the pyramid."""
    along = torch.arange(-_RADIUS, _RADIUS + 1.0)
    y, x = torch.meshgrid(along, along, indexing="ij")

    def gaussian(width: float) -> torch.Tensor:
        values = torch.exp(-(x * x + y * y) / (2 * width**2))
        return values / values.sum()

    even, odd = [], []
    for angle in torch.arange(ORIENTATIONS) * (math.pi / ORIENTATIONS):
        phase = 2 * math.pi / _WAVELENGTH * (x * torch.cos(angle) + y * torch.sin(angle))
        envelope = gaussian(_WIDTH)
        wave = envelope * torch.cos(phase)
        even.append(wave - envelope * wave.sum())  # nothing where all is the same
        odd.append(envelope * torch.sin(phase))
    waves = [wave / wave.abs().sum() for wave in (*even, *odd)]
    binomial = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0])
    blur = torch.outer(binomial, binomial) / binomial.sum() ** 2
    return torch.stack([*waves, gaussian(_CENTRE) - gaussian(_SURROUND)])[:, None], blur[None, None]
