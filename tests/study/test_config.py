import re
from pathlib import Path
from typing import Any

import pytest

from twobe3.cohort.splits import CrossValidation, FoldsFile, LeaveOneCentreOut, PredefinedSplit, Scheme
from twobe3.core.endpoints import Binary, Continuous, TimeToEvent
from twobe3.core.errors import ConfigurationError
from twobe3.core.grid import Grid
from twobe3.core.table import Table
from twobe3.io.cache import Cache
from twobe3.models import CNN3D, Baseline
from twobe3.runtime.device import Device
from twobe3.runtime.jobs import Jobs
from twobe3.scans.regions import Region
from twobe3.study.config import StudyConfig, read_study

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
kind = "baseline"
variable = "age"
[validation]
folds = 3
"""


def study(tmp_path: Path, text: str = STUDY) -> StudyConfig:
    path = tmp_path / "study.toml"
    path.write_text(text)
    return read_study(path)


def models(tmp_path: Path, text: str) -> list[Any]:
    return study(tmp_path, text).models(tmp_path, Cache())


def test_a_study_file(tmp_path: Path) -> None:
    config = study(tmp_path)
    assert [section.endpoint() for section in config.endpoint] == [Binary("y", "outcome")]
    assert config.volume.grid() == Grid((4.0, 4.0, 4.0))
    assert (config.validation.folds, config.validation.repeats) == (3, 1)
    (model,) = config.models(tmp_path, Cache())
    assert isinstance(model, Baseline)


def test_where_networks_compute_is_no_part_of_what_a_study_is(tmp_path: Path) -> None:
    plain, chosen = study(tmp_path), study(tmp_path, STUDY + '[compute]\ndevice = "cpu"\nprecision = "bf16"\n')
    assert plain.compute.resolve() == Device()
    assert chosen.compute.resolve() == Device("cpu", "bf16")
    assert chosen.compute.resolve(None, "32") == Device("cpu", "32")  # the command line goes first
    assert chosen.cache_key() == plain.cache_key()
    (model,) = chosen.models(tmp_path, Cache())
    assert model.device == Device("cpu", "bf16")
    assert "device" not in model.get_params()


@pytest.mark.parametrize("line", ['device = "tpu"', "precision = 16", "gpus = 2"])
def test_an_unknown_device_precision_or_key_is_an_error(tmp_path: Path, line: str) -> None:
    with pytest.raises(ConfigurationError):
        study(tmp_path, f"{STUDY}[compute]\n{line}\n")


QUEUED = 'cluster = "slurm"\nmemory = "16 GB"\n'


def test_which_workers_do_a_study_is_no_part_of_what_it_is(tmp_path: Path) -> None:
    plain = study(tmp_path)
    there = study(tmp_path, STUDY + '[compute]\nscheduler = "dask"\naddress = "tls://[fe80::1]:8786"\n')
    queue = 'jobs = 3\ncores = 4\nqueue = "long"\naccount = "pet"\ndirectives = ["--gres=gpu:1"]\n'
    queued = study(tmp_path, f'{STUDY}[compute]\nscheduler = "dask"\n{QUEUED}{queue}')
    assert plain.document() == there.document() == queued.document()
    assert plain.cache_key() == there.cache_key() == queued.cache_key()
    assert plain.compute.to_jobs() is there.compute.to_jobs() is None
    asked = Jobs("slurm", 3, 4, "16 GB", queue="long", account="pet", directives=("--gres=gpu:1",))
    assert queued.compute.to_jobs() == asked


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ('scheduler = "ray"', "no 'ray'"),
        ('address = "tcp://a:1"', 'need scheduler = "dask"'),
        (QUEUED, 'need scheduler = "dask"'),
        ('scheduler = "dask"', "needs either `address`"),
        (f'scheduler = "dask"\naddress = "tcp://a:1"\n{QUEUED}', "needs either `address`"),
        ('scheduler = "dask"\naddress = "tcp://a:1"\njobs = 2', "`jobs` is asked of a queue"),
        ('scheduler = "dask"\naddress = "a:1"', "compute.address: "),
        ('scheduler = "dask"\naddress = "tcp://a"', "compute.address: "),
        ('scheduler = "dask"\ncluster = "slurm"', "a job needs `memory`"),
        ('scheduler = "dask"\ncluster = "sge"\nmemory = "1 GB"', "no 'sge'"),
        ('scheduler = "dask"\ncluster = "slurm"\nmemory = "much"', "compute.memory: "),
        (f'scheduler = "dask"\n{QUEUED}jobs = 0', "compute.jobs: "),
        (f'scheduler = "dask"\n{QUEUED}queue = "a\\nrm -r /"', "compute.queue: "),
        (f'scheduler = "dask"\n{QUEUED}directives = ["a\\nrm -r /"]', "compute.directives.0: "),
        (f'scheduler = "dask"\n{QUEUED}interface = "lo; rm -r /"', "compute.interface: "),
        (f'scheduler = "dask"\n{QUEUED}partition = "long"', "unknown key 'partition'"),
    ],
)
def test_workers_that_are_none(tmp_path: Path, lines: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(says)):
        study(tmp_path, f"{STUDY}[compute]\n{lines}\n")


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
        horizons = [12, 24]
        [[endpoint]]
        name = "age"
        kind = "continuous"
        column = "age"
        unit = "year"
        """,
    )
    assert study(tmp_path, text).horizons() == {"os": (12.0, 24.0)}
    assert study(tmp_path).horizons() == {}
    assert [section.endpoint() for section in study(tmp_path, text).endpoint] == [
        Binary("y", "outcome", "yes"),
        TimeToEvent("os", "t", "e", "month"),
        Continuous("age", "age", "year"),
    ]


