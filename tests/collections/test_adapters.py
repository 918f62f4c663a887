"""Clinical tables as collections publish them, written here with the published columns."""

from __future__ import annotations

import csv
import sys
import zipfile
from pathlib import Path

import pytest
from openpyxl import load_workbook
from tests.published import COLUMNS, patient, write_clinical, write_contours, write_workbook

from twobe3.collections.adapters import ADAPTERS, AdaptedTable, get_adapter, write_table
from twobe3.core.codes import Code
from twobe3.core.endpoints import TimeToEvent
from twobe3.core.errors import ConfigurationError
from twobe3.io.clinical_table import read_table

HEAD_NECK = [
    patient("HN-HGJ-001", lr=400, hpv="+"),
    patient("HN-CHUS-002", dm=300, death=900, hpv="-", sex="F", age=63.4),
    patient("HN-HMR-003", death=700, follow_up=700),
    patient("HN-CHUM-004", lr=250, dm=600, hpv="Not tested"),
]
TUMOURS = {
    "HN-HGJ-001": ("GTV", "N/A"),
    "HN-CHUS-002": ("GTV 1, GTV 2", "Adeno"),
    "HN-HMR-003": ("GTV tumour", ""),
}


def text(folder: Path, name: str, *lines: str) -> Path:
    path = folder / name
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def head_neck(tmp_path: Path) -> AdaptedTable:
    files = [write_clinical(tmp_path, HEAD_NECK), write_contours(tmp_path, TUMOURS)]
    return get_adapter("head-neck-pet-ct").read(files)


def events(adapted: AdaptedTable, name: str) -> dict[str, tuple[float, bool]]:
    (endpoint,) = (one for one in adapted.endpoints if one.name == name)
    outcomes = endpoint.outcomes(adapted.table)
    return dict(zip(outcomes.patients, zip(outcomes.value.tolist(), outcomes.event.tolist(), strict=True), strict=True))


# -- Head-Neck-PET-CT


def test_head_neck_has_the_patients_of_the_four_hospitals_and_the_published_split(head_neck: AdaptedTable) -> None:
    assert list(head_neck.table) == ["HN-HGJ-001", "HN-CHUS-002", "HN-HMR-003", "HN-CHUM-004"]
    assert {row["centre"]: row["split"] for row in head_neck.table.values()} == {
        "HGJ": "train", "CHUS": "train", "HMR": "test", "CHUM": "test",
    }  # fmt: skip


def test_head_neck_events_have_their_own_days_and_the_others_the_follow_up(head_neck: AdaptedTable) -> None:
    assert events(head_neck, "time to locoregional recurrence") == {
        "HN-HGJ-001": (400, True), "HN-CHUS-002": (1500, False), "HN-HMR-003": (700, False), "HN-CHUM-004": (250, True),
    }  # fmt: skip
    assert events(head_neck, "overall survival") == {
        "HN-HGJ-001": (1500, False), "HN-CHUS-002": (900, True),
        "HN-HMR-003": (700, True), "HN-CHUM-004": (1500, False),
    }  # fmt: skip
    assert [day for day, _ in events(head_neck, "distant metastasis").values()] == [0, 1, 0, 1]
    survival = next(one for one in head_neck.endpoints if one.name == "overall survival")
    assert isinstance(survival, TimeToEvent)
    assert (survival.unit, survival.time_zero) == ("day", "diagnosis")


def test_a_bare_minus_is_hpv_negative_and_no_empty_cell(head_neck: AdaptedTable) -> None:
    assert [row["hpv"] for row in head_neck.table.values()] == ["positive", "negative", "", ""]
    assert [row["age_years"] for row in head_neck.table.values()] == ["61", "63.4", "61", "61"]


def test_head_neck_tumours_are_the_named_contours_of_each_patient(head_neck: AdaptedTable) -> None:
    names = {one: row["tumour_roi"] for one, row in head_neck.table.items()}
    assert names == {
        "HN-HGJ-001": "GTV", "HN-CHUS-002": "GTV 1;GTV 2;Adeno", "HN-HMR-003": "GTV tumour", "HN-CHUM-004": "",
    }  # fmt: skip
    assert head_neck.roi == "tumour_roi"


def test_without_the_table_of_contours_nothing_is_taken_for_the_tumour(tmp_path: Path) -> None:
    adapted = get_adapter("head-neck-pet-ct").read([write_clinical(tmp_path, HEAD_NECK)])
    assert {row["tumour_roi"] for row in adapted.table.values()} == {""}


