"""The study as a whole: every model on the same folds, evaluated and compared; resumable at every step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from twobe3.cohort.cohort import Cohort
from twobe3.core.codes import Code
from twobe3.evaluation.explanations import EXPLANATIONS, RECORD
from twobe3.io.cache import Cache
from twobe3.io.checksums import FINISHED
from twobe3.io.claims import claim, remove_claims
from twobe3.io.files import remove, remove_partials, write_artefact, write_atomic
from twobe3.report import write_report
from twobe3.runtime.device import DeviceName, Precision
from twobe3.runtime.parallel import Workers
from twobe3.study.finished import Options, digest_inputs, write_finished
from twobe3.study.prepare import OWNER, PreparedStudy, prepare, require_own, set_aside_owner
from twobe3.study.sections import ClinicalTable, CohortSection, ExternalSection
from twobe3.study.workers import open_workers
from twobe3.validation.cross_validate import cross_validate, fit_final_models
from twobe3.validation.explanations import collect_explanations
from twobe3.validation.external import validate_external
from twobe3.validation.leakage import audit as audit_validation
from twobe3.validation.performance import record_performance
from twobe3.validation.provenance import Stopwatch
from twobe3.validation.result import CVResult


def run(
    study_file: Path | str,
    out: Path | str,
    *,
    update: bool = False,
    audit: bool = False,
    workers: int | None = None,
    device: DeviceName | None = None,
    precision: Precision | None = None,
) -> CVResult:
    """Run a whole study: cohort, features, models, evaluation, report, and the models fitted on all patients.

    What stands in the output folder from an interrupted run is not computed again. An external cohort gets a study
    folder of its own, ``external/``, with a report of its own; the study's report says what it gave.

    Parameters
    ----------
    study_file : path
        The study file, see ``examples/sts.toml``.
    out : path
        Output folder.
    update : bool
        Allow a folder that holds another study: what both share is reused, the artefacts are replaced.
    audit : bool
        Audit the validation for leakage, as ``[validation] audit = true`` does, see :mod:`twobe3.validation.leakage`.
    workers : int, optional
        Processes of this machine, in the place of the cluster too that ``[compute]`` may name; by default one for each
        core, or on GPUs as many as their memory has room for.
    device, precision : str, optional
        Instead of what ``[compute]`` says, see :class:`~twobe3.runtime.device.Device`.

    Raises
    ------
    TwoBe3Error
        Whatever is wrong with the study file, the table or the scans.
    """
    study_file, out = Path(study_file).absolute(), Path(out).absolute()  # workers elsewhere have another folder
    watch = Stopwatch()
    ready = prepare(
        study_file, out, Cache(out / "features"), update=update, workers=workers, device=device, precision=precision
    )
    study, models, scheme, named = ready.study, ready.models, ready.scheme, ready.study.inputs()
    validation = study.validation
    set_aside_owner(out)
    remove_partials(out)
    remove_claims(out)
    inputs = digest_inputs(study_file, out, named, Options(audit, device, precision))
    remove(out / FINISHED)  # what it says of the files is not true while they are replaced
    with open_workers(study.compute, workers, ready.device, out) as team:
        with watch.step("cohort"):
            cohort = _read(ready, study.cohort, ready.clinical, out, team)
        checkpoints = Cache(out / "folds")
        result = cross_validate(
            models,
            cohort,
            cv=scheme,
            baselines=validation.baselines,
            region=study.region,
            recalibrate=validation.recalibrate,
            inner_folds=validation.inner_folds,
            seed=validation.seed,
            resamples=validation.resamples,
            horizons=study.horizons(),
            checkpoints=checkpoints,
            explain=study.explained(models),
            maps=Cache(out / EXPLANATIONS),
            n_jobs=team,
        )
        plan, provenance, document = result.plan, result.provenance, study.document()
        for timing in provenance.timings:
            watch.add(timing.step, timing.seconds)
        provenance = replace(
            provenance,
            study=study.name,
            configuration={
                **document,
                "validation": {**document["validation"], **provenance.configuration["validation"]},
            },
            configuration_digest=study.cache_key(),
            notes=(*study.notes, *provenance.notes),
        )
        with watch.step("final models"):
            final = fit_final_models(plan, out / "models", team)
            record_performance(result, final, scheme.name, study.horizons())
        if audit or validation.audit:
            with watch.step("audit"):
                found = audit_validation(
                    plan, result.folds, scheme, permutations=validation.permutations, seed=validation.seed,
                    checkpoints=checkpoints, workers=team,
                )  # fmt: skip
            provenance = replace(provenance, audit=found, notes=(*provenance.notes, found.text()))
        external: CVResult | None = None
        if study.external is not None:
            with watch.step("external cohort"):
                table = study.external.read_clinical(ready.folder)
                second = _read(ready, study.external, table, out / "external", team)
                external = validate_external(
                    plan, second, final, provenance, horizons=study.horizons(), resamples=validation.resamples,
                    seed=validation.seed, workers=team,
                )  # fmt: skip
            lines = [f"External cohort, {line.strip()}" for line in external.table().splitlines()]
            provenance = replace(
                provenance,
                external={"folder": "external", "found": external.cohort.found, "used": len(external.cohort)},
                notes=(*provenance.notes, *lines, "The report of the external cohort is external/report.html."),
            )
    result = replace(result, provenance=replace(provenance, **watch.read()))
    # From here on the folder is this study's: what was stored before fits every study.
    with claim(out / OWNER):  # of two runs at once one writes after the other
        require_own(out, study, update)  # another study may have ended here meanwhile
        remove(out / FINISHED)
        write_atomic(out / OWNER, f"{study.cache_key()}\n".encode())
        result.write(out)
        remove(out / EXPLANATIONS / RECORD)
        if plan.explained:
            write_artefact(out / EXPLANATIONS / RECORD, collect_explanations(plan, result.folds).to_json())
        if provenance.audit is not None:
            write_artefact(
                out / "audit.json", {"configuration_digest": study.cache_key(), **provenance.audit.document()}
            )
        if external is not None:
            replace(external, provenance=replace(external.provenance, **watch.read())).write(out / "external")
            write_report(out / "external")
        write_report(out)
        remove_partials(out)  # of workers that were killed
        lost = any(one.code == Code.WORKER_DIED.name for one in result.cohort.exclusions)
        inputs = "" if lost else inputs  # what memory lacked for, a next run tries again
        write_finished(out, named, inputs, result.table())
    return result


def _read(
    ready: PreparedStudy, section: CohortSection | ExternalSection, table: ClinicalTable, out: Path, workers: Workers
) -> Cohort:
    """Read the cohort of a section into its output folder."""
    volumes, contours = Cache(out / "volumes"), Cache(out / "contours")
    return ready.read(section, table, volumes, contours, workers, exclusions=out / "exclusions.csv")
