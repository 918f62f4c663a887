"""A DICOM node: takes studies by C-STORE, predicts each when it is complete, and stores the results in an archive.

Objects come in threads of pynetdicom; prediction and sending are done in turn by whoever calls :meth:`Node.work`, while
the threads go on receiving.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLELossless,
)

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError, EnvironmentFailure, TwoBe3Error, UnusableScanError
from twobe3.deploy.address import is_loopback
from twobe3.deploy.pacs import ResultStore, import_pynetdicom
from twobe3.deploy.queue import Record, StudyQueue
from twobe3.deploy.results import ResultFiles
from twobe3.dicom.derived import MAKER
from twobe3.dicom.integrity import LARGEST_OBJECT_BYTES, read_whole
from twobe3.dicom.reader import quietly, text
from twobe3.models.registry import read_card
from twobe3.runtime.device import Device
from twobe3.study.predict import PredictedScan, predict

log = logging.getLogger("twobe3")
MOST_ASSOCIATIONS = 8
MOST_ATTEMPTS = 3
"""How often a study is predicted that ends the node or finds no disk."""
MOST_SENDINGS = 5
STORAGE = (
    "PositronEmissionTomographyImageStorage", "EnhancedPETImageStorage", "LegacyConvertedEnhancedPETImageStorage",
    "CTImageStorage", "EnhancedCTImageStorage", "LegacyConvertedEnhancedCTImageStorage",
    "MRImageStorage", "EnhancedMRImageStorage", "NuclearMedicineImageStorage", "SecondaryCaptureImageStorage",
    "MultiFrameGrayscaleByteSecondaryCaptureImageStorage", "MultiFrameGrayscaleWordSecondaryCaptureImageStorage",
    "MultiFrameTrueColorSecondaryCaptureImageStorage", "RTStructureSetStorage", "RTDoseStorage", "RTPlanStorage",
    "SegmentationStorage", "LabelMapSegmentationStorage", "ParametricMapStorage", "RawDataStorage",
    "SpatialRegistrationStorage", "DeformableSpatialRegistrationStorage", "RealWorldValueMappingStorage",
    "GrayscaleSoftcopyPresentationStateStorage", "BlendingSoftcopyPresentationStateStorage",
    "BasicTextSRStorage", "EnhancedSRStorage", "ComprehensiveSRStorage", "Comprehensive3DSRStorage",
    "KeyObjectSelectionDocumentStorage", "XRayRadiationDoseSRStorage",
    "RadiopharmaceuticalRadiationDoseSRStorage", "EncapsulatedPDFStorage",
)  # fmt: skip
"""Storage classes that are accepted, by pynetdicom's names: what PET studies hold. An association has 128 contexts."""
SYNTAXES = [
    ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, *JPEGTransferSyntaxes,
    *JPEGLSTransferSyntaxes, *JPEG2000TransferSyntaxes, RLELossless,
]  # fmt: skip
# Statuses of C-STORE (DICOM PS3.4 B.2.3)
_STORED, _DISCARDED, _OUT_OF_RESOURCES, _NOT_ITS_CLASS, _NOT_UNDERSTOOD = 0x0000, 0xB006, 0xA700, 0xA900, 0xC000


@dataclass
class _Sending:
    """Results that an archive has not taken yet."""

    tries: int = 0
    not_before: float = 0.0


