from .bundle import export_bundle as export_bundle
from .node import Node as Node
from .onnx_file import export_onnx as export_onnx
from .pacs import Archive as Archive
from .results import ResultFiles as ResultFiles
