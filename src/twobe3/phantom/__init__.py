"""A PET body with organs and lesions, as volumes or as DICOM series, with known SUV and known outcome."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
