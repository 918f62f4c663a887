import csv
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from twobe3.collections import rules
from twobe3.collections.index import open_index
from twobe3.collections.manifest import read_manifest
from twobe3.collections.plan import Selection, plan_collections
from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError, EnvironmentFailure, TwoBe3Error

MakeIndex = Callable[..., Path]
CT_IMAGE, SCREEN_CAPTURE = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.7"


def described(*descriptions: str | None, **cells: Any) -> list[dict[str, Any]]:
    return [{"SeriesDescription": description, **cells} for description in descriptions]


# What technologists of many sites and scanners call the series that a study can use …
KEPT = described(
    "PET WB AC", "PET_AC_2D", "WB_CTAC Body", "[WB_CTAC]   Total Body", "PET corr.", "TORSO_3D_AC", "WB MAC P690",
    "WBAC.img: Body-ramla3d-3dac-s", "PET Attenuation Correction Recon", "wb_ctac.img: LOR-RAMLA", "Q.CLEAR",
    "AXIAL PET", "PET WB", "PET", "3D-RAMLA", "PET SKULL TO THIGH TrueX + TOF", "FDG OSEM I2 S20 CineCTAC",
    "PET AC H&N", "HEAD NECK_2D AC", "PET_WB_HD_CORECTED", "ATTN,FDG,2D Iterative OSEM,WHOLE BODY", "Galligas Lung",
    "FDG SUV 5AFOV Chest U L", "PET OSEM AC", "_WB_CTAC_MO_Body_676_mm", "pet_ac_3d", "PET Filtered Backprojection",
)  # fmt: skip
# … and what they call the others, by the rule under which each must be counted.
LEFT_OUT = {
    "not-attenuation-corrected": described(
        "PET NAC", "PET WB Uncorrected", "PET WB-uncorrected", "PET WB Uncorrected (NAC)", "_WB_NAC_Body",
        "No AC Recon", "WBNAC.img: Body-noattn", "PET NOAC WB", "PET_BODY_NO_AC", "WB_3D_NON-AC", "NC",
        "nac.img: 3D-RAMLA", "PET UNCORRECTED7mm", "PET WB UNCORR", "No_AC_Recon",
        "PET Uncorrected<series description>VIA on.FNAC1",
    ),
    "projection": [*described(
        "MIP", "PET MIP", "MIP Range", "<MIP Collection>", "PET WB [MIP]", "MIP_MOVIE_PET_WB_AC_", "rotating_mip",
        "PROJECTIONS", "proj<MIP Range>", "PET Statistics", "Results MM Oncology Reading", "[PREVIEW]   Total Body",
        "TRANSAXIAL:TORSO 3D:PT/CT:FUSION", "ScreenCap",
    ), {"PhotometricInterpretation": "RGB"}],
    "reformat": [*described(
        "COR PET", "SAG PET", "CORONAL:TORSO 3D:FDG:IR CTAC", "Sagittal WB_2D", "coronals", "CORONALS<MPR Range>",
        "PET_WB_COR", "PET_SAGITTAL", "Reformatted LEGS", "WBAC_resamp.img: Body", "PET WB [Transformed Object]",
    ), *described("AXIAL PET", PhotometricInterpretation="MONOCHROME1")],
    "attenuation-map": described(
        "Transaxial WB transmission scan", "TopogramWB  1.0  T20s", "ATTEN 5AFOV Chest U L 12HN", "Body_Low_Dose_CT",
        "5AFOV Chest U L Atten", "CT WB ATT CORR  5.0  eFoV", "mu map",
    ),
    "dynamic-or-gated": [*described(
        "Gated 10mm OSEM I2 S20", "PET RESP GATE", "BIN 3 AC 603", "10 binGated OSEM(I2,S20,NF)", "6 BIN GATED",
        "Phase55_MatchCTAC766", "AllPhase_AVGCTAC2", "RDYN OSEM AVG_R1", "SDYN OSEM", "9x50ms_1x550ms_FORE",
        "RSTATIC FBP AVG_R1_804",
    ), {"instanceCount": 2115}],
    "phantom": [*described(
        "3D 7:19 IQ NEMA", "COLDROD-CENT22MIN 40s6i5mm", "HOT LINES 40s6i2mm", "hot spheres water 10mm OSEM w/atten",
        "2D-30MIN-Ge68Flood-FBP-H12", "2AFOV-UniformTest 3D DefaultRecon",
    ),
        {"BodyPartExamined": "PHANTOM"}, {"collection_id": "cylinders"}, {"StudyDescription": "QIN-PET-Phantom-UI"},
        {"collection_id": "rider_lung_pet_ct", "PatientSex": None},
    ],
    "animal": [{"collection_id": "mice"}],
    "copy": [{"collection_id": "pseudo_phi_dicom_data"}],
    "incomplete": [{"collection_id": "eay131"}],
    "not-pet": [{"SOPClassUID": CT_IMAGE}, {"SOPClassUID": SCREEN_CAPTURE}],
    "too-few-slices": [{"instanceCount": 39}, {"instanceCount": 1}],
    "undescribed": described(None, "", " - ", "PET-CT SERIES"),
    "licence": [{"license_short_name": name} for name in ("CC BY-NC 3.0", "CC BY-NC-ND 4.0", "restricted", None)],
}  # fmt: skip
ABOUT = {
    "cylinders": {"cancer_types": "Phantom"}, "mice": {"species": "Mouse"}, "pseudo_phi_dicom_data": {}, "eay131": {},
    "rider_lung_pet_ct": {},
}  # fmt: skip


