"""An emulated core: what the plugin counts is exact, what is missing is named, a run repeats."""

import subprocess
from dataclasses import replace

import numpy as np
import pytest

from edgeslim.deploy.device import Candidate
from edgeslim.devices.profile import load_profile
from edgeslim.emulation import core as emulator_module
from edgeslim.emulation.core import Emulator, open_emulator, read_counts, require_tools
from edgeslim.errors import BadInput, DeviceFailed, ToolFailed
from tests.support.a64_programs import INSTRUCTIONS, REPEAT, instruction_program, reading_program
from tests.support.emulated_core import skip_without_emulator

INFERENCES = ["--warmup", "1", "--iterations", "1"]
# Stands for QEMU {version}: says of itself what {says} holds, and does {does} with a program.
FAKE_QEMU = """#!/bin/sh
case "$*" in
*--version*) echo "qemu-aarch64 version {version}"; exit 0;;
*"-cpu help"*) echo "cortex-a72"; exit 0;;
*-help*) echo "{says}"; exit 0;;
esac
{does}
"""


@pytest.fixture(scope="module")
def pi_4():
    """An emulated Raspberry Pi 4."""
    skip_without_emulator()
    with open_emulator(load_profile("raspberry-pi-4")) as one:
        yield one


@pytest.fixture(scope="module")
def pi_5():
    """An emulated Raspberry Pi 5."""
    skip_without_emulator()
    with open_emulator(load_profile("raspberry-pi-5")) as one:
        yield one


@pytest.fixture
def tiny_file(tiny, tmp_path):
    """Return a function that gives a candidate of a tiny model and the options that feed it."""

    def of(runtime, precision):
        models = tiny(runtime)
        inputs = tmp_path / f"{runtime}-{precision}.npy"
        np.save(inputs, models.inputs[precision])
        return Candidate("tiny", runtime, models.models[precision], precision), ["--inputs", str(inputs)]

    return of


def counted(one: Emulator, program, folder, caches=""):
    """Run a program with the plugin and return the counts of its regions."""
    out = folder / "counts.jsonl"
    plugin = f"{one.tools.plugin},out={out}{caches}"
    subprocess.run([*one.command("max"), "-plugin", plugin, program], check=True, timeout=60)
    return [region.counts for region in read_counts(out)]


def test_every_instruction_is_counted_in_its_class(pi_4, tmp_path):
    _, nothing, *regions = counted(pi_4, instruction_program(tmp_path), tmp_path)
    written = [(name, text) for name, texts in INSTRUCTIONS.items() for text in texts]
    for (name, text), region in zip(written, regions, strict=True):
        more = {key: count - nothing[key] for key, count in region.items() if count != nothing[key]}
        assert more == {name: REPEAT, "insns": REPEAT}, text


def test_a_cache_misses_what_does_not_fit_and_keeps_what_does(pi_4, tmp_path):
    # Lines of 64 bytes: 16 KiB fit a cache of 32 KiB, 64 KiB do not; both fit one of 1 MiB.
    program = reading_program(tmp_path, 256, 256, 1024, 1024)
    regions = counted(pi_4, program, tmp_path, ",l1=32768:2,l2=1048576:16")
    others = 8  # lines of the stack and the like that a region touches
    expected = {"l1d_miss": (256, 0, 768, 1024), "l2_miss": (256, 0, 768, 0)}
    for name, wanted in expected.items():
        found = [region[name] for region in regions]
        assert all(want <= got <= want + others for got, want in zip(found, wanted, strict=True)), (name, found)


def test_two_runs_of_a_model_count_the_same(pi_4, tiny_file):
    for runtime in ("litert", "onnxruntime"):
        candidate, feed = tiny_file(runtime, "fp32")
        first, second = (pi_4.count(candidate, [*feed, *INFERENCES])[1][-1].counts for _ in range(2))
        assert abs(first["insns"] - second["insns"]) <= 0.001 * first["insns"], runtime
        assert first["fma_vec"] == second["fma_vec"], "the arithmetic itself differs"


def test_the_same_file_runs_on_dot_products_where_the_core_has_them_and_on_long_ones_where_not(pi_4, pi_5, tiny_file):
    for runtime in ("litert", "onnxruntime"):
        candidate, feed = tiny_file(runtime, "int8")
        older, newer = (one.count(candidate, [*feed, *INFERENCES])[1][-1].counts for one in (pi_4, pi_5))
        assert older["sdot_udot"] == 0, runtime
        assert older["smlal_smull"] > 0, runtime
        assert newer["sdot_udot"] > 0, runtime
        assert newer["insns"] < older["insns"], runtime