def test_a_published_column_that_is_missing_is_named(tmp_path: Path) -> None:
    path = write_clinical(tmp_path, HEAD_NECK, without="Distant")
    with pytest.raises(ConfigurationError, match=r"COLUMN_MISSING: Head-Neck-PET-CT: .*lacks 'Distant'"):
        get_adapter("head-neck-pet-ct").read([path])


def test_a_hospital_without_its_sheet_is_named(tmp_path: Path) -> None:
    rows = [COLUMNS, [HEAD_NECK[0].get(column) for column in COLUMNS]]
    path = write_workbook(tmp_path / "edited.xlsx", {"HGJ": rows, "CHUS": rows, "HMR": rows})
    with pytest.raises(ConfigurationError, match=r"TABLE_UNREADABLE: edited.xlsx has no sheet 'CHUM'"):
        get_adapter("head-neck-pet-ct").read([path])


def test_a_row_with_outcomes_and_a_mistyped_id_is_no_note(tmp_path: Path) -> None:
    cells = [{**HEAD_NECK[0], "Patient #": "HN-HGJ-1x"}.get(column) for column in COLUMNS]
    sheets = {centre: [COLUMNS, cells] for centre in ("HGJ", "CHUS", "HMR", "CHUM")}
    path = write_workbook(tmp_path / "edited.xlsx", sheets)
    with pytest.raises(ConfigurationError, match="sheet 'HGJ': line 2 has outcomes, but no patient id in 'Patient #'"):
        get_adapter("head-neck-pet-ct").read([path])


def test_a_second_row_of_a_patient_is_named_by_its_line(tmp_path: Path) -> None:
    path = write_clinical(tmp_path, [*HEAD_NECK, HEAD_NECK[3]])
    with pytest.raises(ConfigurationError, match=r"sheet 'CHUM': the patient of line 3 has a row before it") as refused:
        get_adapter("head-neck-pet-ct").read([path])
    assert "004" not in str(refused.value)


# -- the other collections


HECKTOR_2021 = (
    'PatientID,CenterID,"Gender (1=M,0=F)",Age,TNM edition,TNM group,T-stage,N-stage,M-stage,Tobacco,Alcohol,'
    'Performance status,"HPV status (0=-, 1=+)",Chemotherapy,Estimated weight (kg) for SUV'
)


def test_hecktor_2021(tmp_path: Path) -> None:
    rows = "CHGJ007,1,1,55,7,IV,T2,N2,M0,,,,1,1,", "CHUP025,5,0,62,7,III,T3,N0,M0,,,,0,1,80"
    files = [
        text(tmp_path, "info.csv", HECKTOR_2021, *rows),
        text(tmp_path, "end.csv", "PatientID,Progression,Progression free survival", "CHGJ007,1,310", "CHUP025,0,1200"),
    ]
    adapted = get_adapter("hecktor-2021").read(files)
    assert events(adapted, "progression-free survival") == {"CHGJ007": (310, True), "CHUP025": (1200, False)}
    assert [(row["centre"], row["sex"], row["hpv"]) for row in adapted.table.values()] == [
        ("CHGJ", "M", "1"), ("CHUP", "F", "0"),
    ]  # fmt: skip


HECKTOR_2022 = (
    'PatientID,Task 1,Task 2,CenterID,Gender,Age,Weight,Tobacco,Alcohol,Performance status,"HPV status (0=-, 1=+)",'
    "Surgery,Chemotherapy"
)


def test_hecktor_2022_joins_its_two_files_and_takes_the_centre_from_the_id(tmp_path: Path) -> None:
    rows = "CHUM-001,1,1,2,M,60,,0,0,,0,,1", "MDA-043,1,1,5,F,52,70,,,1,1,0,1", "USZ-050,1,0,8,M,71,90,,,,,,0"
    files = [
        text(tmp_path, "end.csv", "PatientID,Task 1,Task 2,Relapse,RFS", "CHUM-001,1,1,0,1704", "MDA-043,1,1,1,212"),
        text(tmp_path, "info.csv", HECKTOR_2022, *rows),
    ]
    adapted = get_adapter("hecktor-2022").read(files)
    assert events(adapted, "recurrence-free survival") == {"CHUM-001": (1704, False), "MDA-043": (212, True)}
    assert {one: row["centre"] for one, row in adapted.table.items()} == {
        "CHUM-001": "CHUM", "MDA-043": "MDA", "USZ-050": "USZ",
    }  # fmt: skip
    assert adapted.table["USZ-050"]["relapse"] == ""  # of task 1 only
    assert adapted.table["MDA-043"]["weight_kg"] == "70"


