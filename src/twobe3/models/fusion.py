"""Late fusion: one risk made of those of several models, with equal weights or with weights learnt in inner folds."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import field, replace
from graphlib import CycleError, TopologicalSorter
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, PlainValidator
from pydantic.dataclasses import dataclass

from twobe3.cohort.cohort import Cohort
from twobe3.cohort.splits import Fold
from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError, Exclusion
from twobe3.core.nearest import name_nearest
from twobe3.core.outcomes import FloatArray
from twobe3.io.cache import Arrays, Cache
from twobe3.io.model_file import nest, unnest
from twobe3.models.blending import FittedMember, learn_weights, weigh_equally
from twobe3.models.fit_cache import FitCache
from twobe3.models.fit_report import FitReport
from twobe3.models.inner_cv import inner_split
from twobe3.models.learners.linear import RidgeModel
from twobe3.models.model import CONFIG, Model, parameter_names
from twobe3.models.registry import MODELS, register
from twobe3.runtime.device import Device

FEWEST = 2  # members
Weights = Literal["equal", "learnt", "cross-fitted"]
log = logging.getLogger("twobe3")
_NO_CACHE, _NO_DEVICE = Cache(), Device()  # where none is given


def _members(value: Any) -> tuple[Model, ...]:
    """Models as they are, and those that :meth:`Fusion.public_parameters` described."""
    if not isinstance(value, Sequence) or not all(isinstance(one, Model | Mapping) for one in value):
        raise ValueError(f"a fusion is of a sequence of models, got {value!r}")
    members = tuple(one if isinstance(one, Model) else _member_of(one) for one in value)
    names = [member.name for member in members]
    if len(set(names)) < max(FEWEST, len(names)):
        raise ValueError(f"a fusion needs at least {FEWEST} models, of different names; got {', '.join(names) or None}")
    return members


def _member_of(description: Mapping[str, Any]) -> Model:
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
    training patients, never on fitted ones. :math:`m_i` and :math:`s_i` are those of these risks.

    ``"cross-fitted"``: the same weights, and the models of the inner cross-validation themselves: :math:`r_i` of a new
    patient is the mean of the risks that a member's models of all inner folds give. So what is weighed is of the kind
    that the weights were learnt on, without a fit on all training patients, whose risks may be further apart. Averages
    over the models of inner folds are those of cross-validation committees (Parmanto, Munro & Doyle, Connection Science
    1996;8:405).

    Where there are too few patients to split, weights are equal. Log hazard ratios, which have no origin, count from
    their mean over the patients whom a model was fitted on.

    Every member is fitted once on the training patients, with learnt weights once more for each inner fold, and
    cross-fitted for the inner folds only. In a cross-validation fits are those of the same models of the study, and of
    its other fusions, where there are such. A scan that a member cannot use is none for the fusion: it gets no risk,
    and neither standardises nor weighs; the other members learn from it, as they do by themselves, outside inner folds.

    Parameters
    ----------
    of : sequence of Model
        At least two, of different names. They are copied; the originals stay as they are.
    weights : {"equal", "learnt", "cross-fitted"}
        How they are weighed.
    inner_folds : int
        Of the cross-validation that learns them; fewer where the rarer class has fewer patients.
    cache : Cache, optional
        For all members; by default each keeps its own.
    device : Device, optional
        Likewise.
    """

    kind: ClassVar[str] = "fusion"
    summary: ClassVar[str] = "the risks of other models, averaged with equal, learnt or cross-fitted weights"

    of: Annotated[Sequence[Model], PlainValidator(_members)]
    weights: Weights = Field(default="equal", kw_only=True)
    inner_folds: int = Field(default=4, ge=2, kw_only=True)
    cache: Cache = field(default_factory=lambda: _NO_CACHE, repr=False, kw_only=True)
    device: Device = field(default_factory=lambda: _NO_DEVICE, repr=False, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        cache = None if self.cache is _NO_CACHE else self.cache
        device = None if self.device is _NO_DEVICE else self.device
        self.of = tuple(member.clone(cache=cache, device=device) for member in self.of)
        self.cache, self.device = self.of[0].cache, self.of[0].device
        self.members_: tuple[FittedMember, ...] = ()
        self.blend_: RidgeModel | None = None
        self.fit_cache: FitCache | None = None  # where a study keeps what it has fitted on the same patients

    @property
    def default_name(self) -> str:
        """For instance ``fusion of 3, equal weights``."""
        return fusion_name(len(self.of), self.weights)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """As for every model; with ``deep`` also each member by its name, and its parameters as ``name__parameter``.

        A parameter of the fusion itself hides a member of that name.
        """
        own = super().get_params(deep=False)
        members = {member.name: member.get_params() for member in self.of} if deep else {}
        nested = {f"{name}__{one}": value for name, params in members.items() for one, value in params.items()}
        return {**own, **{one.name: one for one in self.of if deep}, **nested, **own}

    def _rebuild(self, params: Mapping[str, Any], cache: Cache | None = None, device: Device | None = None) -> Self:
        own = {name: value for name, value in params.items() if name in parameter_names(type(self))}
        given = {name: value for name, value in params.items() if name not in own}
        before = _members(own.get("of", self.of))
        after = _members([given.get(member.name, member) for member in before])
        nested = [
            {name: given[key] for name in member.get_params() if (key := f"{old.name}__{name}") in given}
            for old, member in zip(before, after, strict=True)
        ]
        of = [member.clone().set_params(**changed) for member, changed in zip(after, nested, strict=True)]
        return super()._rebuild({**own, "of": of}, cache, device)

    def public_parameters(self) -> dict[str, Any]:
        """As for every model, members as their kinds and public parameters."""
        return {**super().public_parameters(), "of": [{"kind": one.kind, **one.public_parameters()} for one in self.of]}

    def _content_of_files(self) -> dict[str, Any]:
        return {"of": [member.cache_key() for member in self.of]}

    @property
    def min_patients(self) -> int:  # type: ignore[override]  # that of a class for every other model
        """Training patients below which a member learns nothing."""
        return max(member.min_patients for member in self.of)

    @property
    def multitask(self) -> bool:
        """Whether a member does."""
        return any(member.multitask for member in self.of)

    def precompute(self, cohort: Cohort) -> None:
        """Compute what members lack."""
        for member in self.of:
            member.precompute(cohort)

    def report(self, cohort: Cohort) -> FitReport:
        """Sum up what members report; parameters are counted where no member is a network."""
        reports = [member.report(cohort.without_outcomes()) for member in self.of]
        counts = [report.n_parameters for report in reports if report.n_parameters is not None]
        n = sum(counts) + (0 if self.weights == "equal" else len(counts))
        return replace(
            super().report(cohort),
            warnings=tuple(line for report in reports for line in report.warnings),
            n_parameters=n if len(counts) == len(reports) else None,
        )

    def _exclusions(self, cohort: Cohort) -> tuple[Exclusion, ...]:
        """The scans that any member cannot use, each with the first such member's reason."""
        why = {scan.patient: scan for member in reversed(self.of) for scan in member._exclusions(cohort)}
        return tuple(why[subject.patient] for subject in cohort.subjects if subject.patient in why)

    @property
    def weight_of(self) -> dict[str, float]:
        """What a standard deviation of each member's risk adds to the fitted fusion's, by the member's name."""
        assert self.blend_ is not None
        return {member.name: float(weight) for member, weight in zip(self.of, self.blend_.weights, strict=True)}

    def contributions(self, cohort: Cohort) -> dict[str, FloatArray]:
        """What each member adds to the fused risk, by its name."""
        assert self.blend_ is not None
        shares = (self._risks(cohort) - self.blend_.mean) / self.blend_.scale * self.blend_.weights
        return dict(zip((member.name for member in self.of), shares.T, strict=True))

    def _fit(self, cohort: Cohort) -> None:
        self._fit_among(cohort, cohort)

    def _fit_among(self, usable: Cohort, everyone: Cohort) -> None:
        cohort = usable
        split = () if self.weights == "equal" else self._inner_split(cohort)
        inner = [self._fit_member(member, [cohort.subset(fold.train) for fold in split]) for member in self.of if split]
        if split and self.weights == "cross-fitted":
            self.members_ = tuple(inner)
        else:
            self.members_ = tuple(self._fit_member(member, [everyone]) for member in self.of)
        if split:
            out_of_fold = np.column_stack([member.risk_out_of_fold(cohort, split) for member in inner])
            self.blend_ = learn_weights(out_of_fold, cohort.outcomes)
        else:
            self.blend_ = weigh_equally(self._risks(cohort), cohort.endpoint)
        log.info("%s: %s", self.name, ", ".join(f"{name} {weight:.2f}" for name, weight in self.weight_of.items()))

    def _inner_split(self, cohort: Cohort) -> tuple[Fold, ...]:
        split = inner_split(
            cohort.outcomes, self.inner_folds, self.seed, centres=cohort.centres, min_patients=self.min_patients
        )
        if not split:
            log.info("%s: too few patients to learn weights, which are equal", self.name)
        return split

    def _fit_member(self, member: Model, trainings: Sequence[Cohort]) -> FittedMember:
        """A member fitted on each of these cohorts."""
        return FittedMember.of([(self._fit_model(member, training), training) for training in trainings])

    def _fit_model(self, member: Model, training: Cohort) -> Model:
        """A fitted copy of a member, from the study's own fits where it is among them."""
        found = self.fit_cache.get(member, training) if self.fit_cache else None
        if found is None:
            found = copy.copy(member).fit(training)
            if self.fit_cache:
                self.fit_cache.put(found, training)
        found.cache = member.cache
        return found

    def _risks(self, cohort: Cohort) -> FloatArray:
        """Shape (patients, members)."""
        return np.column_stack([member.risk(cohort) for member in self.members_])

    def _risk(self, cohort: Cohort) -> FloatArray:
        assert self.blend_ is not None
        return self.blend_.risk(self._risks(cohort))

    def _arrays(self) -> Arrays:
        assert self.blend_ is not None
        arrays: dict[str, npt.NDArray[Any]] = dict(self.blend_.arrays())
        for number, member in enumerate(self.members_):
            arrays |= nest(f"of{number}.", member.arrays())
        return arrays

    def _notes(self) -> dict[str, Any]:
        return {"of": [member.notes() for member in self.members_]}

    def _restore(self, arrays: Arrays, notes: Mapping[str, Any]) -> None:
        self.blend_ = RidgeModel.from_arrays(arrays)
        members = []
        for number, (member, its_notes) in enumerate(zip(self.of, notes["of"], strict=True)):
            alike = copy.copy(member)
            alike.endpoint_, alike.grid_ = self.endpoint_, self.grid_
            members.append(FittedMember.restore(alike, unnest(f"of{number}.", arrays), its_notes))
        self.members_ = tuple(members)


def depth(model: Model) -> int:
    """0 for any model but a fusion, which is one more than its deepest member."""
    return 1 + max(map(depth, model.of)) if isinstance(model, Fusion) else 0


def members_of(model: Model) -> Iterator[Model]:
    """The members of a fusion, and theirs; none for any other model."""
    for member in model.of if isinstance(model, Fusion) else ():
        yield member
        yield from members_of(member)


@contextmanager
def share_fits(models: Iterable[Model]) -> Iterator[FitCache]:
    """Let fusions take members from what is put into a cache, and forget it at the end."""
    models = list(models)
    cache = FitCache({member.cache_key() for model in models for member in members_of(model)})
    fusions = [one for model in models for one in (model, *members_of(model)) if isinstance(one, Fusion)]
    for fusion in fusions:
        fusion.fit_cache = cache
    try:
        yield cache
    finally:
        for fusion in fusions:
            fusion.fit_cache = None


def fusion_name(members: int, weights: str) -> str:
    """How tables call a fusion that nobody named."""
    return f"fusion of {members}, {weights} weights"


def order_fusions(fusions: Mapping[str, Sequence[str]], others: Sequence[str]) -> list[str]:
    """The fusions of a study by name, in an order in which each comes after those that it is made of.

    ``fusions`` has the names of each fusion's members, ``others`` the names of all other models.

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
                raise ConfigurationError(
                    Code.UNKNOWN_NAME,
                    f"[[model]] fusion {name!r}: `of` names {member!r}; no model has that name;"
                    f" {name_nearest(member, known)}",
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
