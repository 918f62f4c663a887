"""Public PET collections: what there is, a selection of it, its download, and its tables."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