HECKTOR_2025 = (
    "PatientID,CenterID,Gender,Age,Tobacco Consumption,Alcohol Consumption,Performance Status,Treatment,M-stage"
)


def test_hecktor_2025_is_read_from_its_tasks_or_from_its_workbook(tmp_path: Path) -> None:
    one, other = "CHUM-001,1,1,58,0,0,1,1,M0", "MDA-258,7,0,66,,,,0,"
    files = [
        text(tmp_path, "task2.csv", f"{HECKTOR_2025},Relapse,RFS", f"{one},1,455", f"{other},0,900"),
        text(tmp_path, "task3.csv", f"{HECKTOR_2025},HPV Status", f"{one},1", f"{other},0"),
    ]
    adapted = get_adapter("hecktor-2025").read(files)
    assert events(adapted, "recurrence-free survival") == {"CHUM-001": (455, True), "MDA-258": (900, False)}
    assert events(adapted, "HPV") == {"CHUM-001": (1, True), "MDA-258": (0, False)}
    assert [row["sex"] for row in adapted.table.values()] == ["M", "F"]
    header = [*HECKTOR_2025.split(","), "T-stage", "N-stage", "Relapse", "RFS", "HPV Status"]
    cells: list[list[object]] = [["CHUM-001", 1, 1, 58, 0, 0, 1, 1, "M0", "T2", "N1", 1, 455, 1]]
    book = write_workbook(
        tmp_path / "ehr.xlsx", {"Data Dictionary": [["Variable", "Meaning"]], "Data": [header, *cells]}
    )
    row = get_adapter("hecktor-2025").read([book]).table["CHUM-001"]
    assert {name: row[name] for name in ("rfs_days", "hpv", "t_stage")} == {
        "rfs_days": "455", "hpv": "1", "t_stage": "T2",
    }  # fmt: skip


STS = [
    "Patient ID", "Sex", "Age", "Histological type", "MSKCC type", "Site of primary STS", "Grade",
    "Time - diagnosis to MRI scan (days)", "Time - MRI scan to PET scan (days)", "Treatment",
    "Outcome (recurrence, mets)", "Time - diagnosis to outcome (days)", "Status (NED, AWD, D)",
    "Time - diagnosis to last follow-up (days)",
]  # fmt: skip


def test_soft_tissue_sarcoma(tmp_path: Path) -> None:
    who = ["Male", 53, "MFH", "MFH", "right thigh", "High", 10, 5, "Surgery"]
    clinical = [
        STS,
        ["STS_001", *who, "Mets - lungs", 200, "D", 800],
        ["STS_002", *who, "No recurrence", None, "NED", 1300],
        [],
        ["NED: no evidence of disease"],
    ]
    told = [["Patient ID", "LungMets"], ["STS_001", 1], ["STS_002", 0]]
    for sheets in ({"Clinical": clinical, "Outcome": told}, {"Clinical": clinical}):
        adapted = get_adapter("soft-tissue-sarcoma").read([write_workbook(tmp_path / "INFO.xlsx", sheets)])
        assert events(adapted, "lung metastasis") == {"STS_001": (1, True), "STS_002": (0, False)}
        assert events(adapted, "overall survival") == {"STS_001": (800, True), "STS_002": (1300, False)}
    assert adapted.centre is None


NSCLC = (
    "Case ID,Patient affiliation,Age at Histological Diagnosis,Weight (lbs),Gender,Smoking status,Pack Years,"
    "Histology ,Pathological T stage,Pathological N stage,Pathological M stage,Histopathological Grade,"
    "EGFR mutation status,KRAS mutation status,ALK translocation status,Recurrence,Date of Recurrence,"
    "Date of Last Known Alive,Survival Status,Date of Death,Time to Death (days),CT Date,PET Date"
)


