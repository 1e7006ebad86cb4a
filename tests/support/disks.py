"""Small and read-only disks, for what happens when they are full."""

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """Mount a tmpfs with some options ("ro", "size=48k") at the new `folder`; skip where nobody may."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("hardware: mounting a tmpfs is not permitted here; run as root, or under `unshare -rm`")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)
