"""tools/bench_gpu.py where there is no GPU: it says so and measures nothing."""

import subprocess
import sys

from tests.support import REPOSITORY

TOOL = REPOSITORY / "tools" / "bench_gpu.py"


def test_without_a_gpu_it_says_so_ends_with_7_and_writes_nothing(tmp_path):
    script = [sys.executable, str(TOOL), "--out", str(tmp_path)]
    environment = {"PATH": "/usr/bin:/bin", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(TOOL.parents[1])}
    done = subprocess.run(script, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 7, done.stderr
    assert "PyTorch sees no NVIDIA GPU here; nothing was measured" in done.stderr, "the reason is not named"
    assert (done.stdout, list(tmp_path.iterdir())) == ("", []), "something was written all the same"
