import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from edgeslim.deploy.device import Candidate
from edgeslim.deploy.installed import runtime_available
from edgeslim.deploy.run_model import execution_graph, run_model
from edgeslim.errors import BadInput, DeviceFailed
from edgeslim.formats import RUNTIMES
from edgeslim.measure.harness import Workload, measure


def children():
    """Return the processes that this one started and that have not ended."""
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def command_line(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # it has ended
        return b""


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_running_a_model_gives_one_output_for_each_sample_in_order(runtime, tiny):
    models = tiny(runtime)
    inputs = models.inputs["fp32"]
    (outputs,) = run_model(runtime, models.models["fp32"], inputs, precision="fp32")
    assert outputs.shape == models.outputs_shape, "the shape is not samples first"
    (backwards,) = run_model(runtime, models.models["fp32"], inputs[::-1], precision="fp32")
    np.testing.assert_array_equal(outputs[::-1], backwards, err_msg="samples are mixed up")


def test_int8_stays_close_to_fp32_and_is_not_the_same(tiny):
    models = tiny("onnxruntime")
    outputs = {
        precision: run_model("onnxruntime", models.models[precision], models.inputs["fp32"], precision=precision)[0]
        for precision in ("fp32", "int8")
    }
    error = np.abs(outputs["fp32"] - outputs["int8"]).max()
    assert 0 < error < 0.2 * np.abs(outputs["fp32"]).max(), "the int8 model is the fp32 one, or something else"


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_execution_graph_tells_an_integer_convolution_from_a_float_one(runtime, tiny):
    models = tiny(runtime)
    for precision, expected in (("fp32", {"fp32"}), ("int8", {"uint8", "int8"})):
        nodes = execution_graph(runtime, models.models[precision], models.inputs[precision], precision)
        (convolution,) = [node for node in nodes if "CONV" in node.op.upper()]
        assert convolution.precision in expected, f"the {precision} model's convolution is {convolution}"
        assert convolution.inputs[0] in expected, "the inputs' types disagree with the precision"


def test_a_failing_agent_is_reported_with_its_reason(tiny, tmp_path):
    models = tiny("onnxruntime")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(models.models["fp32"].read_bytes()[:100])
    with pytest.raises(DeviceFailed, match=r"unreadable-model: .*broken\.onnx"):
        run_model("onnxruntime", broken, models.inputs["fp32"], precision="fp32")
    with pytest.raises(DeviceFailed, match="bad-input: input `x`: a sample has shape"):
        run_model("onnxruntime", models.models["fp32"], models.inputs["fp32"][:, :2], precision="fp32")


def test_a_model_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(BadInput, match=r"gone\.onnx does not exist"):
        run_model("onnxruntime", tmp_path / "gone.onnx", np.zeros((1, 1), np.float32), precision="fp32")


def test_an_agent_killed_in_the_middle_is_named_with_the_signal(tiny):
    models = tiny("onnxruntime")

    def kill_the_agent():
        while not (timing := [pid for pid in children() if b"--min-duration-s" in command_line(pid)]):
            time.sleep(0.01)
        for pid in timing:
            os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_the_agent)
    killer.start()
    candidate = Candidate("fp32", "onnxruntime", models.models["fp32"], "fp32")
    with pytest.raises(DeviceFailed, match=r"killed by signal 9 \(SIGKILL") as failed:
        measure([candidate], models.inputs["fp32"], Workload(processes=1, min_duration_s=60))
    killer.join()
    assert failed.value.status == "killed", "the status is another"


def test_measuring_interleaves_fresh_processes_and_keeps_every_time(tiny):
    models = tiny("onnxruntime")
    candidates = [Candidate(p, "onnxruntime", models.models[p], p) for p in ("fp32", "int8")]
    calls = []
    fp32, int8 = measure(
        candidates,
        models.inputs["fp32"],
        Workload(processes=3, min_duration_s=0.01),
        progress=lambda *call: calls.append(call),
    )
    order = ("fp32", "int8", "int8", "fp32", "fp32", "int8")
    assert [doing for doing, _, _ in calls] == [f"timing {one}" for one in order], "not interleaved"
    assert [done for _, done, _ in calls] == [1, 2, 3, 4, 5, 6], "progress does not count"
    assert {total for _, _, total in calls} == {6}, "the total is wrong"
    assert (fp32.precision_actual, int8.precision_actual) == ("fp32", "uint8"), "what ran is not what is reported"
    for measurement, model in ((fp32, models.models["fp32"]), (int8, models.models["int8"])):
        assert len(measurement.processes) == 3, "a process is missing"
        assert all(len(run.samples_s) >= 5 for run in measurement.processes), "raw times are missing"
        assert measurement.model_sha256 == hashlib.sha256(model.read_bytes()).hexdigest(), "the hash is another file's"
        assert measurement.place.kernel == os.uname().release, "the place is not this machine"


def test_runtimes_with_different_layouts_are_measured_together(tiny):
    models = {runtime: tiny(runtime) for runtime in ("openvino", "litert")}
    candidates = [Candidate(runtime, runtime, models[runtime].models["fp32"], "fp32") for runtime in models]
    inputs = {runtime: models[runtime].inputs["fp32"] for runtime in models}
    measurements = measure(candidates, inputs, Workload(processes=1, min_duration_s=0))
    assert [one.runtime for one in measurements] == ["openvino", "litert"], "the order of the candidates is lost"


def test_the_hash_of_an_openvino_model_covers_its_weights(tiny):
    models = tiny("openvino")
    xml = models.models["fp32"]
    (measurement,) = measure(
        [Candidate("fp32", "openvino", xml, "fp32")], models.inputs["fp32"], Workload(processes=1, min_duration_s=0)
    )
    both = xml.read_bytes() + xml.with_suffix(".bin").read_bytes()
    assert measurement.model_sha256 == hashlib.sha256(both).hexdigest(), "other weights would go unnoticed"


def test_versions_are_known_without_importing_a_runtime():
    script = (
        "import sys; from edgeslim.deploy.installed import runtime_available; from edgeslim.formats import RUNTIMES;"
        "[runtime_available(one) for one in RUNTIMES];"
        "print([one for one in ('onnxruntime', 'openvino', 'ai_edge_litert', 'torch') if one in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]", "a heavy library was imported only to ask its version"


def test_an_unknown_runtime_is_refused_with_near_misses():
    with pytest.raises(BadInput, match="unknown runtime `openvin`; did you mean `openvino`"):
        runtime_available("openvin")


def test_a_runtime_that_is_not_installed_names_the_extra_that_brings_it(tmp_path):
    script = (
        "import mmap, numpy, sys; from pathlib import Path; from edgeslim.deploy.run_model import run_model\n"
        "from edgeslim.errors import MissingPackage\n"
        "sys.path[:] = [sys.argv[1]]\n"  # no installed package can be found from here on
        "try: run_model('litert', Path('m.tflite'), numpy.zeros((1, 1)), precision='fp32')\n"
        "except MissingPackage as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False)
    assert "pip install 'edgeslim[tflite]'" in done.stdout, done.stderr or done.stdout
