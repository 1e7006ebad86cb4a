"""The Python agent asks ONNX Runtime for wider sums only where they saturate: on x86-64 without VNNI."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import REPOSITORY
from tests.support.installed import skip_without

ASK = "import sys; from pathlib import Path; from runtime_onnxruntime import sums_saturate as s; "


@pytest.mark.parametrize(
    ("machine", "flags", "expected"),
    [
        ("x86_64", "flags\t: fpu sse2 avx2 avx_vnni", False),
        ("x86_64", "flags\t: fpu sse2 avx2 avx512f avx512_vnni", False),
        ("x86_64", "flags\t: fpu sse2 avx2 avx512f", True),
        ("AMD64", None, True),
        ("aarch64", "Features\t: fp asimd asimddp", False),
    ],
)
def test_sums_saturate_on_x86_without_vnni(machine: str, flags: str | None, expected: bool, tmp_path: Path) -> None:
    skip_without("onnxruntime")
    told = tmp_path / "cpuinfo"
    if flags is not None:
        told.write_text(f"model name\t: some\n{flags}\n")
    code = f"{ASK}print(s({machine!r}, Path({str(told)!r})))"
    agent = REPOSITORY / "runtimes" / "python"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=agent)
    assert done.stdout.strip() == str(expected)