def test_the_identity_is_of_the_meaning_not_of_the_text(tmp_path: Path) -> None:
    first = study(tmp_path).cache_key()
    assert study(tmp_path, "# a word\n" + STUDY.replace("= 4.0", "= 4")).cache_key() == first
    assert study(tmp_path, STUDY + "repeats = 1\n").cache_key() == first
    assert study(tmp_path, STUDY + "repeats = 2\n").cache_key() != first
    assert study(tmp_path, STUDY.replace('"age"', '"sex"')).cache_key() != first


@pytest.mark.parametrize(
    ("line", "after", "says"),
    [
        ("cohrt = 1\n", "", "the study file: unknown key 'cohrt'; the nearest known key is 'cohort'"),
        ("imges = 'x'\n", "[cohort]\n", r"\[cohort\]: unknown key 'imges'; the nearest known key is 'images'"),
        ("colum = 'x'\n", "[endpoint]\n", r"\[endpoint\]: unknown key 'colum'; the nearest known key is 'column'"),
        ("spacing = 2\n", "[volume]\n", r"\[volume\]: unknown key 'spacing'; the nearest known key is 'spacing_mm'"),
        ("fold = 2\n", "[validation]\n", r"\[validation\]: unknown key 'fold'; the nearest known key is 'folds'"),
        ("rois = 'x'\n", "[region]\n", r"\[region\]: unknown key 'rois'; the nearest known key is 'roi'"),
        (
            "variabel = 'x'\n",
            "[[model]]\n",
            r"\[\[model\]\] baseline: unknown key 'variabel'; the nearest .*'variable'",
        ),
        (
            "zzzz = 1\n",
            "[validation]\n",
            r"\[validation\]: unknown key 'zzzz'; known keys are scheme, folds, repeats, inner_folds",
        ),
    ],
)
def test_an_unknown_key_names_the_nearest(tmp_path: Path, line: str, after: str, says: str) -> None:
    whole = STUDY + "[region]\n" if after == "[region]\n" else STUDY
    text = whole.replace(after, after + line) if after else line + whole
    with pytest.raises(ConfigurationError, match=f"UNKNOWN_KEY: {says}"):
        models(tmp_path, text)


