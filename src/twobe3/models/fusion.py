"""Late fusion: one risk made of those of several models, with equal weights or with weights learnt in inner folds."""

from __future__ import annotations

import copy
import difflib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, replace
from graphlib import CycleError, TopologicalSorter
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, PlainValidator
from pydantic.dataclasses import dataclass

from twobe3.cohort.cohort import Cohort
from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError, Exclusion
from twobe3.core.outcomes import Endpoint, Outcomes
from twobe3.io.cache import Arrays, Cache
from twobe3.models.fit_cache import recall, remember
from twobe3.models.inner_cv import cross_val_predict, inner_split
from twobe3.models.learners.elastic_net import fit_nonnegative
from twobe3.models.learners.linear import FloatArray, RidgeModel
from twobe3.models.model import CONFIG, Model, risk_of_fitted
from twobe3.models.registry import MODELS, register
from twobe3.runtime.device import Device

FEWEST = 2
"""Members."""

PENALTY = 1.0
"""Of learnt weights: as many as members, so no more than keeps the fit finite where they separate the classes."""

NEGLIGIBLE = 1e-9
"""Spread of risks, relative to their size, that is rounding: such a member says the same of everybody."""

Weights = Literal["equal", "learnt"]
log = logging.getLogger("twobe3")
_NO_STORE, _NO_DEVICE = Cache(), Device()  # where none is given


def _members(value: Any) -> tuple[Model, ...]:
    """Models as they are, and those that :meth:`Fusion.parameters` described."""
    if not isinstance(value, Sequence) or not all(isinstance(one, Model | Mapping) for one in value):
        raise ValueError(f"a fusion is of a sequence of models, got {value!r}")
    members = tuple(one if isinstance(one, Model) else _described(one) for one in value)
    names = [member.name for member in members]
    if len(set(names)) < max(FEWEST, len(names)):
        raise ValueError(f"a fusion needs at least {FEWEST} models, of different names; got {', '.join(names) or None}")
    return members


def _described(description: Mapping[str, Any]) -> Model:
    parameters = dict(description)
    kind = parameters.pop("kind", None)
    if kind not in tuple(MODELS):
        raise ValueError(f"a member of a fusion is of the kind {kind!r}, which is none of {', '.join(MODELS)}")
    return MODELS[kind](**parameters)


