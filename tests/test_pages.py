"""The pages that can be followed are followed: every file, command and snippet, in the order in which they stand."""

from __future__ import annotations

import atexit
import re
import shlex
import shutil
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import nibabel
import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK
import typer
from scipy import ndimage
from tests.command_line import Call

import twobe3 as tb
from twobe3.cli.main import app
from twobe3.dicom.derived import make_segmentation, read_source
from twobe3.dicom.volume import read_suv
from twobe3.phantom import write_cohort

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
FENCE = re.compile(r"^```(\S[^\n]*|)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
# What is typed before twobe3 is there, and what other programs do.
OTHERS = ("python3 -m venv", ". .venv", "cd ", "pip install")


class Block(NamedTuple):
    """A fenced block of a page: its language, the caption of one that is a file, and its text."""

    language: str
    caption: str
    text: str


def blocks(page: Path) -> Iterator[Block]:
    for head, text in FENCE.findall(page.read_text(encoding="utf-8")):
        language = head.removeprefix("{code-block}").strip()
        caption = re.match(r":caption: (.+)\n\n?", text)
        yield Block(language, caption[1] if caption else "", text[caption.end() :] if caption else text)


def commands(text: str) -> Iterator[tuple[list[str], int]]:
    """The commands of a block as arguments, with the exit status that a comment behind each announces, 0 without one.

    Those of which the comment says that they need something, or take minutes, are not among them.
    """
    for line in text.replace("\\\n", " ").splitlines():
        typed, _, comment = line.partition(" #")
        status = re.search(r"exit status (\d+)", comment)
        if typed.strip() and not typed.startswith("#") and not re.search(r"\b(needs|takes)\b", comment):
            yield shlex.split(typed), int(status[1]) if status else 0


def expand(arguments: list[str]) -> list[str]:
    """What a shell makes of the arguments: a pattern becomes the files that fit it."""
    return [file for one in arguments for file in (sorted(map(str, Path().glob(one))) if "*" in one else [one])]


def expect(printed: str, shown: str, page: Path) -> None:
    """What a page shows of an output is in it, line by line; … stands for anything."""
    for line in filter(str.strip, shown.splitlines()):
        pattern = r"\s+".join(re.escape(word).replace("…", ".*") for word in line.split())
        assert re.search(pattern, printed), f"{page.name} shows {line!r}, which is not in:\n{printed}"


def follow(page: Path, twobe3: Call, caplog: pytest.LogCaptureFixture) -> None:
    """Do what a page says, in the folder in which this process is."""
    names: dict[str, object] = {}
    printed = ""
    for language, caption, text in blocks(page):
        if caption:
            Path(caption).write_text(text, encoding="utf-8")
        elif language == "python":
            exec(compile(text, page.name, "exec"), names)
        elif language == "sh":
            for arguments, status in commands(text):
                if " ".join(arguments).startswith(OTHERS):
                    continue
                assert arguments[0] == "twobe3", f"{page.name}: nothing runs {arguments}"
                caplog.clear()
                done = twobe3(*expand(arguments[1:]))
                printed = done.out + done.err + caplog.text
                assert done.status == status, f"{page.name}: {arguments} ended with {done.status}:\n{printed}"
        elif language == "text":
            expect(printed, text, page)


def prepare_nothing(folder: Path) -> None:
    """What a page needs it makes itself."""


def prepare_cohort(folder: Path) -> None:
    """`dicom/` and `clinical.csv`, of phantoms."""
    for name in ("dicom", "clinical.csv"):
        (folder / name).symlink_to(phantoms() / name)


@cache
def phantoms() -> Path:
    """Ten phantoms, written once for all pages."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    return write_cohort(folder, patients=10, seed=10)


def prepare_masks(folder: Path) -> None:
    """Masks as the tools write them: NIfTI on other voxels, with labels, on the PET's own; a SEG; a .seg.nrrd."""
    prepare_cohort(folder)
    series = sorted(tb.find_series(folder / "dicom").series, key=lambda one: one.patient_id)
    volumes = [read_suv(one) for one in series]
    (folder / "nnunet").mkdir()
    for volume in volumes:  # label 1 what is hot, label 2 what is warm
        labels = (volume.array > 2.5).astype(np.uint8) * 2
        labels[volume.array > 6] = 1
        write_labels(folder / "nnunet" / f"{volume.source}.nii.gz", labels, volume.affine)
    first = volumes[0]
    fine = first.affine @ np.diag([0.5, 0.5, 0.5, 1])  # a CT: voxels of half the size
    warm = ndimage.zoom((first.array > 2).astype(np.uint8), 2, order=0)
    (folder / "segmentations").mkdir()
    write_labels(folder / "segmentations" / "liver.nii.gz", warm, fine)
    write_labels(folder / "multilabel.nii.gz", warm * 5, fine)
    hot = first.array > 6
    segmentation = make_segmentation(read_source(series[0], first.geometry), hot, label="tool", region="lesions")
    (folder / "lesions.seg.dcm").write_bytes(segmentation)
    nrrd = SimpleITK.ReadImage(folder / "nnunet" / f"{first.source}.nii.gz")
    nrrd.SetMetaData("Segment0_LabelValue", "1")
    nrrd.SetMetaData("Segment0_Name", "lesion")
    SimpleITK.WriteImage(nrrd, folder / "lesions.seg.nrrd")


def write_labels(path: Path, labels: npt.NDArray[np.uint8], affine: npt.NDArray[np.float64]) -> None:
    """Labels of (slice, row, column) as other tools store them: (i, j, k) and RAS."""
    ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine[:, [2, 1, 0, 3]]
    nibabel.save(nibabel.Nifti1Image(labels.transpose(2, 1, 0), ras), path)


def prepare_model(folder: Path) -> None:
    """`model.safetensors`, fitted on phantoms, and a scan in `new/dicom` that it has not seen."""
    prepare_cohort(folder)
    endpoint = tb.Binary("metastasis", "metastasis")
    cohort = tb.read_cohort(folder / "dicom", clinical=folder / "clinical.csv", endpoint=endpoint, grid=tb.Grid(16.0))
    tb.models.PooledModel().fit(cohort).save(folder / "model")
    (folder / "model" / "model.safetensors").rename(folder / "model.safetensors")
    write_cohort(folder / "new", patients=1, seed=99)


def prepare_predictions(folder: Path) -> None:
    """What another tool predicted, under our names of the columns and under its own; no scan."""
    rng = np.random.default_rng(0)
    rows = [f"P{n},{n % 2},{rng.integers(100, 1000)},{int(n % 3 > 0)}" for n in range(24)]
    (folder / "clinical.csv").write_text("\n".join(["patient_id,metastasis,recurrence_days,recurrence", *rows]))
    scores = [0.3 + 0.4 * (n % 2) + 0.2 * rng.random() for n in range(24)]
    both = [f"P{n},{score:.3f}" for n, score in enumerate(scores)]
    (folder / "predictions.csv").write_text(
        "\n".join(["patient_id,risk,probability", *(f"{row},{row.split(',')[1]}" for row in both)])
    )
    (folder / "tool.csv").write_text("\n".join(["case;score", *(row.replace(",", ";") for row in both)]))


def prepare_plugin(folder: Path) -> None:
    """The module of a distribution that is not installed, and phantoms."""
    prepare_cohort(folder)
    shutil.copy(ROOT / "tests" / "plugin" / "twobe3_heart.py", folder)


def prepare_all(folder: Path) -> None:
    """Phantoms, predictions of another tool, an empty folder, a study file."""
    prepare_predictions(folder)
    (folder / "phantoms").symlink_to(phantoms() / "dicom" / "scan_001")
    (folder / "empty").mkdir()
    (folder / "study.toml").write_text(
        '[cohort]\nimages = "phantoms"\nclinical = "clinical.csv"\n[endpoint]\nname = "metastasis"\nkind = "binary"\n'
        'column = "metastasis"\n[[model]]\nkind = "pooled"\n'
    )


FOLLOWED: dict[str, Callable[[Path], None]] = {
    "tutorials/first_study.md": prepare_nothing,
    "tutorials/your_cohort.md": prepare_nothing,
    "tutorials/public_collections.md": prepare_nothing,
    "howto/refusals.md": prepare_all,
    "howto/gpu.md": prepare_all,
    "howto/pacs.md": prepare_model,
    "howto/masks.md": prepare_masks,
    "howto/ct.md": prepare_nothing,
    "howto/evaluate_predictions.md": prepare_predictions,
    "howto/own_model.md": prepare_plugin,
    "howto/own_backbone.md": prepare_cohort,
    "howto/own_endpoint.md": prepare_cohort,
    "howto/own_metric.md": prepare_predictions,
    "howto/own_collection.md": prepare_nothing,
}


@pytest.mark.parametrize("name", FOLLOWED)
def test_a_page_can_be_followed(
    name: str, twobe3: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    FOLLOWED[name](tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for registry, name_added in ((tb.metrics.METRICS, "mean_distance"), (tb.models.BACKBONES, "mine")):
        monkeypatch.setitem(registry, name_added, None)  # so that what a page adds for its process goes again
        del registry[name_added]
    follow(DOCS / name, twobe3, caplog)


def typed_commands() -> list[pytest.ParameterSet]:
    """Every line of a block that calls twobe3, in whatever page."""
    found = []
    for page in PAGES:
        for number, (language, _, text) in enumerate(blocks(page)):
            lines = text.replace("\\\n", " ").splitlines() if language in ("", "sh", "text") else ()
            for line in lines:
                if line.removeprefix("$ ").startswith("twobe3 "):
                    found.append(pytest.param(line.removeprefix("$ "), id=f"{page.name}-{number}-{len(found)}"))
    return found


@pytest.mark.parametrize("line", typed_commands())
def test_a_command_is_one_that_the_parser_knows(line: str) -> None:
    command, context = typer.main.get_command(app), None
    arguments = shlex.split(re.split(r"\s{2,}#|\s#\s", line)[0])[1:]
    while (known := getattr(command, "commands", None)) and arguments[:1] != ["help"]:
        if arguments[0].startswith("-"):
            break
        assert arguments[0] in known, line
        context = typer.Context(command, parent=context, info_name=arguments[0])
        command, arguments = known[arguments[0]], arguments[1:]
    if not known:
        command.make_context("twobe3", arguments, parent=context)  # refuses unknown options, and arguments that lack


def test_extras_that_are_named_exist() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {
        one
        for page in PAGES
        for group in re.findall(r"(?:twobe3|'\.|\"\.)\[([a-z,-]+)\]['\"]", page.read_text(encoding="utf-8"))
        for one in group.split(",")
    }
    assert len(named) > 5
    assert named <= set(extras)
