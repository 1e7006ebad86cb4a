"""What is brought to a device: whose runtime is taken, which agent runs, and what is refused before it would fail."""

import importlib.metadata
import platform
import sys
from dataclasses import replace

import pytest

from edgeslim.deploy.deployment import ask, deploy, machine_at
from edgeslim.deploy.targets import fake, local
from edgeslim.devices.machine import this_machine
from edgeslim.errors import BadInput, DeviceFailed, MissingPackage, ToolFailed
from edgeslim.formats import RUNTIMES
from tests.support.installed import skip_without
from tests.support.recorded_device import RecordedDevice, put_compilers, take_compilers

OWN_ARCHITECTURE = platform.machine()


@pytest.fixture
def pi(tmp_path):
    skip_without("onnxruntime")
    return RecordedDevice(tmp_path / "pi")


@pytest.fixture
def compilers(tmp_path, monkeypatch):
    put_compilers(tmp_path, monkeypatch)


@pytest.fixture
def no_compiler(tmp_path, monkeypatch):
    take_compilers(tmp_path, monkeypatch)


def deployed(device, runtime="onnxruntime", library=None):
    with fake.open_target(device.address) as target:
        return deploy(target, machine_at(target), runtime, library)


def own_libraries(runtime, *paths):
    """The reply of a device whose own libraries of a runtime are these."""
    name = {"onnxruntime": "libonnxruntime", "openvino": "libopenvino_c", "litert": "libLiteRt"}[runtime]
    return {"argv": f"ls -d .*{name}", "lines": list(paths)}


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_library_of_the_devices_own_in_a_usual_place_is_taken(pi, compilers, runtime):
    skip_without(runtime)
    found = deployed(pi, runtime)
    assert found.library_path.startswith("/usr/local/lib/lib"), "another library is loaded"
    assert found.library == f"the device's own {found.library_path}", "whose runtime it is is not said"
    assert (found.agent, found.argv[-2:]) == ("c", ["--library", found.library_path])


@pytest.mark.parametrize(
    ("runtime", "paths", "newest"),
    [
        ("onnxruntime", ("/usr/lib/libonnxruntime.so.1.22.0", "/usr/lib/libonnxruntime.so.1.32.1"), 1),
        ("onnxruntime", ("/usr/lib/libonnxruntime.so.1.9.0", "/usr/lib/libonnxruntime.so.1.32"), 1),
        ("onnxruntime", ("/usr/lib/libonnxruntime.so.1.32.0", "/opt/onnxruntime-linux/lib/libonnxruntime.so.1.9.0"), 0),
        ("onnxruntime", ("/usr/lib/libonnxruntime.so", "/usr/lib/libonnxruntime.so.1.32.0"), 1),
        ("openvino", ("/usr/lib/libopenvino_c.so.2641", "/usr/local/lib/libopenvino_c.so.2540"), 0),
        ("litert", ("/usr/lib/libLiteRt.so", "/usr/lib/aarch64-linux-gnu/libLiteRt.so"), 0),
    ],
)
def test_of_several_libraries_the_newest_is_taken_wherever_it_lies(pi, compilers, runtime, paths, newest):
    skip_without(runtime)
    pi.answer(own_libraries(runtime, *paths))
    assert deployed(pi, runtime).library_path == paths[newest]


def test_a_library_that_was_named_is_taken_unasked(pi, compilers):
    assert deployed(pi, library="/opt/mine.so").library == "the device's own /opt/mine.so"


def test_without_a_compiler_the_python_agent_takes_over_and_the_result_says_why(pi, no_compiler):
    found = deployed(pi)
    assert found.agent.startswith("python (no C agent: no C compiler for aarch64"), found.agent
    assert "brings one" in found.agent, "what would bring one is not said"
    assert found.library == "the Python package on the device", "whose runtime it is is not said"
    assert found.argv == ["python3", "-B", "/fake/agent.py"], "a library was named, which this agent refuses"


def test_without_a_compiler_a_library_that_was_named_is_refused_and_not_left_out(pi, no_compiler):
    with pytest.raises(ToolFailed, match=r"only the C agent can load /opt/mine\.so.*brings one"):
        deployed(pi, library="/opt/mine.so")


