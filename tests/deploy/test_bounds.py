"""A program on a device that floods us is ended with what it began to say; an honest one is heard whole."""

import sys

import pytest

from edgeslim.deploy import bounds
from edgeslim.deploy.targets.local import open_target
from edgeslim.errors import DeviceFailed

ENDLESS_LINE = "import sys\nwhile True: sys.stdout.write('x' * 65536)"
ENDLESS_LINES = "while True: print('y' * 1000)"
ENDLESS_WORDS = "import sys\nprint('ready', flush=True)\nwhile True: sys.stderr.write('z' * 65536)"


def said(script: str, timeout_s: float = 60.0) -> list[str]:
    with open_target() as target:
        return list(target.run([sys.executable, "-c", script], timeout_s))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds of a megabyte, so that a flood takes no time."""
    for name in ("LONGEST_LINE_BYTES", "MOST_LINES_BYTES"):
        monkeypatch.setattr(bounds, name, 1 << 20)
    monkeypatch.setattr("edgeslim.deploy.targets.local.MOST_WORDS_BYTES", 1 << 20)


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        (ENDLESS_LINE, r"it wrote a line of more than 1 MiB; it began with b'xxx"),
        (ENDLESS_LINES, r"it wrote more than 1 MiB; it began with b'yyy"),
        (ENDLESS_WORDS, r"it wrote more than 1 MiB beside its lines; it began with b'zzz"),
    ],
    ids=["a line", "lines", "stderr"],
)
def test_a_flood_is_ended_with_its_first_bytes(small: None, script: str, complaint: str) -> None:
    with pytest.raises(DeviceFailed, match=complaint) as raised:
        said(script)
    assert raised.value.status == "protocol"
    assert raised.value.exit_code == 4
    assert len(str(raised.value)) < 1000, "the flood itself is in the message"


def test_lines_within_the_bounds_come_whole_whatever_ends_them() -> None:
    assert said("import sys; sys.stdout.write('a\\r\\nb\\n' + 'c' * 100_000)") == ["a", "b", "c" * 100_000]


def test_the_end_of_what_a_failed_program_said_is_told_and_not_all_of_it() -> None:
    with pytest.raises(DeviceFailed, match="the last word") as raised:
        said("import sys; sys.stderr.write('no ' * 500_000 + 'the last word'); sys.exit(3)")
    assert len(str(raised.value)) < 5000


def test_a_program_that_takes_too_long_is_ended() -> None:
    with pytest.raises(DeviceFailed, match=r"not finished after 0\.3 s") as raised:
        said("import time; print('up', flush=True); time.sleep(60)", timeout_s=0.3)
    assert raised.value.status == "timeout"
