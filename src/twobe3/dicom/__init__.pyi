from .rtstruct import read_rtstruct as read_rtstruct
from .seg import read_seg as read_seg
from .series import PETSeries as PETSeries
from .series import SearchResult as SearchResult
from .series import choose_series as choose_series
from .series import find_series as find_series
from .suv_types import BodyMeasurements as BodyMeasurements
from .suv_types import to_suv_type as to_suv_type