def refused(code: Code, folder: Path, **options: Any) -> TwoBe3Error:
    with pytest.raises(TwoBe3Error) as caught:
        plan_collections(folder / "refused", **options)
    assert caught.value.code is code
    assert not (folder / "refused").exists()
    return caught.value


def test_usable_series_are_kept_under_any_description(make_index: MakeIndex, tmp_path: Path) -> None:
    selection = plan_collections(tmp_path / "plan", index=make_index(*KEPT))
    left_out = {row["SeriesDescription"] for row in KEPT} - {row.description for row in selection.rows}
    assert left_out == set()
    assert set(selection.excluded.values()) == {0}


@pytest.mark.parametrize("rule", LEFT_OUT)
def test_other_series_are_counted_under_their_rule(rule: str, make_index: MakeIndex, tmp_path: Path) -> None:
    index = make_index({}, *LEFT_OUT[rule], collections=ABOUT)
    selection = plan_collections(tmp_path / "plan", index=index)
    assert {row.description for row in selection.rows} == {"PET WB AC"}
    assert +Counter(selection.excluded) == {rule: len(LEFT_OUT[rule])}


def test_every_rule_on_rows_has_its_examples() -> None:
    assert {rules.LICENCE.name, *(rule.name for rule in rules.RULES)} == set(LEFT_OUT)


def test_a_series_is_counted_once_by_the_first_rule_that_it_meets(make_index: MakeIndex, tmp_path: Path) -> None:
    both = {"collection_id": "mice", "SeriesDescription": "MIP NAC", "instanceCount": 1}
    selection = plan_collections(tmp_path / "plan", index=make_index({}, both, collections=ABOUT))
    assert +Counter(selection.excluded) == {"animal": 1}


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ({"SeriesDescription": "PET AC"}, {"SeriesDescription": "PET WB", "instanceCount": 400}),
        ({"SeriesDescription": "PET WB AC"}, {"SeriesDescription": "PET Legs AC", "instanceCount": 400}),
        ({"instanceCount": 263}, {"SeriesDescription": "PET CHEST AC", "instanceCount": 111}),
        ({"SeriesDescription": "PET AC 3D"}, {"SeriesDescription": "PET AC TOF", "SeriesNumber": "1"}),
        ({"SeriesDescription": "PET AC a"}, {"SeriesDescription": "PET AC b", "SeriesNumber": "10"}),
    ],
    ids=["says corrected", "main acquisition", "longer", "conventional", "first number"],
)
def test_of_several_reconstructions_of_a_study_the_stated_one_is_chosen(
    better: dict[str, Any], worse: dict[str, Any], make_index: MakeIndex, tmp_path: Path
) -> None:
    study = {"StudyInstanceUID": "1.2"}
    for number, order in enumerate([(better, worse), (worse, better)]):
        selection = plan_collections(tmp_path / str(number), index=make_index(*(one | study for one in order)))
        (row,) = selection.rows
        assert row.description == better.get("SeriesDescription", "PET WB AC")
        assert +Counter(selection.excluded) == {"other-reconstruction": 1}


def test_the_same_series_twice_is_a_duplicate(make_index: MakeIndex, tmp_path: Path) -> None:
    again = {"StudyInstanceUID": "1.2", "series_size_MB": 9.0}
    index = make_index({"SeriesInstanceUID": "1.9"}, {"SeriesInstanceUID": "1.9"}, again, again)
    selection = plan_collections(tmp_path / "plan", index=index)
    assert len(selection.rows) == 2
    assert +Counter(selection.excluded) == {"duplicate": 2}


