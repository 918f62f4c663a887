"""Which patients are shown: whom a model orders best, typically and worst, and whom some model cannot use."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from twobe3.core.endpoints import KINDS
from twobe3.core.map_check import MapCheck
from twobe3.evaluation.explanations import MapRecord
from twobe3.evaluation.patients import PatientRecord, PatientRisk
from twobe3.evaluation.results import ModelExclusion
from twobe3.report.mips import Picture, draw, draw_ct
from twobe3.report.stored_scans import StoredMap, StoredScan, read_map, read_scan
from twobe3.report.study_folder import EndpointRecord, StudyFolder, SubjectRecord
from twobe3.report.viewer import ViewerCase
from twobe3.report.wording import model_label, number, share

EACH = 3
MOST_MAPS = 2
METHODS = {"grad-cam": "Grad-CAM", "integrated-gradients": "integrated gradients", "linear": "exact contributions"}
GROUPS = {
    "Best": "the largest shares of pairs ordered rightly",
    "Typical": "as many pairs ordered rightly as for the median patient",
    "Worst": "the smallest shares of pairs ordered rightly",
    "Failed": "a model cannot use the scan",
}


@dataclass(frozen=True)
class CaseMap:
    """A map of where a model's risk comes from, over the scan, with what its sanity checks gave."""

    title: str
    passed: bool
    checks: tuple[str, ...]
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Case:
    """A patient with the scan from the front and from the side, what is to be said, a line each, and maps."""

    patient: str
    lines: tuple[str, ...]
    pictures: tuple[Picture, ...]
    maps: tuple[CaseMap, ...] = ()


@dataclass(frozen=True)
class CaseGroup:
    """Patients who are shown for the same reason."""

    name: str
    reason: str
    cases: tuple[Case, ...]


def case_groups(folder: StudyFolder, endpoint: EndpointRecord, models: Sequence[str]) -> tuple[CaseGroup, ...]:
    """Up to three patients of each group; the first of the models, in order of interest, decides.

    Best and worst are the patients with the largest and the smallest share of rightly ordered pairs with patients of
    another outcome, typical those nearest to the median share; among equals the patient with the more extreme rank,
    then the pseudonym decides. Nobody is in two groups.

    Raises
    ------
    ConfigurationError, EnvironmentFailure
        As :func:`~twobe3.report.stored_scans.read_scan`.
    """
    records = [one for one in folder.patients if one.endpoint == endpoint.name]
    known = {one.patient: one for one in records}
    volumes = {subject.patient: subject for subject in folder.cohort.subjects}
    failed = _list_failed(folder.evaluation.exclusions, volumes, models)
    chosen = _choose([one for one in records if one.patient in volumes and one.patient not in failed], models[:1])
    chosen["Failed"] = list(failed)
    return tuple(
        CaseGroup(
            name,
            reason,
            tuple(
                _draw(
                    folder,
                    volumes[patient],
                    (*_describe(known.get(patient), endpoint, models), *failed.get(patient, ())),
                    _choose_maps(folder.explanations.maps, endpoint.name, patient, models),
                )
                for patient in chosen.get(name, ())
            ),
        )
        for name, reason in GROUPS.items()
        if chosen.get(name)
    )


