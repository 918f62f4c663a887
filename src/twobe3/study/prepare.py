"""What a study needs before its scans are read, refused as far as study file, table and output folder show it wrong."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from twobe3.cohort.cohort import Cohort
from twobe3.cohort.read import read_cohort
from twobe3.cohort.splits import CrossValidation, Scheme, check_patients_for
from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError, EnvironmentFailure
from twobe3.evaluation.horizons import check_horizons
from twobe3.io.cache import Cache
from twobe3.io.files import require_folder, set_aside
from twobe3.models import Model
from twobe3.runtime.device import Device, DeviceName, Precision
from twobe3.runtime.parallel import Workers
from twobe3.study.config import StudyConfig, read_study
from twobe3.study.sections import ClinicalTable, CohortSection, ExternalSection

OWNER = "study.sha256"


@dataclass(frozen=True)
class PreparedStudy:
    """A study file with its table and its models, unfitted, whose scans are not read.

    Attributes
    ----------
    study : StudyConfig
    folder : Path
        In which the study file lies.
    clinical : ClinicalTable
    models : list of Model
    scheme : Scheme
        How the cohort will be split.
    device : Device
        Where networks compute.
    """

    study: StudyConfig
    folder: Path
    clinical: ClinicalTable
    models: list[Model]
    scheme: Scheme
    device: Device

    def read(
        self,
        section: CohortSection | ExternalSection,
        table: ClinicalTable,
        volumes: Cache,
        contours: Cache,
        workers: Workers,
        *,
        exclusions: Path | None = None,
    ) -> Cohort:
        """Read the cohort of a section, on the study's grid, see :func:`~twobe3.cohort.read.read_cohort`."""
        study = self.study
        return read_cohort(
            section.folders(self.folder),
            clinical=None if section.clinical is None else table.rows,
            endpoints=[one.endpoint() for one in study.endpoint if one.source == "table"],
            header_endpoints=[one.endpoint() for one in study.endpoint if one.source == "header"],
            patient=section.patient,
            centre=table.centre,
            roi=table.roi,
            covariates=study.cohort.covariates,
            grid=study.volume.grid(),
            volumes=volumes,
            contours=contours,
            policy=study.cohort.policy,
            repair_dates=study.cohort.repair_dates,
            subgroups=study.report.subgroups,
            region=study.region,
            exclusions=exclusions,
            modalities=study.volume.modalities,
            workers=workers,
        )


def prepare(
    study_file: Path,
    out: Path,
    features: Cache,
    *,
    update: bool = False,
    workers: int | None = None,
    device: DeviceName | None = None,
    precision: Precision | None = None,
) -> PreparedStudy:
    """Read study file and table, and make the models; writes nothing.

    Parameters
    ----------
    study_file, out : Path
        The study file and its output folder.
    features : Cache
        Of the models.
    update : bool
        Whether the folder may hold another study.
    workers : int, optional
        Processes of this machine, in the place of a cluster too.
    device, precision : str, optional
        Instead of what ``[compute]`` says.

    Raises
    ------
    TwoBe3Error
        Whatever is wrong with the study file, the table or the output folder.
    """
    require_folder(out)
    folder, study = study_file.parent, read_study(study_file)
    require_own(out, study, update)
    target = study.compute.resolve(device, precision)
    if study.compute.scheduler != "local" and not workers:
        target = target.pin()
    models = study.models(folder, features, target)
    for model in models:
        model.cache_key()  # loads the weights: what is wrong with them is better known before the scans are read
    clinical = study.cohort.read_clinical(folder)
    return PreparedStudy(study, folder, clinical, models, _choose_scheme(study, folder, clinical), target)


def require_own(out: Path, study: StudyConfig, update: bool) -> None:
    """Refuse a folder that holds the results of another study."""
    there = _find_owner(out, update)
    if there not in (None, study.cache_key()) and not update:
        raise ConfigurationError(
            Code.OUTPUT_EXISTS,
            "the output folder holds the results of another study file, or of an earlier state of this one",
            remedy="choose another folder, or add --update to replace them and reuse what both share",
        )


def set_aside_owner(out: Path) -> None:
    """Set a mark aside that cannot be read."""
    if (out / OWNER).exists() and _read_owner(out) == "":
        set_aside(out / OWNER)


def _read_owner(out: Path) -> str | None:
    """The digest in a folder's mark: None where there is no mark, empty where it is damaged."""
    try:
        found = (out / OWNER).read_bytes().strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        return ""
    return found.decode() if re.fullmatch(rb"[0-9a-f]{64}", found) else ""


def _find_owner(out: Path, update: bool) -> str | None:
    """The digest of the study whose results a folder holds: what its mark says, or run.json where that is damaged."""
    marked = _read_owner(out)
    if marked != "":
        return marked
    owner = None
    with suppress(OSError, ValueError, LookupError, TypeError):
        owner = str(json.loads((out / "run.json").read_bytes())["configuration_digest"])
    if owner is None and not update:
        raise EnvironmentFailure(
            Code.ARTEFACT_DAMAGED,
            f"whose results the output folder holds is not known: neither {OWNER} nor run.json can be read",
            remedy="choose another folder, or add --update to replace them and reuse what both share",
        )
    return owner


def _choose_scheme(study: StudyConfig, folder: Path, clinical: ClinicalTable) -> Scheme:
    """The scheme; refuses what the clinical table alone shows to be impossible, before any scan is read."""
    scheme = study.validation.scheme_for(folder, clinical.rows)
    for section in study.endpoint:
        if section.source == "header":
            continue
        endpoint = section.endpoint()
        outcomes = endpoint.outcomes(clinical.rows)
        check_horizons(outcomes, study.horizons().get(endpoint.name, ()))
        if isinstance(scheme, CrossValidation):
            check_patients_for(scheme.folds, outcomes.patients, endpoint)
    return scheme
