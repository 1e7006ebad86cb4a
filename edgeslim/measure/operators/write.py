"""Files of one operator each, for a runtime: what is counted or timed to learn what operators cost."""

from pathlib import Path
from typing import Any

import numpy as np

from edgeslim.errors import MissingPackage
from edgeslim.model.operator import Operator


def write_probe(runtime: str, operator: Operator, precision: str, file: Path) -> tuple[tuple[int, ...], Any]:
    """Write one operator as a model in its own precision; return the shape and dtype of its inputs, which are alike.

    Raises MissingPackage without what writes the runtime's files.
    """
    try:
        if runtime == "litert":
            from edgeslim.measure.operators import tflite

            file.write_bytes(tflite.model_of(operator, precision))
            shape: tuple[int, ...] = (1, *tflite.input_size(operator)[:2], operator.channels_in)
            integers: Any = np.int8
        else:
            from edgeslim.measure.operators import onnx

            file.write_bytes(onnx.model_of(operator, precision).SerializeToString())
            shape, integers = (1, operator.channels_in, operator.height, operator.width), np.uint8
    except ImportError as error:
        package = {"litert": ("ai-edge-litert", "tflite"), "onnxruntime": ("onnx", "onnx")}[runtime]
        raise MissingPackage(*package) from error
    if operator.kind == "linear":
        shape = (1, operator.channels_in)
    return shape, integers if precision == "int8" else np.float32