def test_series_that_only_their_pixels_tell_apart_are_left_out_together(make_index: MakeIndex, tmp_path: Path) -> None:
    pair = described("3D-RAMLA", "3D-RAMLA", StudyInstanceUID="1.2")
    stated = described("PET AC", "PET AC", StudyInstanceUID="1.3")
    selection = plan_collections(tmp_path / "plan", index=make_index(*pair, *stated))
    assert [row.description for row in selection.rows] == ["PET AC"]
    assert +Counter(selection.excluded) == {"indistinct": 2, "other-reconstruction": 1}


def test_one_scan_a_patient_is_the_earliest(make_index: MakeIndex, tmp_path: Path) -> None:
    visits = [
        {"PatientID": "A", "StudyDate": date, "SeriesDescription": f"{date} AC"}
        for date in ("2002-02-02", "2001-01-01")
    ]
    index = make_index(*visits, {"PatientID": "B"})
    assert len(plan_collections(tmp_path / "all", index=index).rows) == 3
    selection = plan_collections(tmp_path / "one", index=index, scans_per_patient="one")
    assert [row.description for row in selection.rows] == ["2001-01-01 AC", "PET WB AC"]
    assert +Counter(selection.excluded) == {"other-study": 1}


def test_a_tracer_is_what_the_description_says_or_else_the_collection(make_index: MakeIndex, tmp_path: Path) -> None:
    index = make_index(
        {"collection_id": "soft_tissue_sarcoma"},
        {"SeriesDescription": "TRANSAXIAL_TORSO_3D_CHL_IR_CTAC"},
        {"StudyDescription": "PET F-18 NaF Bone Scan"},
        {"collection_id": "soft_tissue_sarcoma", "StudyDescription": "PYLARIFY PET/CT"},
        {},
        collections={"soft_tissue_sarcoma": {}},
    )
    tracers = [row.tracer for row in sorted(plan_collections(tmp_path / "any", index=index).rows, key=by_patient)]
    assert tracers == ["FDG", "choline", "NaF", "PSMA", "unknown"]
    only = plan_collections(tmp_path / "fdg", index=index, tracer="fdg")
    assert [row.tracer for row in only.rows] == ["FDG"]
    assert +Counter(only.excluded) == {"tracer": 4}


def by_patient(row: Any) -> str:
    return str(row.patient)


def test_contours_of_the_selected_studies_come_along_when_asked_for(make_index: MakeIndex, tmp_path: Path) -> None:
    index = make_index(
        {"StudyInstanceUID": "1.2"},
        {"StudyInstanceUID": "1.2", "Modality": "SEG", "SeriesDescription": "tumour"},
        {"StudyInstanceUID": "1.2", "Modality": "CT"},
        {"StudyInstanceUID": "1.3", "SeriesDescription": "PET NAC"},
        {"StudyInstanceUID": "1.3", "Modality": "RTSTRUCT"},
    )
    assert [row.modality for row in plan_collections(tmp_path / "without", index=index).rows] == ["PT"]
    selection = plan_collections(tmp_path / "with", index=index, contours=True)
    assert [(row.modality, row.description) for row in selection.rows] == [("PT", "PET WB AC"), ("SEG", "tumour")]
    assert selection.to_json()["scans"] == 1
    assert selection.to_json()["bytes"] == 9_000_001 + 9_000_002


