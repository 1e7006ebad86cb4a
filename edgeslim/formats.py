"""The formats edgeslim writes and the runtimes that run them: all that is fixed for one, in one row."""

from dataclasses import dataclass
from typing import Literal

FormatName = Literal["onnx", "openvino", "tflite"]
RuntimeName = Literal["onnxruntime", "openvino", "litert"]
# What a file takes and gives: CPU devices want floats in all formats, an NPU has none; an fp16 file's as it was asked.
Io = Literal["float32", "float16", "int8"]


@dataclass(frozen=True)
class Runtime:
    """What is fixed for one runtime.

    `packages` hold it, as they are installed, the preferred one first; `probing` are what must be importable to
    time single operators in it. `golden_lsb`: steps by which INT8 outputs may differ from golden ones.
    `sums_are_free`: an addition is fused into the layer before it. `unpacks_once`: INT8 weights of a layer that
    computes in float are made floats when a file is loaded, not at every inference. `ranges_inputs`: convolutions
    and linear layers have kernels that round what they read, by its range, at run time. `host_dependent`: on what
    else INT8 outputs depend.
    """

    extra: str  # of edgeslim, which installs it
    packages: tuple[str, ...]
    probing: tuple[str, ...]
    channels_last: bool
    golden_lsb: int
    sums_are_free: bool = False
    unpacks_once: bool = True
    ranges_inputs: bool = False
    host_dependent: str | None = None


@dataclass(frozen=True)
class Format:
    """What is fixed for one format.

    `packages` are what must be importable to write it; `companions` the endings of files that belong to one;
    `made_from` the format whose file of the same precision it is made from.
    """

    runtime: RuntimeName
    suffix: str
    extra: str  # of edgeslim, which installs the packages
    packages: tuple[str, ...]
    companions: tuple[str, ...] = ()
    made_from: FormatName | None = None


# ONNX Runtime and LiteRT compute INT8 alike to the bit; OpenVINO adds in float and chooses kernels by CPU.
RUNTIMES: dict[RuntimeName, Runtime] = {
    "onnxruntime": Runtime(
        extra="onnx",
        packages=("onnxruntime",),
        probing=("onnx", "onnxruntime"),
        channels_last=False,
        golden_lsb=1,
        unpacks_once=False,
        host_dependent="ONNX Runtime on x86-64 without VNNI saturates sums of uint8 x int8 products unless a session "
        "sets `session.x64quantprecision` to `1`, as run.py does: without it outputs of the INT8 ONNX file differ "
        "there",
    ),
    "openvino": Runtime(
        extra="openvino",
        packages=("openvino",),
        probing=("onnx", "openvino"),
        channels_last=False,
        golden_lsb=2,
        sums_are_free=True,
        host_dependent="OpenVINO on x86-64 without VNNI saturates sums of uint8 x int8 products: outputs of the INT8 "
        "OpenVINO file differ there",
    ),
    "litert": Runtime(
        extra="tflite",
        packages=("ai-edge-litert", "tflite-runtime"),
        probing=("flatbuffers", "ai_edge_litert"),
        channels_last=True,
        golden_lsb=1,
        ranges_inputs=True,
    ),
}
# In the order in which they are written.
FORMATS: dict[FormatName, Format] = {
    "onnx": Format("onnxruntime", ".onnx", "onnx", ("onnx", "onnxruntime", "onnxscript")),
    "openvino": Format(
        "openvino", ".xml", "openvino", ("openvino", "onnx", "onnxruntime", "onnxscript"), (".bin",), "onnx"
    ),
    "tflite": Format("litert", ".tflite", "tflite", ("litert_torch", "ai_edge_litert", "ai_edge_quantizer")),
}