@register
@dataclass(config=CONFIG)
class Fusion(Model):
    r"""The weighted sum of the standardised risks of several models.

    .. math:: r = b + \sum_i w_i \frac{r_i - m_i}{s_i}

    Members' risks may lie on any scale, and a member that is too sure of itself must not weigh more for it, so each is
    standardised with training patients:

    ``"equal"``: :math:`m_i` and :math:`s_i` are mean and standard deviation of the risks that the fitted member gives
    its training patients; no outcome is looked at. Every :math:`w_i` is the mean of the :math:`s_i` over the number of
    members, and :math:`b` the mean of the :math:`m_i` (0 for a time to an event), so that the result is on the scale
    on which the members are on average: log-odds, log hazard ratio, or value. A member that fits its training patients
    more closely than it can predict others has a larger :math:`s_i` and so, on others, less to say.

    ``"learnt"``: stacking (Wolpert, Neural Networks 1992;5:241) with weights that are not negative (Breiman, Machine
    Learning 1996;24:49): logistic, Cox or linear ridge regression on the risks that inner cross-validation gives the
    training patients, never on fitted ones. :math:`m_i` and :math:`s_i` are those of these risks. Where there are too
    few patients to split, weights are equal.

    Every member is fitted once on the training patients, and with learnt weights once more for each inner fold. In a
    cross-validation the first fit is that of the same model of the study, where there is one. A scan that a member
    cannot use is none for the fusion.

    Parameters
    ----------
    of : sequence of Model
        At least two, of different names. They are copied; the originals stay as they are.
    weights : {"equal", "learnt"}
        How they are weighed.
    inner_folds : int
        Of the cross-validation that learns them; fewer where the rarer class has fewer patients.
    cache : Cache, optional
        For all members; by default each keeps its own.
    device : Device, optional
        Likewise.
    """

    kind: ClassVar[str] = "fusion"
    summary: ClassVar[str] = "the risks of other models, averaged with equal or learnt weights"

    of: Annotated[Sequence[Model], PlainValidator(_members)]
    weights: Weights = Field(default="equal", kw_only=True)
    inner_folds: int = Field(default=4, ge=2, kw_only=True)
    cache: Cache = field(default_factory=lambda: _NO_STORE, repr=False, kw_only=True)
    device: Device = field(default_factory=lambda: _NO_DEVICE, repr=False, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.of = tuple(copy.copy(member) for member in self.of)
        for name, unsaid in (("cache", _NO_STORE), ("device", _NO_DEVICE)):
            if getattr(self, name) is unsaid:
                setattr(self, name, getattr(self.of[0], name))
            else:
                self._give(name, getattr(self, name))
        self.blend_: RidgeModel | None = None

    def __copy__(self) -> Fusion:
        """With members of its own, so that fitting the copy leaves the original as it is."""
        made = object.__new__(Fusion)
        made.__dict__.update(self.__dict__)
        made.of = tuple(copy.copy(member) for member in self.of)
        return made

    def on(self, device: Device) -> Fusion:
        """A copy whose members' networks compute elsewhere."""
        made = copy.copy(self)
        made._give("device", device)
        return made

    def _give(self, name: str, value: Cache | Device) -> None:
        setattr(self, name, value)
        for member in self.of:
            setattr(member, name, value)
            if isinstance(member, Fusion):
                member._give(name, value)

    def default_name(self) -> str:
        """For instance ``fusion of 3, equal weights``."""
        return fusion_name(len(self.of), self.weights)

    def parameters(self) -> dict[str, Any]:
        """Constructor arguments, members as their kinds and parameters."""
        return {**super().parameters(), "of": [{"kind": one.kind, **one.parameters()} for one in self.of]}

    @classmethod
    def completed(cls, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """As for every model, and likewise those of the members."""
        members = [MODELS[member["kind"]].completed(member) for member in parameters["of"]]
        return {**super().completed(parameters), "of": members}

    def public_parameters(self) -> dict[str, Any]:
        """The same, with what members say of themselves in public."""
        return {**super().parameters(), "of": [{"kind": one.kind, **one.public_parameters()} for one in self.of]}

    def cache_key(self) -> str:
        """As for every model, and what its members are."""
        own = {key: value for key, value in self.identifying_parameters().items() if key != "of"}
        members = [member.cache_key() for member in self.of]
        return f"{self.kind} {self.version} {json.dumps(own, sort_keys=True)} {json.dumps(members)}"

    @property
    def min_patients(self) -> int:  # type: ignore[override]  # that of a class for every other model
        """Training patients below which a member learns nothing."""
        return max(member.min_patients for member in self.of)

    @property
    def multitask(self) -> bool:
        """Whether a member does."""
        return any(member.multitask for member in self.of)

    def prepare(self, cohort: Cohort) -> None:
        """Compute what members lack."""
        for member in self.of:
            member.prepare(cohort)

    def unusable(self, cohort: Cohort) -> tuple[Exclusion, ...]:
        """The scans that any member cannot use, each with the first such member's reason."""
        why = {scan.patient: scan for member in reversed(self.of) for scan in member.unusable(cohort)}
        return tuple(why[subject.patient] for subject in cohort.subjects if subject.patient in why)

    def warnings(self, cohort: Cohort) -> tuple[str, ...]:
        """Those of the members."""
        return tuple(line for member in self.of for line in member.warnings(cohort))

    def candidate_parameters(self, cohort: Cohort) -> int | None:
        """Those of all members, and a learnt weight for each; None where a member is a network."""
        counts = [member.candidate_parameters(cohort) for member in self.of]
        known = [count for count in counts if count is not None]
        if len(known) < len(counts):
            return None
        return sum(known) + (len(counts) if self.weights == "learnt" else 0)

    @property
    def weight_of(self) -> dict[str, float]:
        """What a standard deviation of each member's risk adds to the fitted fusion's, by the member's name."""
        assert self.blend_ is not None
        return {member.name: float(weight) for member, weight in zip(self.of, self.blend_.weights, strict=True)}

    def _fit(self, cohort: Cohort) -> None:
        held_out = self._held_out(cohort) if self.weights == "learnt" else None
        self.of = tuple(_fitted(member, cohort) for member in self.of)
        fitted, outcomes = self._risks(cohort.without_outcomes()), cohort.outcomes
        if held_out is None:
            self.blend_ = equal_weights(fitted, outcomes.endpoint)
        else:
            self.blend_ = learnt_weights(held_out, outcomes)
            if not outcomes.endpoint.risk_has_origin:  # as each inner model's, risks count from the mean
                self.blend_ = replace(self.blend_, mean=self.blend_.mean + fitted.mean(axis=0))
        log.info("%s: %s", self.name, ", ".join(f"{name} {weight:.2f}" for name, weight in self.weight_of.items()))

    def _held_out(self, cohort: Cohort) -> FloatArray | None:
        """Shape (patients, members); None where there are too few patients to split."""
        split = inner_split(
            cohort.outcomes, self.inner_folds, self.seed, centres=cohort.centres, min_patients=self.min_patients
        )
        if not split:
            log.info("%s: too few patients to learn weights, which are equal", self.name)
            return None
        return np.column_stack(
            [cross_val_predict(risk_of_fitted(member, cohort), cohort.outcomes, split) for member in self.of]
        )

    def _risks(self, cohort: Cohort) -> FloatArray:
        """Shape (patients, members)."""
        return np.column_stack([member.predict(cohort).risk for member in self.of])

    def _risk(self, cohort: Cohort) -> FloatArray:
        assert self.blend_ is not None
        return self.blend_.risk(self._risks(cohort))

    def _arrays(self) -> Arrays:
        assert self.blend_ is not None
        arrays: dict[str, npt.NDArray[Any]] = dict(self.blend_.arrays())
        for number, member in enumerate(self.of):
            arrays |= {f"{_prefix(number)}{name}": array for name, array in member._arrays().items()}
        return arrays

    def _notes(self) -> dict[str, Any]:
        return {"of": [member._notes() for member in self.of]}

    def _restore(self, arrays: Arrays, notes: Mapping[str, Any]) -> None:
        self.blend_ = RidgeModel.from_arrays(arrays)
        for number, (member, its_notes) in enumerate(zip(self.of, notes["of"], strict=True)):
            prefix = _prefix(number)
            own = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
            member.endpoint_, member.grid_ = self.endpoint_, self.grid_
            member._restore(own, its_notes)


def _fitted(member: Model, training: Cohort) -> Model:
    """The member, fitted on the training patients: here, or where the study has fitted it on the same ones already."""
    known = recall(member, training)
    if known is None:
        member.fit(training)
        remember(member, training)
        return member
    known.cache = member.cache
    return known


def depth(model: Model) -> int:
    """0 for any model but a fusion, which is one more than its deepest member."""
    return 1 + max(map(depth, model.of)) if isinstance(model, Fusion) else 0


def members_of(model: Model) -> Iterator[Model]:
    """The members of a fusion, and theirs; none for any other model."""
    for member in model.of if isinstance(model, Fusion) else ():
        yield member
        yield from members_of(member)


def fusion_name(members: int, weights: str) -> str:
    """How tables call a fusion that nobody named."""
    return f"fusion of {members}, {weights} weights"


def members_first(fusions: Mapping[str, Sequence[str]], others: Sequence[str]) -> list[str]:
    """The fusions of a study by name, in an order in which each comes after those that it is made of.

    Parameters
    ----------
    fusions : mapping
        Name of a fusion to the names of its members.
    others : sequence of str
        Names of all other models.

    Raises
    ------
    ConfigurationError
        ``UNKNOWN_NAME``: a member is no model of the study. ``STUDY_FILE_INVALID``: fewer than two members, or a
        fusion that is a part of itself.
    """
    for name, members in fusions.items():
        if len(set(members)) < FEWEST:
            raise _invalid(name, f"`of` must name at least {FEWEST} different models, got {list(members)}")
        known = [one for one in (*others, *fusions) if one != name]
        for member in members:
            if member not in (*known, name):
                near = difflib.get_close_matches(member, known, n=1, cutoff=0.4)
                hint = f"the nearest is {near[0]!r}" if near else f"there are {', '.join(map(repr, known))}"
                raise ConfigurationError(
                    Code.UNKNOWN_NAME,
                    f"[[model]] fusion {name!r}: `of` names {member!r}; no model has that name; {hint}",
                    remedy="name models, or the baselines of every study, as the table of results does",
                )
    try:
        order = list(TopologicalSorter(fusions).static_order())
    except CycleError as error:
        circle = error.args[1]
        raise _invalid(circle[-1], f"it is a part of itself: {' in '.join(map(repr, circle))}") from None
    return [name for name in order if name in fusions]


def _invalid(name: str, problem: str) -> ConfigurationError:
    return ConfigurationError(
        Code.STUDY_FILE_INVALID,
        f"[[model]] fusion {name!r}: {problem}",
        remedy="let `of` name two or more other models",
    )


def equal_weights(risks: FloatArray, endpoint: Endpoint) -> RidgeModel:
    """Mean of standardised risks, put on the scale that the members have on average.

    Parameters
    ----------
    risks : ndarray, shape (n, members)
        Of the training patients, by members fitted on them.
    endpoint : Endpoint
        What they predict.
    """
    mean, spread, unit = _moments(risks)
    p = len(mean)
    origin = float(mean.mean()) if endpoint.risk_has_origin else 0.0
    return RidgeModel(mean, unit, np.full(p, float(spread.mean()) / p), origin, 0.0)


def learnt_weights(risks: FloatArray, outcomes: Outcomes) -> RidgeModel:
    """Ridge regression with weights that are not negative, on standardised risks.

    Parameters
    ----------
    risks : ndarray, shape (n, members)
        Of patients whom the members were not fitted on.
    outcomes : Outcomes
        Of the same patients.
    """
    mean, _, unit = _moments(risks)
    weights, bias = fit_nonnegative((risks - mean) / unit, outcomes, PENALTY)
    return RidgeModel(mean, unit, weights, bias, PENALTY)


def _moments(risks: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Mean, standard deviation, and what to divide by: the deviation, or 1 where it is rounding."""
    mean, spread = risks.mean(axis=0), risks.std(axis=0)
    spread = np.where(spread > NEGLIGIBLE * np.maximum(np.abs(mean), 1.0), spread, 0.0)
    return mean, spread, np.where(spread > 0, spread, 1.0)


def _prefix(number: int) -> str:
    return f"of{number}."
