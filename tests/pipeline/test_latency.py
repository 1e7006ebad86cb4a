"""What a build says of the device: estimates, what they may decide, and what stands in their way."""

from types import SimpleNamespace

import numpy as np
import pytest

from edgeslim.deploy.device import Candidate
from edgeslim.devices.profile import load_profile
from edgeslim.emulation.estimator import calibrated_for
from edgeslim.errors import BadInput, Refused
from edgeslim.measure.operators.used import UsedTimes
from edgeslim.pipeline import latency
from edgeslim.pipeline.documents.times import DeviceTimes, time_lines
from edgeslim.pipeline.latency import beyond_latency, device_times, paradox, require_judge
from edgeslim.progress import silent
from tests.support.emulated_core import skip_without_emulator
from tests.support.judged_files import RECIPE, judged

PI = load_profile("raspberry-pi-4")
CALIBRATED = PI.model_copy(update={"estimator": PI.estimator.model_copy(update={"runtime": "litert"})})


@pytest.fixture(scope="module")
def files(tiny, tmp_path_factory):
    """The tiny network's INT8 and fp32 TFLite files, with samples."""
    skip_without_emulator()
    models, folder = tiny("litert"), tmp_path_factory.mktemp("samples")
    made = []
    for precision in ("int8", "fp32"):
        inputs = folder / f"{precision}.npy"
        np.save(inputs, models.inputs[precision])
        made.append((Candidate(f"tflite {precision}", "litert", models.models[precision], precision), inputs))
    return made


@pytest.fixture(scope="module")
def times(files):
    """What they take on a board whose estimator knows LiteRT."""
    return device_times(files, CALIBRATED, 1)


def test_a_build_says_what_its_files_take_on_the_device_and_how_sure_that_is(files):
    (line,) = time_lines(device_times(files, PI, 1), PI.title)
    assert line.startswith("on a Raspberry Pi 4 Model B, 1 thread: tflite int8 ")
    assert "(estimated, ncnn-fitted, not calibrated for litert int8), tflite fp32 " in line
    assert "(estimated, ncnn-fitted, carried over to litert fp32)" in line


def test_a_device_that_cannot_be_emulated_has_no_times_and_nothing_is_said(files):
    assert device_times(files, load_profile("intel-n100"), 1) == DeviceTimes()


def test_a_number_of_threads_that_nobody_timed_is_said_before_anything_is_emulated(files):
    (reason,) = time_lines(device_times(files, PI, 3), PI.title)
    assert reason.startswith("no times on a Raspberry Pi 4 Model B: no estimate for 3 threads")