def test_the_ct_of_the_selected_studies_comes_along_when_asked_for(make_index: MakeIndex, tmp_path: Path) -> None:
    ct = {"Modality": "CT", "SOPClassUID": CT_IMAGE}
    several = {**ct, "StudyInstanceUID": "1.2"}
    undescribed = {**ct, "StudyInstanceUID": "1.4", "SeriesDescription": None}
    index = make_index(
        {"StudyInstanceUID": "1.2"},
        {**several, "SeriesDescription": "CTAC 3.75 THICK"},  # the only one that says what it is for
        {**several, "SeriesDescription": "Thorax 1.0 B70f"},
        {**several, "SeriesDescription": "Topogram", "instanceCount": 2},
        {"StudyInstanceUID": "1.3"},  # of these nothing says, and headers will
        {**ct, "StudyInstanceUID": "1.3", "SeriesDescription": "Thorax 1.0 B70f"},
        {**ct, "StudyInstanceUID": "1.3", "SeriesDescription": "CT fusion"},
        {**ct, "StudyInstanceUID": "1.3", "SeriesDescription": "COR CT"},
        {"StudyInstanceUID": "1.4"},
        {**undescribed, "SOPClassUID": SCREEN_CAPTURE},
        {**undescribed, "instanceCount": 39},
        {**undescribed, "license_short_name": "CC BY-NC 3.0"},
        {"StudyInstanceUID": "1.5", "SeriesDescription": "PET NAC"},
        {**ct, "StudyInstanceUID": "1.5", "SeriesDescription": "CTAC"},
    )
    selection = plan_collections(tmp_path / "with", index=index, with_ct=True)
    found = [(row.study_uid, row.description) for row in selection.rows if row.modality == "CT"]
    assert sorted(found) == [("1.2", "CTAC 3.75 THICK"), ("1.3", "CT fusion"), ("1.3", "Thorax 1.0 B70f")]
    assert [row.study_uid for row in selection.scans] == ["1.2", "1.3", "1.4"]
    assert "2 of 3 scans have a CT in their study" in selection.summary
    assert "with 3 series of CT." in selection.summary
    any_licence = plan_collections(tmp_path / "any", index=index, with_ct=True, license="any")
    assert ("1.4", "") in [(row.study_uid, row.description) for row in any_licence.rows if row.modality == "CT"]
    alone = plan_collections(tmp_path / "without", index=index)
    assert [row.modality for row in alone.rows] == ["PT"] * 3
    assert "CT" not in alone.summary.split("## Left out")[0]
    assert "with_ct" not in str(read_manifest(alone.manifest).header)


def test_a_misspelt_collection_names_the_nearest(make_index: MakeIndex, tmp_path: Path) -> None:
    error = refused(Code.COLLECTION_UNKNOWN, tmp_path, collections=["lunge"], index=make_index({}))
    assert "'lung'" in error.remedy
    assert isinstance(error, ConfigurationError)


def test_a_collection_is_found_as_its_page_spells_it(make_index: MakeIndex, tmp_path: Path) -> None:
    index = make_index({"collection_id": "soft_tissue_sarcoma"}, {}, collections={"soft_tissue_sarcoma": {}})
    selection = plan_collections(tmp_path / "plan", index=index, collections=["Soft-tissue Sarcoma"])
    assert {row.collection for row in selection.rows} == {"soft_tissue_sarcoma"}
    assert sum(selection.excluded.values()) == 0


def test_a_collection_that_must_be_downloaded_by_hand_says_how(make_index: MakeIndex, tmp_path: Path) -> None:
    error = refused(Code.COLLECTION_ELSEWHERE, tmp_path, collections=["Head-Neck-PET-CT"], index=make_index({}))
    assert "cancerimagingarchive.net" in error.remedy


def test_a_named_collection_whose_licence_forbids_commercial_use_is_refused(
    make_index: MakeIndex, tmp_path: Path
) -> None:
    index = make_index({}, {"collection_id": "hn1", "license_short_name": "CC BY-NC 3.0"}, collections={"hn1": {}})
    error = refused(Code.LICENCE_FORBIDS, tmp_path, collections=["lung", "hn1"], index=index)
    assert "hn1 is under 'CC BY-NC 3.0'" in error.reason
    assert len(plan_collections(tmp_path / "any", collections=["hn1"], license="any", index=index).rows) == 1
    assert plan_collections(tmp_path / "all", index=index).excluded["licence"] == 1


def test_an_unknown_tracer_names_the_known_ones(make_index: MakeIndex, tmp_path: Path) -> None:
    assert "PSMA" in refused(Code.UNKNOWN_NAME, tmp_path, tracer="glucose", index=make_index({})).remedy


def test_too_few_scans_are_an_error_with_the_counts_by_rule(make_index: MakeIndex, tmp_path: Path) -> None:
    index = make_index({}, *described("PET NAC", "PET NAC", "MIP"))
    error = refused(Code.TOO_FEW_SCANS, tmp_path, min_scans=2, index=index)
    assert "1 of 4 PET series" in error.reason
    assert "not-attenuation-corrected 2" in error.reason
    assert "projection 1" in error.reason


def test_a_damaged_or_absent_index_is_refused(make_index: MakeIndex, tmp_path: Path) -> None:
    refused(Code.INDEX_INVALID, tmp_path, index=tmp_path / "nowhere")
    index = make_index({})
    (index / "idc_index.parquet").write_bytes(b"PAR1 no more")
    assert isinstance(refused(Code.INDEX_INVALID, tmp_path, index=index), EnvironmentFailure)


