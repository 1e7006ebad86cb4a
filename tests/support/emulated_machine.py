"""The emulated machine as tests use it: rebooted, starved, and asked for its files past edgeslim's own connection."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgeslim.emulation.virtual_machine import REMOTE, VirtualMachine, made_machine, missing_tools

__all__ = ["REMOTE", "EmulatedMachine", "make_key", "require_emulator", "running_machine"]

MIB = 2**20
RAM_BYTES = 1024 * MIB  # of the machine that tests deploy to


class EmulatedMachine(VirtualMachine):
    """One machine, and a shell on it."""

    def ssh(self, script: str) -> str:
        """Run a script there, beside edgeslim's own connection, and return its stdout."""
        words = ["ssh", "-F", str(self.ssh_config), "-p", str(self.port), "root@127.0.0.1", script]
        return subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout


@contextmanager
def running_machine(folder: Path) -> Iterator[EmulatedMachine]:
    """Boot a machine with 1 GiB, and let edgeslim know how to reach it and where to keep its files there."""
    require_emulator()
    one = EmulatedMachine(made_machine(), folder, "cortex-a72")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGESLIM_SSH_CONFIG", str(one.ssh_config))
        patch.setenv("EDGESLIM_REMOTE", REMOTE)
        try:
            one.start(RAM_BYTES)
            yield one
        finally:
            one.stop()


def require_emulator() -> None:
    """Skip where QEMU or what makes the machine is not installed."""
    if missing := missing_tools():
        pytest.skip(f"{', '.join(missing)} is not installed; run tools/install_emulator")


def make_key(file: Path) -> Path:
    """Make a key pair for ssh without a passphrase; return the private key's file."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file], check=True)
    return file