def test_an_emulated_core_gives_the_answers_of_this_machine(pi_4, tiny_file, tmp_path):
    from edgeslim.deploy.run_model import run_model

    candidate, feed = tiny_file("onnxruntime", "int8")
    made = tmp_path / "outputs.npy"
    session = pi_4.run(candidate, [*feed, "--outputs", str(made)])
    assert session.hello.machine == "aarch64"
    (here,) = run_model("onnxruntime", candidate.model, np.load(feed[1]), precision="int8")
    assert np.array_equal(np.load(made), here)


def test_what_a_file_needs_wherever_it_runs_reaches_the_agent(pi_4, tiny_file):
    candidate, feed = tiny_file("onnxruntime", "fp32")
    asked = replace(candidate, arguments=("--provider", "TensorrtExecutionProvider", "--no-fallback"))
    with pytest.raises(DeviceFailed, match="has no TensorrtExecutionProvider"):
        pi_4.run(asked, feed)


def test_a_run_that_takes_too_long_is_ended(pi_4, tiny_file):
    candidate, feed = tiny_file("onnxruntime", "fp32")
    with pytest.raises(DeviceFailed, match=r"qemu-aarch64: not finished after 0\.2 s") as failure:
        pi_4.run(candidate, feed, timeout_s=0.2)
    assert failure.value.status == "timeout"


def test_a_profile_without_emulation_names_those_that_have_it():
    with pytest.raises(BadInput, match=r"intel-n100 cannot be emulated: its profile has no section `emulation`.*-pi-4"):
        open_emulator(load_profile("intel-n100")).__enter__()


def test_a_core_that_qemu_does_not_know_is_named_with_the_nearest_one():
    skip_without_emulator()
    profile = load_profile("raspberry-pi-4")
    emulation = profile.emulation.model_copy(update={"qemu_cpu": "cortex-a73"})
    with pytest.raises(BadInput, match=r"knows no core `cortex-a73`; did you mean .*`cortex-a72`"):
        open_emulator(profile.model_copy(update={"emulation": emulation})).__enter__()


def test_everything_that_is_missing_is_named_at_once_with_what_installs_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(emulator_module, "LIBRARY_FOLDERS", (tmp_path,))
    with pytest.raises(ToolFailed) as failure:
        require_tools()
    assert str(failure.value) == (
        "devices cannot be emulated here: qemu-aarch64 is not installed: apt-get install qemu-user; no C and C++ "
        "library for aarch64: apt-get install libc6-arm64-cross libstdc++6-arm64-cross (tools/install_emulator does it "
        "all)"
    )


@pytest.fixture
def fake_qemu(tmp_path, monkeypatch):
    """Return a function that puts a QEMU first on the search path."""
    skip_without_emulator()

    def put(says, does="exit 1", version="7.2.99"):
        folder = tmp_path / "bin"
        folder.mkdir()
        script = folder / "qemu-aarch64"
        script.write_text(FAKE_QEMU.format(says=says, does=does, version=version))
        script.chmod(0o755)
        monkeypatch.setenv("PATH", str(folder), prepend=":")

    return put


def test_a_qemu_without_plugins_is_recognized_with_the_way_out(fake_qemu):
    fake_qemu("-strace  log system calls")
    with pytest.raises(
        ToolFailed, match=r"qemu-aarch64 \(7\.2\.99\) was built without plugins, .*apt-get install qemu-user"
    ):
        require_tools()


def test_a_qemu_with_another_interface_for_plugins_is_recognized_with_the_way_out(fake_qemu):
    fake_qemu("-plugin [file=]<file>", version="9.0.2")
    with pytest.raises(
        ToolFailed, match=r"is 9\.0\.2, and after 8\.2 plugins have another interface: put an older one"
    ):
        require_tools()


def test_a_plugin_that_does_not_load_is_named_with_the_way_out(fake_qemu, tiny_file):
    fake_qemu("-plugin [file=]<file>", 'echo "qemu-aarch64: Could not load plugin x.so: API version 1" >&2; exit 1')
    candidate, feed = tiny_file("onnxruntime", "fp32")
    with open_emulator(load_profile("raspberry-pi-4")) as one, pytest.raises(ToolFailed) as failure:
        one.count(candidate, feed)
    assert "qemu-aarch64 (7.2.99) does not load the counting plugin" in str(failure.value)


def test_counts_that_were_cut_short_are_refused(tmp_path):
    file = tmp_path / "counts.jsonl"
    file.write_text('{"region": "inference", "number": 1, "counts": {"insns": 3}}\n')
    with pytest.raises(ToolFailed, match="wrote 1 lines and no last one: the run was cut short"):
        read_counts(file)
    file.write_text('{"region": "inference", "numb')
    with pytest.raises(ToolFailed, match="what the counting plugin wrote cannot be read"):
        read_counts(file)
