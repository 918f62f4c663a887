"""A PET body with organs and lesions, as volumes or as DICOM series, with known SUV and known outcome."""

from twobe3.phantom.cohort import write_cohort
from twobe3.phantom.lesions import Lesion
from twobe3.phantom.patient import (
    PhantomPatient,
    PhantomSpec,
    PhantomSubject,
    draw_phantom_subject,
    make_array,
    make_patient,
)
from twobe3.phantom.scanner import NORTH, SOUTH, Scanner

__all__ = [
    "NORTH",
    "SOUTH",
    "Lesion",
    "PhantomPatient",
    "PhantomSpec",
    "PhantomSubject",
    "Scanner",
    "draw_phantom_subject",
    "make_array",
    "make_patient",
    "write_cohort",
]
