"""Made-up times of a build, for tests of what reads them; nothing in here was ever timed or counted."""

from edgeslim.emulation.estimator import Estimate
from edgeslim.emulation.inference import EmulatedInference
from edgeslim.pipeline.documents.times import DeviceTimes, Times
from tests.support.made_measurements import measured, noise

COUNTED = EmulatedInference(
    label="onnx int8", runtime="onnxruntime", runtime_version="1.32.0", library="libonnxruntime.so", model="m.onnx",
    model_sha256="ab" * 32, precision_requested="int8", precision_actual="int8", executors={"CPU": 3},
    device="raspberry-pi-4", core="Cortex-A72", emulator="qemu-aarch64 7.2", caches=("32 KiB",), threads=1,
    counts={"insns": 1000, "sdot_udot": 100}, golden_samples=0, seen=(), energy=None, no_estimate=None,
    estimate=Estimate(0.1, 0.08, 0.12, "ncnn-fitted", decisive=True, note=None),
)  # fmt: skip
TIMES = Times(
    (measured(noise(1) / 1e3, "onnx fp32"), measured(noise(2) / 2e3, "onnx int8")),
    DeviceTimes((COUNTED,), ("no time of onnx fp32: it takes too long",)),
    here=False,
    warnings=("onnx int8 is slow",),
)
