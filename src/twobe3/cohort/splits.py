"""Validation schemes: who trains and who tests. Scans of one group are never on both sides."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np

from twobe3.core.codes import Code
from twobe3.core.counts import format_count
from twobe3.core.errors import ConfigurationError
from twobe3.core.outcomes import BoolArray, Endpoint, IntArray, Outcomes
from twobe3.io.checksums import require_as_written
from twobe3.io.pseudonym import pseudonym

DRAWS = 20  # splits from which the one that spreads the centres best is taken


@dataclass(frozen=True)
class Fold:
    """One part that is tested, and what trains for it.

    Attributes
    ----------
    repeat, fold : int
        Which one, from 0.
    train, test : ndarray of int64
        Positions in the cohort.
    name : str
        Of the part that is tested, for instance its centre; empty where it has none.
    """

    repeat: int
    fold: int
    train: IntArray
    test: IntArray
    name: str = ""


@dataclass(frozen=True, eq=False)
class Sample:
    """Scans that are to be split.

    Attributes
    ----------
    outcomes : Outcomes
        Of n patients; those of one group go together.
    centres : tuple of str, length n
        Empty where unknown.
    """

    outcomes: Outcomes
    centres: tuple[str, ...]

    @property
    def patients(self) -> tuple[str, ...]:
        """The user's patient ids."""
        return self.outcomes.patients

    @property
    def groups(self) -> tuple[str, ...]:
        """Whose scans go together."""
        return self.outcomes.groups


@dataclass(frozen=True)
class CrossValidation:
    """Repeated k-fold cross-validation: groups stay together, events and centres are spread evenly.

    Events are the strata. Of several splits drawn so, the one is taken whose folds come nearest to their share of each
    centre.
    Strata of event and centre together would put the cohort's own association of the two, chance or not, into every
    training and every tested part: a model that knows the centre alone, or images by which one can tell it, would then
    be judged on what it was fitted to. On permuted outcomes of 24 patients of two centres that gave an AUC of 0.58.

    Parameters
    ----------
    folds, repeats : int
        Parts of one split, and number of splits.
    seed : int
        Repeat ``r`` is shuffled by ``seed + r``.
    """

    folds: int = 5
    repeats: int = 1
    seed: int = 0

    name: ClassVar[str] = "cross-validation"

    def split(self, sample: Sample) -> tuple[Fold, ...]:
        """The folds of every repeat, in their order.

        Raises
        ------
        ConfigurationError
            ``FEWER_PATIENTS_THAN_FOLDS``, ``FEWER_EVENTS_THAN_FOLDS``.
        """
        endpoint = sample.outcomes.endpoint
        check_patients_for(self.folds, sample.groups, endpoint, len(set(sample.patients)))
        smaller = endpoint.effective_sample_size(sample.outcomes)
        if endpoint.has_events and smaller < self.folds:
            rarer = format_count(smaller, "patient")
            reason = f"endpoint {endpoint.name!r}: {rarer} of the rarer class for {self.folds} folds"
            raise ConfigurationError(Code.FEWER_EVENTS_THAN_FOLDS, reason)
        parts = (self._parts(sample, self.seed + repeat) for repeat in range(self.repeats))
        return tuple(
            Fold(repeat, fold, np.flatnonzero(tested != fold), np.flatnonzero(tested == fold))
            for repeat, tested in enumerate(parts)
            for fold in range(self.folds)
        )

    def _parts(self, sample: Sample, seed: int) -> IntArray:
        """For each scan the fold in which it is tested."""
        draws = DRAWS if len(set(sample.centres)) > 1 else 1
        seeds = [seed, *np.random.SeedSequence(seed).generate_state(draws - 1).tolist()]
        candidates = [self._draw(sample, one) for one in seeds]
        return min(candidates, key=lambda tested: _unevenness(tested, sample.centres, self.folds))

    def _draw(self, sample: Sample, seed: int) -> IntArray:
        from sklearn.model_selection import StratifiedGroupKFold  # slow to import; a prediction needs none

        splitter = StratifiedGroupKFold(self.folds, shuffle=True, random_state=seed)
        tested, groups = np.zeros(len(sample.patients), dtype=np.int64), np.array(sample.groups)
        with warnings.catch_warnings():  # fewer censored patients than folds are no problem
            warnings.simplefilter("ignore", UserWarning)
            for fold, (_, test) in enumerate(splitter.split(tested, sample.outcomes.event, groups=groups)):
                tested[test] = fold
        return tested


@dataclass(frozen=True)
class LeaveOneCentreOut:
    """Each centre is tested by models of all the others; patients without a centre take no part."""

    name: ClassVar[str] = "leave-one-centre-out"

    def split(self, sample: Sample) -> tuple[Fold, ...]:
        """A fold for each centre, in alphabetical order.

        Raises
        ------
        ConfigurationError
            ``TOO_FEW_CENTRES``; ``ONE_CLASS`` when the other centres of one have nothing to learn from.
        """
        centres, known = np.array(sample.centres), sorted(set(sample.centres) - {""})
        if len(known) < 2:
            there = format_count(len(known), "centre is", "centres are")
            raise ConfigurationError(Code.TOO_FEW_CENTRES, f"{there} known of {format_count(len(centres), 'patient')}")
        return tuple(
            _make_fold(sample, (centres != centre) & (centres != ""), centres == centre, number, centre)
            for number, centre in enumerate(known)
        )


