"""twobe3: from PET scans and outcomes to a validated, explained prediction model, without a tumour contour.

The names that most scripts need are here; the packages ``core``, ``dicom``, ``scans``, ``models``, ``metrics``,
``collections`` and ``deploy`` hold the rest. Each is imported when it is first used, so that ``import twobe3`` is fast
and free of torch.
"""

import lazy_loader as _lazy

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
