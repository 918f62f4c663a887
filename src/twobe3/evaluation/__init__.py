"""How good a prediction is, with intervals. Never imports torch: it evaluates any table of risks."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