@pytest.mark.parametrize("horizons", ["[0]", "[-12]", "[inf]", '["a year"]', "12"])
def test_a_horizon_is_a_time_above_zero(tmp_path: Path, horizons: str) -> None:
    survival = f'[endpoint]\nname = "y"\nkind = "time-to-event"\ntime = "t"\nevent = "e"\nhorizons = {horizons}\n'
    text = STUDY[: STUDY.index("[endpoint]")] + survival + STUDY[STUDY.index("[volume]") :]
    with pytest.raises(ConfigurationError, match=r"STUDY_FILE_INVALID: .*horizons"):
        study(tmp_path, text)


def test_an_unknown_key_of_the_second_endpoint(tmp_path: Path) -> None:
    both = STUDY.replace("[endpoint]", "[[endpoint]]") + (
        '[[endpoint]]\nname = "os"\nkind = "time-to-event"\ntime = "t"\nevent = "e"\nunits = "day"\n'
    )
    with pytest.raises(ConfigurationError, match=r"UNKNOWN_KEY: \[endpoint\]: unknown key 'units'; .* 'unit'"):
        study(tmp_path, both)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('kind = "binary"', 'kind = "binery"', "endpoint.0: there is no 'binery'; the nearest is 'binary'"),
        ('kind = "binary"', 'kind = "zzz"', "endpoint.0: .*there are 'binary', 'time-to-event', 'continuous'"),
        ('kind = "binary"\n', "", "endpoint.0: it has no 'kind'"),
        ("folds = 3", 'scheme = "leave-one-center-out"', "validation.scheme: .*nearest is 'leave-one-centre-out'"),
        (
            'images = "dicom"',
            'images = "dicom"\npolicy = "lenent"',
            "cohort.policy: .*'lenent'; the nearest is 'lenient'",
        ),
        ('column = "outcome"', "column = 3", "endpoint.0.binary.column: .*string"),
        ('images = "dicom"\n', "", "cohort.images: Field required"),
        ("spacing_mm = 4.0", "spacing_mm = 0", "volume.spacing_mm"),
        ("spacing_mm = 4.0", "spacing_mm = inf", "volume.spacing_mm"),
        ("spacing_mm = 4.0", "spacing_mm = [4, 4]", "volume.spacing_mm"),
        ("spacing_mm = 4.0", "spacing_mm = 200.0", "volume: .*at least 8 voxels"),
        ("spacing_mm = 4.0", "field_of_view_mm = [1024, 512, nan]", "volume.field_of_view_mm.2"),
        ("[[model]]", '[region]\nkind = "contur"\n[[model]]', "region.kind: .* 'contur'; the nearest is 'contour'"),
        ("folds = 3", "folds = 1", "validation.folds: .*greater than or equal to 2"),
        ("folds = 3", "folds = 3.5", "validation.folds: .*integer"),
        ("folds = 3", "folds = ", "Invalid value .at line"),
        ('[[model]]\nkind = "baseline"\nvariable = "age"\n', "", "model: Field required"),
    ],
)
def test_a_value_that_is_none(tmp_path: Path, old: str, new: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=f"STUDY_FILE_INVALID: study.toml: {says}") as refused:
        study(tmp_path, STUDY.replace(old, new))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('kind = "baseline"', 'kind = "baselin"', "UNKNOWN_NAME: .*'baselin'.*nearest is 'baseline'"),
        ('kind = "baseline"', 'kind = "zzz"', "UNKNOWN_NAME: .*there are .*2be3-net"),
        ('kind = "baseline"', 'kind = ["baseline"]', "UNKNOWN_NAME"),
        ('kind = "baseline"\n', "", "UNKNOWN_NAME: .*a .*model.* has no `kind`; there are .*'baseline'"),
        (
            'variable = "age"',
            'variable = "tlg"\nregion = "percst"',
            "STUDY_FILE_INVALID: .* baseline: region: .* 'percst'; the nearest is 'percist'",
        ),
        (
            'variable = "age"',
            'variable = "ages"',
            "STUDY_FILE_INVALID: .* baseline: variable: .*'ages'; the nearest is 'age'",
        ),
        (
            'variable = "age"',
            'variable = "SUVmax"',
            "STUDY_FILE_INVALID: .* variable: .*'SUVmax'; the nearest is 'suvmax'",
        ),
        ('variable = "age"', 'variable = "MTV"', "STUDY_FILE_INVALID: .* variable: .*'MTV'; there are 'suvmax', "),
        ('variable = "age"', 'variable = "age"\nthreshold_suv = -1', "STUDY_FILE_INVALID: .*threshold_suv"),
        (
            'kind = "baseline"\nvariable = "age"',
            'kind = "2be3-net"\ninputs = ["map"]',
            "STUDY_FILE_INVALID: .*2be3-net: inputs.0: there is no 'map'; the nearest is 'maps'",
        ),
        (
            'kind = "baseline"\nvariable = "age"',
            'kind = "2be3-net"\ninputs = "maps"',
            "STUDY_FILE_INVALID: .*2be3-net: inputs: there is no 'maps'; there are 'auto', or a list",
        ),
        (
            'kind = "baseline"\nvariable = "age"',
            'kind = "2be3-net"\ninputs = []',
            "STUDY_FILE_INVALID: .*2be3-net: inputs: .*at least 1 item",
        ),
        (
            "[validation]",
            '[[model]]\nkind = "baseline"\nvariable = "age"\n[validation]',
            "STUDY_FILE_INVALID: 2 models are called 'age'.*own `name`",
        ),
    ],
)
def test_a_model_that_is_none(tmp_path: Path, old: str, new: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        models(tmp_path, STUDY.replace(old, new))


def test_an_absent_or_binary_study_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"STUDY_FILE_INVALID: no\.toml: No such file") as refused:
        read_study(tmp_path / "no.toml")
    assert str(tmp_path) not in str(refused.value)
    (tmp_path / "a.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match=r"STUDY_FILE_INVALID: a\.toml"):
        read_study(tmp_path / "a.toml")


def test_every_model_gets_the_study_s_seed_unless_it_has_its_own(tmp_path: Path) -> None:
    text = STUDY.replace("folds = 3", "seed = 7").replace(
        "[validation]", '[[model]]\nkind = "cnn3d"\n[[model]]\nkind = "cnn3d"\nname = "other"\nseed = 1\n[validation]'
    )
    _, first, second = models(tmp_path, text)
    assert isinstance(first, CNN3D)
    assert (first.seed, second.seed) == (7, 1)


def test_every_baseline_measures_the_study_s_region_unless_it_names_its_own(tmp_path: Path) -> None:
    region = '[region]\nkind = "relative"\nroi = "GTV"\nfraction = 0.5\n'
    own = '[[model]]\nkind = "baseline"\nregion = "threshold"\n[[model]]\nkind = "cnn3d"\n'
    text = region + STUDY.replace('"age"', '"tlg"').replace("[validation]", own + "[validation]")
    first, second, _ = models(tmp_path, text)
    assert (first.name, second.name) == ("tlg (50 % of SUVmax in GTV)", "suvmax (SUV > 4)")
    section = study(tmp_path, text).region
    assert section is not None
    assert section == Region("relative", ("GTV",), fraction=0.5)
    assert study(tmp_path).region is None


def test_weights_lie_beside_the_study_file(tmp_path: Path) -> None:
    pooled = '[[model]]\nkind = "pooled"\nbackbone = "resnet18"\nweights = "{}"\nname = "{}"\n'
    text = STUDY.replace(
        "[validation]", "".join(pooled.format(w, w) for w in ("w.safetensors", "random")) + "[validation]"
    )
    _, local, named = models(tmp_path, text)
    assert Path(local.weights) == tmp_path / "w.safetensors"
    assert named.weights == "random"


def test_weights_of_a_3d_network_lie_beside_the_study_file_too(tmp_path: Path) -> None:
    text = STUDY.replace(
        "[validation]",
        '[[model]]\nkind = "cnn3d"\nnetwork = "resnet10"\nweights = "w.safetensors"\n'
        '[[model]]\nkind = "cnn3d"\nname = "scratch"\n[validation]',
    )
    _, local, scratch = models(tmp_path, text)
    assert isinstance(local, CNN3D)
    assert Path(local.weights) == tmp_path / "w.safetensors"
    assert isinstance(scratch, CNN3D)
    assert scratch.weights == ""


def test_the_example_is_valid(pytestconfig: pytest.Config) -> None:
    example = pytestconfig.rootpath / "examples" / "sts.toml"
    config = read_study(example)
    assert len(config.models(example.parent, Cache())) >= 5


# -- how to validate

TABLE = {"P1": {"part": "train"}, "P2": {"part": " Test"}, "P3": {"part": ""}, "P4": {"part": "TRAIN"}}


def chosen(tmp_path: Path, lines: str, table: Table = TABLE) -> Scheme:
    return study(tmp_path, STUDY + lines).validation.scheme_for(tmp_path, table)


def test_every_scheme_can_be_named(tmp_path: Path) -> None:
    assert chosen(tmp_path, "repeats = 2\nseed = 7\n") == CrossValidation(3, 2, 7)
    assert chosen(tmp_path, 'scheme = "leave-one-centre-out"\n') == LeaveOneCentreOut()
    centres = 'scheme = "split"\ntrain = ["HGJ", "CHUS"]\ntest = ["HMR"]\n'
    assert chosen(tmp_path, centres) == PredefinedSplit(("HGJ", "CHUS"), ("HMR",))
    column = 'scheme = "split"\nsplit = "part"\n'
    assert chosen(tmp_path, column) == PredefinedSplit(("P1", "P4"), ("P2",), by="patient")
    assert chosen(tmp_path, 'folds_file = "old/folds.json"\n') == FoldsFile(tmp_path / "old/folds.json")


@pytest.mark.parametrize(
    "lines",
    [
        'train = ["a"]\ntest = ["b"]\n',
        'split = "part"\n',
        'scheme = "split"\n',
        'scheme = "split"\ntrain = ["a"]\n',
        'scheme = "split"\ntrain = ["a"]\ntest = ["b"]\nsplit = "part"\n',
        'scheme = "split"\ntrain = ["a"]\nsplit = "part"\n',
        'scheme = "holdout"\n',
    ],
)
def test_half_a_split_is_refused(tmp_path: Path, lines: str) -> None:
    with pytest.raises(ConfigurationError, match=r"STUDY_FILE_INVALID: .*(split|scheme)"):
        study(tmp_path, STUDY + lines)


def test_a_column_of_a_split_says_train_or_test(tmp_path: Path) -> None:
    column = 'scheme = "split"\nsplit = "part"\n'
    with pytest.raises(ConfigurationError, match=r"SPLIT_INVALID: column 'part' must hold train or test.*'validation'"):
        chosen(tmp_path, column, {**TABLE, "P5": {"part": "validation"}})
    with pytest.raises(ConfigurationError, match="COLUMN_MISSING"):
        chosen(tmp_path, column, {"P1": {"other": "train"}})


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("OS", "OS"), "called 'OS'"),
        (("os event", "OS_event"), "called 'OS_event'|called 'os event'"),
        (("OS", " "), "needs a `name`"),
    ],
)
def test_endpoints_have_names_of_their_own(names: tuple[str, str], said: str, tmp_path: Path) -> None:
    tables = "".join(f'[[endpoint]]\nname = "{name}"\nkind = "binary"\ncolumn = "outcome"\n' for name in names)
    text = STUDY.replace('[endpoint]\nname = "y"\nkind = "binary"\ncolumn = "outcome"\n', tables)
    with pytest.raises(ConfigurationError, match=said) as refused:
        study(tmp_path, text)
    assert refused.value.code.name == "STUDY_FILE_INVALID"
