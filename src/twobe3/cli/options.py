"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from twobe3.dicom.attributes import Policy

# The same as in modules that are too slow to import for `--help`; a test compares them.
Unit = Literal["day", "week", "month", "year"]
SUVType = Literal["bw", "lbm-james", "lbm-morgan", "lbm-janma", "ibw", "bsa"]
DeviceName = Literal["auto", "cpu", "cuda"]
Method = Literal["integrated-gradients", "grad-cam", "occlusion"]
Precision = Literal["auto", "32", "bf16"]
DeviceOption = Annotated[
    DeviceName | None, typer.Option(help="Where networks compute; auto, the default, is a GPU if there is one.")
]
PrecisionOption = Annotated[Precision | None, typer.Option(help="Of training; bf16 is mixed.")]
PolicyOption = Annotated[
    Policy, typer.Option(help="lenient applies the documented repairs and records them; strict refuses them.")
]
RepairDates = Annotated[
    bool,
    typer.Option("--repair-dates", help="Take an injection on a date that cannot be at its time of day (recorded)."),
]
ShowFaces = Annotated[bool, typer.Option("--show-faces", help="Leave faces in the pictures.")]
Paths = Annotated[
    list[Path], typer.Argument(help="Folders or files of DICOM, or of NIfTI with a JSON.", show_default=False)
]
ModelFile = Annotated[Path, typer.Argument(help="A model file of twobe3, or the folder that holds one.")]
Force = Annotated[
    bool, typer.Option("--force", help="Take scans unlike those of the model's card all the same; it is said so.")
]
CredentialsFile = Annotated[
    Path | None,
    typer.Option(help="File with user:password or Bearer TOKEN for DICOMweb, or $TWOBE3_DICOMWEB_CREDENTIALS."),
]