def test_nsclc_radiogenomics_counts_from_the_pet_scan_and_knows_competing_deaths(tmp_path: Path) -> None:
    who = "Stanford,60,150,Male,Former,30,Adenocarcinoma,T2a,N0,M0,G2"
    genes = "Mutant,Wildtype,Not collected"
    path = text(
        tmp_path, "labels.csv", NSCLC,
        f"AMC-001,{who},{genes},no,,1/31/1994,Alive,,,12/1/1993,1/1/1994",
        f"AMC-002,{who},{genes},yes,2/1/1994,3/2/1994,Dead,3/3/1994,61,12/1/1993,1/1/1994",
        f"AMC-003,{who},{genes},no,,3/2/1994,Dead,3/3/1994,61,12/1/1993,1/1/1994",
        f"R01-004,{who},Unknown,Mutant,Translocated,no,,1/31/1994,Alive,,,12/1/1993,Not Collected",
        f"R01-005,{who},Wildtype,Mutant,Wildtype,yes,1/1/1994,1/31/1994,Alive,,,12/1/1993,1/1/1994",
    )  # fmt: skip
    adapted = get_adapter("nsclc-radiogenomics").read([path])
    assert events(adapted, "overall survival") == {
        "AMC-001": (30, False), "AMC-002": (61, True), "AMC-003": (61, True), "R01-005": (30, False),
    }  # fmt: skip
    recurrence = next(one for one in adapted.endpoints if one.name == "recurrence").outcomes(adapted.table)
    assert recurrence.patients == ("AMC-001", "AMC-002", "AMC-003")  # without a PET date, and on the day of the scan
    assert recurrence.value.tolist() == [30, 31, 61]
    assert recurrence.event.tolist() == [False, True, False]
    assert recurrence.competing.tolist() == [False, False, True]
    assert events(adapted, "ALK") == {"R01-004": (1, True), "R01-005": (0, False)}
    assert adapted.table["AMC-001"]["histology"] == "Adenocarcinoma"


def test_acrin_takes_the_death_or_the_last_contact_of_all_forms(tmp_path: Path) -> None:
    f1 = text(
        tmp_path, "F1.csv", "cn,f1e2,F1e1d,F1e3d",
        "1,1,90,", "1,1,400,", "2,1,80,", "2,2,,350", "3,9,500,", "4,,,", "5,1,120,",
    )  # fmt: skip
    ds = text(tmp_path, "DS.csv", "CN,DSe3,DSe2d", "5,2,140", "1,1,400")
    adapted = get_adapter("acrin-nsclc-fdg-pet").read([f1, ds])
    assert events(adapted, "overall survival") == {
        f"ACRIN-NSCLC-FDG-PET-00{case}": outcome
        for case, outcome in {1: (400, False), 2: (350, True), 3: (500, True), 5: (140, True)}.items()
    }
    assert adapted.table["ACRIN-NSCLC-FDG-PET-004"]["death"] == ""
    assert adapted.roi == "tumour_roi"  # and its cells are empty: the network's segments are no tumour contours


def test_autopet_leaves_empty_what_differs_between_the_studies_of_a_patient(tmp_path: Path) -> None:
    path = text(
        tmp_path, "fdg_metadata.csv", "Series UID,Collection,Subject ID,Study UID,Study Date,Modality,diagnosis,"
        "age,sex",
        "1.2.1,FDG,PETCT_a1,1.1,01-02-2003,PT,MELANOMA,056Y,M", "1.2.2,FDG,PETCT_a1,1.1,01-02-2003,CT,MELANOMA,056Y,M",
        "1.2.3,FDG,PETCT_b2,1.2,01-02-2003,PT,NEGATIVE,040Y,F", "1.2.4,FDG,PETCT_c3,1.3,01-02-2003,PT,LYMPHOMA,071Y,F",
        "1.2.5,FDG,PETCT_c3,1.4,07-02-2003,PT,NEGATIVE,071Y,F",
    )  # fmt: skip
    adapted = get_adapter("autopet-fdg").read([path])
    assert events(adapted, "lesion") == {"PETCT_a1": (1, True), "PETCT_b2": (0, False)}
    assert events(adapted, "melanoma") == {"PETCT_a1": (1, True), "PETCT_b2": (0, False)}
    assert [value for value, _ in events(adapted, "age").values()] == [56, 40, 71]
    assert [event for _, event in events(adapted, "sex").values()] == [True, False, False]


