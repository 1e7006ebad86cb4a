"""The same inputs give the same bytes, wherever the project lies."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support import REPOSITORY
from tests.support.builds import NET

TRAVELS = ("edgeslim", "device_profiles", "runtimes")


def test_two_clones_at_different_paths_give_byte_identical_archives(images: Path, tmp_path: Path) -> None:
    builds = []
    for clone in (tmp_path / "one", tmp_path / "another" / "deeper"):
        for name in TRAVELS:
            shutil.copytree(
                REPOSITORY / name, clone / name, ignore=shutil.ignore_patterns("__pycache__", "evaluation.npz")
            )
        shutil.copy(NET.removesuffix(":make"), clone / "mixed_net.py")
        shutil.copy(images, clone / "images.npz")
        shutil.copy(REPOSITORY / "LICENSE", clone)
        command = "build mixed_net.py:make --device raspberry-pi --weights random --data images.npz -q"
        command += " --max-drop 50 --prune macs=0.7"
        build = subprocess.Popen(
            [sys.executable, "-P", "-m", "edgeslim", *command.split(), "--out", "artifact"],
            cwd=clone, env={**os.environ, "PYTHONPATH": str(clone)}, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        builds.append((clone, build))
    archives = []
    for clone, build in builds:
        _, err = build.communicate(timeout=600)
        assert build.returncode == 0, err
        archives.append((clone / "artifact.tar.gz").read_bytes())
    assert archives[0] == archives[1]
