"""Which PET series are in a folder: headers only, grouped by their identifiers, never by names of files."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Generic, TypeVar

import pydicom

from twobe3.core.codes import Code
from twobe3.core.counts import format_count
from twobe3.core.errors import EmptyInputError, Exclusion, UnusableScanError
from twobe3.dicom import enhanced
from twobe3.dicom.archive import list_inputs
from twobe3.dicom.attributes import SliceAttributes
from twobe3.dicom.covariates import keep_agreed, read_covariates
from twobe3.dicom.ct_series import CTSeries, choose_ct, describe_ct, refuse_ct
from twobe3.dicom.instance import DRAWN, Frames, Instance, read_instance, separate_copies
from twobe3.dicom.reader import first_item, quietly, read_dataset, text, texts
from twobe3.dicom.slices import hold_one_image
from twobe3.dicom.tracer import read_tracer
from twobe3.dicom.walk import map_files, size_of
from twobe3.io.files import digest, digest_file
from twobe3.io.pseudonym import pseudonym
from twobe3.runtime.progress import track

Series = TypeVar("Series")


@dataclass(frozen=True)
class ChosenFrame:
    """Which slices of a dynamic or gated series make up the frame that was chosen.

    Attributes
    ----------
    text : str
        Its number, of how many, in which order.
    slices : frozenset of (Path, int)
        File, and number of the slice in the file, from 0.
    ends : tuple of SliceAttributes
        The slices of the whole series that were acquired first and last.
    """

    text: str
    slices: frozenset[tuple[Path, int]] = field(repr=False)
    ends: tuple[SliceAttributes, ...]


@dataclass(frozen=True)
class PETSeries:
    """One PET series, under pseudonyms.

    Attributes
    ----------
    patient, study, series : str
        Pseudonymous ids.
    patient_id : str
        The real PatientID, which joins the clinical table; never printed, logged or written.
    files, contours : tuple of Path
        Its images, each once, in an order that depends on their headers only; RTSTRUCT and SEG files of the patient
        that reference the series, and after them those that lie in its frame of reference. Among equals RTSTRUCT comes
        before SEG, then the digest of the header decides.
    manufacturer, model, tracer, units, decay_correction : str
        As the header says.
    corrections : tuple of str
        CorrectedImage (0028,0051).
    covariates : mapping
        Those of ``age_years``, ``sex``, ``weight_kg``, ``height_m`` that the header carries.
    header_digest : str
        Of the headers of its files, the same wherever and under whatever names they lie.
    slices : int
        Number of its slices: files, or frames of enhanced objects.
    frames : {"static", "dynamic", "gated", "multi-frame"}
        Only static series become volumes; ``"multi-frame"`` where the frames of an object are not described.
    coverage_mm : float
        From the first to the last slice along the normal.
    chosen : ChosenFrame or None
        Of a dynamic or gated series, the frame that was chosen, which counts as static.
    body_part : str
        BodyPartExamined (0018,0015), which often names the site of the disease.
    copies : mapping of Path to tuple of Path
        Other files with the SOPInstanceUID of one of ``files``; they are compared with it when it is read.
    ct : CTSeries, Exclusion or None
        The CT that goes with it, see :func:`~twobe3.dicom.ct_series.choose_ct`; why what lies beside it cannot; None
        where there is nothing like it.
    """

    patient: str
    study: str
    series: str
    patient_id: str = field(repr=False)
    files: tuple[Path, ...] = field(repr=False)
    contours: tuple[Path, ...] = field(repr=False)
    manufacturer: str
    model: str
    tracer: str
    units: str
    decay_correction: str
    corrections: tuple[str, ...]
    covariates: Mapping[str, float | str] = field(hash=False)
    header_digest: str
    slices: int
    frames: Frames = "static"
    coverage_mm: float = 0.0
    chosen: ChosenFrame | None = None
    body_part: str = ""
    copies: Mapping[Path, tuple[Path, ...]] = field(default_factory=dict, hash=False, repr=False)
    ct: CTSeries | Exclusion | None = None

    @cached_property
    def content_digest(self) -> str:
        """Digest of the content of its files and their copies, which are read whole when it is first asked for."""
        frame = [self.chosen.text] if self.chosen else []
        files = (*self.files, *(path for paths in self.copies.values() for path in paths))
        return digest([*sorted(set(map(digest_file, files))), *frame])


@dataclass(frozen=True)
class Unused:
    """Files that were found and not used, and why.

    Attributes
    ----------
    exclusion : Exclusion
        For instance ``NOT_PET`` for a series of another modality, ``CORRUPT_FILE`` for a file.
    modality : str
        Modality (0008,0060); empty where it is not known.
    files : tuple of Path
    patient_id : str
        The real PatientID where it is known; never printed or logged.
    """

    exclusion: Exclusion
    modality: str = ""
    files: tuple[Path, ...] = field(default=(), repr=False)
    patient_id: str = field(default="", repr=False)


@dataclass(frozen=True)
class SearchResult(Generic[Series]):
    """What a search found: series that are used and things that are not, each with the reason.

    Attributes
    ----------
    series : tuple
        The series that are used, in an order that does not depend on the names of files.
    unused : tuple of Unused
        Other series, and files that cannot be read. What belongs to a series is used: a structure set, segmentation
        or mask is among its contours, a CT stands as its ``ct``.
    n_series : int
        Series of every modality.
    patients : frozenset of str
        Pseudonyms of everybody of whom there is a PET series, usable or not.
    n_files, n_other_files : int
        All files; those of them that are no images: other formats, directories of media, links that lead nowhere.
    """

    series: tuple[Series, ...]
    unused: tuple[Unused, ...]
    n_series: int
    patients: frozenset[str]
    n_files: int = 0
    n_other_files: int = 0

    def __len__(self) -> int:
        return len(self.series)

    def __getitem__(self, index: int) -> Series:
        return self.series[index]

    @property
    def exclusions(self) -> tuple[Exclusion, ...]:
        """Why each of ``unused`` is not used."""
        return tuple(unused.exclusion for unused in self.unused)


def find_series(
    paths: Path | str | Sequence[Path | str], *, progress: bool = False, threads: int | None = None
) -> SearchResult[PETSeries]:
    """Find the PET series at or below some paths.

    Files are grouped by patient, study, SeriesInstanceUID and frame of reference; the order of what is returned
    does not depend on the files' names. Symbolic links are followed; a file that several lead to is one file.

    Parameters
    ----------
    paths : path or sequence of path
        Folders, zip files, files, or a DICOMDIR, of which the files that it names are taken.
    progress : bool
        Whether a progress bar is shown on standard error.
    threads : int, optional
        How many headers are read at once, which changes nothing else; by default one, or
        :data:`~twobe3.dicom.walk.THREADS` where the storage makes each file wait, as network drives do.

    Raises
    ------
    ConfigurationError
        A path does not exist.
    EnvironmentFailure
        ``WRITE_FAILED``: there is no space to unpack a zip file.
    """
    roots = [Path(paths)] if isinstance(paths, str | Path) else [Path(path) for path in paths]
    listing, not_followed = list_inputs(roots)
    read = map_files(_read_instance, listing.files, threads=threads)
    with quietly(), closing(read):
        outcomes = list(track(read, "Reading headers", total=len(listing.files), shown=progress))
    instances = sorted((one for one in outcomes if isinstance(one, Instance)), key=lambda one: one.digest)
    refused = [*not_followed, *zip(listing.files, outcomes, strict=True)]
    corrupt = [Unused(Exclusion.of(why), "", (path,)) for path, why in refused if isinstance(why, UnusableScanError)]
    pet = _group(i for i in instances if i.is_pet)
    structures = [i for modality in DRAWN for i in instances if i.modality == modality]
    contours = {key: _find_contours(group[0], structures) for key, group in pet.items()}
    used = {structure.path for found in contours.values() for structure in found}
    cts = [(group[0], describe_ct(group)) for group in _group(i for i in instances if i.is_ct).values()]
    beside = {key: choose_ct(group, cts, instances) for key, group in pet.items()}
    used |= {path for ct in beside.values() if isinstance(ct, CTSeries) for path in _all_files(ct)}
    others = _group(i for i in instances if not i.is_pet and i.path not in used)
    times = Counter(series for _, _, series, _ in pet)
    series: list[PETSeries] = []
    for key, group in pet.items():
        try:
            ct = beside[key]
            series.append(
                replace(
                    _describe(group, contours[key], times[key[2]] > 1),
                    ct=refuse_ct(ct, group[0]) if isinstance(ct, UnusableScanError) else ct,
                )
            )
        except UnusableScanError as error:
            exclusion = Exclusion.of(error, patient=pseudonym("patient", group[0].patient))
            corrupt.append(Unused(exclusion, "PT", tuple(one.path for one in group), group[0].patient))
    unused = [_describe_other(group) for group in others.values()]
    corrupt.sort(key=lambda one: (one.exclusion.reason, size_of(one.files[0])))
    if listing.broken:
        lead = format_count(len(listing.broken), "symbolic link leads", "symbolic links lead")
        lost = UnusableScanError(Code.LINK_BROKEN, f"{lead} nowhere")
        corrupt.append(Unused(Exclusion.of(lost), "", listing.broken))
    return SearchResult(
        tuple(series),
        (*unused, *corrupt),
        n_series=len(series) + len(unused),
        patients=frozenset(one.patient for one in series),
        n_files=len(listing.files) + len(not_followed) + len(listing.broken) + listing.n_other,
        n_other_files=len(listing.broken) + listing.n_other + outcomes.count(None),
    )


def _read_instance(path: Path) -> Instance | UnusableScanError | None:
    try:
        return read_instance(path)
    except UnusableScanError as error:
        return error


def require_pet(found: SearchResult[PETSeries]) -> None:
    """Refuse a folder without any PET series: EmptyInputError ``NO_PET``, saying what was there instead."""
    if not found.series:
        names = {Code.LINK_BROKEN.name: "links that lead nowhere"}
        kinds = sorted({one.modality or names.get(one.exclusion.code, "corrupt") for one in found.unused})
        there = f"; there is {', '.join(kinds)}" if kinds else ""
        raise EmptyInputError(Code.NO_PET, f"none of {found.n_files} files belongs to a PET series{there}")


def choose_series(series: Iterable[PETSeries]) -> tuple[tuple[PETSeries, ...], tuple[Exclusion, ...]]:
    """One series of each patient: attenuation corrected and static, of these the longest, then the finest.

    Length along the body counts in steps of 1 cm; then the number of slices; then the digest of the headers,
    which is the same on every machine.

    Returns
    -------
    chosen : tuple of PETSeries
        In the order given.
    exclusions : tuple of Exclusion
        Every other series, as ``NOT_ATTN``, ``NOT_STATIC``, ``MULTI_FRAME`` or ``NOT_CHOSEN``.
    """
    series = tuple(series)
    best: dict[str, PETSeries] = {}
    obstacles = {one.series: find_obstacle(one) for one in series}
    for one in series:
        if obstacles[one.series] is None and (one.patient not in best or _rank(one) > _rank(best[one.patient])):
            best[one.patient] = one
    exclusions = []
    for one in series:
        error = obstacles[one.series]
        if error is None and best[one.patient].series != one.series:
            error = UnusableScanError(Code.NOT_CHOSEN, f"{best[one.patient].series} of the same patient was chosen")
        if error is not None:
            exclusions.append(Exclusion.of(error, patient=one.patient, series=one.series))
    return tuple(one for one in series if best.get(one.patient) is one), tuple(exclusions)


def find_obstacle(series: PETSeries) -> UnusableScanError | None:
    """Why a series cannot become a volume, as far as its headers tell; None where nothing speaks against it."""
    if series.frames == "multi-frame":
        return UnusableScanError(Code.MULTI_FRAME, "its frames are not described one by one")
    if series.frames != "static":
        return UnusableScanError(Code.NOT_STATIC, f"the series is {series.frames}")
    if "ATTN" not in series.corrections:
        return UnusableScanError(Code.NOT_ATTN, "CorrectedImage (0028,0051) lacks ATTN")
    return None


def _rank(series: PETSeries) -> tuple[int, int, str]:
    return round(series.coverage_mm / 10), series.slices, series.header_digest


def _group(instances: Iterable[Instance]) -> dict[tuple[str, str, str, str], list[Instance]]:
    """Groups in the order of their keys; a series that is neither PET nor CT is one group whatever its frames."""
    groups: defaultdict[tuple[str, str, str, str], list[Instance]] = defaultdict(list)
    for one in instances:
        groups[one.patient, one.study, one.series, one.frame_of_reference if one.is_pet or one.is_ct else ""].append(
            one
        )
    return dict(sorted(groups.items()))


def _all_files(ct: CTSeries) -> tuple[Path, ...]:
    return (*ct.files, *(path for paths in ct.copies.values() for path in paths))


def _find_contours(image: Instance, structures: Iterable[Instance]) -> tuple[Instance, ...]:
    structures = [one for one in structures if one.patient == image.patient]
    direct = [one for one in structures if image.series in one.referenced]
    frame = image.frame_of_reference
    return (*direct, *(one for one in structures if one not in direct and frame and frame in one.referenced))


def _describe(files: Sequence[Instance], contours: Sequence[Instance], shared_uid: bool) -> PETSeries:
    group, copies = separate_copies(files)
    first = group[0]
    places: defaultdict[float | None, list[tuple[Path, int]]] = defaultdict(list)
    for one in group:
        for i, place in enumerate(one.places_mm):
            places[place].append((one.path, i))
    repeated = first.frames == "static" and None not in places and min(map(len, places.values())) > 1
    known = [place for place in places if place is not None]
    identity = "\0".join((first.patient, first.study, first.series, first.frame_of_reference))
    with quietly():
        dataset = _read_first_header(group)
        return PETSeries(
            patient=pseudonym("patient", first.patient),
            study=pseudonym("study", first.study),
            series=pseudonym("series", identity if shared_uid else first.series),
            patient_id=text(dataset, "PatientID"),
            files=tuple(one.path for one in group),
            contours=tuple(one.path for one in contours),
            manufacturer=text(dataset, "Manufacturer"),
            model=text(dataset, "ManufacturerModelName"),
            tracer=read_tracer(first_item(dataset, "RadiopharmaceuticalInformationSequence")),
            units=text(dataset, "Units"),
            decay_correction=text(dataset, "DecayCorrection"),
            corrections=texts(dataset, "CorrectedImage"),
            covariates=keep_agreed(read_covariates(dataset), copies.get(first.path, ())),
            header_digest=digest(sorted({one.digest for one in group})),
            slices=sum(len(one.places_mm) for one in group),
            frames="dynamic" if repeated and not hold_one_image(places.values()) else first.frames,
            coverage_mm=max(known) - min(known) if known else 0.0,
            body_part=text(dataset, "BodyPartExamined"),
            copies=copies,
        )


def _read_first_header(group: Sequence[Instance]) -> pydicom.Dataset:
    """Header of the first file that can be read whole; of its first frame, where it has several."""
    for instance in group:
        try:
            dataset = read_dataset(instance.path)
        except UnusableScanError as error:
            failed = error
            continue
        return dataset if instance.frames == "multi-frame" else enhanced.split_frames(dataset)[0]
    raise failed


def _describe_other(group: Sequence[Instance]) -> Unused:
    first = group[0]
    reason = f"{format_count(len(group), 'file')} of modality {first.modality}"
    if first.modality == "PT":
        reason += ", but not of a PET image class"
    if first.modality == "CT":
        reason += ", not the CT of a PET" if first.is_ct else ", but no slices: localisers, projections or captures"
    exclusion = Exclusion.of(
        UnusableScanError(Code.NOT_PET, reason),
        patient=pseudonym("patient", first.patient),
        series=pseudonym("series", first.series),
    )
    return Unused(exclusion, first.modality, tuple(one.path for one in group), first.patient)