# -- what holds for all


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_refuses_a_table_of_something_else_with_a_code(name: str, tmp_path: Path) -> None:
    path = text(tmp_path, "other.csv", "a,b", "1,2")
    with pytest.raises(ConfigurationError, match=r"other.csv lacks '") as caught:
        get_adapter(name).read([path])
    assert caught.value.code is Code.COLUMN_MISSING


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_says_where_its_layout_is_published_and_what_files_it_reads(name: str) -> None:
    adapter = get_adapter(name)
    layout = sys.modules[getattr(adapter.rows, "func", adapter.rows).__module__].__doc__ or ""
    assert "Layout" in layout
    assert all(file in layout for file in adapter.files)
    assert adapter.endpoints


def test_a_name_nearly_right_is_answered_with_the_right_one() -> None:
    with pytest.raises(ConfigurationError, match=r"UNKNOWN_NAME: .*the nearest is 'head-neck-pet-ct'"):
        get_adapter("Head-Neck PET-CT")


def test_an_adapted_table_written_as_text_is_read_as_the_same_table(head_neck: AdaptedTable, tmp_path: Path) -> None:
    write_table(head_neck, tmp_path / "clinical.csv")
    assert read_table(tmp_path / "clinical.csv") == head_neck.table


def test_no_cell_of_an_adapted_table_is_a_formula(tmp_path: Path) -> None:
    """Acceptance row 31."""
    row = {**HEAD_NECK[0], "Primary Site": "@SUM(1)"}
    files = [write_clinical(tmp_path, [row])]
    write_table(get_adapter("head-neck-pet-ct").read(files), tmp_path / "clinical.csv")
    with (tmp_path / "clinical.csv").open(newline="") as stream:
        (cells,) = csv.DictReader(stream)
    assert cells["primary_site"] == "'@SUM(1)"


@pytest.mark.parametrize("content", [b"", b"no zip file", b"PK\x03\x04 half"])
def test_a_damaged_workbook_is_refused_with_a_code(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.xlsx").write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"TABLE_UNREADABLE: x.xlsx"):
        get_adapter("head-neck-pet-ct").read([tmp_path / "x.xlsx"])


def test_a_workbook_that_is_another_archive_or_is_not_there_is_refused_with_a_code(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.xlsx", "w") as archive:
        archive.writestr("readme.txt", "no workbook")
    for name in ("x.xlsx", "absent.xlsx", "absent.csv"):
        with pytest.raises(ConfigurationError, match=f"TABLE_UNREADABLE: {name}"):
            get_adapter("head-neck-pet-ct").read([tmp_path / name])


def test_a_workbook_whose_sheet_is_cut_off_is_refused_with_a_code(tmp_path: Path) -> None:
    path, cut = write_clinical(tmp_path, HEAD_NECK), tmp_path / "cut.xlsx"
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(cut, "w") as half:
        for name in archive.namelist():
            content = archive.read(name)
            half.writestr(name, content[: len(content) // 2] if name.endswith("sheet2.xml") else content)
    with pytest.raises(ConfigurationError, match=r"TABLE_UNREADABLE: cut.xlsx is no spreadsheet"):
        get_adapter("head-neck-pet-ct").read([cut])


def test_a_sheet_that_reaches_to_the_last_cell_there_is_gives_the_same_table(
    head_neck: AdaptedTable, tmp_path: Path
) -> None:
    path = tmp_path / "INFOclinical_HN_Version2_30may2018.xlsx"
    book = load_workbook(path)
    book.worksheets[0]["XFD1048576"] = "."
    book.save(path)
    adapted = get_adapter("head-neck-pet-ct").read([path])
    assert adapted.table.keys() == head_neck.table.keys()


def test_a_workbook_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Acceptance row 29."""
    path = write_clinical(tmp_path, HEAD_NECK)
    monkeypatch.setattr("twobe3.io.spreadsheet.MAX_UNPACKED_BYTES", 1000)
    with pytest.raises(ConfigurationError, match=r"TABLE_UNREADABLE: .*unpacks to \d+ bytes"):
        get_adapter("head-neck-pet-ct").read([path])


@pytest.mark.parametrize("name", ["", "HN-HMR-003,x"])
def test_an_id_that_is_none_of_the_collection_is_refused(name: str, tmp_path: Path) -> None:
    path = text(tmp_path, "end.csv", "PatientID,Relapse,RFS,Age", f'"{name}",1,20,50')
    with pytest.raises(ConfigurationError, match=r"line 2 has no patient id in 'PatientID'"):
        get_adapter("hecktor-2022").read([path])
