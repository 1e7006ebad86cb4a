"""A board calibrates its profile: a machine on which every instruction takes a nanosecond stands in for it."""

import hashlib
import os
import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from edgeslim.devices.profile import PROFILE_SCHEMA, load_profile
from edgeslim.emulation import calibrate as calibration
from edgeslim.emulation.calibrate import OPERATORS, calibrate
from edgeslim.emulation.estimator import estimate
from edgeslim.emulation.virtual_machine import REMOTE, made_machine
from edgeslim.errors import BadInput, InvalidMeasurement, Refused
from edgeslim.measure.harness import Workload
from edgeslim.model.operator import Operator
from edgeslim.report.emulation import calibration_lines
from edgeslim.resources import bundled
from tests.support.command_line import call
from tests.support.emulated_core import skip_without_emulator
from tests.support.emulated_machine import MIB, EmulatedMachine, require_emulator
from tests.support.installed import skip_without
from tests.support.recorded_device import RecordedDevice, put_compilers

QUICK = Workload(processes=1, min_duration_s=0, warmup=1)
FEW = (
    Operator("conv", 14, 14, 96, 144),
    Operator("conv", 7, 7, 160, 320),
    Operator("conv", 14, 14, 32, 32, (3, 3), (1, 1), (1, 1)),
    Operator("conv", 28, 28, 96, 96, (3, 3), (1, 1), (1, 1), groups=96),
    Operator("linear", 1, 1, 1024, 512),
    Operator("add", 28, 28, 64, 64),
)


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    """The profile of a Raspberry Pi 4 that takes the emulated machine for one."""
    written = yaml.safe_load((bundled("device_profiles") / "raspberry-pi-4.yaml").read_text())
    written["identification"]["cpu_models"] = ["CPU part 0xd08"]
    file = tmp_path_factory.mktemp("profile") / "machine.yaml"
    file.write_text(yaml.safe_dump(written, sort_keys=False))
    return file


@pytest.fixture(scope="module")
def calibrated(profile, tmp_path_factory):
    """What a calibration on a machine finds whose clock counts its instructions."""
    require_emulator()
    skip_without_emulator()
    skip_without("litert")
    board = EmulatedMachine(made_machine(), tmp_path_factory.mktemp("machine"), "cortex-a72")
    out = tmp_path_factory.mktemp("out") / "my-board.yaml"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGESLIM_SSH_CONFIG", str(board.ssh_config))
        patch.setenv("EDGESLIM_REMOTE", REMOTE)
        try:
            board.start(512 * MIB, options=("-icount", "shift=0,sleep=off"))
            return calibrate(
                board.address, device=str(profile), out=out, workload=QUICK, operators=FEW, accept=["noisy"]
            )
        finally:
            board.stop()


def test_what_was_fitted_on_some_models_predicts_the_others_within_a_tenth(calibrated):
    estimator = calibrated.estimator
    assert (estimator.times, estimator.networks) == (12, 6)
    assert estimator.networks_left_out.worst <= 0.10, estimator
    assert estimator.precisions == ("fp32", "int8")


def test_an_instruction_costs_what_the_machine_takes_for_it(calibrated):
    most = next(cost for cost in calibrated.estimator.costs if {"insns", "int"} & set(cost.counts))
    clock_ghz = calibrated.estimator.clock.value / 1e9
    assert most.cycles == pytest.approx(clock_ghz, rel=0.1), "one instruction takes one nanosecond there"


def test_the_overlay_is_a_profile_that_decides_in_both_precisions(calibrated, profile):
    loaded = load_profile(calibrated.out)
    assert loaded.estimator == calibrated.estimator
    assert loaded.model_copy(update={"estimator": None}) == load_profile(profile).model_copy(update={"estimator": None})
    counts = {"insns": 10**7, "int": 10**7, "mem_access": 10**6, "l1d_miss": 0, "l2_miss": 0}
    for precision in ("fp32", "int8"):
        found = estimate(counts, loaded.estimator, "litert", precision)
        assert (found.decisive, found.basis) == (True, "litert-fitted"), found


def test_the_overlay_says_how_and_when_it_was_made(calibrated):
    text = calibrated.out.read_text()
    assert text.startswith(f"# yaml-language-server: $schema={PROFILE_SCHEMA.as_uri()}\n"), text[:200]
    written = yaml.safe_load(text)
    assert set(written) == {"base", "calibrated", "estimator"}
    told = written["calibrated"]
    assert told["runtime"].startswith("litert 2.3"), told
    assert (told["machine"], told["board"], told["agent"]) == ("linux,dummy-virt", None, "c"), told
    assert told["kernel"].endswith("arm64"), told
    assert told["accepted"] == ["noisy"], "what was accepted is not said"
    assert "a board without a serial number" in written["estimator"]["source"]
    assert not list(calibrated.out.parent.glob(".*")), "a part was left"


def test_the_summary_says_how_far_off_it_is_and_what_was_accepted(calibrated):
    lines = calibration_lines(calibrated)
    assert re.fullmatch(r"12 times of 6 models, litert 2\.3\S*, 1 thread:", lines[0]), lines
    assert re.fullmatch(r"models left out of the fit: off by \S+% on average, \S+% at most", lines[-3]), lines
    assert lines[-2] == "accepted all the same: noisy"
    assert lines[-1].endswith(f"--on emulator:{calibrated.out}")


@pytest.fixture
def pi(tmp_path, monkeypatch):
    own = os.environ["PATH"]
    put_compilers(tmp_path, monkeypatch)
    monkeypatch.setenv("PATH", os.pathsep.join([os.environ["PATH"], own]))
    return RecordedDevice(tmp_path / "pi")


