# The public names and where each lives; lazy_loader reads this file at import, mypy reads it for types.
from .errors import Code as Code
from .errors import Exclusion as Exclusion
from .errors import NothingUsable as NothingUsable
from .errors import Refusal as Refusal
from .errors import ToolError as ToolError
from .errors import TwoBe3Error as TwoBe3Error
from .errors import UsageError as UsageError
from .outcome import Binary as Binary
from .outcome import Continuous as Continuous
from .outcome import Outcomes as Outcomes
from .outcome import Prediction as Prediction
from .outcome import TimeToEvent as TimeToEvent
from .volume import Geometry as Geometry
from .volume import Mask as Mask
from .volume import SUVCalibration as SUVCalibration
from .volume import SUVVolume as SUVVolume

__version__: str
