"""From DICOM files to SUV volumes and masks."""
