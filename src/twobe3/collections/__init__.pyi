from .adapters import get_adapter as get_adapter
from .adapters import write_table as write_table
from .catalogue import make_catalogue as make_catalogue
from .download import fetch_collections as fetch_collections
from .list import list_collections as list_collections
from .plan import plan_collections as plan_collections
