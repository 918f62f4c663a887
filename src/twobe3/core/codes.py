"""The stable codes of every refusal, each with its remedy."""

from __future__ import annotations

from enum import Enum


class Code(Enum):
    """The stable codes. The member's name is the code; its value is the meaning and the usual remedy."""

    # -- what is in the folder
    NO_PET = ("no PET series was found", "check the path; CT, MR and secondary captures are not PET")
    NOTHING_USABLE = ("no series in the input can be used", "see the reason listed with each series")
    CORRUPT_FILE = ("a file is truncated or is not what it says", "export the series again")
    LINK_BROKEN = ("a symbolic link leads nowhere", "mount or restore what it leads to, or remove the link")
    FILE_META_MISSING = (
        "a file has no preamble or no file meta information",
        "nothing to do: it is read; tools that insist on them need it stored again",
    )
    NOT_PET = (
        "the series is of another modality, or a CT that goes with no PET",
        "nothing to do: only PET series, and the CT of each, are used",
    )
    NOT_ATTN = ("the series is not attenuation corrected", "use the attenuation-corrected reconstruction")
    NOT_STATIC = ("the series is dynamic or gated", "convert one frame of it, with --frame, or export a static one")
    NOT_CHOSEN = ("another series of the patient was chosen", "name the series to use another one")
    MULTI_FRAME = ("a multi-frame object does not describe its frames", "export it as single-frame PET images")
    CODEC_MISSING = ("the pixel data need a decoder that is not installed", "pip install 'twobe3[codecs]'")
    CONTOUR_NOT_IN_VIEW = (
        "what is drawn lies outside the field of view of the model",
        "widen `volume.field_of_view_mm` of the study and train again; the map is not compared with the contour",
    )
    # -- geometry
    GEOMETRY_MIXED = ("rows, columns, spacing or orientation differ within the series", "split the series")
    SLICE_GAP = ("a slice is missing", "export the whole series again")
    SLICE_DUPLICATE = ("two different slices share one position", "split the series by acquisition")
    INSTANCE_CONFLICT = (
        "two files with one SOPInstanceUID hold different images",
        "keep the right one: a changed image needs an identifier of its own",
    )
    SHEARED = ("the slice positions are not perpendicular to the slices", "resample the series before import")
    AFFINE_INVALID = ("the header does not say where the voxels lie", "write the image with a valid sform or qform")
    TOO_LARGE = ("a file announces, or unpacks to, more than any scan holds", "check the file")
    # -- from stored values to SUV
    NOT_DECAY_CORRECTED = ("decay correction is announced but was not applied", "reconstruct with decay correction")
    RESCALE_INVALID = ("rescale slope or intercept is not valid for PET", "export the series again")
    UNITS_UNSUPPORTED = ("the unit cannot be converted to SUV", "reconstruct in BQML")
    SUV_TYPE_UNSUPPORTED = ("the SUV type is not known", "export as BQML or SUV body weight")
    NO_SCALE_FACTOR = ("Philips counts without their private scale factor", "export without removing private tags")
    WEIGHT_MISSING = ("the patient's weight is missing or not positive", "complete PatientWeight (0010,1030)")
    WEIGHT_IMPLAUSIBLE = ("the patient's weight is no person's in kilograms", "correct PatientWeight (0010,1030)")
    HEIGHT_MISSING = ("the patient's height is needed and missing", "complete PatientSize (0010,1020)")
    HEIGHT_IMPLAUSIBLE = ("the patient's height is not in metres", "correct PatientSize (0010,1020)")
    SEX_MISSING = ("the patient's sex is needed and missing", "complete PatientSex (0010,0040)")
    DOSE_MISSING = ("the injected dose is missing or not positive", "complete RadionuclideTotalDose (0018,1074)")
    DOSE_IMPLAUSIBLE = ("the injected dose is not usual or not in Bq", "correct RadionuclideTotalDose (0018,1074)")
    SEVERAL_INJECTIONS = (
        "the header lists several injections",
        "keep the items of RadiopharmaceuticalInformationSequence (0054,0016) whose tracer was imaged",
    )
    HALF_LIFE_MISSING = (
        "the half-life is missing and the nuclide unknown",
        "complete RadionuclideHalfLife (0018,1075)",
    )
    TIMES_MISSING = ("a time needed for the decay is missing", "export without removing the times")
    TIMES_INCONSISTENT = ("injection and acquisition times contradict each other", "correct the dates; one was shifted")
    # -- the CT beside a PET
    CT_MISSING = (
        "no CT lies beside the PET",
        "put the CT of the examination beside the PET; models that see the PET alone use the scan",
    )
    NOT_CT = (
        "what lies beside the PET in place of a CT is of another modality",
        "models that see the PET alone use the scan",
    )
    CT_PATIENT = (
        "the CT beside the PET is of another patient",
        "check PatientID (0010,0020) of both; models that see the PET alone use the scan",
    )
    CT_FRAME = (
        "the CT lies in another frame of reference than the PET",
        "export the CT of the same examination, or register it to the PET",
    )
    HU_MISSING = (
        "the header does not say how stored values become Hounsfield units",
        "export the CT again, with RescaleSlope and RescaleIntercept of type HU",
    )
    HU_IMPLAUSIBLE = (
        "the numbers are no Hounsfield units of a body",
        "check RescaleSlope (0028,1053) and RescaleIntercept (0028,1052) of the CT",
    )
    CT_OUTSIDE = ("the CT covers too little of the PET", "put the CT of the whole examination beside the PET")
    CT_MISALIGNED = (
        "the bodies in PET and CT do not lie over each other",
        "check that both are of one examination; models that see the PET alone use the scan",
    )
    # -- SUV volumes that were converted already
    SIDECAR_MISSING = (
        "a NIfTI file has no JSON beside it that says what its numbers are",
        'if they are SUV by body weight, write {"calibration": {"type": "bw"}, "patient_id": "…"} beside it',
    )
    SIDECAR_INVALID = (
        "the JSON beside a NIfTI file does not say what is needed",
        "correct it; docs/reference/input.md has its keys",
    )
    VOXELS_INVALID = ("voxels are not finite, or none is above 0", "convert the scan again")
    # -- contours
    CONTOUR_MISSING = ("nobody drew a region on the scan", "add one, or choose another region")
    CONTOUR_EMPTY = ("nothing is drawn in the file of the contour", "draw the region, or choose another one")
    CONTOUR_OUTSIDE = ("no voxel of the scan lies in what is drawn", "check that the contour belongs to this scan")
    CONTOUR_FRAME = ("the contour lies in another frame of reference than the scan", "draw it on the PET series")
    CONTOUR_UNUSABLE = ("the contour cannot be brought onto the scan", "check the RTSTRUCT, SEG or mask")
    CONTOUR_OVERLAP = (
        "contours of one region repeat or overlap each other",
        "look at the region; the note says what was done",
    )
    CONTOUR_PLANES = ("a region lacks planes, or has single ones", "look at the region; the note says what was done")
    CONTOUR_UNUSED = ("something that was drawn is not used", "look at the file of the contour")
    REGION_EMPTY = ("the region has no voxel", "lower the threshold, or choose another region")
    REGION_TOO_SMALL = ("the region is too small for its texture to be described", "check the contour")
    REGION_CONSTANT = ("the region has one SUV throughout, so it has no texture", "check the contour and the scan")
    FEATURE_UNDEFINED = ("a feature is not defined in most of the patients", "nothing to do: the others are used")
    LIVER_NOT_FOUND = ("the liver was not found with certainty", "use a fixed threshold, or a scan of the whole trunk")
    # -- new scans, compared with those that a model was trained on
    SCAN_CONSTANT = ("every voxel of the scan has one value", "export the scan again; there is no image in it")
    SUV_IMPLAUSIBLE = (
        "the numbers are no SUV of a body",
        "check units, dose and weight; CT numbers and activities are no SUV",
    )
    TRACER_OTHER = (
        "the scan is of another tracer than those that the model knows",
        "take a model of that tracer; --force (force=true) predicts all the same",
    )
    TOO_FEW_SLICES = (
        "the scan has too few slices for the model's grid",
        "export the whole series; --force (force=true) predicts all the same",
    )
    SPACING_OUTSIDE = (
        "the voxels are much finer or coarser than those that the model was trained on",
        "take a reconstruction like those of its card; --force (force=true) predicts all the same",
    )
    VIEW_OUTSIDE = (
        "the field of view is much smaller or larger than those that the model was trained on",
        "cut or scan as for its card (`twobe3 card`); --force (force=true) predicts all the same",
    )
    UNUSUAL_SCAN = (
        "the scan is farther from the training scans than 95 % of them from each other",
        "look at the scan and at the card; the prediction is less certain than usual",
    )
    TRACER_UNKNOWN = ("the tracer is not known", "make sure that it is one that the model knows (`twobe3 card`)")
    UPTAKE_TIME_OUTSIDE = (
        "the uptake time lies outside those of the training",
        "read the prediction with care: SUV rise or fall with time",
    )
    TRAINING_PATIENT = (
        "the scan is one of those that the model was trained on",
        "count it in no evaluation: the model has seen its outcome",
    )
    # -- the table and the study file
    TABLE_UNREADABLE = ("the clinical table cannot be read", "save it as a comma-separated text with a header line")
    COLUMN_MISSING = ("the clinical table lacks a column", "name one of its columns")
    COVARIATE_INVALID = (
        "a column of the clinical table can't be a covariate",
        "correct its cells, or take it out of `cohort.covariates`",
    )
    PATIENT_NOT_IN_TABLE = ("a scanned patient is not in the clinical table", "add the patient or correct the id")
    PATIENT_NOT_SCANNED = ("a patient of the clinical table has no usable scan", "add the scan or correct the id")
    PATIENT_TWICE = ("a patient stands twice in the clinical table", "keep one row for each patient")
    NO_PATIENT_MATCHES = ("no scanned patient is in the clinical table", "compare PatientID with the table's column")
    OUTCOME_MISSING = ("the outcome of a patient is empty", "complete the table")
    OUTCOME_INVALID = ("an outcome has a value that its kind does not allow", "correct the rows named")
    DATE_INVALID = (
        "a column of dates holds something else, or a date that could mean two days",
        "write dates as 2019-12-31, or say how they are written with `date_format`",
    )
    ONE_CLASS = ("every patient has the same outcome", "a model needs both; check the column")
    FEW_EVENTS = (
        "an endpoint has fewer than 10 events",
        "keep to models of few parameters, and read their intervals; `events_per_parameter` is in run.json",
    )
    FEWER_PATIENTS_THAN_FOLDS = ("there are fewer patients than folds", "lower `folds`")
    DUPLICATE_SCAN = (
        "a scan is in both cohorts",
        "nothing to do: it is not evaluated; a scan that trained can't also test",
    )
    TOO_FEW_CENTRES = ("the scheme needs at least two centres", "name the table's column in `cohort.centre`")
    SPLIT_INVALID = (
        "the named split does not fit the cohort",
        "correct `train` and `test`, or the column of the split",
    )
    FEWER_EVENTS_THAN_FOLDS = ("there are fewer patients of one class than folds", "lower `folds`")
    STUDY_FILE_INVALID = ("the study file is not valid", "compare with examples/sts.toml")
    UNKNOWN_KEY = ("the study file has an unknown key", "use the key named")
    UNKNOWN_NAME = ("there is no such model, backbone or metric", "`twobe3 list` names them")
    OUTPUT_ENDING = ("predictions are written as .csv or .json", "end the file's name in one of them")
    OUTPUT_EXISTS = ("the output folder holds another study, or is a file", "choose another folder")
    FOLDS_MISMATCH = ("the folds are not the saved ones", "predict each patient in the saved fold, or give no folds")
    PREDICTION_INVALID = ("the predictions are not usable", "correct the rows named")
    HORIZON_INVALID = (
        "a horizon is not a time at which the endpoint can be evaluated",
        "give times above 0 in the endpoint's unit",
    )
    # -- public collections
    NETWORK_MISSING = (
        "the server of the images cannot be reached",
        "connect this machine, or name another server; the same command goes on where it stopped",
    )
    DISK_SPACE = ("the disk has too little room", "free it, choose another folder, or fetch a smaller manifest")
    FETCH_FAILED = ("a series could not be fetched whole", "run the command again: it fetches only what lacks")
    MANIFEST_INVALID = ("the manifest of series is not valid", "make it with `twobe3 collections plan`")
    MANIFEST_EDITED = ("the manifest is not as it was planned", "plan again, or accept it as it is with --allow-edited")
    COLLECTION_UNKNOWN = ("there is no such collection with PET", "`twobe3 collections list` names them")
    COLLECTION_ELSEWHERE = (
        "the images of a collection must be downloaded by hand",
        "`twobe3 collections list` has the steps",
    )
    LICENCE_FORBIDS = ("the licence of a collection is not permissive", "leave it out, or take --license any")
    TOO_FEW_SCANS = ("fewer scans are left than were asked for", "lower --min-scans, or leave out a restriction")
    INDEX_INVALID = (
        "the index of public series cannot be read",
        "install it again: pip install --force-reinstall idc-index-data",
    )
    # -- weights, files, optional parts
    WEIGHTS_MISSING = ("the weights of the 2D network cannot be had", "give `weights` a local file")
    WEIGHTS_MISMATCH = ("the weights do not fit the network", "name the backbone that the weights were made for")
    EXTRA_MISSING = ("an optional part is not installed", "install the extra named")
    PLUGIN_INVALID = (
        "a model, backbone, metric or collection of another distribution cannot be used",
        "update that distribution, or uninstall it",
    )
    MODEL_INVALID = ("the model file cannot be used", "save it again with this version")
    KEY_EXPOSED = (
        "others than its owner may read the pseudonym key, and so compute whose pseudonym is whose",
        "let its owner alone read it: chmod 600",
    )
    ARTEFACT_DAMAGED = ("a stored file does not match its checksum", "delete it; it will be made again")
    ARTEFACT_MISSING = ("the study folder lacks a file", "run the study: `twobe3 run` writes it")
    WORKER_DIED = ("a worker process ended unexpectedly, most often for lack of memory", "run with fewer --workers")
    CLUSTER_LOST = (
        "the cluster is gone, or does not take tasks",
        "run the same command again when it is there: what was computed is kept",
    )
    CLUSTER_UNFIT = (
        "a worker of the cluster cannot give the results that this process would",
        "give workers, scheduler and this process one environment and one file system",
    )
    DEVICE_MISSING = ("the device that was asked for is not there", 'take device "auto" or "cpu"; see `twobe3 doctor`')
    GPU_MEMORY = (
        "the memory of the GPU does not suffice",
        'run with fewer --workers, a smaller `batch_size`, or device "cpu"',
    )
    WRITE_FAILED = ("a file could not be written", "free disk space or choose another folder")
    INTERNAL_ERROR = ("twobe3 failed where it should not", "report this line; it holds nothing of a patient")
    NO_PATHWAY = (
        "no gradient leads from the voxels to the risk of this model",
        "explain one of the kinds 2be3-net, cnn2d, cnn3d and pooled; contributions of features and members need no map",
    )
    NOT_EXPORTABLE = (
        "this model cannot become a file of another runtime",
        "export one of the kinds 2be3-net, cnn2d, cnn3d and pooled that sees PET alone; `twobe3 predict` applies all",
    )
    EXPORT_DIFFERS = (
        "the exported file does not predict what the model does, so it was not written",
        "report this line with the versions that `twobe3 doctor` names",
    )
    GRID_MISMATCH = ("the scan is on another grid than the model saw", "read it on the grid of the model")
    NO_DICOM_SOURCE = (
        "the scan is no DICOM, so nothing can be made for its study",
        "give the DICOM files of the scan for results in DICOM",
    )
    # -- the DICOM node and the page
    NODE_EXPOSED = (
        "a server that other machines can reach must say who may use it",
        "name their AE titles with --allow, or leave out --host",
    )
    NODE_RUNNING = ("another server works in the folder", "stop it, or choose another folder")
    LISTEN_FAILED = ("the server cannot listen at its address", "choose another --port or --host")
    TOKEN_INVALID = (
        "the token of the server cannot be read, or is too short to keep anybody out",
        "write 24 characters or more, for instance from `openssl rand -hex 24`, into a file that only you may read",
    )
    TOKEN_REFUSED = ("the request has no token, or another one than the server's", "log in, or send the server's token")
    ORIGIN_REFUSED = (
        "the request came under a foreign name, or from a page of somebody else",
        "open the page at the address that the server told, and send from there",
    )
    UPLOAD_INVALID = ("the upload is not a form with a model and files", "send `model` once and `files` once or more")
    UPLOAD_SLOW = ("the upload did not arrive in time", "send less at once, or over a faster line")
    QUEUE_FULL = ("as many predictions wait as may", "send it again after the time that Retry-After tells")
    NOT_FOUND = ("there is nothing under this address, or no longer", "results are deleted after a time: upload again")
    TIME_LIMIT = (
        "the prediction took longer than it may",
        "upload one scan at a time, or start the server with a longer --time-limit",
    )
    SEND_FAILED = (
        "the archive did not take the results, which stay on disk",
        "check the address and the archive; a node tries again when it is started again",
    )
    # -- an archive by DICOMweb
    URL_INVALID = (
        "the address is none of a DICOMweb service",
        "give its root, for instance https://pacs.example.org/dicom-web, and credentials apart from it",
    )
    CREDENTIALS_INVALID = (
        "the credentials cannot be used",
        "write user:password or Bearer TOKEN into a file that only you may read (chmod 600)",
    )
    CREDENTIALS_EXPOSED = ("credentials would cross the network unencrypted", "give an https address")
    ARCHIVE_UNREACHABLE = ("the archive cannot be reached", "check the address, the network, and that it runs")
    ACCESS_DENIED = ("the archive denies access", "check the credentials, and what they permit")
    ANSWER_INVALID = ("the archive's answer is not DICOMweb", "check that the address is the root of the service")
    STUDY_MISSING = (
        "the archive has no such study",
        "check the StudyInstanceUID, and that the address is the root of the service",
    )
    # -- networks
    LAYER_OUT_OF_RANGE = ("the 2D network has no such layer", "choose one of the layers named")

    def __init__(self, summary: str, remedy: str) -> None:
        self.summary = summary
        self.remedy = remedy
