from pathlib import Path
from typing import Any

import pytest

from twobe3.config import StudyConfig, read_study
from twobe3.errors import UsageError
from twobe3.features.maps import FeatureStore
from twobe3.models import CNN3D, Control
from twobe3.outcome import Binary, Continuous, TimeToEvent
from twobe3.resample import VolumeSpec

STUDY = """
[cohort]
images = "dicom"
clinical = "clinical.csv"
[endpoint]
name = "y"
kind = "binary"
column = "outcome"
[volume]
spacing_mm = 4.0
[[model]]
kind = "control"
variable = "age"
[validation]
folds = 3
"""


def study(tmp_path: Path, text: str = STUDY) -> StudyConfig:
    path = tmp_path / "study.toml"
    path.write_text(text)
    return read_study(path)


def models(tmp_path: Path, text: str) -> list[Any]:
    return study(tmp_path, text).models(tmp_path, FeatureStore())


def test_a_study_file(tmp_path: Path) -> None:
    config = study(tmp_path)
    assert [section.endpoint() for section in config.endpoint] == [Binary("y", "outcome", "1")]
    assert config.volume.spec() == VolumeSpec((4.0, 4.0, 4.0))
    assert (config.validation.folds, config.validation.repeats) == (3, 1)
    (model,) = config.models(tmp_path, FeatureStore())
    assert isinstance(model, Control)


def test_several_endpoints_of_every_kind(tmp_path: Path) -> None:
    text = STUDY.replace(
        '[endpoint]\nname = "y"\nkind = "binary"\ncolumn = "outcome"',
        """
        [[endpoint]]
        name = "y"
        kind = "binary"
        column = "outcome"
        positive = "yes"
        [[endpoint]]
        name = "os"
        kind = "time-to-event"
        time = "t"
        event = "e"
        unit = "month"
        [[endpoint]]
        name = "age"
        kind = "continuous"
        column = "age"
        unit = "year"
        """,
    )
    assert [section.endpoint() for section in study(tmp_path, text).endpoint] == [
        Binary("y", "outcome", "yes"),
        TimeToEvent("os", "t", "e", "month"),
        Continuous("age", "age", "year"),
    ]


def test_the_identity_is_of_the_meaning_not_of_the_text(tmp_path: Path) -> None:
    first = study(tmp_path).identity()
    assert study(tmp_path, "# a word\n" + STUDY.replace("= 4.0", "= 4")).identity() == first
    assert study(tmp_path, STUDY + "repeats = 1\n").identity() == first
    assert study(tmp_path, STUDY + "repeats = 2\n").identity() != first
    assert study(tmp_path, STUDY.replace('"age"', '"sex"')).identity() != first


@pytest.mark.parametrize(
    ("line", "after", "says"),
    [
        ("cohrt = 1\n", "", "the study file: unknown key 'cohrt'; the nearest known key is 'cohort'"),
        ("imges = 'x'\n", "[cohort]\n", r"\[cohort\]: unknown key 'imges'; the nearest known key is 'images'"),
        ("colum = 'x'\n", "[endpoint]\n", r"\[endpoint\]: unknown key 'colum'; the nearest known key is 'column'"),
        ("spacing = 2\n", "[volume]\n", r"\[volume\]: unknown key 'spacing'; the nearest known key is 'spacing_mm'"),
        ("fold = 2\n", "[validation]\n", r"\[validation\]: unknown key 'fold'; the nearest known key is 'folds'"),
        ("variabel = 'x'\n", "[[model]]\n", r"\[\[model\]\] control: unknown key 'variabel'; the nearest .*'variable'"),
        (
            "zzzz = 1\n",
            "[validation]\n",
            r"\[validation\]: unknown key 'zzzz'; known keys are folds, repeats, inner_folds, seed",
        ),
    ],
)
def test_an_unknown_key_names_the_nearest(tmp_path: Path, line: str, after: str, says: str) -> None:
    text = STUDY.replace(after, after + line) if after else line + STUDY
    with pytest.raises(UsageError, match=f"UNKNOWN_KEY: {says}"):
        models(tmp_path, text)


