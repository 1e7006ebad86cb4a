"""A small real artifact: one linear layer over a 6x6 grey image, as ONNX in fp32 and INT8, OpenVINO and TFLite.

`golden/tiny.tflite` is the same layer, written once with litert_torch from a torch.nn.Linear without bias that holds
`WEIGHT`, for a 1x6x6x1 input. The golden outputs below come from NumPy, so every runtime is held against arithmetic.
"""

import hashlib
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import openvino
from onnx import TensorProto, helper

from edgeslim.artifact.archive import write_example
from edgeslim.artifact.manifest import (
    ArtifactName,
    Compatible,
    DataUsed,
    ErrorByDepth,
    IntegerLayers,
    LayerError,
    LsbTolerance,
    Manifest,
    ModelFile,
    OutputSpec,
    Quality,
    RelativeTolerance,
    SourceModel,
    Task,
    TensorSpec,
)
from edgeslim.tasks.preprocessing import Preprocessing, preprocess_batch
from tests.support import TESTS

WEIGHT = ((np.arange(4 * 36) * 5 % 17 - 8) / 16).astype(np.float32).reshape(4, 36)
STEP = 0.05
LABELS = ("boot", "shirt", "coat", "bag")
PREPROCESSING = Preprocessing(6, 6, 1, 6, (0.5,), (0.25,), "GRAY")
IMAGES = np.random.default_rng(7).integers(0, 256, (3, 6, 6, 1), dtype=np.uint8)

_QUALITY = Quality(
    kind="accuracy",
    metric="top-1",
    value=90.0,
    unit="%",
    ci95=(88.0, 92.0),
    images=1000,
    agreement_with_fp32_pct=None,
    sqnr_images=64,
)


def expected_outputs(images: np.ndarray = IMAGES) -> np.ndarray:
    """Return the layer's outputs for raw images, computed by NumPy: N x 4, float32."""
    inputs = preprocess_batch(images, PREPROCESSING)
    return (inputs.reshape(len(images), -1).astype(np.float64) @ WEIGHT.T.astype(np.float64)).astype(np.float32)


