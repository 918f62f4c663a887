"""2Be3-Net: pre-trained 2D network, stacked feature maps, 3D CNN."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeAlias, TypeVar

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from twobe3.cohort.cohort import Cohort
from twobe3.features.stacks import CT_STACKS, FUSED_STACKS, IMAGE_STACKS, CTStack, FusedStack, ImageStack, ImageStacks
from twobe3.io.cache import Arrays
from twobe3.models.fit_report import FitReport
from twobe3.models.inner_cv import inner_split
from twobe3.models.model import CONFIG
from twobe3.models.nn.cross_fit import Expert, train_cross_fitted
from twobe3.models.nn.feature_maps import FeatureMaps
from twobe3.models.nn.inputs import MAP_STACKS, MapStack, StackInputs
from twobe3.models.nn.networks import PlanesNetwork, StackBranch
from twobe3.models.pretrained import PretrainedCheckpoint
from twobe3.models.registry import register
from twobe3.models.stacked_maps import StackedMapsModel

FEWEST = 8  # patients that an expert learns from, below which the inputs are trained jointly
log = logging.getLogger("twobe3")
Input: TypeAlias = Literal[MapStack, ImageStack, CTStack, FusedStack, "ct-maps"]
DEFAULT: tuple[Input, ...] = ("map-coronal", "map-sagittal", "wavelets")
DEFAULT_CT: tuple[Input, ...] = ("ct-coronal", "ct-wavelets")
DEFAULT_BOTH: tuple[Input, ...] = (*DEFAULT, *DEFAULT_CT, "fused-coronal")


@register
@dataclass(kw_only=True, config=CONFIG)
class TwoBe3Net(StackedMapsModel):
    """2Be3-Net: a 3D CNN on the stacked feature maps of a pre-trained 2D network (Thomas et al., MICAD 2021).

    Parameters
    ----------
    inputs : tuple, or "auto"
        What the 3D CNN sees, each as stacks with branches of their own: the feature maps at all their positions
        (``"maps"``), which are the paper's; the maps, or the SUV image itself, projected to the front and to the side
        (``"map-coronal"``, ``"map-sagittal"``, ``"image-coronal"``, ``"image-sagittal"``), on a coarse grid
        (``"map-image"``, ``"image"``), and in pieces along the body (``"map-profile"``, ``"profile"``); axial slices as
        a fixed bank of wavelets shows them (``"wavelets"``), see :func:`~twobe3.features.stacks.pool_image`.
        The CT has the same stacks of its windows (``"ct-image"``, ``"ct-profile"``, ``"ct-coronal"``,
        ``"ct-sagittal"``, ``"ct-wavelets"``) and feature maps of ``ct_backbone`` (``"ct-maps"``). ``"fused-image"``,
        ``"fused-coronal"`` and ``"fused-sagittal"`` are SUV told apart by the tissue that the CT shows there.
        ``"auto"``: the projections of the maps, and the wavelets; with ``"ct"`` among the ``modalities`` the front
        view and the wavelets of the CT, and with both the fused front view too; where the 2D network is trained too,
        or comes from ``init``, maps, image and profile. Without maps the 2D network is not needed.
    weighing : {"auto", "joint", "cross-fitted"}
        ``"joint"``: one linear layer over all branches, trained with them. ``"cross-fitted"``: each input has an expert
        of its own, and is weighed by what it predicts of patients left out, see
        :func:`~twobe3.models.nn.cross_fit.train_cross_fitted`; then there is a network for each of the inner folds,
        not ``ensemble_size``. ``"auto"``: cross-fitted where there are several inputs, one risk of one endpoint, and a
        frozen 2D network that is not that of ``init``.
    inner_folds : int
        Of the cross-fitting; fewer where the rarer class has fewer patients.
    anisotropy : {"shape", "spacing"}
        What decides which axes a block of the 3D CNN convolves and halves: how many positions the maps have along
        them, or how far apart these are in mm; see :func:`~twobe3.models.nn.networks.plan_blocks`.
    taps : int
        After how many of the last blocks average and maximum are taken, beside those before the first; 0: after all.
    blocks_start : {"smoothing", "random"}
        Whether blocks start as averages over what they merge, see :func:`~twobe3.models.nn.networks.init_smoothing`.
    init : str
        A file of ``twobe3 pretrain`` from which the 2D network, the principal components and the branches start; the
        last layer starts as always. Empty: ``weights``, the training patients' components, random branches.
    """

    kind: ClassVar[str] = "2be3-net"
    summary: ClassVar[str] = "3D CNN on the stacked feature maps of a 2D network, frozen or fine-tuned"
    branch: ClassVar[type[StackBranch]] = StackBranch

    inputs: Literal["auto"] | Annotated[tuple[Input, ...], Field(min_length=1)] = "auto"
    weighing: Literal["auto", "joint", "cross-fitted"] = "auto"
    inner_folds: int = Field(default=4, ge=2)
    shift_share: float = Field(default=0.125, ge=0, le=0.5)
    anisotropy: Literal["shape", "spacing"] = Field(default="shape")
    taps: int = Field(default=4, ge=0)
    blocks_start: Literal["smoothing", "random"] = Field(default="smoothing")
    init: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(set(self.parts)) < len(self.parts):
            raise ValueError(f"each of `inputs` may stand once, got {list(self.parts)}")
        if self._trains_maps and _those_of(self.parts, MAP_STACKS) != ("maps",):
            raise ValueError('`init` and `finetune` need "maps" among the `inputs`, and no other stacks of maps')
        joint = not self.cross_fits or self.head == "hazard" or self.endpoints == "all"
        if self.weighing == "cross-fitted" and joint:
            raise ValueError(
                '`weighing = "cross-fitted"` is for two or more `inputs` and one risk of one endpoint:'
                ' leave `init`, `finetune`, `head = "hazard"` and `endpoints = "all"` out'
            )
        if self.init and self.sees_ct:
            raise ValueError('`init` is for `modalities = ["pet"]`')
        if self.init and self.weights != "pretrained":
            raise ValueError("`init` brings the weights of the 2D network along: leave `weights` out")
        if self.init and self.capacity == "auto":
            raise ValueError('what `init` names has the size that it has: leave `capacity = "auto"` out')
        self.stack_weights_: dict[str, float] = {}
        self.checkpoint_: PretrainedCheckpoint | None = None
        self.init_digest_ = ""

    @property
    def parts(self) -> tuple[Input, ...]:
        """The inputs, those of ``"auto"`` by their names."""
        if self.inputs != "auto":
            return self.inputs
        if "ct" in self.modalities:
            return DEFAULT_BOTH if "pet" in self.modalities else DEFAULT_CT
        return ("maps", "image", "profile") if self._trains_maps else DEFAULT

    @property
    def cross_fits(self) -> bool:
        """Whether each input has an expert of its own, where one risk of one endpoint is learnt."""
        return self.weighing != "joint" and len(self.parts) > 1 and not self._trains_maps

    @property
    def sees_ct(self) -> bool:
        """Whether something of the CT is among the inputs."""
        return self.uses_ct_maps or any(part in (*CT_STACKS, *FUSED_STACKS) for part in self.parts)

    @property
    def uses_ct_maps(self) -> bool:
        """Whether maps of the CT are among the inputs."""
        return "ct-maps" in self.parts

    @property
    def _trains_maps(self) -> bool:
        return bool(self.init) or self.finetune != "none"

    @property
    def uses_maps(self) -> bool:
        """Whether maps are among the inputs."""
        return bool(_those_of(self.parts, MAP_STACKS))

    def make_inputs(self) -> StackInputs:
        """Stacks of maps, of the image, or of both."""
        names = _those_of(self.parts, (*IMAGE_STACKS, *CT_STACKS, *FUSED_STACKS))
        images = ImageStacks(names, self.windows_suv, self.cache, self.windows_hu)
        of_maps = _those_of(self.parts, MAP_STACKS)
        if not of_maps:
            return StackInputs(None, self.size_.components, images, ct_maps=self.ct_maps)
        return replace(super().make_inputs(), images=images, of_maps=of_maps)

    def make_branch(self, stack: str) -> StackBranch:
        """3D convolutions over the stack."""
        return self.branch(
            self.inputs_.shapes[stack],
            reduced=self.size_.reduced_channels,
            width=self.size_.width,
            spacing_mm=self.inputs_.spacings_mm[stack] if self.anisotropy == "spacing" else None,
            taps=self.taps,
            smoothing=self.blocks_start == "smoothing",
        )

    def _train(self, cohort: Cohort) -> list[nn.Module]:
        """Networks that see all inputs, or for each inner fold one that is put together from experts of one input."""
        self.stack_weights_ = {}
        if not self.cross_fits or len(self.edges_) or self.other_outputs_:
            return super()._train(cohort)
        outcomes = cohort.outcomes
        split = inner_split(outcomes, self.inner_folds, self.seed, centres=cohort.centres, min_patients=FEWEST)
        if not split:
            log.info("%s: too few patients to weigh the inputs by inner folds; they are trained jointly", self.name)
            return super()._train(cohort)
        names, inputs = [*self.inputs_.stacks, "covariates"], self._transform(cohort, self.augmentations)
        experts = {
            name: Expert(partial(self._expert, name), values, name not in self.inputs_.stacks)
            for name, values in zip(names[: len(inputs)], inputs, strict=True)
            if values.values.shape[1]  # covariates that are the same for all have no column
        }
        networks, self.stack_weights_ = train_cross_fitted(
            experts, self._whole, outcomes, split, self.training, self.seed, self.device
        )
        return [*networks]

    def _whole(self) -> PlanesNetwork:
        network = self._build_network()
        assert isinstance(network, PlanesNetwork)
        return network

    def _expert(self, name: str) -> PlanesNetwork:
        """A network that sees one stack, or the covariates."""
        stacks = {name: self.make_branch(name)} if name in self.inputs_.stacks else {}
        columns = len(self.encoder_.columns) if self.encoder_ is not None and not stacks else 0
        return PlanesNetwork(stacks, dropout=self.size_.dropout, covariates=columns)

    def _checkpoint(self) -> PretrainedCheckpoint:
        """Where it starts, if ``init`` names it; the file is read once."""
        if self.checkpoint_ is None:
            self.checkpoint_ = PretrainedCheckpoint.read(Path(self.init))
            self.checkpoint_.require_same(self.get_params(), self.name)
            self.init_digest_ = self.checkpoint_.digest
        return self.checkpoint_

    @property
    def maps(self) -> FeatureMaps:
        """The feature maps, those of the 2D network of ``init`` where it is given."""
        if self.init and self.maps_.loaded is None:
            self.maps_.loaded = self._checkpoint().backbone
        return super().maps

    def _content_of_files(self) -> dict[str, Any]:
        files = {**super()._content_of_files(), "parts": self.parts}
        return {**files, "init": self.init_digest_ or self._checkpoint().digest} if self.init else files

    def public_parameters(self) -> dict[str, Any]:
        """The parameters, files told by their names alone."""
        return {**super().public_parameters(), "init": Path(self.init).name}

    def precompute(self, cohort: Cohort) -> None:
        """Compute the feature maps that the cache lacks; refuse a grid that ``init`` does not fit."""
        if self.init:
            self._checkpoint().require_grid(cohort.grid, self.name)
        super().precompute(cohort)

    def report(self, cohort: Cohort) -> FitReport:
        """As for every network; warns of scans that were in the pre-training, where its file is at hand."""
        at_hand = self.init and (self.checkpoint_ is not None or not self.init_digest_)
        seen = self._checkpoint().count_seen(cohort) if at_hand else 0
        said = (
            f"{self.name}: {seen} of {len(cohort)} scans were among those of its pre-training, which looked at no "
            "outcome; but a scan that it has seen is not new to it."
        )
        return replace(super().report(cohort), warnings=(said,) if seen else ())

    def fit_inputs(self, cohort: Cohort) -> None:
        """Learn the principal components, or take those of ``init``."""
        inputs = self.make_inputs()
        if self.init:
            self._checkpoint().require_grid(cohort.grid, self.name)
            inputs = replace(inputs, projections=self._checkpoint().inputs.projections)
        self.inputs_ = inputs.fit(cohort)

    def _init_network(self) -> nn.Module:
        network = super()._init_network()
        if self.init and self._checkpoint().branches:
            assert isinstance(network, PlanesNetwork)
            network.branches.load_state_dict(self._checkpoint().branches, strict=self.parts == ("maps",))
        return network

    def _notes(self) -> dict[str, Any]:
        return {**super()._notes(), "init": self.init_digest_, "stack_weights": self.stack_weights_}

    def _restore(self, arrays: Arrays, notes: Mapping[str, Any]) -> None:
        self.init_digest_, self.stack_weights_ = notes["init"], dict(notes["stack_weights"])
        super()._restore(arrays, notes)


S = TypeVar("S", bound=str)


def _those_of(inputs: Sequence[str], known: tuple[S, ...]) -> tuple[S, ...]:
    """The inputs that are among the known ones, in their order."""
    return tuple(one for name in inputs for one in known if one == name)