def test_an_unknown_key_of_the_second_endpoint(tmp_path: Path) -> None:
    both = STUDY.replace("[endpoint]", "[[endpoint]]") + (
        '[[endpoint]]\nname = "os"\nkind = "time-to-event"\ntime = "t"\nevent = "e"\nunits = "day"\n'
    )
    with pytest.raises(UsageError, match=r"UNKNOWN_KEY: \[endpoint\]: unknown key 'units'; .* 'unit'"):
        study(tmp_path, both)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('kind = "binary"', 'kind = "binery"', "endpoint.0: .*'binary', 'time-to-event', 'continuous'"),
        ('kind = "binary"\n', "", "endpoint.0: Unable to extract tag"),
        ('column = "outcome"', "column = 3", "endpoint.0.binary.column: .*string"),
        ('images = "dicom"\n', "", "cohort.images: Field required"),
        ("spacing_mm = 4.0", "spacing_mm = 0", "volume.spacing_mm"),
        ("spacing_mm = 4.0", "spacing_mm = inf", "volume.spacing_mm"),
        ("spacing_mm = 4.0", "spacing_mm = [4, 4]", "volume.spacing_mm"),
        ("spacing_mm = 4.0", "spacing_mm = 200.0", "volume: .*at least 8 voxels"),
        ("spacing_mm = 4.0", "field_of_view_mm = [1024, 512, nan]", "volume.field_of_view_mm.2"),
        ("folds = 3", "folds = 1", "validation.folds: .*greater than or equal to 2"),
        ("folds = 3", "folds = 3.5", "validation.folds: .*integer"),
        ("folds = 3", "folds = ", "Invalid value .at line"),
        ('[[model]]\nkind = "control"\nvariable = "age"\n', "", "model: Field required"),
    ],
)
def test_a_value_that_is_none(tmp_path: Path, old: str, new: str, says: str) -> None:
    with pytest.raises(UsageError, match=f"STUDY_FILE_INVALID: study.toml: {says}") as refused:
        study(tmp_path, STUDY.replace(old, new))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('kind = "control"', 'kind = "controll"', "UNKNOWN_NAME: .*'controll'.*nearest is 'control'"),
        ('kind = "control"', 'kind = "zzz"', "UNKNOWN_NAME: .*there are .*2be3-net"),
        ('kind = "control"', 'kind = ["control"]', "UNKNOWN_NAME"),
        ('kind = "control"\n', "", "UNKNOWN_NAME: .*None"),
        ('variable = "age"', 'variable = "ages"', "STUDY_FILE_INVALID: .* control: .*variable"),
        ('variable = "age"', 'variable = "age"\nthreshold_suv = -1', "STUDY_FILE_INVALID: .*threshold_suv"),
        (
            "[validation]",
            '[[model]]\nkind = "control"\nvariable = "age"\n[validation]',
            "STUDY_FILE_INVALID: 2 models are called 'age'.*own `name`",
        ),
    ],
)
def test_a_model_that_is_none(tmp_path: Path, old: str, new: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        models(tmp_path, STUDY.replace(old, new))


def test_an_absent_or_binary_study_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"STUDY_FILE_INVALID: no\.toml: No such file") as refused:
        read_study(tmp_path / "no.toml")
    assert str(tmp_path) not in str(refused.value)
    (tmp_path / "a.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match=r"STUDY_FILE_INVALID: a\.toml"):
        read_study(tmp_path / "a.toml")


def test_every_model_gets_the_study_s_seed_unless_it_has_its_own(tmp_path: Path) -> None:
    text = STUDY.replace("folds = 3", "seed = 7").replace(
        "[validation]", '[[model]]\nkind = "cnn3d"\n[[model]]\nkind = "cnn3d"\nname = "other"\nseed = 1\n[validation]'
    )
    _, first, second = models(tmp_path, text)
    assert isinstance(first, CNN3D)
    assert (first.seed, second.seed) == (7, 1)


def test_weights_lie_beside_the_study_file(tmp_path: Path) -> None:
    pooled = '[[model]]\nkind = "pooled"\nbackbone = "resnet18"\nweights = "{}"\nname = "{}"\n'
    text = STUDY.replace(
        "[validation]", "".join(pooled.format(w, w) for w in ("w.safetensors", "random")) + "[validation]"
    )
    _, local, named = models(tmp_path, text)
    assert Path(local.weights) == tmp_path / "w.safetensors"
    assert named.weights == "random"


def test_the_example_is_valid(pytestconfig: pytest.Config) -> None:
    example = pytestconfig.rootpath / "examples" / "sts.toml"
    config = read_study(example)
    assert len(config.models(example.parent, FeatureStore())) >= 5
