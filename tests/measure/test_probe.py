"""A machine beside its profile: what is the same, what differs and what neither side tells."""

import json
from functools import partial

import pytest

from edgeslim.devices.profile import Isa, load_profile
from edgeslim.errors import BadProfile, DeviceFailed
from edgeslim.formats import RUNTIMES
from edgeslim.measure.probe import FLAGS, findings, probe
from tests.support.command_line import call
from tests.support.fake_trees import write_hwmon
from tests.support.installed import skip_without
from tests.support.recorded_device import RecordedDevice, put_compilers

PI_5_CPU = """processor\t: {n}
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU part\t: 0xd0b

"""


@pytest.fixture
def pi(tmp_path, monkeypatch):
    for runtime in RUNTIMES:
        skip_without(runtime)
    put_compilers(tmp_path, monkeypatch)
    return RecordedDevice(tmp_path / "pi")


@pytest.fixture
def edgeslim(monkeypatch, capsys):
    return partial(call, monkeypatch, capsys)


def make_a_pi_5(pi):
    pi.write("proc/cpuinfo", "".join(PI_5_CPU.format(n=n) for n in range(4)))
    pi.write("proc/device-tree/model", "Raspberry Pi 5 Model B Rev 1.0\0")
    pi.write("proc/meminfo", "MemTotal:        8257520 kB\n")


def probed(pi, device="raspberry-pi-4"):
    """What was found, by what it is about."""
    return {one.what: one for one in probe(pi.address, device=device)}


def version_of(runtime):
    return {"argv": f"--runtime {runtime} --model no-model"}


def test_a_machine_that_is_what_its_profile_says_differs_in_nothing(pi):
    found = probed(pi)
    assert {name for name, one in found.items() if one.state != "same"} == {"glibc"}, found
    expected = {"architecture", "board", "cores", "instruction sets", "RAM, at least", "system", "glibc"}
    assert set(found) == expected | {f"runtime {one}" for one in RUNTIMES}, "something was not compared"


def test_every_finding_holds_the_profiles_word_and_the_machines_own(pi):
    found = probed(pi)
    assert (found["cores"].profile, found["cores"].device) == ("4", "4")
    assert found["board"].device == "Raspberry Pi 4 Model B Rev 1.5"
    assert found["RAM, at least"].device == "3.7 GiB"
    assert found["glibc"].device == "2.36"
    assert "Debian GNU/Linux 12 (bookworm), kernel 6.12.25+rpt-rpi-v8" in found["system"].device
    runtime = found["runtime onnxruntime"]
    assert (runtime.profile, runtime.device.partition(":")[0]) == ("1.32 or newer", "1.32.0")


def test_another_board_of_the_same_architecture_differs_by_name_alone(pi):
    make_a_pi_5(pi)
    differing = {name: one.device for name, one in probed(pi).items() if one.state == "differs"}
    assert differing == {"board": "Raspberry Pi 5 Model B Rev 1.0"}


def test_a_sensor_that_the_profile_does_not_know_is_told_and_one_that_it_knows_is_the_same(pi):
    make_a_pi_5(pi)
    assert (probed(pi)["power sensor pi_pmic"].profile, probed(pi)["power sensor pi_pmic"].state) == (
        "none known", "unknown",
    )  # fmt: skip
    assert probed(pi, "raspberry-pi-5")["power sensor pi_pmic"].state == "same"


def test_a_sensor_of_the_profile_that_cannot_be_read_differs_with_the_reason(pi):
    sensor = probed(pi, "raspberry-pi-5")["power sensor pi_pmic"]
    assert (sensor.state, sensor.device) == ("differs", "only the Raspberry Pi 5 and Compute Module 5 have this chip")


def test_a_sensor_added_to_a_board_is_told(pi):
    write_hwmon(pi.folder / "root", {"ina226": 2_200_000})
    assert probed(pi)["power sensor hwmon"].device == "can be read"


def test_what_the_processor_lacks_is_named(pi):
    assert probed(pi, "raspberry-pi-5")["instruction sets"].device == "lacks dotprod, fp16"


def test_every_instruction_set_of_a_profile_has_the_kernels_name():
    assert set(FLAGS) == set(Isa.__args__), "a profile may name a set that no machine would have"


@pytest.mark.parametrize(("kib", "state"), [(1 << 20, "same"), (900_000, "same"), (500_000, "differs")])
def test_ram_may_be_less_by_what_the_kernel_keeps_and_no_more(pi, kib, state):
    pi.write("proc/meminfo", f"MemTotal: {kib} kB\n")
    assert probed(pi)["RAM, at least"].state == state


def test_another_architecture_and_number_of_cores_differ(pi):
    pi.answer({"argv": "^uname -m$", "lines": ["x86_64"]})
    pi.write("proc/cpuinfo", PI_5_CPU.format(n=0))
    found = probed(pi)
    assert [found[name].state for name in ("architecture", "board", "cores")] == ["differs"] * 3