@dataclass(frozen=True)
class PredefinedSplit:
    """One split that the user names: these centres, or these patients, train, and those are tested.

    Parameters
    ----------
    train, test : tuple of str
        Centres or patient ids; whoever is in neither takes no part.
    by : {"centre", "patient"}
        Which of the two.
    """

    train: tuple[str, ...]
    test: tuple[str, ...]
    by: Literal["centre", "patient"] = "centre"

    name: ClassVar[str] = "split"

    def __repr__(self) -> str:  # without patient ids
        return f"PredefinedSplit({len(self.train)} {self.by}s train, {len(self.test)} are tested)"

    def split(self, sample: Sample) -> tuple[Fold, ...]:
        """The one fold.

        Raises
        ------
        ConfigurationError
            ``SPLIT_INVALID``: a centre that nobody has, one on both sides, or a side without patients;
            ``ONE_CLASS`` when the training part has nothing to learn from.
        """
        keys = sample.centres if self.by == "centre" else sample.patients
        self._check(keys)
        train, test = (np.isin(keys, side) for side in (self.train, self.test))
        return (_make_fold(sample, train, test, 0, ", ".join(self.test) if self.by == "centre" else "test"),)

    def _check(self, keys: Sequence[str]) -> None:
        there = set(keys)
        twice = sorted(set(self.train) & set(self.test))
        if twice:
            named = f": {', '.join(twice)}" if self.by == "centre" else ""
            reason = f"{len(twice)} {self.by}s stand on both sides of the split{named}"
            raise ConfigurationError(Code.SPLIT_INVALID, reason)
        unknown = sorted({*self.train, *self.test} - there)
        if self.by == "centre" and unknown:
            raise ConfigurationError(
                Code.SPLIT_INVALID,
                f"no patient has the centre {', '.join(map(repr, unknown))}; there are {', '.join(sorted(there))}",
            )
        for name, side in (("train", self.train), ("test", self.test)):
            if not there & set(side):
                reason = f"no patient of the cohort is in the {name} part of the split"
                raise ConfigurationError(Code.SPLIT_INVALID, reason)


@dataclass(frozen=True)
class FoldsFile:
    """The folds of another run, from its ``folds.json``.

    Parameters
    ----------
    path : Path
        The file; its pseudonyms are those of this user's key.
    """

    path: Path

    name: ClassVar[str] = "saved folds"

    def split(self, sample: Sample) -> tuple[Fold, ...]:
        """The folds of the sample's endpoint.

        Raises
        ------
        ConfigurationError
            ``FOLDS_MISMATCH``: the file can't be read, lacks the endpoint, has other patients than the cohort, or
            one group on both sides of a fold.
        """
        entries, unused = self._entries(sample.outcomes.endpoint.name)
        position = {pseudonym("patient", patient): i for i, patient in enumerate(sample.patients)}
        named = {patient for entry in entries for side in ("train", "test") for patient in entry[side]}
        named |= unused
        absent, fresh = sorted(named - set(position)), sorted(set(position) - named)
        if absent or fresh:
            raise self._refusal(
                f"{len(absent)} of its patients are not in the cohort{_first_names(absent)}, and {len(fresh)} of the "
                f"cohort are not in it{_first_names(fresh)}"
            )
        folds = []
        for entry in entries:
            train, test = (np.array([position[p] for p in entry[side]], dtype=np.int64) for side in ("train", "test"))
            both = {sample.groups[i] for i in train} & {sample.groups[i] for i in test}
            if both:
                names = sorted(pseudonym("patient", group) for group in both)
                raise self._refusal(
                    f"{format_count(len(both), 'group is', 'groups are')} on both sides of a fold{_first_names(names)}"
                )
            folds.append(Fold(int(entry["repeat"]), int(entry["fold"]), train, test, str(entry.get("name", ""))))
        return tuple(folds)

    def _entries(self, endpoint: str) -> tuple[list[dict[str, Any]], set[str]]:
        """The folds of an endpoint, and the patients who take no part."""
        require_as_written(self.path)
        try:
            document = json.loads(self.path.read_bytes())
            by_endpoint = {item["endpoint"]: item for item in document["endpoints"]}
            item = by_endpoint.get(endpoint, {"folds": []})
            entries, unused = list(item["folds"]), set(item.get("unused", ()))
            for entry in entries:
                _ = int(entry["repeat"]), int(entry["fold"]), set(entry["train"]), set(entry["test"])
        except OSError as error:
            raise self._refusal(f"it can't be read: {error.strerror}") from None
        except (ValueError, TypeError, KeyError, AttributeError):
            raise self._refusal("it is not a folds.json of this version") from None
        if not entries:
            raise self._refusal(f"it has no folds of the endpoint {endpoint!r}; it has {', '.join(by_endpoint)}")
        return entries, unused

    def _refusal(self, reason: str) -> ConfigurationError:
        remedy = "use the folds.json of the same patients, made with the same pseudonym key"
        return ConfigurationError(Code.FOLDS_MISMATCH, f"{self.path.name}: {reason}", remedy=remedy)