class Node:
    """A DICOM node that predicts the studies which it is sent; it listens from the start until it is closed.

    Parameters
    ----------
    model : path
        A model file, or a folder that holds one.
    folder : path
        Where all is kept; see :class:`~twobe3.deploy.queue.StudyQueue`.
    aet : str
        Its AE title, by which it must be called.
    host, port
        Where it listens; port 0 is a free one.
    allow : collection of str
        AE titles that may call; any by default, which only an address of this machine alone permits.
    archive : Archive or DicomWeb, optional
        Where results are stored.
    quiet_s : float
        Seconds without a new object after which a study is complete.
    retry_s : float
        Seconds until results are sent a second time; twice as many after each try.
    device : Device, optional
        Where networks compute.

    Attributes
    ----------
    port : int
        Where it listens.

    Raises
    ------
    ConfigurationError
        ``NODE_EXPOSED``; ``MODEL_INVALID``.
    EnvironmentFailure
        ``LISTEN_FAILED``; ``NODE_RUNNING``; ``WRITE_FAILED``; ``EXTRA_MISSING``.
    """

    def __init__(
        self,
        model: Path | str,
        folder: Path | str,
        *,
        aet: str = "TWOBE3",
        host: str = "127.0.0.1",
        port: int = 11112,
        allow: Collection[str] = (),
        archive: ResultStore | None = None,
        quiet_s: float = 10.0,
        retry_s: float = 10.0,
        device: Device | None = None,
    ) -> None:
        if not allow and not is_loopback(host):
            raise ConfigurationError(Code.NODE_EXPOSED, f"{host} is no address of this machine alone")
        pynetdicom = import_pynetdicom()
        self._model, self._archive, self._device = Path(model), archive, device
        self._quiet_s, self._retry_s = quiet_s, retry_s
        read_card(self._model)
        self._queue = StudyQueue(Path(folder))
        self._sendings: dict[str, _Sending] = {}
        for record in self._queue.read_all() if archive is not None else ():
            if record.state in ("predicted", "unsent"):
                self._sendings[record.study] = _Sending()
        self._entity = pynetdicom.AE(ae_title=aet)
        self._entity.maximum_associations = MOST_ASSOCIATIONS
        self._entity.require_called_aet = True
        self._entity.require_calling_aet = list(allow)
        self._entity.add_supported_context("1.2.840.10008.1.1")  # Verification
        for name in STORAGE:
            self._entity.add_supported_context(getattr(pynetdicom.sop_class, name), SYNTAXES)
        handlers = [
            (pynetdicom.evt.EVT_C_STORE, self._receive),
            (pynetdicom.evt.EVT_DATA_RECV, _count),
        ]
        try:
            server = self._entity.start_server((host, port), block=False, evt_handlers=handlers)
        except OSError as error:
            self._queue.close()
            raise EnvironmentFailure(Code.LISTEN_FAILED, f"{host} port {port}: {error.strerror}") from None
        self.port = int(server.socket.getsockname()[1])
        log.info("listens as %s at %s port %d", aet, host, self.port)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening; associations are aborted, and what was not answered with success is the sender's again."""
        self._entity.shutdown()
        self._queue.close()

    def run(self) -> NoReturn:
        """Work until a signal ends the process."""
        while True:
            self.work()
            time.sleep(0.2)

    def work(self) -> None:
        """Predict every study that is complete, and send what is to be sent now."""
        for study, arrived in self._queue.find_quiet(self._quiet_s):
            try:
                self._process(study, arrived)
            except EnvironmentFailure as failure:
                log.warning("%s: %s", study, failure)
                self._queue.postpone(study)
        for study, sending in list(self._sendings.items()):
            if time.monotonic() >= sending.not_before:
                try:
                    self._send(study, sending)
                except EnvironmentFailure as failure:  # the state could not be written
                    log.warning("%s: %s", study, failure)
                    sending.not_before = time.monotonic() + self._retry_s

    def _receive(self, event: Any) -> int:
        """Answer a C-STORE; success means that the object is whole and on disk."""
        event.assoc.n_received_bytes = 0
        try:
            content: bytes = event.encoded_dataset()
            with quietly():
                dataset = read_whole(content)
                instance, study = text(dataset, "SOPInstanceUID"), text(dataset, "StudyInstanceUID")
                sop_class, maker = text(dataset, "SOPClassUID"), text(dataset, "Manufacturer")
            request = event.request
            if (instance, sop_class) != (str(request.AffectedSOPInstanceUID), str(request.AffectedSOPClassUID)):
                return _NOT_ITS_CLASS
            if maker == MAKER:  # its own results, which an archive passes on
                return _DISCARDED
            self._queue.store(study, instance, content)
        except UnusableScanError as refusal:
            log.warning("an object was refused: %s", refusal)
            return _NOT_UNDERSTOOD
        except EnvironmentFailure as failure:
            log.warning("an object was refused: %s", failure)
            return _OUT_OF_RESOURCES
        except Exception as error:  # its message may quote a patient's name, and pynetdicom would log it
            log.error("an object was refused: %s (%s)", Code.INTERNAL_ERROR.name, type(error).__name__)
            return _NOT_UNDERSTOOD
        return _STORED

    def _process(self, study: str, arrived: float) -> None:
        """Predict a study unless it was, as it is now."""
        queue = self._queue
        objects, before = queue.digest_objects(study), queue.read(study)
        if before is None or before.digest != objects:
            before = Record(study, objects, "started")
        if before.state != "started" or not queue.list_objects(study):
            queue.settle(study, arrived)
            return
        self._sendings.pop(study, None)
        if before.attempts < MOST_ATTEMPTS:
            record = self._attempt(before)
        else:
            reason = f"the node ended {before.attempts} times while it predicted the study"
            record = replace(before, state="refused", code=Code.WORKER_DIED.name, reason=reason)
        if not queue.is_settled(study, arrived):  # whether the prediction saw what came meanwhile, nobody knows
            return
        queue.write(record)
        queue.settle(study, arrived)
        log.info("%s: %s", study, record.code or record.state)
        if self._archive is not None and record.state == "predicted":
            self._sendings[study] = _Sending()

    def _attempt(self, before: Record) -> Record:
        """Predict a study, and count that it was tried, unless a signal ends it: that is no fault of the study."""
        started = replace(before, attempts=before.attempts + 1)
        self._queue.write(started)
        try:
            return self._predict(started)
        except (KeyboardInterrupt, SystemExit):
            self._queue.write(before)
            raise

    def _predict(self, started: Record) -> Record:
        """What becomes of a study; raises EnvironmentFailure where another attempt may do."""
        folder = self._queue.make_results_folder(started.study, started.digest)
        write, digests = ResultFiles(folder, folder, folder), [""]

        def keep(predicted: PredictedScan) -> None:
            digests.append(predicted.model_digest)
            write(predicted)

        def refuse(code: str, reason: str) -> Record:
            return replace(started, state="refused", code=code, reason=reason)

        try:
            found = predict(self._model, self._queue.list_objects(started.study), device=self._device, each=keep)
        except EnvironmentFailure as failure:
            if started.attempts < MOST_ATTEMPTS:
                raise
            return refuse(failure.code.name, failure.reason)
        except TwoBe3Error as refusal:
            return refuse(refusal.code.name, refusal.reason)
        except Exception as error:  # one study must not end the node
            return refuse(Code.INTERNAL_ERROR.name, type(error).__name__)
        rows = tuple(one.to_json() for one in found.predictions)
        if not found.usable:
            code = next((one.code for one in found.predictions if one.code), Code.NOTHING_USABLE.name)
            return replace(refuse(code, Code.NOTHING_USABLE.summary), predictions=rows)
        files = tuple(str(path.relative_to(self._queue.folder)) for path in sorted(folder.iterdir()))
        return replace(started, state="predicted", model_digest=digests[-1], predictions=rows, files=files)

    def _send(self, study: str, sending: _Sending) -> None:
        """Send the results of a study; after the last try it waits for the next start."""
        record = self._queue.read(study)
        assert record is not None
        assert self._archive is not None
        files = [self._queue.folder / name for name in record.files]
        try:
            if not all(file.is_file() for file in files):
                raise EnvironmentFailure(Code.SEND_FAILED, "a result is no longer on disk")
            self._archive.store(files)
        except EnvironmentFailure as failure:
            sending.tries += 1
            log.warning("%s: %s", study, failure)
            if sending.tries < MOST_SENDINGS:
                sending.not_before = time.monotonic() + self._retry_s * 2 ** (sending.tries - 1)
                return
            after = replace(record, state="unsent", code=failure.code.name, reason=failure.reason)
        else:
            log.info("%s: sent", study)
            after = replace(record, state="sent", code=None, reason=None)
        self._queue.write(after)
        del self._sendings[study]


def _count(event: Any) -> None:
    """Abort an association whose object grows too large, before it is held whole."""
    association = event.assoc
    association.n_received_bytes = getattr(association, "n_received_bytes", 0) + len(event.data)
    if association.n_received_bytes > LARGEST_OBJECT_BYTES:
        log.warning("an association was aborted: %s", Code.TOO_LARGE.name)
        association.abort()