def stage(folder: Path) -> Manifest:
    """Write all files of the artifact but the packed ones into the new `folder`; return the manifest for them."""
    for name in ("models", "golden", "LICENSES", "reference"):
        (folder / name).mkdir(parents=True)
    write_example(folder)
    texts = {"MODEL_CARD.md": "A layer.\n", "LICENSES/MIT.txt": "MIT\n", "CHANGELOG.md": "- first\n"}
    texts |= {
        "numerics.json": "{}\n",
        "ledger.json": "[]\n",
        "recipe.yaml": "steps: []\n",
        "reference/note.txt": "fp32\n",
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    _write_models(folder / "models")
    _write_golden(folder / "golden")
    models = (
        _model(folder, "onnx", "onnxruntime", "int8", "models/tiny_int8.onnx"),
        _model(folder, "onnx", "onnxruntime", "fp32", "models/tiny_fp32.onnx"),
        _model(folder, "openvino", "openvino", "fp32", "models/tiny_fp32.xml"),
        _model(folder, "tflite", "litert", "fp32", "models/tiny_fp32.tflite"),
    )
    return Manifest(
        artifact=ArtifactName(name="tiny-raspberry-pi-4", version="0.1.0"),
        compatible=Compatible(
            device="raspberry-pi-4",
            architecture="aarch64",
            soc="BCM2711",
            profile_sha256=hashlib.sha256(b"profile").hexdigest(),
        ),
        status="accepted",
        model=SourceModel(
            source="tiny.py:make",
            weights_sha256=hashlib.sha256(WEIGHT.tobytes()).hexdigest(),
            parameters=WEIGHT.size,
            macs=WEIGHT.size,
            flops=2 * WEIGHT.size,
            original_parameters=WEIGHT.size,
            original_macs=WEIGHT.size,
            inputs=(_input("NCHW"),),
        ),
        task=Task(name="classification", labels=LABELS),
        preprocessing=PREPROCESSING,
        data=DataUsed(
            calibration=16, selection=16, evaluation=1000, source="random pixels", synthetic=True, labelled=True
        ),
        models=models,
        primary="models/tiny_int8.onnx",
        agreement_between_formats_pct={},
        error_by_depth=ErrorByDepth(
            images=8,
            layers=(LayerError(name="linear", layer_db=40.0, cumulative_db=40.0, exported_db={"onnx": None}),),
        ),
        recipe={"steps": ["quantize"], "max_drop": 1.0},
        numerics="numerics.json",
        ledger="ledger.json",
        tool_versions={"edgeslim": "0.1.0"},
    )


def _write_models(folder: Path) -> None:
    onnx.save(_linear(on_grid=False), folder / "tiny_fp32.onnx")
    onnx.save(_linear(on_grid=True), folder / "tiny_int8.onnx")
    network = openvino.Core().read_model(folder / "tiny_fp32.onnx")
    openvino.save_model(network, folder / "tiny_fp32.xml", compress_to_fp16=False)
    (folder / "tiny_fp32.tflite").write_bytes((TESTS / "golden" / "tiny.tflite").read_bytes())


def _linear(*, on_grid: bool) -> onnx.ModelProto:
    """Return the layer as ONNX; `on_grid` rounds its output to int8 steps of `STEP`."""
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["scores"], name="linear"),
    ]
    if on_grid:
        nodes.append(helper.make_node("QuantizeLinear", ["scores", "step", "zero"], ["codes"]))
        nodes.append(helper.make_node("DequantizeLinear", ["codes", "step", "zero"], ["rounded"]))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, 6, 6])],
        [helper.make_tensor_value_info("rounded" if on_grid else "scores", TensorProto.FLOAT, [1, 4])],
        [
            onnx.numpy_helper.from_array(np.ascontiguousarray(WEIGHT.T), "weight"),
            onnx.numpy_helper.from_array(np.float32(STEP), "step"),
            onnx.numpy_helper.from_array(np.int8(0), "zero"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def _write_golden(folder: Path) -> None:
    inputs = preprocess_batch(IMAGES, PREPROCESSING)
    outputs = expected_outputs()
    np.save(folder / "images.npy", IMAGES)
    np.save(folder / "inputs_nhwc.npy", inputs)
    np.save(folder / "inputs_nchw.npy", np.ascontiguousarray(inputs.transpose(0, 3, 1, 2)))
    codes = np.clip(np.round(outputs / np.float32(STEP)), -128, 127)
    np.save(folder / "outputs_onnx_int8.npy", (codes * np.float32(STEP)).astype(np.float32))
    for name in ("onnx", "openvino", "tflite"):
        np.save(folder / f"outputs_{name}_fp32.npy", outputs)


def _model(folder: Path, file_format: str, runtime: str, precision: str, path: str) -> ModelFile:
    companions = (path.replace(".xml", ".bin"),) if path.endswith(".xml") else ()
    is_int8 = precision == "int8"
    return ModelFile(
        format=file_format,
        runtime=runtime,
        min_runtime_version="1.0",
        precision=precision,
        path=path,
        companions=companions,
        bytes=sum((folder / name).stat().st_size for name in (path, *companions)),
        inputs=(_input("NHWC" if file_format == "tflite" else "NCHW"),),
        outputs=(
            OutputSpec(
                name="scores",
                shape=(1, 4),
                dtype="float32",
                layout="NC",
                scale=STEP if is_int8 else None,
                golden=f"golden/outputs_{file_format}_{precision}.npy",
                tolerance=LsbTolerance(lsb=1, scale=STEP) if is_int8 else RelativeTolerance(rtol=1e-4, atol=1e-4),
                sqnr_db=80.0,
            ),
        ),
        quality=_QUALITY,
        integer_layers=IntegerLayers(planned=1, proven=1, proven_on="onnxruntime 1.0 on x86_64") if is_int8 else None,
    )


def _input(layout: str) -> TensorSpec:
    return TensorSpec(
        name="image", shape=(1, 6, 6, 1) if layout == "NHWC" else (1, 1, 6, 6), dtype="float32", layout=layout
    )
