"""One offline HTML page from the artefacts of a study, or from anybody's predictions."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