def test_a_board_that_is_another_device_is_refused(pi, tmp_path):
    skip_without_emulator()
    with pytest.raises(Refused, match="is not a raspberry-pi-5: it is a Raspberry Pi 4 Model B"):
        calibrate(pi.address, device="raspberry-pi-5", out=tmp_path / "mine.yaml")
    assert not (tmp_path / "mine.yaml").exists(), "something was written"


def test_a_board_that_runs_a_library_of_its_own_is_refused_for_another_one_is_counted(pi, tmp_path):
    skip_without_emulator()
    skip_without("onnxruntime")
    with pytest.raises(Refused, match=r"would run the device's own /usr/local/lib/libonnxruntime\.so.*is counted here"):
        calibrate(pi.address, device="raspberry-pi-4", out=tmp_path / "mine.yaml", runtime="onnxruntime")
    assert not (tmp_path / "mine.yaml").exists(), "something was written"


def test_the_profile_that_is_calibrated_is_not_overwritten(profile):
    before = profile.read_text()
    with pytest.raises(BadInput, match=r"machine\.yaml: is the profile that --device names, which would be lost"):
        calibrate("local", device=str(profile), out=profile, overwrite=True)
    assert profile.read_text() == before, "it was lost"


def test_this_machine_is_no_raspberry_pi(tmp_path):
    skip_without_emulator()
    with pytest.raises(Refused, match="local is not a raspberry-pi-4"):
        calibrate("local", device="raspberry-pi-4", out=tmp_path / "mine.yaml")


def test_times_that_must_not_be_believed_are_refused_and_may_be_accepted_but_for_a_wrong_precision():
    from edgeslim.measure.measurement import Caution
    from tests.support.made_measurements import measured

    hot = measured([0.010 + n / 1e5 for n in range(9)], "conv fp32", seen=(Caution("throttled", "it was hot", "cool"),))
    with pytest.raises(InvalidMeasurement, match=r"(?s)nothing was fitted.*it was hot.*help: --accept throttled lets"):
        calibration._require_believed([hot], ["noisy"])
    calibration._require_believed([hot], ["throttled"])
    as_float = measured([0.010] * 9, "conv int8", precision_requested="int8", precision_actual="fp32")
    with pytest.raises(InvalidMeasurement, match="int8 was asked for, fp32 ran"):
        calibration._require_believed([as_float], ["noisy", "throttled", "clocks", "fallback"])


def test_a_board_is_told_by_the_hash_of_its_serial_number_and_not_by_the_number(pi):
    from edgeslim.deploy.device import open_device

    pi.write("proc/device-tree/serial-number", "10000000abcdef01\0")
    with open_device(pi.address) as board:
        told = calibration._board_hash(board)
    assert told == hashlib.sha256(b"10000000abcdef01").hexdigest()[:16]


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--out", "there.yaml"), 2, "there.yaml: exists help: choose another name"),
        (("--out", "nowhere/mine.yaml"), 2, "the folder nowhere is missing"),
        (("--out", "mine.txt"), 2, "expected a name that ends in .yaml"),
        (
            ("--out", "mine.yaml", "--accept", "golden"),
            2,
            "--accept `golden`: expected some of noisy, throttled, clocks",
        ),
        (("--out", "mine.yaml", "--device", "intel-n100"), 2, "intel-n100 cannot be emulated"),
        (("--out", "mine.yaml", "--device", "there.yaml"), 2, "there.yaml: is laid over another profile"),
    ],
)
def test_what_cannot_be_calibrated_is_refused_before_any_work(options, code, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("there.yaml").write_text("base: raspberry-pi-4\n")
    given = ("calibrate", "--on", "ssh://nobody@127.0.0.1:1", "--device", "raspberry-pi-4", *options)
    ended, out, err = call(monkeypatch, capsys, *given)
    assert (ended, out, words in err) == (code, "", True), err
    assert [file.name for file in tmp_path.iterdir()] == ["there.yaml"], "something was written"


def test_an_interrupted_write_leaves_the_old_file(calibrated, tmp_path, monkeypatch):
    out = tmp_path / "mine.yaml"
    out.write_text("old")

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        calibration._write(out, "raspberry-pi-4", calibrated.calibrated, calibrated.estimator)
    assert (out.read_text(), [one.name for one in tmp_path.iterdir()]) == ("old", ["mine.yaml"])


@pytest.mark.parametrize("runtime", calibration.RUNTIMES)
def test_every_model_of_the_set_can_be_written_and_stands_once(runtime, tmp_path):
    skip_without(runtime)
    pytest.importorskip("onnx", reason="onnx is not installed; pip install 'edgeslim[all]'")
    models = calibration._models(runtime, OPERATORS, tmp_path)
    assert len({one.label for one in models}) == 2 * len(OPERATORS)
    for one, inputs in models.items():
        assert _inputs_of(runtime, one.model) == [(array[:1].shape, array.dtype) for array in inputs], one.label
        for array in inputs:
            assert (array.dtype == np.float32) == (one.precision == "fp32")
            assert array.std() > 0, "all samples are equal"


def _inputs_of(runtime, file):
    """Return shape and dtype of each input of a file, as its runtime tells them."""
    if runtime == "litert":
        from ai_edge_litert.interpreter import Interpreter

        told = Interpreter(str(file)).get_input_details()
        return [(tuple(one["shape"]), one["dtype"]) for one in told]
    import onnxruntime

    told = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"]).get_inputs()
    dtypes = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8}
    return [(tuple(one.shape), dtypes[one.type]) for one in told]
