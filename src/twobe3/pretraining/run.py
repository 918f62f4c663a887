"""A whole pre-training: scans, the two stages, the held-out figures, the file and its card; resumable."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from twobe3 import __version__
from twobe3.cohort.cohort import Cohort
from twobe3.cohort.duplicates import join_duplicates
from twobe3.cohort.read import read_cohort
from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError, EmptyInputError, EnvironmentFailure
from twobe3.core.outcomes import IntArray
from twobe3.features.backbones import Backbone
from twobe3.io.cache import CACHE_VERSION, Cache
from twobe3.io.claims import claim, remove_claims
from twobe3.io.files import digest, remove_partials, require_folder
from twobe3.models import TwoBe3Net
from twobe3.models.pretrained import SHARED, PretrainedCheckpoint, marks_of
from twobe3.pretraining.card import ABOUT, LESIONS_BY_THRESHOLD, Card, count_scans, summarise_labels
from twobe3.pretraining.config import DENSE, LESIONS, MASKED, OF_PATIENTS, POSITION, Recipe, read_recipe
from twobe3.pretraining.dense_stage import HELD_OUT, DenseStage, Simulated, score_scans, score_simulated, train_dense
from twobe3.pretraining.labels import Labels
from twobe3.pretraining.loop import Checkpoint
from twobe3.pretraining.scores import Change, Evaluator, Score, compare
from twobe3.pretraining.stage2d import HEIGHT, SliceStage, predict_slices, train_slices
from twobe3.pretraining.stage3d import StackStage, predict_stacks, train_stacks
from twobe3.runtime.device import Device, DeviceName, Precision
from twobe3.runtime.parallel import run_tasks
from twobe3.runtime.process import available_cores, one_thread

FILE = "pretrained.safetensors"
MIN_PATIENTS = 4
EVALUATED_SEEDS = 8  # held-out phantoms, and groups of other simulated slices
log = logging.getLogger("twobe3")


def pretrain(
    recipe_file: Path | str,
    out: Path | str,
    *,
    update: bool = False,
    workers: int | None = None,
    device: DeviceName | None = None,
    precision: Precision | None = None,
    devices: int | None = None,
) -> Card:
    """Pre-train a 2D network and the 3D head on scans without outcomes.

    Two stages: the 2D network learns from single slices, then the branches of a ``2be3-net`` from the stacks of its
    maps. The state is kept after every epoch; the same command resumes, and ends with the same arrays and figures.

    Parameters
    ----------
    recipe_file : path
        See ``examples/pretrain.toml``.
    out : path
        Output folder: ``pretrained.safetensors``, which ``init`` of a study's model names, ``card.md``, ``card.json``,
        and what a second run does not compute again.
    update : bool
        Allow a folder that holds the result of another recipe.
    workers : int, optional
        Processes that compute feature maps; by default as many as the device says.
    device, precision : str, optional
        Instead of those of ``[compute]``, see :class:`~twobe3.runtime.device.Device`.
    devices : int, optional
        GPUs that share the batches, all by default; on the CPU processes, 1 by default.

    Raises
    ------
    TwoBe3Error
        The recipe, the weights or the scans cannot be used.
    """
    recipe_file, out = Path(recipe_file), Path(out)
    require_folder(out)
    recipe, folder = read_recipe(recipe_file), recipe_file.parent
    cache = Cache(out / "features")
    compute = recipe.compute
    target = Device(device or compute.device, precision or compute.precision, devices or "auto", compute.maps)
    model = recipe.model(folder, cache, target)
    backbone = model.maps.backbone  # what is wrong with the weights is better known before scans are read
    _require_same_recipe(out, _recipe_digest(recipe, backbone, target), update)
    remove_partials(out)
    remove_claims(out)
    roots = recipe.cohort.folders(folder)
    cohort = join_duplicates(
        read_cohort(
            roots, grid=recipe.volume.grid(), volumes=out / "volumes",
            policy=recipe.cohort.policy, repair_dates=recipe.cohort.repair_dates,
        )
    )  # fmt: skip
    parts = Partition.draw(cohort, recipe)
    if not (parts.labels.scales or {POSITION, MASKED, *DENSE} & set(recipe.pretrain.tasks)):
        raise EmptyInputError(Code.NOTHING_USABLE, "no header of the training patients tells two values of any label")
    workers = workers or target.workers(available_cores())
    with claim(out / FILE):  # a second run at once would train the same networks
        changes: list[Change] = []
        scores: list[Score] = []
        if recipe.pretrain.is_dense:
            tuned, changes = _dense_stage(recipe, parts, backbone, out, target, workers)
        else:
            with one_thread():
                tuned, scores = _first_stage(recipe, parts, backbone, out, target)
        model = model.clone()
        model.maps_.loaded = tuned
        for _ in run_tasks(
            _prepare_scan, range(len(cohort)), shared=(model, cohort),
            workers=workers, description="features",
        ):  # fmt: skip
            pass
        with one_thread():
            start, more = _second_stage(recipe, parts, model, out)
        sealed = start.save(out / FILE)
        card = _card(recipe, parts, [*scores, *more], changes, (backbone, tuned), roots, sealed, target)
        card.write(out)
    return card


@dataclass(frozen=True, eq=False)
class Partition:
    """A cohort, its training and held-out scans by position, and the labels of the headers in training units.

    Scans of one person are in one part.
    """

    cohort: Cohort
    training: IntArray
    held_out: IntArray
    labels: Labels

    @classmethod
    def draw(cls, cohort: Cohort, recipe: Recipe) -> Partition:
        """Draw the held-out part.

        Raises
        ------
        EmptyInputError
            ``NOTHING_USABLE``: fewer than four patients.
        """
        section = recipe.pretrain
        groups = sorted({study.group for study in cohort.subjects})
        if len(groups) < MIN_PATIENTS:
            raise EmptyInputError(
                Code.NOTHING_USABLE,
                f"patients with a scan that can be used: {len(groups)}; at least {MIN_PATIENTS} are needed",
            )
        count = min(max(1, round(section.held_out * len(groups))), len(groups) - 2)
        drawn = np.random.default_rng([section.seed, len(groups)]).permutation(len(groups))[:count]
        aside = {groups[i] for i in drawn}
        held = np.array([study.group in aside for study in cohort.subjects])
        training, held_out = np.flatnonzero(~held), np.flatnonzero(held)
        names = [task for task in OF_PATIENTS if task in section.tasks]
        return cls(cohort, training, held_out, Labels.from_subjects(cohort.subjects, names, training))

    @cached_property
    def marks(self) -> tuple[tuple[str, str], ...]:
        """Marks by which each scan is recognised."""
        return tuple(marks_of(self.cohort, study) for study in self.cohort.subjects)


def _first_stage(
    recipe: Recipe, parts: Partition, backbone: Backbone, out: Path, device: Device
) -> tuple[Backbone, list[Score]]:
    """Train the 2D network and evaluate it."""
    stage = SliceStage.from_recipe(recipe, parts.cohort, parts.labels)
    scales = stage.labels.scales
    if not recipe.slices.epochs or not scales:
        return backbone, []
    checkpoint = Checkpoint(Cache(out / "checkpoints"), _key(recipe, parts, backbone, device, "slices"))
    tuned, network = train_slices(device, stage, backbone, recipe, parts.training, checkpoint)
    evaluator = _evaluator(recipe, parts, "slices")
    predictions = [predict_slices(stage, network, int(row)) for row in parts.held_out]
    raw = np.stack([labels.mean(axis=0) for labels, _ in predictions])
    scores = evaluator.score_labels(parts.labels.subset(parts.held_out), raw)
    if HEIGHT in scales:
        pairs = [
            (labels[slices.known[:, -1], -1], slices.values[slices.known[:, -1], -1].astype(np.float64))
            for labels, slices in predictions
        ]
        error = np.array([((one - height) ** 2).sum() for one, height in pairs])
        spread = np.array([(height**2).sum() for _, height in pairs])
        scores.append(evaluator.explained_variance(POSITION, error, spread))
    return tuned, scores


def _dense_stage(
    recipe: Recipe, parts: Partition, backbone: Backbone, out: Path, device: Device, workers: int
) -> tuple[Backbone, list[Change]]:
    """Continue the training of the network that knows PET, and compare it with what it was."""
    section = recipe.pretrain
    if not recipe.slices.epochs or not section.of_slices:
        return backbone, []
    cache = Cache(out / "dense")
    stage = DenseStage.from_recipe(recipe, parts.cohort, cache, workers)
    held_out = Simulated.make(cache, HELD_OUT, EVALUATED_SEEDS, workers)
    checkpoint = Checkpoint(Cache(out / "checkpoints"), _key(recipe, parts, backbone, device, "slices"))
    changes = []
    with one_thread():
        tuned = train_dense(device, stage, backbone, recipe, parts.training, checkpoint)
        figures = [
            {
                "scans": score_scans(stage, network, parts.held_out, section.seed),
                **{kind: score_simulated(slices, network) for kind, slices in held_out.parts.items()},
            }
            for network in (backbone.network, tuned.network)
        ]
    before, after = figures
    for kind in before:
        changes += compare(kind, before[kind], after[kind], resamples=section.resamples, seed=section.seed)
    return tuned, changes


def _second_stage(
    recipe: Recipe, parts: Partition, model: TwoBe3Net, out: Path
) -> tuple[PretrainedCheckpoint, list[Score]]:
    """Learn projections, train the branches, evaluate them, and give what a study starts from."""
    cohort, training = parts.cohort, parts.training
    stage = StackStage.from_cohort(model, cohort, parts.labels, training, recipe.stacks.masked_share)
    backbone = model.maps.backbone
    branches, scores = {}, []
    if recipe.stacks.epochs and (parts.labels.scales or MASKED in recipe.pretrain.tasks):
        key = digest([_key(recipe, parts, backbone, model.device, "stacks"), model.cache_key()])
        checkpoint = Checkpoint(Cache(out / "checkpoints"), key)
        network = train_stacks(model.device, stage, model, recipe, training, checkpoint)
        branches = {name: value.detach() for name, value in network.network.branches.state_dict().items()}
        evaluator = _evaluator(recipe, parts, "stacks")
        predicted = predict_stacks(stage, network, parts.held_out, recipe.pretrain.seed)
        scores = evaluator.score_labels(parts.labels.subset(parts.held_out), predicted.labels)
        if MASKED in recipe.pretrain.tasks:
            scores.append(evaluator.explained_variance(MASKED, predicted.error, predicted.spread))
            line = evaluator.explained_variance(MASKED, predicted.interpolation, predicted.spread)
            scores.append(replace(line, metric="explained_by_interpolation"))
    marks = {mark for row in training for mark in parts.marks[row]}
    parameters = {name: getattr(recipe.pretrain, name) for name in SHARED}
    return PretrainedCheckpoint(parameters, cohort.grid, model.inputs_, branches, frozenset(marks)), scores


def _prepare_scan(shared: tuple[TwoBe3Net, Cohort], position: int) -> None:
    model, cohort = shared
    model.precompute(cohort.subset([position]))


def _evaluator(recipe: Recipe, parts: Partition, stage: str) -> Evaluator:
    patients = tuple(parts.cohort.subjects[i].patient for i in parts.held_out)
    return Evaluator(stage, patients, recipe.pretrain.resamples, recipe.pretrain.seed)


def _key(recipe: Recipe, parts: Partition, backbone: Backbone, device: Device, table: str) -> str:
    """Digest of everything that a stage depends on, ``table`` being its section of the recipe."""
    asked = recipe.model_dump(mode="json", include={"volume", "pretrain", table})
    return digest(
        [
            str(CACHE_VERSION),
            __version__,
            json.dumps(asked, sort_keys=True),
            backbone.weights_digest,
            _device_key(device),
            *map(parts.cohort.volume_key, parts.cohort.subjects),
            parts.training.astype(np.int64).tobytes(),
            *map(str, parts.labels.scales),
            parts.labels.values.tobytes(),
            parts.labels.known.tobytes(),
        ]
    )


def _card(
    recipe: Recipe,
    parts: Partition,
    scores: Sequence[Score],
    changes: Sequence[Change],
    networks: tuple[Backbone, Backbone],
    roots: Sequence[Path],
    sealed: str,
    device: Device,
) -> Card:
    cohort, (before, after) = parts.cohort, networks
    parameters = recipe.parameters()
    marks = {
        part: sorted(list(parts.marks[row]) for row in rows)
        for part, rows in (("trained_on", parts.training), ("held_out", parts.held_out))
    }
    return Card(
        {
            "configuration_digest": _recipe_digest(recipe, before, device),
            "name": recipe.name,
            "notes": list(recipe.notes),
            "file": FILE,
            "file_digest": sealed,
            "trained_on": count_scans(cohort, parts.training, parts.held_out, roots),
            "labels": summarise_labels(cohort, parts.training),
            "tasks": list(recipe.pretrain.tasks),
            "left_out": list(parts.labels.left_out),
            "figures": [asdict(score) for score in scores],
            "changes": [asdict(change) for change in changes],
            "starting_weights": {
                "backbone": before.name,
                "weights": parameters["pretrain"]["weights"],
                "digest": before.weights_digest,
            },
            "weights_digest": after.weights_digest,
            "parameters": parameters,
            "computed": device.describe(),
            **ABOUT,
            "limits": [*ABOUT["limits"], *([LESIONS_BY_THRESHOLD] if LESIONS in recipe.pretrain.tasks else [])],
            "warnings": list(cohort.warnings),
            "scans": marks,
        }
    )


def _recipe_digest(recipe: Recipe, backbone: Backbone, device: Device) -> str:
    return digest([recipe.model_dump_json(exclude={"compute"}), backbone.weights_digest, _device_key(device)])


def _device_key(device: Device) -> str:
    """Part of the keys: sums over several devices have another order than over one."""
    return device.cache_key() + (f" on {device.count} devices" if device.count > 1 else "")


def _require_same_recipe(out: Path, recipe_digest: str, update: bool) -> None:
    """Refuse a folder that holds the result of another recipe."""
    card = out / "card.json"
    there: object = None
    if card.exists() and not update:
        try:
            there = json.loads(card.read_bytes())["configuration_digest"]
        except (OSError, ValueError, LookupError, TypeError):
            raise EnvironmentFailure(
                Code.ARTEFACT_DAMAGED,
                f"whose result the output folder holds is not known: {card.name} cannot be read",
                remedy="choose another folder, or add --update to replace it and reuse what both share",
            ) from None
    if there not in (None, recipe_digest):
        raise ConfigurationError(
            Code.OUTPUT_EXISTS,
            "the output folder holds the result of another pre-training",
            remedy="choose another folder, or add --update to replace it and reuse what both share",
        )
