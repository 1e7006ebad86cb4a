"""Build from a folder of many photographs within bounds of memory and disk, and a second time from what was kept.

`python tools/bench_data.py [--images 50000]` makes JPEG files of 224x224 pixels in two folders, a small network, and
runs `edgeslim build` twice, every process of it under a limit of LIMIT_BYTES of writable memory (RLIMIT_DATA). Prints
for each build its time, the memory of all its processes together at their peak, what lay in its temporary folder at
most, and what is kept of the images. The exit code is 1 where the build fails or its memory exceeds the limit.
"""

import argparse
import contextlib
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

LIMIT_BYTES = 4 * 2**30
SIDE = 224
POLL_S = 0.5
NETWORK = '''"""A small network for photographs of 224x224."""

from torch import nn

PREPROCESSING = {
    "width": 224, "height": 224, "channels": 3, "resize": 224, "mean": [0.5] * 3, "std": [0.25] * 3,
    "color_order": "RGB", "interpolation": "bilinear",
}


def make():
    return nn.Sequential(
        nn.Conv2d(3, 8, 7, 4, 3), nn.ReLU(), nn.Conv2d(8, 16, 3, 4, 1), nn.ReLU(), nn.Conv2d(16, 16, 3, 2, 1),
        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 2),
    )
'''


def write_photographs(folder: Path, count: int) -> None:
    """Write so many smooth JPEG files, half of them in each of two folders."""
    generator = np.random.default_rng(0)
    for number in range(count):
        home = folder / f"class_{number % 2}"
        home.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(generator.integers(0, 256, (7, 7, 3), np.uint8))
        coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(home / f"{number}.jpg", quality=85)


def memory_of(group: int) -> int:
    """Return the resident bytes of all processes of a session, each counted whole."""
    total = 0
    for one in Path("/proc").glob("[0-9]*"):
        try:
            fields = (one / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == group:
                total += int((one / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except OSError:  # it ended meanwhile
            continue
    return total


def bytes_in(folder: Path) -> int:
    """Return what lies in a folder, as far as it is still there."""
    total = 0
    for home, _, names in os.walk(folder):  # which passes over folders that are gone
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(Path(home) / name).st_size
    return total


def build(work: Path, images: Path, name: str) -> tuple[int, float, int, int]:
    """Build once; return the exit code, the seconds, and the peaks of memory and of temporary files in bytes."""
    temporary = work / "tmp"
    temporary.mkdir(exist_ok=True)
    command = [
        sys.executable, "-m", "edgeslim", "build", f"{work / 'network.py'}:make", "--weights", "random", "--data",
        str(images), "--device", "raspberry-pi", "--no-prune", "--trust-labels", "--format", "onnx", "--format",
        "tflite", "--max-drop", "100", "--quiet", "--out", str(work / name),
    ]  # fmt: skip
    surroundings = {**os.environ, "TMPDIR": str(temporary), "EDGESLIM_CACHE": str(work / "store")}
    began = time.monotonic()
    with (work / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            command, env=surroundings, stdout=log, stderr=log, start_new_session=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (LIMIT_BYTES, LIMIT_BYTES)),  # noqa: PLW1509
        )  # fmt: skip
        memory = disk = 0
        while process.poll() is None:
            memory, disk = max(memory, memory_of(process.pid)), max(disk, bytes_in(temporary))
            time.sleep(POLL_S)
    return process.returncode, time.monotonic() - began, memory, disk


def main() -> int:
    """Read the arguments, build twice, print, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=50_000)
    asked = parser.parse_args()
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        (work / "network.py").write_text(NETWORK)
        write_photographs(work / "images", asked.images)
        for name in ("first", "second"):
            code, seconds, memory, disk = build(work, work / "images", name)
            kept = bytes_in(work / "store" / "images")
            print(
                f"{name} build of {asked.images} images: exit code {code}, {seconds:.0f} s, memory at most "
                f"{memory / 2**30:.2f} GiB, temporary files {disk / 2**30:.2f} GiB, images kept {kept / 2**30:.2f} GiB",
                flush=True,
            )
            failed |= code not in (0, 3) or memory > LIMIT_BYTES
            if code not in (0, 3):
                print((work / f"{name}.log").read_text()[-2000:])
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
