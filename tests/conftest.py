"""Tiny real models, one convolution each, for every runtime that is installed; and what a skipped test means.

A test that cannot run here says why and what would enable it: `pytest.skip("nncf is not installed; pip install nncf")`.
A reason that begins with `hardware:` is listed at the end. Any other is missing software, and with
EDGESLIM_REQUIRE_SOFTWARE=1, as in CI, where all of it is installed, the test fails.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

os.environ["COLUMNS"] = "130"  # whatever runs the tests may have a narrower terminal

# Before anything loads them: ONNX Runtime and OpenVINO report to their makers unless told not to.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
sys.modules["openvino_telemetry"] = None
# What a build keeps for the next one stays within this run; pytest-xdist's workers share it.
if "PYTEST_XDIST_WORKER" not in os.environ:
    STORE = tempfile.TemporaryDirectory(prefix="edgeslim-store-")
    os.environ["EDGESLIM_CACHE"] = STORE.name

pytest.register_assert_rewrite("tests.support")
from tests.support.installed import skip_without  # noqa: E402 - after the lines above

HARDWARE = "hardware:"

MAKE_OPENVINO = """
import sys
sys.modules["openvino_telemetry"] = None
import openvino
for source in sys.argv[1:]:
    openvino.save_model(openvino.convert_model(source), source.replace(".onnx", ".xml"), compress_to_fp16=False)
"""

MAKE_LITERT = """
import sys
import litert_torch, numpy, torch
from ai_edge_quantizer import quantizer, recipe
float_path, int8_path = sys.argv[1:]
torch.manual_seed(0)
network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU()).eval()
converted = litert_torch.convert(litert_torch.to_channel_last_io(network, args=[0]), (torch.rand(1, 16, 16, 3),))
converted.export(float_path)
quantization = quantizer.Quantizer(float_path, recipe.static_wi8_ai8())
samples = [{"args_0": numpy.random.default_rng(0).random((1, 16, 16, 3), dtype=numpy.float32)}]
quantization.quantize(quantization.calibrate({"serving_default": samples}, num_threads=1)).export_model(int8_path)
"""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a skipped test whose software must be there."""
    report = yield
    _refuse_missing_software(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Fail a module that skips itself for software that must be there."""
    report = yield
    _refuse_missing_software(report)
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List the tests that wait for hardware."""
    waiting = [
        report for report in terminalreporter.stats.get("skipped", []) if _skip_reason(report).startswith(HARDWARE)
    ]
    if waiting:
        terminalreporter.section("not run: the hardware is not here")
        for report in waiting:
            terminalreporter.write_line(f"{report.nodeid}: {_skip_reason(report).removeprefix(HARDWARE).strip()}")


def _refuse_missing_software(report: pytest.TestReport | pytest.CollectReport) -> None:
    if os.environ.get("EDGESLIM_REQUIRE_SOFTWARE") != "1" or not report.skipped or hasattr(report, "wasxfail"):
        return
    if not _skip_reason(report).startswith(HARDWARE):
        report.longrepr = f"{report.nodeid} must run where all software is installed: {_skip_reason(report)}"
        report.outcome = "failed"


def _skip_reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Return the words a test gave to `pytest.skip`."""
    return report.longrepr[2].removeprefix("Skipped: ") if isinstance(report.longrepr, tuple) else ""


@dataclass(frozen=True)
class TinyModels:
    """One convolution in fp32 and in int8, five samples for each, and the number of values an output holds."""

    models: dict[str, Path]
    inputs: dict[str, np.ndarray]
    outputs_shape: tuple[int, ...] = (5, 8, 16, 16)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], TinyModels]:
    """`tiny("litert")` gives that runtime's models, made once a session; skips where the runtime is not installed."""
    made: dict[str, TinyModels] = {}

    def models_of(runtime: str) -> TinyModels:
        skip_without(runtime)
        if runtime not in made:
            made[runtime] = _make(runtime, tmp_path_factory.mktemp(f"tiny_{runtime}"))
        return made[runtime]

    return models_of


def _make(runtime: str, folder: Path) -> TinyModels:
    suffix = {"onnxruntime": ".onnx", "openvino": ".onnx", "litert": ".tflite"}[runtime]
    models = {precision: folder / f"{precision}{suffix}" for precision in ("fp32", "int8")}
    images = np.random.default_rng(1).normal(size=(5, 3, 16, 16)).astype(np.float32)
    if runtime == "litert":
        _run_python(MAKE_LITERT, *models.values())
        images = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
        return TinyModels(models, {"fp32": images, "int8": (images * 30).clip(-128, 127).astype(np.int8)})
    for precision, path in models.items():
        write_tiny_onnx(path, quantized=precision == "int8")
    if runtime == "openvino":
        _run_python(MAKE_OPENVINO, *models.values())
        models = {precision: path.with_suffix(".xml") for precision, path in models.items()}
    return TinyModels(models, {"fp32": images, "int8": images})


def write_tiny_onnx(path: Path, *, quantized: bool) -> None:
    """Write one 3x3 convolution with ReLU, 3 to 8 channels on 16 x 16; quantized: as a QDQ graph, uint8 and int8."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weight = np.random.default_rng(0).normal(size=(8, 3, 3, 3)).astype(np.float32)
    scale = (np.abs(weight).max(axis=(1, 2, 3)) / 127).astype(np.float32)
    codes = np.clip(np.round(weight / scale[:, None, None, None]), -127, 127).astype(np.int8)
    constants = {
        "w": weight, "wq": codes, "ws": scale, "wz": np.zeros(8, np.int8),
        "xs": np.float32(0.03), "xz": np.uint8(128), "ys": np.float32(0.1), "yz": np.uint8(0),
    }  # fmt: skip
    node = helper.make_node
    nodes = [
        node("QuantizeLinear", ["x", "xs", "xz"], ["xq"]),
        node("DequantizeLinear", ["xq", "xs", "xz"], ["xd"]),
        node("DequantizeLinear", ["wq", "ws", "wz"], ["wd"], axis=0),
        node("Conv", ["xd", "wd"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        node("Relu", ["c"], ["r"]),
        node("QuantizeLinear", ["r", "ys", "yz"], ["yq"]),
        node("DequantizeLinear", ["yq", "ys", "yz"], ["y"]),
    ]
    if not quantized:
        nodes = [node("Conv", ["x", "w"], ["c"], name="conv", pads=[1, 1, 1, 1]), node("Relu", ["c"], ["y"])]
    used = {name for one in nodes for name in one.input}
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 16, 16))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 8, 16, 16))],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items() if name in used],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def _run_python(script: str, *arguments: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