def test_the_summary_tells_sizes_rules_and_citations(make_index: MakeIndex, tmp_path: Path) -> None:
    plan_collections(tmp_path / "plan", index=make_index({}, {"SeriesDescription": "MIP"}))
    text = (tmp_path / "plan" / "summary.md").read_text()
    assert "1 scan of 1 patient, 1 collection, 0.01 GB" in text
    assert "| projection | 1 |" in text
    assert "- Doe & Roe. lung 10.1/lung" in text


def test_nothing_is_a_formula_in_the_table_for_spreadsheets(make_index: MakeIndex, tmp_path: Path) -> None:
    """Acceptance row 31."""
    description = "=HYPERLINK(1) AC"
    selection = plan_collections(tmp_path / "plan", index=make_index({"SeriesDescription": description}))
    (shown,) = csv.DictReader((tmp_path / "plan" / "manifest.csv").read_text().splitlines())
    assert shown["description"] == f"'{description}"
    assert selection.rows[0].description == description
    assert read_manifest(selection.manifest).rows == selection.rows
    assert read_manifest(tmp_path / "plan" / "manifest.csv", allow_edited=True).rows == selection.rows


@pytest.fixture(scope="module")
def default_plan(tmp_path_factory: pytest.TempPathFactory) -> Selection:
    """The default plan of the installed index."""
    return plan_collections(tmp_path_factory.mktemp("default"), min_scans=2800)


def test_the_default_plan_has_more_than_2800_human_scans(default_plan: Selection) -> None:
    counts = default_plan.to_json()
    assert (counts["scans"], counts["patients"], counts["collections"]) == (2914, 2165, 33)
    assert counts["scans"] + sum(counts["excluded"].values()) == 5929
    collections = {row.collection for row in default_plan.rows}
    assert not collections & {"qin_pet_phantom", "rider_phantom_pet_ct", "uw_cirp_mouse_pet_ct_nsclc"}
    assert (
        len({row.study_uid for row in default_plan.rows}) == len({row.series_uid for row in default_plan.rows}) == 2914
    )


@pytest.mark.parametrize(
    ("collection", "scans", "patients"),
    [
        ("fdg_pet_ct_lesions", 1014, 900),  # Gatidis et al., Sci Data 9:601, 2022
        ("psma_pet_ct_lesions", 597, 378),  # autoPET III, data description
        ("soft_tissue_sarcoma", 51, 51),  # Vallières et al., Phys Med Biol 60:5471, 2015
    ],
)
def test_collections_of_one_reconstruction_are_kept_whole(
    collection: str, scans: int, patients: int, default_plan: Selection
) -> None:
    own = [row for row in default_plan.rows if row.collection == collection]
    assert (len(own), len({row.patient for row in own})) == (scans, patients)


def test_a_plan_is_the_same_bytes_each_time(default_plan: Selection, tmp_path: Path) -> None:
    again = plan_collections(tmp_path, min_scans=2800)
    for name in ("manifest.parquet", "manifest.csv", "summary.md"):
        assert (tmp_path / name).read_bytes() == default_plan.manifest.with_name(name).read_bytes()
    assert again.rows == default_plan.rows


def test_the_sizes_are_the_exact_bytes_of_the_index(default_plan: Selection) -> None:
    database = open_index().database
    ((series, megabytes),) = database.execute("SELECT count(*), sum(size_bytes) / 1e6 FROM pet").fetchall()
    assert (series, round(megabytes)) == (5929, 209_908)  # 209.9 GB of PT
    assert default_plan.to_json()["bytes"] == sum(row.size_bytes for row in default_plan.rows) == 153_194_368_448
    assert all(row.url.startswith("s3://idc-open-data") and row.url.endswith("/*") for row in default_plan.rows)


def test_the_manifest_says_how_it_was_made(default_plan: Selection) -> None:
    header = read_manifest(default_plan.manifest).header
    assert header is not None
    assert header.index_version == "IDC v25 of 2026-09-26"
    assert header.options["min_scans"] == 2800
    assert header.excluded == default_plan.excluded
    assert set(header.citations) == {row.doi for row in default_plan.rows}
    assert "Gatidis" in header.citations["10.7937/gkr0-xv29"]


