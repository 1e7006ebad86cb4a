"""The formats edgeslim writes: who runs their files, how these are named, what must be installed to write them."""

from dataclasses import dataclass
from typing import Literal

FormatName = Literal["onnx", "openvino", "tflite"]
RuntimeName = Literal["onnxruntime", "openvino", "litert"]
# What a file takes and gives: CPU devices want floats in all formats, an NPU has none; an fp16 file's as it was asked.
Io = Literal["float32", "float16", "int8"]


@dataclass(frozen=True)
class Format:
    """What is fixed for one format."""

    runtime: RuntimeName
    suffix: str
    extra: str  # of edgeslim, which installs the packages
    packages: tuple[str, ...]


# In the order in which they are written: OpenVINO is made from the ONNX file.
FORMATS: dict[FormatName, Format] = {
    "onnx": Format("onnxruntime", ".onnx", "onnx", ("onnx", "onnxruntime", "onnxscript")),
    "openvino": Format("openvino", ".xml", "openvino", ("openvino", "onnx", "onnxruntime", "onnxscript")),
    "tflite": Format("litert", ".tflite", "tflite", ("litert_torch", "ai_edge_litert", "ai_edge_quantizer")),
}
