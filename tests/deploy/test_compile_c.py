"""C programs are compiled once; what a compiler leaves when it is killed lies where it is cleared."""

import os
import platform
import stat
from pathlib import Path

import pytest

from edgeslim.deploy.compile_c import compiled
from edgeslim.errors import ToolFailed
from edgeslim.sealed import SEAL

COMPILER = """#!/bin/sh
[ "$1" = --version ] && exit 0
echo "$TMPDIR" >{told}
touch "$TMPDIR/cc1.o"
[ -z "$FAILS" ] || exit 1
for word; do last=$next; next=$word; [ "$last" = -o ] && echo program >"$word"; done
exit 0
"""


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a compiler that stands first in PATH says where its temporary files go."""
    told = tmp_path / "told"
    compiler = tmp_path / "bin" / "cc"
    compiler.parent.mkdir()
    compiler.write_text(COMPILER.format(told=told))
    compiler.chmod(compiler.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "main.c").write_text("int main(void) { return 0; }\n")
    monkeypatch.setenv("PATH", f"{compiler.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("EDGESLIM_CACHE", str(tmp_path / "store"))
    return told


@pytest.mark.parametrize("fails", ["", "yes"])
def test_a_compilers_temporary_files_lie_in_the_store_and_go(
    tmp_path: Path, told: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    monkeypatch.setenv("FAILS", fails)
    if fails:
        with pytest.raises(ToolFailed, match="failed with exit code 1"):
            compiled("main", "programs", platform.machine(), [tmp_path / "main.c"], [])
    else:
        made = compiled("main", "programs", platform.machine(), [tmp_path / "main.c"], [])
        assert sorted(file.name for file in made.parent.iterdir()) == ["main", SEAL]
    temporary = Path(told.read_text().strip())
    assert temporary.is_relative_to(tmp_path / "store" / "programs")
    assert not temporary.exists(), "what the compiler left is still there"