def _choose(records: Sequence[PatientRecord], model: Sequence[str]) -> dict[str, list[str]]:
    """Names of the groups to pseudonyms; none without a model that predicted."""
    said = [(one.patient, risk) for one in records for name in model if (risk := one.risk(name)) is not None]
    shares = {patient: risk.concordance for patient, risk in said if risk.concordance is not None}
    if not shares:
        return {}
    clear = {patient: abs(risk.rank - 0.5) for patient, risk in said}
    ordered = sorted(shares, key=lambda patient: (-shares[patient], -clear[patient], patient))
    each = min(EACH, max(1, len(ordered) // 3))
    best, worst = ordered[:each], ordered[each:][-each:][::-1]
    rest, middle = ordered[each:-each], median(shares.values())
    typical = sorted(rest, key=lambda patient: (round(abs(shares[patient] - middle), 9), patient))[:each]
    return {"Best": best, "Typical": typical, "Worst": worst}


def _list_failed(
    exclusions: Sequence[ModelExclusion], volumes: Collection[str], models: Sequence[str]
) -> dict[str, list[str]]:
    """Pseudonyms of up to three patients whom models cannot use, and why; models in order of interest first."""
    place = {name: i for i, name in enumerate(models)}
    ordered = sorted(exclusions, key=lambda one: place.get(one.model, len(place)))
    failed: dict[str, list[str]] = {}
    for one in ordered:
        if one.patient in volumes and (one.patient in failed or len(failed) < EACH):
            failed.setdefault(one.patient, []).append(f"{model_label(one.model)}: {one.code}, {one.reason}")
    return failed


def _describe(record: PatientRecord | None, endpoint: EndpointRecord, models: Sequence[str]) -> tuple[str, ...]:
    if record is None:
        return ("outcome not known",)
    said = [(name, risk) for name in models[:2] if (risk := record.risk(name)) is not None]
    return (observe(record, endpoint), *(_say(name, risk) for name, risk in said))


def observe(record: PatientRecord, endpoint: EndpointRecord) -> str:
    """What was observed of a patient, in words."""
    kind = KINDS[endpoint.kind]
    plural = "s" if endpoint.unit and record.value != 1 else ""
    amount = f"{record.value:g} {endpoint.unit or ''}{plural}".rstrip()
    if kind.has_times:
        what = "event after" if record.event else "another event after" if record.competing else "no event until"
        return f"{what} {amount}"
    if kind.has_classes:
        return "with the event" if record.event else "without the event"
    return f"observed {amount}"


def _say(model: str, risk: PatientRisk) -> str:
    """What a model said of a patient, and how well that was."""
    probability = "" if risk.probability is None else f", probability {number(risk.probability)}"
    rank = f"risk above that of {share(round(100 * risk.rank), 100)} of the patients{probability}"
    rightly = (
        "" if risk.concordance is None else f"; {share(round(100 * risk.concordance), 100)} of pairs ordered rightly"
    )
    return f"{model_label(model)}: {rank}{rightly}"


def _choose_maps(maps: Sequence[MapRecord], endpoint: str, patient: str, models: Sequence[str]) -> list[MapRecord]:
    """Those of a patient, of the models of most interest first."""
    place = {name: i for i, name in enumerate(models)}
    own = [one for one in maps if (one.endpoint, one.patient) == (endpoint, patient)]
    return sorted(own, key=lambda one: place.get(one.model, len(place)))[:MOST_MAPS]


def _draw(folder: StudyFolder, subject: SubjectRecord, lines: tuple[str, ...], maps: Sequence[MapRecord]) -> Case:
    """The only place where pictures of a patient are made."""
    scan = read_scan(folder.path, subject.volume, ct=subject.ct_volume, show_faces=folder.show_faces)
    return Case(
        subject.patient,
        lines,
        (draw(scan, "front"), draw(scan, "side")),
        tuple(_draw_map(folder.path, scan, one) for one in maps),
    )


def _draw_map(folder: Path, scan: StoredScan, record: MapRecord) -> CaseMap:
    found = _read_shown_map(folder, scan, record)
    of_ct = [] if found.of_ct is None or scan.hu is None else draw_ct(scan, found.of_ct)
    return CaseMap(
        f"{model_label(record.model)} by {METHODS.get(record.method, record.method)}",
        record.passed,
        tuple(_say_check(check) for check in record.checks),
        (draw(scan, "front", found.of_pet), draw(scan, "side", found.of_pet), *of_ct),
    )


def _read_shown_map(folder: Path, scan: StoredScan, record: MapRecord) -> StoredMap:
    """The map where there is uptake to be seen: nothing over a face that is left out."""
    return read_map(folder, record.file, scan.suv.shape).within(scan.suv > 0)


Shown = tuple[str, Sequence[CaseGroup], Sequence[str]]


def viewer_cases(folder: StudyFolder, shown: Sequence[Shown]) -> list[ViewerCase]:
    """The patients of the groups, each once, with the map of the model of most interest, for the viewer.

    ``shown`` has for each endpoint its name, its groups, and the models in order of interest.
    """
    volumes = {subject.patient: subject for subject in folder.cohort.subjects}
    cases: dict[str, ViewerCase] = {}
    for endpoint, groups, models in shown:
        for name, patient in [(group.name.lower(), case.patient) for group in groups for case in group.cases]:
            if patient not in cases:
                subject = volumes[patient]  # the viewer leaves faces out
                scan = read_scan(folder.path, subject.volume, ct=subject.ct_volume, show_faces=True)
                records = _choose_maps(folder.explanations.maps, endpoint, patient, models)[:1]
                maps = [read_map(folder.path, one.file, scan.suv.shape) for one in records]
                of = [f", map of {model_label(one.model)}{'' if one.passed else ', failed'}" for one in records]
                label = f"{patient} ({name}{''.join(of)})"
                cases[patient] = ViewerCase(label, scan, *maps)
    return list(cases.values())


def _say_check(check: MapCheck) -> str:
    verdict = {True: "passed", False: "failed", None: "decides nothing"}[check.passed]
    against = "" if check.threshold is None else f" against {number(check.threshold)}"
    return f"{check.name.replace('_', ' ')} {number(check.value)}{against}, {verdict}"
