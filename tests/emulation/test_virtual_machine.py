"""The emulated machine: made whole or not at all, booted or its failure named, and gone with whoever started it."""

from contextlib import ExitStack

import pytest

from edgeslim.emulation import virtual_machine
from edgeslim.emulation.virtual_machine import (
    LEAST_RAM_BYTES,
    VirtualMachine,
    made_machine,
    require_ram,
    running_machine,
)
from edgeslim.errors import BadInput, ToolFailed
from edgeslim.report.doctor import of_virtual_machine
from tests.support.emulated_machine import MIB, EmulatedMachine, require_emulator


@pytest.fixture(scope="module")
def made():
    require_emulator()
    return made_machine()


def test_it_is_made_once_and_its_key_is_for_nobody_else(made):
    written = {file.name: file.stat().st_mtime_ns for file in made.iterdir()}
    assert made_machine() == made
    assert {file.name: file.stat().st_mtime_ns for file in made.iterdir()} == written, "it was made again"
    assert {"kernel", "initrd.gz", "disk.img", "key"} <= set(written)
    assert oct((made / "key").stat().st_mode)[-3:] == "600", "others may read the key"
    assert [one.name for one in made.parent.iterdir()] == [made.name], "something half-made was left"


def test_two_machines_run_at_once_with_the_least_memory_and_leave_what_was_made_unwritten(made, tmp_path):
    written = (made / "disk.img").stat().st_mtime_ns
    with ExitStack() as stack:
        machines = []
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            machines.append(EmulatedMachine(made, tmp_path / name, "cortex-a53"))
            stack.callback(machines[-1].stop)
            machines[-1].start(LEAST_RAM_BYTES)
        one, other = machines
        one.ssh("echo mine >/root/mark")
        assert "mark" not in other.ssh("ls /root"), "they share a disk"
        assert "0xd03" in one.ssh("cat /proc/cpuinfo"), "it has another core"
        assert int(one.ssh("awk '/MemTotal/ {print $2}' /proc/meminfo")) * 1024 < LEAST_RAM_BYTES
    assert (made / "disk.img").stat().st_mtime_ns == written, "a session wrote to the machine that is kept"


def test_a_machine_that_does_not_boot_is_named_with_what_its_console_said(made, tmp_path):
    machine = VirtualMachine(made, tmp_path, "cortex-a72")
    try:
        with pytest.raises(ToolFailed, match=r"(?s)not up after 6 s; its console ended with:.*Kernel panic"):
            machine.start(96 * MIB, kernel_words="rdinit=/nowhere panic=0", timeout_s=6)
    finally:
        machine.stop()


def test_a_qemu_that_does_not_start_is_named_with_its_words(made, tmp_path):
    with pytest.raises(ToolFailed, match=r"(?s)ended before the machine was up:.*cortex-a999"):
        VirtualMachine(made, tmp_path, "cortex-a999").start(96 * MIB)


def test_its_processes_end_with_the_context(made):
    with running_machine("cortex-a72", 96 * MIB) as machine:
        qemu = machine._qemu
        assert qemu.poll() is None, "it does not run"
    assert qemu.returncode is not None, "QEMU runs on"


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (LEAST_RAM_BYTES - 1, "its own kernel needs 64 MiB to come up"),
        (2**50, "a machine with 1048576 GiB of memory: this one has .* available"),
    ],
)
def test_a_memory_that_cannot_be_is_refused_before_anything_is_made(size, words):
    with pytest.raises(BadInput, match=words.replace("a machine", "an emulated machine")):
        require_ram(size)


def test_what_is_not_installed_is_named_with_what_installs_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("EDGESLIM_CACHE", str(tmp_path))
    with pytest.raises(ToolFailed, match=r"needs qemu-system-aarch64, ssh.*: run tools/install_emulator"):
        made_machine()
    finding = of_virtual_machine()
    assert (finding.state, "cpio" in finding.detail) == ("missing", True), finding
    assert finding.cure.startswith("apt-get install qemu-system-arm openssh-client"), finding.cure
    assert not list(tmp_path.iterdir()), "something was left"


def test_the_doctor_says_that_it_can_run(made):
    assert of_virtual_machine().state == "ok"


def test_packages_that_cannot_be_reached_are_named_and_nothing_half_made_is_left(made, tmp_path, monkeypatch):
    (tmp_path / "sources.list").write_text("deb http://127.0.0.1:1/debian bookworm main\n")
    (tmp_path / "apt.conf").write_text(
        f'Dir::Etc::sourcelist "{tmp_path / "sources.list"}";\nDir::Etc::sourceparts "/dev/null";\n'
    )
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
    monkeypatch.setenv("EDGESLIM_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ToolFailed, match=r"(?s)cannot be made:.*apt cannot reach Debian's packages"):
        made_machine()
    assert not list((tmp_path / "cache" / "machines").iterdir()), "something half-made was left"


def test_a_store_that_cannot_be_written_to_is_named(made, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("EDGESLIM_CACHE", str(tmp_path / "file"))
    with pytest.raises(ToolFailed, match=r"cannot keep machines in .*; name another folder"):
        virtual_machine.made_machine()
