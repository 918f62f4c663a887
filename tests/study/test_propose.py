"""A study file that is proposed is one that runs, says what was guessed, and guesses what a person would."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from tests.command_line import Call

import twobe3 as tb
from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError
from twobe3.study.config import StudyConfig, read_study
from twobe3.study.propose import Proposal
from twobe3.study.propose import propose as propose_study

N = 12
IDS = [f"P{i:02d}" for i in range(N)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, new_tiny_cohort: Callable[[Path], Any]) -> Path:
    folder = tmp_path_factory.mktemp("scans")
    new_tiny_cohort(folder).patients(N)
    return folder


Propose = Callable[..., tuple[StudyConfig, Proposal]]


@pytest.fixture
def propose(folder: Path, tmp_path: Path) -> Propose:
    """Propose a study for a table of these columns, beside the scans of twelve patients."""

    def propose(table: Mapping[str, Sequence[object]], columns: Sequence[str] = ()) -> tuple[StudyConfig, Proposal]:
        rows = [table, *zip(*table.values(), strict=True)]
        clinical = tmp_path / "table.csv"
        clinical.write_text("".join(",".join(map(str, row)) + "\n" for row in rows))
        proposal = propose_study(folder / "dicom", clinical, folder=tmp_path, columns=columns)
        file = tmp_path / "study.toml"
        file.write_text(proposal.text)
        return read_study(file), proposal

    return propose


def endpoints(study: StudyConfig) -> list[dict[str, Any]]:
    return [one.model_dump(exclude_defaults=True) for one in study.endpoint]


EVENT = [0, 1] * (N // 2)
WORDS = ["alive", "dead"] * (N // 2)
DAYS = [400 + 100 * i for i in range(N)]
AGES = [50 + i for i in range(N)]

TABLES: dict[str, tuple[dict[str, Sequence[object]], list[dict[str, Any]], list[str]]] = {
    "one and zero": (
        {"case": IDS, "age": AGES, "metastasis": EVENT},
        [{"kind": "binary", "name": "metastasis", "column": "metastasis"}],
        [],
    ),
    "words": (
        {"MRN": IDS, "Vital status": WORDS},
        [{"kind": "binary", "name": "vital status", "column": "Vital status", "positive": "dead"}],
        ["column 'Vital status': 'dead' is taken for the event"],
    ),
    "the rarer value": (
        {"id": IDS, "response": ["partial"] * (N - 3) + ["complete"] * 3},
        [{"kind": "binary", "name": "response", "column": "response", "positive": "complete"}],
        ["column 'response': the rarer value 'complete' is taken for the event"],
    ),
    "times in a named unit": (
        {"id": IDS, "OS_months": [12 + i for i in range(N)], "OS_event": EVENT, "age": AGES},
        [{"kind": "time-to-event", "name": "os event", "time": "OS_months", "event": "OS_event", "unit": "month"}],
        [],
    ),
    "times in days by their length": (
        {"id": IDS, "survival": DAYS, "survival event": EVENT},
        [{"kind": "time-to-event", "name": "survival event", "time": "survival", "event": "survival event"}],
        ["column 'survival' is taken for days: its longest is 1500"],
    ),
    "two of each": (
        {
            "id": IDS, "pfs_days": DAYS, "pfs_event": EVENT[::-1], "os_days": [day + 10 for day in DAYS],
            "os_event": EVENT,
        },
        [
            {"kind": "time-to-event", "name": "pfs event", "time": "pfs_days", "event": "pfs_event"},
            {"kind": "time-to-event", "name": "os event", "time": "os_days", "event": "os_event"},
        ],
        [],
    ),
    "dates, and R's status": (
        {
            "MRN": IDS,
            "date of PET": [f"2019-01-{1 + i:02d}" for i in range(N)],
            "last seen": [f"2021-03-{1 + i:02d}" for i in range(N)],
            "status": [1, 2] * (N // 2),
        },
        [
            {"kind": "time-to-event", "name": "status", "start": "date of PET", "end": "last seen", "event": "status",
             "positive": "2"},
        ],
        [
            "column 'status': '2' is taken for the event, as R's survival does",
            "the times of 'status' are taken from 'date of PET' and 'last seen'",
        ],
    ),
    "who had no event": (
        {"id": IDS, "censored": EVENT, "os_days": DAYS},
        [{"kind": "time-to-event", "name": "censored", "time": "os_days", "event": "censored", "positive": "0"}],
        [
            "column 'censored' says who had no event: '0' is taken for the event",
            "the times of 'censored' are taken from 'os_days'",
        ],
    ),
    "who lives": (
        {"id": IDS, "alive_status": ["yes", "no"] * (N // 2)},
        [{"kind": "binary", "name": "alive status", "column": "alive_status", "positive": "no"}],
        ["column 'alive_status' says who had no event: 'no' is taken for the event"],
    ),
    "times that cannot be": (
        {"id": IDS, "days": [0, *DAYS[1:]], "event": EVENT},
        [{"kind": "binary", "name": "event", "column": "event"}],
        ["'event' is taken without times, and 'days' look like some: name them by --column"],
    ),
    "dates of two readings": (
        {"id": IDS, "scan": [f"0{1 + i % 9}/04/2019" for i in range(N)],
         "last seen": [f"0{1 + i % 9}/05/2021" for i in range(N)], "death": EVENT},
        [{"kind": "binary", "name": "death", "column": "death"}],
        ["'death' is taken without times, and 'scan', 'last seen' look like some: name them by --column"],
    ),
    "several states": (
        {"id": IDS, "os_days": DAYS, "os_event": EVENT, "progression": [0, 1, 2] * (N // 3)},
        [{"kind": "time-to-event", "name": "os event", "time": "os_days", "event": "os_event"}],
        [
            "column 'progression' has 3 values: a study file must say which is the event, by `positive`, and which "
            "compete with it, by `competing`",
        ],
    ),
    "alike": (
        {"id": IDS, "os_event": EVENT, "os event": EVENT[::-1]},
        [
            {"kind": "binary", "name": "os event", "column": "os_event"},
            {"kind": "binary", "name": "os event 2", "column": "os event"},
        ],
        [],
    ),
    "not at baseline": (
        {"id": IDS, "metastasis_at_baseline": EVENT, "ECOG performance status": EVENT, "Tod": ["ja", "nein"] * 6},
        [{"kind": "binary", "name": "tod", "column": "Tod", "positive": "ja"}],
        ["column 'Tod': 'ja' is taken for the event"],
    ),
    "German times": (
        {"id": IDS, "Überlebenszeit (Tage)": DAYS, "Tod": EVENT},
        [{"kind": "time-to-event", "name": "tod", "time": "Überlebenszeit (Tage)", "event": "Tod"}],
        ["the times of 'Tod' are taken from 'Überlebenszeit (Tage)'"],
    ),
    "some without outcome": (
        {"id": IDS, "relapse": [*EVENT[:-2], "", "NA"]},
        [{"kind": "binary", "name": "relapse", "column": "relapse"}],
        ["relapse: 2 of 12 patients have no outcome"],
    ),
    "what a terminal obeys": (
        {"id": IDS, "event\x7f\x9b": EVENT},
        [{"kind": "binary", "name": "event", "column": "event\x7f\x9b"}],
        [],
    ),
    "one pair that shares no word": (
        {"id": IDS, "Follow-up (days)": DAYS, "Death": WORDS, "age at scan (years)": AGES},
        [
            {"kind": "time-to-event", "name": "death", "time": "Follow-up (days)", "event": "Death",
             "positive": "dead"},
        ],
        [
            "column 'Death': 'dead' is taken for the event",
            "the times of 'Death' are taken from 'Follow-up (days)'",
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_the_endpoint_is_what_a_person_would_take(name: str, propose: Propose) -> None:
    table, expected, unsure = TABLES[name]
    study, proposal = propose(table)
    assert endpoints(study) == expected
    assert study.cohort.patient == next(iter(table))
    assert list(proposal.unsure) == unsure
    assert all(f"# Not sure: {line}" in proposal.text for line in unsure)
    assert not any(one in proposal.text or one in str(proposal.seen) for one in IDS)


def test_the_columns_that_are_named_are_taken_whatever_they_are_called(propose: Propose) -> None:
    table = {"id": IDS, "x7": DAYS, "grp": WORDS, "death": EVENT, "days": DAYS}
    study, _ = propose(table, ["grp", "x7"])
    (endpoint,) = endpoints(study)
    assert (endpoint["time"], endpoint["event"], endpoint["positive"]) == ("x7", "grp", "dead")
    study, _ = propose(table, ["grp"])
    (endpoint,) = endpoints(study)
    assert (endpoint["kind"], endpoint["column"]) == ("binary", "grp")


def test_the_patients_are_found_by_their_ids_wherever_they_stand(propose: Propose) -> None:
    numbers = list(range(N))
    study, proposal = propose({"no": numbers, "outcome": EVENT, "PatientID": random.Random(0).sample(IDS, N)})
    assert study.cohort.patient == "PatientID"
    study, proposal = propose({"outcome": EVENT, "PatientID": [*IDS[:-2], "Q1", "Q2"]})
    assert "not in the table: 2 of 12 scanned patients" in proposal.unsure
    assert any("12 patients, 10 of them with a scan" in line for line in proposal.seen)


def test_the_sheet_that_is_named_is_read_and_stands_in_the_file(folder: Path, tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    for name, outcome in (("first", [1] * N), ("second", EVENT)):
        sheet = book.create_sheet(name)
        for row in [("id", "outcome"), *zip(IDS, outcome, strict=True)]:
            sheet.append(row)
    book.save(tmp_path / "table.xlsx")
    with pytest.raises(ConfigurationError, match="'first', 'second'") as refused:
        propose_study(folder / "dicom", tmp_path / "table.xlsx", folder=tmp_path)
    assert refused.value.code is Code.TABLE_UNREADABLE
    proposal = propose_study(folder / "dicom", tmp_path / "table.xlsx", folder=tmp_path, sheet="second")
    (tmp_path / "study.toml").write_text(proposal.text)
    assert read_study(tmp_path / "study.toml").cohort.sheet == "second"


def test_centres_covariates_and_few_events_are_told(propose: Propose) -> None:
    table = {"id": IDS, "Hospital": ["A", "B", "C"] * 4, "stage": ["1", "2"] * 6, "relapse": [1, 1, 1] + [0] * (N - 3)}
    study, proposal = propose(table)
    assert study.cohort.centre == "Hospital"
    assert '# covariates = ["stage"]' in proposal.text
    assert study.validation.folds == 3
    study, proposal = propose({"id": IDS, "relapse": [1] + [0] * (N - 1)})
    assert "an endpoint has too few events to be cross-validated" in proposal.unsure


def test_the_field_of_view_holds_every_scan_and_nobody_drew_a_region(propose: Propose, folder: Path) -> None:
    study, _ = propose({"id": IDS, "outcome": EVENT})
    for one in tb.find_series(folder / "dicom").series:
        volume = tb.read_suv(one)
        lengths = [n * mm for n, mm in zip(volume.geometry.shape, volume.geometry.spacing_mm, strict=True)]
        assert all(fov >= mm for fov, mm in zip(study.volume.field_of_view_mm, lengths, strict=True))
        assert all(fov < mm + 64 for fov, mm in zip(study.volume.field_of_view_mm, lengths, strict=True))
    assert study.region is not None
    assert study.region.kind == "threshold"


@pytest.mark.parametrize(
    ("table", "columns", "code"),
    [
        ({"id": [f"Q{i}" for i in range(N)], "outcome": EVENT}, [], Code.NO_PATIENT_MATCHES),
        ({"id": IDS, "age": AGES}, [], Code.OUTCOME_INVALID),
        ({"id": IDS, "outcome": EVENT}, ["outcme"], Code.COLUMN_MISSING),
        ({"id": IDS, "age": AGES}, ["age"], Code.OUTCOME_INVALID),
        ({"id": IDS, "outcome": EVENT}, ["id"], Code.OUTCOME_INVALID),
        ({"id": IDS, "status": [0, 1, 2] * (N // 3), "days": DAYS}, ["status", "days"], Code.OUTCOME_INVALID),
        ({"P00": IDS, "0": EVENT}, [], Code.TABLE_UNREADABLE),
    ],
    ids=["no ids", "no outcome", "no such column", "a column that is none", "the ids", "three values", "no header"],
)
def test_what_cannot_be_proposed_is_said(
    table: Mapping[str, Sequence[object]], columns: Sequence[str], code: Code, propose: Propose
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        propose(table, columns)
    assert refused.value.code is code
    assert not any(one in str(refused.value) for one in IDS)


def test_times_that_were_given_up_are_no_covariates(propose: Propose) -> None:
    _, proposal = propose({"id": IDS, "days": [0, *DAYS[1:]], "event": EVENT, "stage": ["1", "2"] * 6})
    assert '# covariates = ["stage"]' in proposal.text


def test_the_proposal_is_written_once_and_runs(twobe3: Call, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "study.toml"
    done = twobe3("init", folder / "dicom", folder / "clinical.csv", "--out", out)
    assert done.status == 0
    assert done.out.splitlines()[-1] == f"{out} is written; next: twobe3 run {out} --out results"
    assert "6 events among 12 patients" in done.out
    again = twobe3("init", folder / "dicom", folder / "clinical.csv", "--out", out)
    assert again.refusal().startswith("OUTPUT_EXISTS: study.toml is there")
    study = read_study(out)
    clinical = study.cohort.read_clinical(out.parent)
    cohort = tb.read_cohort(
        study.cohort.folders(out.parent), clinical=clinical.rows, patient=study.cohort.patient,
        endpoints=[one.endpoint() for one in study.endpoint], grid=study.volume.grid(),
    )  # fmt: skip
    assert len(cohort) == N
    document = twobe3("init", folder / "dicom", folder / "clinical.csv", "--out", tmp_path / "b.toml", "--json").json()
    assert document["unsure"] == []
    assert (tmp_path / "b.toml").read_text() == out.read_text()
