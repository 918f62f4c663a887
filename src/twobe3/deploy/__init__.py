"""The model at work: files of other runtimes, results for the archive, a DICOM node, DICOMweb, and a page."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
