from .bundle import export_bundle as export_bundle
from .onnx_file import export_onnx as export_onnx
from .results import ResultFiles as ResultFiles
