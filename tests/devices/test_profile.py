"""Device profiles: strict reading, bundled facts with their sources, recognizing the machine."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from edgeslim import units
from edgeslim.devices.profile import (
    all_profiles,
    describe,
    is_this_machine,
    known_devices,
    load_profile,
    profile_sha256,
)
from edgeslim.devices.sourced import Bytes, BytesPerSecond, Flops, Hertz, Ops, Seconds, Watts
from edgeslim.errors import BadProfile
from edgeslim.resources import bundled
from tests.support import TESTS
from tests.support.fake_trees import write_intel_n100, write_raspberry_pi_4

INVALID = sorted((TESTS / "invalid_profiles").glob("*.yaml"))
BUNDLED = known_devices()


def test_there_are_invalid_profiles_to_read() -> None:
    assert len(INVALID) > 20, "tests/invalid_profiles is nearly empty: the next test would show nothing"


@pytest.mark.parametrize("file", INVALID, ids=lambda file: file.stem)
def test_an_invalid_profile_is_refused_with_the_error_in_its_first_line(file: Path) -> None:
    expected = file.read_text().splitlines()[0].removeprefix("# ")
    with pytest.raises(BadProfile) as refused:
        load_profile(file)
    assert expected in str(refused.value), f"{file.name} was refused for another reason"
    assert str(refused.value).count(file.name) == 1, "one mistake is reported more than once"


def test_every_mistake_of_a_file_is_named_at_once(tmp_path: Path) -> None:
    text = (bundled("device_profiles") / "raspberry-pi-5.yaml").read_text()
    broken = tmp_path / "mine.yaml"
    broken.write_text(text.replace("device_class: cpu", "device_class: tpu").replace('"2.4 GHz"', '"2.4 GB"', 1))
    with pytest.raises(BadProfile) as refused:
        load_profile(broken)
    lines = str(refused.value).splitlines()
    assert len(lines) == 2, lines
    assert all(line.startswith("mine.yaml") for line in lines), lines


def test_a_profile_that_refers_to_itself_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "loop.yaml"
    file.write_text("name: &a [*a]\n")
    with pytest.raises(BadProfile, match="`name`: expected text"):
        load_profile(file)


def test_a_missing_file_is_refused_by_its_path(tmp_path: Path) -> None:
    with pytest.raises(BadProfile, match=r"nowhere\.yaml: cannot be read"):
        load_profile(tmp_path / "nowhere.yaml")


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "binary.yaml"
    file.write_bytes(b"\xff\xfe\x00name")
    with pytest.raises(BadProfile, match=r"binary\.yaml: cannot be read"):
        load_profile(file)


def test_an_unknown_device_is_refused_with_its_near_misses() -> None:
    with pytest.raises(BadProfile) as refused:
        load_profile("rasperry-pi-4")
    assert "unknown device `rasperry-pi-4`" in str(refused.value)
    assert "`raspberry-pi-4`" in str(refused.value), "the near miss is not named"
    assert "edgeslim devices" in str(refused.value), "the next step is not named"


def test_an_alias_loads_the_same_profile_as_the_name() -> None:
    assert load_profile("raspberry-pi") == load_profile("raspberry-pi-4")


def test_names_and_aliases_are_unique() -> None:
    names = [name for profile in all_profiles() for name in (profile.name, *profile.aliases)]
    assert len(set(names)) == len(names), f"some name stands twice: {sorted(names)}"


def test_the_ten_devices_are_bundled() -> None:
    assert set(BUNDLED) == {
        "arm-corstone-300",
        "arm-corstone-320",
        "intel-n100",
        "jetson-orin-nano",
        "nvidia-cuda",
        "nxp-imx93",
        "raspberry-pi-4",
        "raspberry-pi-5",
        "raspberry-pi-zero-2w",
        "x86-64-host",
    }


@pytest.mark.parametrize("name", BUNDLED)
def test_a_bundled_profile_bears_the_name_of_its_file(name: str) -> None:
    assert load_profile(name).name == name


@pytest.mark.parametrize("name", BUNDLED)
def test_a_copy_elsewhere_is_the_same_profile(name: str, tmp_path: Path) -> None:
    copy = tmp_path / "copy.yml"
    copy.write_text((bundled("device_profiles") / f"{name}.yaml").read_text())
    assert load_profile(copy) == load_profile(name)


def test_units_are_base_units_after_loading() -> None:
    profile = load_profile("raspberry-pi-4")
    assert profile.memory.ram.value == 2**30
    assert isinstance(profile.memory.ram.value, int), "bytes are whole"
    assert profile.cores[0].max_clock.value == 1.8e9
    assert profile.power.active.value == 7.2
    assert profile.latency_references[0].latency.value == pytest.approx(0.09298)


def test_a_profile_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_profile("raspberry-pi-4").name = "other"


def test_runtimes_stand_in_order_of_preference() -> None:
    names = [runtime.name for runtime in load_profile("raspberry-pi").runtimes]
    assert names == ["litert", "onnxruntime", "openvino"]
    assert load_profile("x86-64-host").runtimes[0].name == "openvino"


def test_openvino_int8_is_known_to_fail_on_a_raspberry_pi_4() -> None:
    failure = load_profile("raspberry-pi-4").failure("openvino", "int8")
    assert failure is not None
    assert failure.effect == "fails"
    assert "object is not initialized" in failure.text


def test_openvino_fp32_is_known_to_run_as_fp16_where_the_core_has_fp16() -> None:
    failure = load_profile("raspberry-pi-5").failure("openvino", "fp32")
    assert failure is not None
    assert failure.effect == "runs_as_fp16"


def test_an_emulated_core_is_told_by_its_midr() -> None:
    emulation = load_profile("raspberry-pi-5").emulation
    assert emulation is not None, "the profile does not say how to emulate the board"
    told = (emulation.cpu_part, emulation.implementer, emulation.variant, emulation.revision)
    assert told == ("0xd0b", 0x41, 4, 1), "MIDR_EL1 of a Cortex-A76 r4p1 is read wrongly"


def test_what_is_not_known_to_fail_has_no_failure() -> None:
    profile = load_profile("raspberry-pi-4")
    assert profile.failure("litert", "int8") is None
    assert profile.failure("tensorrt", "int8") is None, "a runtime the device has no use for"
    assert profile.runtime("tensorrt") is None


@pytest.mark.parametrize("name", BUNDLED)
def test_describe_tells_every_word_and_number_of_the_file(name: str) -> None:
    told = "\n".join(f"{f.section}\n{f.name}\n{f.value}\n{f.source}" for f in describe(load_profile(name)))
    file = yaml.safe_load((bundled("device_profiles") / f"{name}.yaml").read_text())
    missing = [leaf for leaf in _leaves(file) if isinstance(leaf, str) and not _is_quantity(leaf) and leaf not in told]
    assert not missing, f"describe leaves out {missing}"


@pytest.mark.parametrize("name", BUNDLED)
def test_describe_shows_each_null_number_as_not_measured(name: str) -> None:
    facts = describe(load_profile(name))
    text = (bundled("device_profiles") / f"{name}.yaml").read_text()
    shown = [fact for fact in facts if fact.value == "not measured"]
    assert len(shown) == text.count("{value: null}")


@pytest.mark.parametrize("name", BUNDLED)
def test_every_number_shown_has_a_source(name: str) -> None:
    text = (bundled("device_profiles") / f"{name}.yaml").read_text()
    numbers = text.count("{value: ") - text.count("{value: null}")
    facts = describe(load_profile(name))
    quantities = [f for f in facts if _is_quantity(f.value) or f.name in {"count", "ways", "shared by", "max batch"}]
    quantities += [fact for fact in facts if fact.name.startswith(("channel multiple", "multiply adds"))]
    measured = [fact for fact in quantities if fact.value != "not measured"]
    assert len(measured) == numbers, "describe shows another number of numbers than the file holds"
    assert all(fact.source for fact in measured), [fact for fact in measured if not fact.source]


def test_describe_shows_quantities_as_people_write_them() -> None:
    facts = {(fact.section, fact.name): fact.value for fact in describe(load_profile("raspberry-pi-4"))}
    assert facts["memory", "ram"] == "1 GiB"
    assert facts["memory", "bandwidth"] == "5.5 GB/s"
    assert facts["cores Cortex-A72", "max clock"] == "1.8 GHz"
    assert facts["compute", "hpl"] == "11.889 GFLOPS"


def test_the_hash_ignores_path_layout_comments_and_units(tmp_path: Path) -> None:
    text = (bundled("device_profiles") / "raspberry-pi-4.yaml").read_text()
    other = tmp_path / "other.yaml"
    document = yaml.safe_load(text.replace('"1.8 GHz"', '"1800 MHz"'))
    other.write_text(yaml.safe_dump(dict(reversed(document.items()))))
    assert profile_sha256(load_profile(other)) == profile_sha256(load_profile("raspberry-pi-4"))


def test_the_hash_sees_one_changed_number(tmp_path: Path) -> None:
    text = (bundled("device_profiles") / "raspberry-pi-4.yaml").read_text()
    other = tmp_path / "other.yaml"
    other.write_text(text.replace('"1.8 GHz"', '"1.9 GHz"'))
    assert profile_sha256(load_profile(other)) != profile_sha256(load_profile("raspberry-pi-4"))


def test_the_hashes_of_all_devices_differ() -> None:
    assert len({profile_sha256(profile) for profile in all_profiles()}) == len(BUNDLED)


def test_a_raspberry_pi_4_is_recognized_by_its_device_tree(tmp_path: Path) -> None:
    root = write_raspberry_pi_4(tmp_path)
    matching = [p.name for p in all_profiles() if is_this_machine(p, root, machine="aarch64")]
    assert matching == ["raspberry-pi-4"]


def test_a_raspberry_pi_4_under_a_32_bit_kernel_is_not_the_64_bit_device(tmp_path: Path) -> None:
    assert not is_this_machine(load_profile("raspberry-pi-4"), write_raspberry_pi_4(tmp_path), machine="armv7l")


def test_any_x86_64_machine_is_the_host_and_an_n100_is_both(tmp_path: Path) -> None:
    root = write_intel_n100(tmp_path)
    matching = [p.name for p in all_profiles() if is_this_machine(p, root, machine="x86_64")]
    assert matching == ["intel-n100", "x86-64-host"]


def test_reading_all_profiles_imports_no_torch_and_no_runtime() -> None:
    code = (
        "import sys; from edgeslim.devices.profile import all_profiles; all_profiles();"
        "print(*[m for m in ('torch', 'numpy', 'onnxruntime', 'openvino') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "", f"imported: {done.stdout}"


def _leaves(node: object) -> list[object]:
    if isinstance(node, dict):
        return [leaf for value in node.values() for leaf in _leaves(value)]
    if isinstance(node, list):
        return [leaf for value in node for leaf in _leaves(value)]
    return [node]


def _is_quantity(text: str) -> bool:
    for kind in (Bytes, BytesPerSecond, Flops, Hertz, Ops, Seconds, Watts):
        try:
            units.parse(text, kind.kind)
        except ValueError:
            continue
        return True
    return False
