"""Nothing that lies in the folder a command is called in is run: a build's processes import what is installed."""

import os
import subprocess
import sys
from pathlib import Path

from tests.support.builds import NET
from tests.support.installed import skip_without

TRAP = "import os; open(os.environ['TRAP'], 'a').write(__name__ + '\\n'); raise SystemExit('caught')\n"


def test_modules_beside_the_user_run_in_no_process_of_a_build(tmp_path: Path, images: Path) -> None:
    for runtime in ("onnxruntime", "openvino", "litert"):
        skip_without(runtime)
    here = tmp_path / "here"
    (here / "edgeslim").mkdir(parents=True)
    for name in ("onnx", "json", "openvino", "ai_edge_litert", "litert_torch", "agent", "edgeslim/__init__"):
        (here / f"{name}.py").write_text(TRAP)
    command = ["build", NET, "--device", "raspberry-pi", "--weights", "random", "--no-prune", "--no-estimate"]
    command += ["--max-drop", "100", "--data", str(images), "--out", str(tmp_path / "made")]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "edgeslim", *command],
        cwd=here,
        env={**os.environ, "TRAP": str(tmp_path / "caught")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "caught").exists(), (tmp_path / "caught").read_text()