def test_here_the_python_agent_runs_in_this_interpreter(no_compiler):
    skip_without("onnxruntime")
    with local.open_target() as target:
        found = deploy(target, this_machine(), "onnxruntime")
    assert found.program[0] == sys.executable, "another Python may lack the runtime"


def test_here_the_installed_library_is_taken(compilers):
    skip_without("onnxruntime")
    with local.open_target() as target:
        found = deploy(target, this_machine(), "onnxruntime")
    version = importlib.metadata.version("onnxruntime")
    assert (found.version, found.library) == (version, f"onnxruntime {version}, installed here")


def test_a_device_without_a_library_gets_this_machines_version(pi, compilers):
    """Its architecture is this machine's here: the library of another one would have to be fetched."""
    pi.answer(own_libraries("onnxruntime"), {"argv": "^uname -m$", "lines": [OWN_ARCHITECTURE]})
    found = deployed(pi)
    version = importlib.metadata.version("onnxruntime")
    assert (found.version, found.library) == (version, f"onnxruntime {version}, brought along")
    assert found.library_path == f"/fake/libonnxruntime.so.{version}"


def test_a_device_whose_glibc_is_too_old_for_what_would_travel_is_told_both_versions(pi, compilers):
    pi.answer(
        own_libraries("onnxruntime"),
        {"argv": "^uname -m$", "lines": [OWN_ARCHITECTURE]},
        {"argv": "getconf", "lines": ["ldd (Debian GLIBC 2.13-38) 2.13"]},
    )
    with pytest.raises(DeviceFailed, match=r"needs glibc 2\.\d+ or newer; the device has 2\.13: .*--library") as failed:
        deployed(pi)
    assert failed.value.status == "old-runtime"


def test_an_old_glibc_is_no_reason_against_a_library_of_the_devices_own(pi, compilers):
    pi.answer({"argv": "getconf", "lines": ["glibc 2.13"]})
    assert deployed(pi).agent == "c"


def test_a_device_that_does_not_tell_its_glibc_is_not_refused(pi, compilers):
    pi.answer(
        own_libraries("onnxruntime"),
        {"argv": "^uname -m$", "lines": [OWN_ARCHITECTURE]},
        {"argv": "getconf", "lines": ["musl libc (aarch64)"]},
    )
    assert deployed(pi).agent == "c"


def test_a_runtime_that_is_not_installed_here_names_the_extra_that_brings_it(pi, compilers, monkeypatch):
    monkeypatch.setattr(sys, "path", [])  # no installed package can be found from here on
    with pytest.raises(MissingPackage, match=r"pip install 'edgeslim\[tflite\]'"):
        deployed(pi, "litert")


def test_an_unknown_runtime_is_refused_with_near_misses(pi, compilers):
    with pytest.raises(BadInput, match="unknown runtime `onnxruntim`; did you mean `onnxruntime`"):
        deployed(pi, "onnxruntim")


def test_a_device_says_what_it_is(pi):
    with fake.open_target(pi.address) as target:
        machine = machine_at(target)
    here = this_machine(pi.folder / "root", "aarch64")
    assert machine == replace(here, glibc="2.36"), "read from afar it is another machine"


def test_a_device_that_does_not_tell_its_architecture_is_of_an_unknown_one(pi):
    pi.answer({"argv": "^uname -m$"})
    with fake.open_target(pi.address) as target:
        assert machine_at(target).architecture == "unknown"


def test_a_device_without_a_linux_proc_is_named(pi):
    pi.write("proc/cpuinfo", None)
    with fake.open_target(pi.address) as target, pytest.raises(ToolFailed, match="/proc/cpuinfo cannot be read"):
        machine_at(target)


def test_a_question_that_fails_is_a_failure_of_the_device(pi):
    pi.answer({"argv": "^uname -m$", "cut": True})
    with fake.open_target(pi.address) as target, pytest.raises(DeviceFailed) as failed:
        ask(target, ["uname", "-m"])
    assert failed.value.status == "lost"


def test_on_an_architecture_without_a_c_agent_the_python_agent_takes_over(pi, compilers):
    pi.answer({"argv": "^uname -m$", "lines": ["armv7l"]})
    found = deployed(pi)
    assert found.agent == "python (there is no C agent for armv7l)", found.agent
    assert found.library_path is None, "a library was named, which this agent refuses"