def test_what_is_missing_here_is_said_and_nothing_fails(files, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    found = device_times(files, PI, 1)
    assert found.simulations == ()
    (reason,) = time_lines(found, PI.title)
    assert reason.startswith(
        "no times on a Raspberry Pi 4 Model B: devices cannot be emulated here: qemu-aarch64 is not"
    )


def test_estimates_that_nobody_demanded_take_no_more_than_they_may(files):
    found = device_times(files, PI, 1, budget_s=0.2)
    assert found.simulations == ()
    assert len(found.missing) == len(files)
    assert all("emulating it takes more than a tenth of the build" in reason for reason in found.missing)


def test_a_calibrated_estimate_judges_the_demanded_latency(times):
    estimate = times.of("tflite int8").estimate
    assert estimate.decisive
    (reason,), _ = beyond_latency(times, "tflite int8", estimate.s / 2)
    assert "tflite int8 takes" in reason
    assert "are allowed (--max-latency)" in reason
    assert beyond_latency(times, "tflite int8", 2 * estimate.high_s) == ([], [])
    reasons, (doubt,) = beyond_latency(times, "tflite int8", (estimate.s + estimate.high_s) / 2)
    assert (reasons, "litert-fitted" in doubt) == ([], True)


def test_an_estimate_that_is_not_calibrated_judges_nothing(files):
    times = device_times(files, PI, 1)
    (reason,), _ = beyond_latency(times, "tflite int8", 1.0)
    assert reason.startswith("what tflite int8 takes on the device is not known, 1 s are allowed (--max-latency): its")
    assert beyond_latency(times, "tflite int8", None) == ([], [])
    assert paradox(times, "tflite int8", "tflite fp32") == []


def test_a_file_that_should_be_faster_and_is_not_is_named(times):
    faster, slower = sorted(("tflite int8", "tflite fp32"), key=lambda label: times.of(label).estimate.s)
    assert paradox(times, faster, slower) == []
    (warning,) = paradox(times, slower, faster)
    assert f"no less than {faster} with" in warning


def test_a_latency_can_be_demanded_where_the_estimator_knows_the_runtime():
    skip_without_emulator()
    require_judge(CALIBRATED, ["onnxruntime", "litert"], 1)
    with pytest.raises(Refused, match="no estimate for 3 threads"):
        require_judge(CALIBRATED, ["litert"], 3)
    with pytest.raises(BadInput, match="estimator was fitted on onnxruntime there"):
        require_judge(CALIBRATED, ["onnxruntime"], 1)
    assert calibrated_for(CALIBRATED, "litert")
    assert not calibrated_for(CALIBRATED, "onnxruntime")
    with pytest.raises(
        BadInput, match=r"judged on a raspberry-pi-4 only, which this machine is not, or with a profile"
    ):
        require_judge(PI, ["litert"], 1)


def asked_for(monkeypatch, primary, judged, recipe=RECIPE):
    """Return which files a build would have emulated, and the reasons and warnings that follow."""
    files = []
    monkeypatch.setattr(latency, "sample_inputs", lambda runtime, _: runtime)
    monkeypatch.setattr(latency, "device_times", lambda found, *_: files.extend(found) or DeviceTimes())
    context = SimpleNamespace(profile=PI, work=None, threads=1, progress=None)
    _, reasons, warnings = latency.times_on_device(primary, judged, recipe, context, 60.0)
    return [one.label for one, _ in files], reasons, warnings


def test_a_build_asks_for_its_primary_file_and_that_files_float_twin(monkeypatch):
    int8, fp32 = judged("tflite", "int8"), judged("tflite", "fp32")
    assert asked_for(monkeypatch, int8, [int8, fp32]) == (["tflite int8", "tflite fp32"], [], [])


def test_a_primary_file_in_float_is_asked_for_once_and_compared_with_nothing(monkeypatch):
    fp32 = judged("openvino", "fp32")
    assert asked_for(monkeypatch, fp32, [fp32]) == (["openvino fp32"], [], [])


def test_a_demanded_latency_without_a_primary_file_is_a_reason(monkeypatch):
    recipe = RECIPE.model_copy(update={"max_latency_s": 1.0})
    files, reasons, _ = asked_for(monkeypatch, None, [], recipe)
    assert (files, reasons) == ([], ["there is no primary file whose time could be judged (--max-latency)"])


@pytest.mark.parametrize(("device", "runtime"), [("nvidia-cuda", "onnxruntime"), ("raspberry-pi-4", "litert")])
def test_given_times_serve_a_device_that_is_pruned_by_its_runtime_or_has_it(device, runtime, tmp_path):
    given = UsedTimes(runtime, 1, False, ())
    found = latency.operator_latency(load_profile(device), 1, tmp_path, silent, given)
    assert (found.runtime, found.missing) == (runtime, None)
    assert not list(tmp_path.iterdir()), "something was measured"


@pytest.mark.parametrize(("runtime", "threads"), [("litert", 1), ("onnxruntime", 2)])
def test_given_times_of_another_runtime_or_number_of_threads_are_refused(runtime, threads, tmp_path):
    given = UsedTimes(runtime, threads, False, ())
    with pytest.raises(BadInput, match=f"are of {runtime} with {threads} threads; nvidia-cuda is pruned by those of"):
        latency.operator_latency(load_profile("nvidia-cuda"), 1, tmp_path, silent, given)
