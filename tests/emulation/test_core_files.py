"""The files of /proc and /sys that an emulated device shows are those of its profile."""

import pytest

from edgeslim.devices.machine import CPUINFO, small_files
from edgeslim.devices.profile import load_profile
from edgeslim.emulation.core_files import write_tree

CPUS = "sys/devices/system/cpu"


@pytest.fixture
def tree(tmp_path):
    """Return a function that writes a device's tree and gives its folder."""

    def of(device):
        profile = load_profile(device)
        folder = tmp_path / device
        folder.mkdir()
        write_tree(profile, profile.emulation, tmp_path, folder)
        return folder

    return of


@pytest.mark.parametrize(
    ("device", "part", "features", "midr"),
    [
        ("raspberry-pi-4", "0xd08", "fp asimd evtstrm crc32 cpuid", "0x00000000410fd083"),
        ("raspberry-pi-zero-2w", "0xd03", "fp asimd evtstrm crc32 cpuid", "0x00000000410fd034"),
    ],
)
def test_the_processor_is_the_profiles(tree, device, part, features, midr):
    folder = tree(device)
    cpuinfo = small_files(folder, [CPUINFO])[CPUINFO]
    assert cpuinfo.count("processor\t:") == 4
    assert f"CPU part\t: {part}\n" in cpuinfo
    assert f"Features\t: {features}\n" in cpuinfo
    assert (folder / CPUS / "cpu3/regs/identification/midr_el1").read_text() == f"{midr}\n"
    assert (folder / CPUS / "possible").read_text() == "0-3\n"


def test_the_caches_are_the_profiles(tree):
    second = tree("raspberry-pi-4") / CPUS / "cpu1/cache"
    read = {
        name: (second / "index2" / name).read_text().strip() for name in ("level", "type", "size", "shared_cpu_list")
    }
    assert read == {"level": "2", "type": "Unified", "size": "1024K", "shared_cpu_list": "0-3"}
    assert (second / "index0/shared_cpu_list").read_text() == "1\n", "the first level is each core's own"
    assert (second / "index0/number_of_sets").read_text() == "256\n"


def test_data_goes_through_the_caches_that_are_known_without_a_gap():
    pi_5 = load_profile("raspberry-pi-5")
    assert [(one.level, one.size.value) for one in pi_5.data_caches] == [(1, 65536), (2, 524288), (3, 2097152)]
    unknown = pi_5.caches[2].ways.model_copy(update={"value": None})
    caches = (*pi_5.caches[:2], pi_5.caches[2].model_copy(update={"ways": unknown}), pi_5.caches[3])
    assert len(pi_5.model_copy(update={"caches": caches}).data_caches) == 1
