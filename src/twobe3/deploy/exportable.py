"""A model file made ready for other runtimes: what it is said to take and give, and whether what was made does so."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import torch

from twobe3 import __version__
from twobe3.cohort.cohort import Cohort, Subject
from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError, EnvironmentFailure, TwoBe3Error
from twobe3.deploy.covariates import describe_covariates, number_covariates
from twobe3.deploy.network import RiskNetwork, example_cohort
from twobe3.explain.pathway import has_pathway
from twobe3.io.model_file import read_sealed
from twobe3.models.model import Model
from twobe3.models.registry import find_model, load_model
from twobe3.runtime.device import CPU

Runtime = Literal["onnx", "monai-bundle"]
Arrays = Sequence[npt.NDArray[np.float32]]
TOLERANCE = 1e-4  # of the risk, in its unit, and of the probability
ORIENTATION = ["slices from the feet to the head", "rows from the front to the back", "columns from right to left"]
RESAMPLING = {
    "interpolation": "linear; SUV 0 beyond the scan, which fades to 0 within one voxel of its border",
    "centre": "the centre of the grid is the centre of the scan",
    "smoothing": "before it a Gaussian along each axis of the scan that gets coarser by more than 1.5: its full width "
    "at half maximum is the new spacing (standard deviation: spacing / 2.355), cut off at 4 standard deviations, the "
    "scan mirrored at its borders",
    "as": "scipy.ndimage.gaussian_filter, then scipy.ndimage.affine_transform(order=1, mode='grid-constant')",
}


@contextmanager
def translating(model: Model) -> Iterator[None]:
    """Refuse with ``NOT_EXPORTABLE`` what torch or the other runtime cannot do; torch's warnings about itself go."""
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except TwoBe3Error:
        raise
    except Exception as error:  # whatever torch's exporter and other runtimes raise
        reason = f"torch {torch.__version__} cannot translate {model.name!r} ({type(error).__name__})"
        raise ConfigurationError(Code.NOT_EXPORTABLE, reason, remedy="take another `backbone` or `network`") from error


@dataclass(frozen=True)
class Exported:
    """A model as another runtime reads it.

    Attributes
    ----------
    path : Path
        The file or folder.
    runtime : {"onnx", "monai-bundle"}
    size_bytes : int
        Of all files.
    difference : float
        The largest difference of a number from the model's own, on an example scan.
    description : mapping
        What stands in the metadata, as JSON types.
    """

    path: Path
    runtime: Runtime
    size_bytes: int
    difference: float
    description: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """The document of ``twobe3 export --json``."""
        made = {"path": str(self.path), "runtime": self.runtime, "size_bytes": self.size_bytes}
        return {**made, "difference": self.difference, "metadata": self.description}


@dataclass(frozen=True, eq=False)
class Exportable:
    """A fitted model, its network, and what is said of both."""

    model: Model
    network: RiskNetwork
    description: dict[str, Any]

    @classmethod
    def read(cls, path: Path | str) -> Self:
        """From a model file, or the folder that holds ``model.safetensors``.

        Raises
        ------
        ConfigurationError
            ``MODEL_INVALID``; ``NOT_EXPORTABLE``: a tree, radiomics, a baseline, a fusion, or a model that averages
            over augmented scans.
        """
        path = find_model(Path(path))
        sealed, model = read_sealed(path), load_model(path, device=CPU)
        if model.sees_ct or not has_pathway(model):
            what = "sees the CT too" if model.sees_ct else f"is of the kind {model.kind!r}"
            reason = f"model {model.name!r} {what}: it is no network from SUV to a risk"
            raise ConfigurationError(Code.NOT_EXPORTABLE, reason)
        if getattr(model, "test_time", "single") != "single":
            reason = f"model {model.name!r} averages over augmented versions of a scan, which twobe3 makes"
            raise ConfigurationError(Code.NOT_EXPORTABLE, reason, remedy='train it with `test_time = "single"`')
        network = RiskNetwork(model)
        return cls(model, network, _describe(model, network, sealed.header, sealed.digest))

    def example_inputs(self) -> tuple[torch.Tensor, ...]:
        """Tensors of the shapes that the network takes, of nobody."""
        assert self.model.grid_ is not None
        suv, known = torch.zeros(self.model.grid_.shape), self.network.covariates
        return (suv,) if known is None else (suv, torch.full((len(known.covariates),), torch.nan))

    def inputs_of(self, cohort: Cohort, subject: Subject) -> Arrays:
        """What the network takes of a patient."""
        encoder = getattr(self.model, "encoder_", None)
        known = [] if encoder is None else [number_covariates(encoder, subject.covariates)]
        return [cohort.volume(subject), *known]

    def compare(self, run: Callable[[Arrays], Sequence[float]]) -> float:
        """The largest difference between what a function of the inputs gives and the model, on an example scan.

        Raises
        ------
        EnvironmentFailure
            ``EXPORT_DIFFERS``: it is above :data:`TOLERANCE`.
        """
        cohort = example_cohort(self.model)
        (subject,) = cohort.subjects
        inputs, prediction = self.inputs_of(cohort, subject), self.model.predict(cohort)
        own = [prediction.risk, *([] if prediction.probability is None else [prediction.probability])]
        difference = float(np.abs(np.subtract(run(inputs), np.ravel(own))).max())
        if not difference <= TOLERANCE:
            reason = f"numbers differ by {difference:.2g} on an example scan, {TOLERANCE:g} is the most that may be"
            raise EnvironmentFailure(Code.EXPORT_DIFFERS, reason)
        return difference


def _describe(model: Model, network: RiskNetwork, header: dict[str, Any], digest: str) -> dict[str, Any]:
    """What users of the file must know, as JSON types."""
    grid = model.grid_
    assert grid is not None
    outputs = {"risk": "higher means an earlier event, the positive class, or a larger value"}
    if network.gives_probability:
        recalibrated = ", recalibrated" if model.recalibration_ else ""
        outputs["probability"] = f"of the positive class{recalibrated}"
    return {
        "twobe3": __version__,
        "model": {"kind": model.kind, "name": model.name, "digest": digest, "trained_with": header["package_version"]},
        "endpoint": header["endpoint"],
        "suv": {
            "type": "bw",
            "shape": list(grid.shape),
            "spacing_mm": list(grid.spacing_mm),
            "orientation": ORIENTATION,
            "dtype": "float32",
        },
        "resampling": RESAMPLING,
        "covariates": describe_covariates(getattr(model, "encoder_", None)),
        "outputs": outputs,
        **({"card": header["card"]} if "card" in header else {}),
    }
