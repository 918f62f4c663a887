"""The nouns that everyone shares: errors, volumes, grids, endpoints, outcomes and predictions."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
