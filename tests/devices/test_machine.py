"""The machine, read from trees like those of real boards."""

import platform
from dataclasses import replace
from pathlib import Path

import pytest

from edgeslim.devices.machine import Machine, this_machine
from edgeslim.errors import ToolFailed
from tests.support.fake_trees import write_intel_n100, write_raspberry_pi_4


def test_a_raspberry_pi_4_is_read_whole(tmp_path: Path) -> None:
    assert this_machine(write_raspberry_pi_4(tmp_path), "aarch64") == Machine(
        architecture="aarch64",
        board="Raspberry Pi 4 Model B Rev 1.5",
        cpu_model="CPU part 0xd08",
        cpu_flags=("fp", "asimd", "evtstrm", "crc32", "cpuid"),
        cores=4,
        ram_bytes=3884384 * 1024,
        kernel="6.12.25+rpt-rpi-v8",
        governor="ondemand",
        os_name="Debian GNU/Linux 12 (bookworm)",
        glibc=platform.libc_ver()[1],
        boot_id="b3a1b3c4-6f0e-4b3a-9f0e-0d2f2d1c5a6b",
    )


def test_an_x86_machine_without_device_tree_and_frequency_control_is_read_whole(tmp_path: Path) -> None:
    here = this_machine(write_intel_n100(tmp_path), "x86_64")
    assert (here.cpu_model, here.cores, here.ram_bytes) == ("Intel(R) N100", 4, 16093184 * 1024)
    assert (here.board, here.governor) == (None, None), "what the kernel does not offer is None"


@pytest.mark.parametrize(("flags", "expected"), [("avx512_vnni", True), ("avx_vnni", True), ("avx512f avx2", False)])
def test_vnni_is_told_from_the_flags(flags: str, expected: bool, tmp_path: Path) -> None:
    here = replace(this_machine(write_intel_n100(tmp_path)), cpu_flags=tuple(flags.split()))
    assert here.has_vnni is expected


def test_the_architecture_is_the_interpreters_by_default(tmp_path: Path) -> None:
    assert this_machine(write_intel_n100(tmp_path)).architecture == platform.machine()


@pytest.mark.parametrize("name", ["cpuinfo", "meminfo", "sys/kernel/osrelease"])
def test_a_missing_proc_file_is_named(name: str, tmp_path: Path) -> None:
    (write_intel_n100(tmp_path) / "proc" / name).unlink()
    with pytest.raises(ToolFailed, match=f"proc/{name} cannot be read; expected the /proc of a running Linux"):
        this_machine(tmp_path)


@pytest.mark.parametrize(("name", "key"), [("cpuinfo", "processor"), ("meminfo", "MemTotal")])
def test_a_proc_file_of_another_kind_is_named(name: str, key: str, tmp_path: Path) -> None:
    (write_intel_n100(tmp_path) / "proc" / name).write_text("something else\n")
    with pytest.raises(ToolFailed, match=f"proc/{name}: no `{key}` in it"):
        this_machine(tmp_path)