Scheme: TypeAlias = CrossValidation | LeaveOneCentreOut | PredefinedSplit | FoldsFile


def check_patients_for(folds: int, groups: Sequence[str], endpoint: Endpoint, ids: int = 0) -> None:
    """Refuse folds that cannot all hold a patient.

    Parameters
    ----------
    folds : int
    groups : sequence of str
        Those to be split.
    endpoint : Endpoint
    ids : int
        How many patient ids they have; more than groups where scans under several ids are duplicates.

    Raises
    ------
    ConfigurationError
        ``FEWER_PATIENTS_THAN_FOLDS``.
    """
    n = len(set(groups))
    if n >= folds:
        return
    said, remedy = f"endpoint {endpoint.name!r}: {format_count(n, 'patient')} for {folds} folds", None
    if ids > n:
        doubles = format_count(ids - n, "has", "have")
        said += f"; {ids} ids are {format_count(n, 'patient')}, since {doubles} the scan of another and its fold"
        remedy = "lower `folds`, or check why scans stand under several ids; the warnings name them"
    raise ConfigurationError(Code.FEWER_PATIENTS_THAN_FOLDS, said, remedy=remedy)


def describe_unassigned(folds: Sequence[Fold], sample: Sample, scheme: Scheme) -> str:
    """How many patients neither train nor are tested, and why; empty where all take part.

    Parameters
    ----------
    folds : sequence of Fold
        What the scheme made of the sample.
    sample : Sample
        Of one endpoint.
    scheme : Scheme
        One that goes by centres leaves out those whose centre is not known.
    """
    used = {int(i) for fold in folds for i in (*fold.train, *fold.test)}
    idle = set(range(len(sample.patients))) - used
    if not idle:
        return ""
    by_centre = isinstance(scheme, LeaveOneCentreOut) or (isinstance(scheme, PredefinedSplit) and scheme.by == "centre")
    homeless = {i for i in idle if by_centre and not sample.centres[i]}
    tested = {sample.groups[int(i)] for fold in folds for i in fold.test}
    doubles = {i for i in idle - homeless if sample.groups[i] in tested}
    counted = {
        "whose centre is not known": len(homeless),
        "with the scan of a patient who is tested": len(doubles),
        "whom the split does not name": len(idle - homeless - doubles),
    }
    why = ", ".join(f"{n} {reason}" for reason, n in counted.items() if n)
    endpoint = sample.outcomes.endpoint.name
    return f"{endpoint}: {len(idle)} of {len(sample.patients)} patients take no part in the validation: {why}"


def folds_document(splits: Mapping[str, Sequence[Fold]], patients: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """What ``folds.json`` says, for :class:`FoldsFile` to read: pseudonyms only.

    Parameters
    ----------
    splits : mapping
        Endpoint to its folds.
    patients : mapping
        Endpoint to the patient ids that the folds' positions mean.
    """
    return [{"endpoint": endpoint, **_describe_folds(folds, patients[endpoint])} for endpoint, folds in splits.items()]


def _describe_folds(folds: Sequence[Fold], patients: Sequence[str]) -> dict[str, Any]:
    names = [pseudonym("patient", patient) for patient in patients]
    used = {int(i) for fold in folds for i in (*fold.train, *fold.test)}
    rows = []
    for fold in folds:
        sides = {side: [names[i] for i in getattr(fold, side)] for side in ("train", "test")}
        rows.append({"repeat": fold.repeat, "fold": fold.fold, "name": fold.name, **sides})
    return {"unused": [name for i, name in enumerate(names) if i not in used], "folds": rows}


def _unevenness(tested: IntArray, centres: Sequence[str], folds: int) -> float:
    """Summed squared distance of each centre's number in each fold from its share."""
    names, centre = np.unique(centres, return_inverse=True)
    counts = np.zeros((folds, len(names)))
    np.add.at(counts, (tested, centre), 1)
    return float(np.square(counts - counts.mean(axis=0)).sum())


def _make_fold(sample: Sample, train: BoolArray, test: BoolArray, number: int, name: str) -> Fold:
    """A fold whose training part has no scan of a group that is tested, and something to learn from."""
    groups = np.array(sample.groups)
    train = train & ~np.isin(groups, groups[test])
    outcomes = sample.outcomes.subset(np.flatnonzero(train))
    if not outcomes.endpoint.has_contrast(outcomes):
        raise ConfigurationError(
            Code.ONE_CLASS,
            f"endpoint {outcomes.endpoint.name!r}: to test {name!r}, {format_count(len(outcomes), 'patient')} with "
            f"{format_count(outcomes.n_events, 'event')} train",
        )
    return Fold(0, number, np.flatnonzero(train), np.flatnonzero(test), name)


def _first_names(names: Sequence[str]) -> str:
    return f" ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})" if names else ""