def test_a_runtime_that_is_too_old_differs_with_its_version(pi):
    older = [line.replace("1.32.0", "1.4.0") for line in pi.session("onnxruntime_version")]
    pi.answer({**version_of("onnxruntime"), "lines": older, "exit": 11})
    found = probed(pi)["runtime onnxruntime"]
    assert (found.state, found.device.partition(":")[0]) == ("differs", "1.4.0"), "1.4 is older than 1.32"


def test_a_runtime_that_tells_no_version_is_unknown(pi):
    silent = [
        line.replace('"runtime_version":"2.3.0"', '"runtime_version":null') for line in pi.session("litert_version")
    ]
    pi.answer({**version_of("litert"), "lines": silent, "exit": 11})
    found = probed(pi)["runtime litert"]
    assert found.state == "unknown"
    assert found.device == "it does not tell its version: the device's own /usr/local/lib/libLiteRt.so"


def test_a_runtime_that_cannot_be_loaded_differs_with_the_agents_words_and_the_others_are_asked(pi):
    missing = '{"type": "error", "reason": "missing-runtime", "message": "libtbb.so.12: cannot open"}'
    pi.answer({**version_of("openvino"), "lines": [missing], "exit": 10})
    found = probed(pi)
    assert found["runtime openvino"].state == "differs"
    assert "missing-runtime: libtbb.so.12: cannot open" in found["runtime openvino"].device
    assert found["runtime litert"].state == "same", "the others were not asked"


def test_an_agent_that_ran_a_model_that_is_not_there_is_not_believed(pi):
    pi.answer({**version_of("litert"), "lines": pi.session("litert_version")[:1]})
    assert "a model that is not there" in probed(pi)["runtime litert"].device


def test_a_sign_of_life_before_the_answer_is_no_answer(pi):
    hello, error = pi.session("litert_version")
    pi.answer({**version_of("litert"), "lines": [hello, '{"type":"heartbeat","at_s":5.0}', error], "exit": 11})
    assert probed(pi)["runtime litert"].state == "same", "a slow device was taken for one without the runtime"


def test_a_runtime_that_this_machine_could_not_bring_says_nothing_of_the_device(pi, monkeypatch):
    monkeypatch.setattr("sys.path", [])  # no installed package can be found from here on
    found = probed(pi)["runtime litert"]
    assert (found.state, "pip install 'edgeslim[tflite]'" in found.device) == ("unknown", True), found


def test_a_device_that_is_lost_on_the_way_is_a_failure_and_no_difference(pi):
    pi.answer({**version_of("onnxruntime"), "cut": True})
    with pytest.raises(DeviceFailed) as failed:
        probed(pi)
    assert failed.value.status == "lost"


def test_a_runtime_without_an_agent_is_unknown(pi):
    from edgeslim.deploy.device import open_device

    profile = load_profile("raspberry-pi-4")
    unknown = profile.runtimes[0].model_copy(update={"name": "tensorrt"})
    with open_device(pi.address) as device:
        found = findings(device, profile.model_copy(update={"runtimes": (unknown,)}))
    states = {one.what: (one.device, one.state) for one in found}
    assert states["runtime tensorrt"] == ("edgeslim has no agent for it", "unknown")


def test_an_unknown_device_is_refused_before_the_machine_is_asked():
    with pytest.raises(BadProfile, match="raspberry-pi"):
        probe("fake:nowhere", device="rasberry-pi")


def test_the_command_line_ends_well_where_nothing_differs(pi, edgeslim):
    code, out, err = edgeslim("probe", pi.address, "--device", "raspberry-pi")
    assert (code, err) == (0, "")
    assert "Raspberry Pi 4 Model B Rev 1.5" in out
    assert "DIFFERS" not in out


def test_the_command_line_lists_what_differs_and_ends_with_3(pi, edgeslim):
    make_a_pi_5(pi)
    code, out, err = edgeslim("probe", pi.address, "--device", "raspberry-pi")
    assert code == 3
    assert "is not what the profile of raspberry-pi says" in err
    assert "Raspberry Pi Compute Module 4 expected; Raspberry Pi 5 Model B Rev 1.0" in err
    assert out.count("DIFFERS") == 1


def test_the_command_line_gives_all_findings_as_json(pi, edgeslim):
    make_a_pi_5(pi)
    code, out, _ = edgeslim("probe", pi.address, "--device", "raspberry-pi", "--json")
    found = json.loads(out)
    assert (code, [one["what"] for one in found if one["state"] == "differs"]) == (3, ["board"])


def test_the_command_line_says_what_to_do_about_a_device_that_is_lost(pi, edgeslim):
    pi.answer({"argv": "^uname -m$", "cut": True})
    code, out, err = edgeslim("probe", pi.address, "--device", "raspberry-pi")
    assert (code, out) == (4, "")
    assert "status: lost help: the connection was cut; run the command again when the device answers" in err
