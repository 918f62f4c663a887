"""Files of every kind that is not DICOM: artefacts, caches, tables, NIfTI and model files."""