def changed(source: Path, target: Path, query: str, *, header: bool = True) -> Path:
    """Another manifest: what a query makes of the rows, under the old header or none."""
    (content,) = duckdb.execute("SELECT decode(value) FROM parquet_kv_metadata(?)", [str(source)]).fetchone() or ("",)
    quoted = str(content).replace("'", "''")
    kept = f", KV_METADATA {{twobe3_manifest: '{quoted}'}}" if header else ""
    rows = query.format(f"read_parquet('{source}')")
    duckdb.execute(f"COPY ({rows}) TO '{target}' (FORMAT parquet{kept})")
    return target


@pytest.mark.parametrize(
    "query",
    ["SELECT * FROM {} LIMIT 2", "SELECT * REPLACE ('s3://elsewhere/x/*' AS url) FROM {}",
     "SELECT * REPLACE (size_bytes + 1 AS size_bytes) FROM {}", "SELECT * FROM {} ORDER BY series_uid DESC"],
    ids=["rows taken out", "another address", "another size", "another order"],
)  # fmt: skip
def test_an_edited_manifest_is_noticed(query: str, make_index: MakeIndex, tmp_path: Path) -> None:
    manifest = plan_collections(tmp_path / "plan", index=make_index({}, {}, {})).manifest
    path = changed(manifest, tmp_path / "edited.parquet", query)
    with pytest.raises(ConfigurationError) as caught:
        read_manifest(path)
    assert caught.value.code is Code.MANIFEST_EDITED
    accepted = read_manifest(path, allow_edited=True)
    assert accepted.edited
    assert accepted.rows
    assert not read_manifest(manifest).edited


def test_a_manifest_of_another_program_is_accepted_only_when_asked(make_index: MakeIndex, tmp_path: Path) -> None:
    manifest = plan_collections(tmp_path / "plan", index=make_index({}, {})).manifest
    for path in (
        changed(manifest, tmp_path / "other.parquet", "SELECT * FROM {}", header=False),
        manifest.with_suffix(".csv"),
    ):
        with pytest.raises(ConfigurationError, match="MANIFEST_EDITED"):
            read_manifest(path)
        assert read_manifest(path, allow_edited=True).header is None


@pytest.mark.parametrize(
    "query",
    ["SELECT * EXCLUDE (url) FROM {}", "SELECT * FROM {} WHERE false", "SELECT * FROM {} UNION ALL SELECT * FROM {}",
     "SELECT * REPLACE (0 AS instances) FROM {}", "SELECT * REPLACE ('many' AS size_bytes) FROM {}",
     "SELECT * REPLACE ('' AS series_uid) FROM {}", "SELECT * REPLACE (NULL AS instances) FROM {}"],
)  # fmt: skip
def test_what_is_no_manifest_is_refused_even_when_edits_are_allowed(
    query: str, make_index: MakeIndex, tmp_path: Path
) -> None:
    manifest = plan_collections(tmp_path / "plan", index=make_index({}, {})).manifest
    path = changed(manifest, tmp_path / "bad.parquet", query.replace("{}", "{0}"))
    with pytest.raises(ConfigurationError, match="MANIFEST_INVALID"):
        read_manifest(path, allow_edited=True)


def test_a_damaged_manifest_is_refused(make_index: MakeIndex, tmp_path: Path) -> None:
    manifest = plan_collections(tmp_path / "plan", index=make_index({})).manifest
    content = manifest.read_bytes()
    for damaged in (content[:-9], b"", b"collection,patient"):
        manifest.write_bytes(damaged)
        with pytest.raises(ConfigurationError, match="MANIFEST_INVALID"):
            read_manifest(manifest)
    with pytest.raises(ConfigurationError, match="MANIFEST_INVALID"):
        read_manifest(tmp_path / "absent.parquet")


def test_the_command_prints_the_counts_as_one_document(
    make_index: MakeIndex, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from twobe3.cli.main import app

    index, out = make_index({}, {"SeriesDescription": "MIP"}), tmp_path / "plan"
    arguments = ["collections", "plan", "--min-scans", "1", "--out", str(out), "--index", str(index), "--json"]
    app(arguments, standalone_mode=False)
    document = json.loads(capsys.readouterr().out)
    assert list(document) == ["scans", "patients", "collections", "bytes", "manifest", "excluded"]
    assert (document["scans"], document["patients"], document["collections"]) == (1, 1, 1)
    assert document["bytes"] == 9_000_001
    assert Path(document["manifest"]).is_file()
    assert +Counter(document["excluded"]) == {"projection": 1}
