"""A device that is not there: `fake:FOLDER` replays what a real one said, from small files that a person can read.

`FOLDER/root/` holds the device's small files (`root/proc/cpuinfo`). `FOLDER/replies.jsonl` says what its programs print
and how they end, a `Reply` a line. A program gets the first reply whose `argv` is found in its command line; of several
with the same `argv` each answers once, in order, and the last of them from then on.
"""

import re
import shutil
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as validated_dataclass

from edgeslim.deploy.exit_status import ended
from edgeslim.devices.machine import BOOT_ID, small_files
from edgeslim.errors import BadInput, DeviceFailed
from edgeslim.work_folders import work_folder

REPLIES = "replies.jsonl"
NOT_FOUND = 127  # a shell's exit code for a program that does not exist


@validated_dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True))
class Reply:
    """What one program says: `argv` is a regular expression that its words, joined by spaces, must hold.

    stdout is what the file `stdout` holds or the lines in `lines`, and an agent's log holds the same; a last line
    without its end was cut in the middle. `outputs` is the .npy that an agent saves. `cut`: the connection is lost
    after the last line; `reboots`: and the device has booted anew when it answers again. `killed_for_memory`: its
    kernel's log says so.
    """

    argv: str
    lines: tuple[str, ...] = ()
    stdout: str | None = None
    outputs: str | None = None
    exit: int = 0
    stderr: str = ""
    killed_for_memory: bool = False
    cut: bool = False
    reboots: bool = False


_REPLY = TypeAdapter(Reply)


class FakeTarget:
    """A recorded device; what it is sent is only looked at, what it is asked to write lies in a temporary folder."""

    def __init__(self, folder: Path, replies: Sequence[Reply], work: Path) -> None:
        self.address = f"fake:{folder}"
        self._folder, self._replies, self._work = folder, replies, work
        self._answered: Counter[str] = Counter()
        self._boot_id: str | None = None

    def push(self, *files: Path, keep: bool = False) -> str:  # noqa: ARG002 - nothing is kept where nothing is sent
        """Return where the first file would lie; BadInput if one does not exist here."""
        for file in files:
            if not file.is_file():
                raise BadInput(f"{file} does not exist")
        return f"/fake/{files[0].name}"

    def run(self, argv: Sequence[str], timeout_s: float) -> Iterator[str]:  # noqa: ARG002 - a record takes no time
        """Yield the lines of the reply to a command line, and end as it says."""
        reply = self._reply(" ".join(argv))
        said = "".join(f"{line}\n" for line in reply.lines)
        if reply.stdout is not None:
            said = (self._folder / reply.stdout).read_text(encoding="utf-8")
        if reply.outputs is not None and "--outputs" in argv:
            shutil.copyfile(self._folder / reply.outputs, _after("--outputs", argv))
        if "--log" in argv:
            Path(_after("--log", argv)).write_text(said, encoding="utf-8")
        lines = _lines(said)
        yield from lines
        if reply.cut or reply.reboots:
            self._boot_id = str(uuid.uuid4()) if reply.reboots else self._boot_id
            raise DeviceFailed(f"{self.address}: the connection was cut", "lost")
        if reply.exit:
            last = lines[-1] if lines else ""
            raise ended(argv, reply.exit, last, reply.stderr, out_of_memory=reply.killed_for_memory)

    def pull(self, remote: str, to: Path) -> None:
        """Copy what a program was recorded to have written; DeviceFailed if it wrote nothing of that name."""
        if not Path(remote).is_file():
            raise DeviceFailed(f"{remote} does not exist on {self.address}")
        shutil.copyfile(remote, to)

    def look(self, patterns: Sequence[str]) -> dict[str, str]:
        """Return path -> text of every file under `root/` that a shell pattern matches."""
        files = small_files(self._folder / "root", patterns)
        if self._boot_id is not None and BOOT_ID in files:
            files[BOOT_ID] = self._boot_id
        return files

    def work_path(self, name: str) -> str:
        """Return a path in a temporary folder, which goes when the target is closed."""
        return str(self._work / name)

    def reconnect(self, timeout_s: float) -> None:
        """Do nothing: a record answers again at once."""

    def _reply(self, words: str) -> Reply:
        first = next((one for one in self._replies if re.search(one.argv, words)), None)
        if first is None:
            return Reply(argv="", exit=NOT_FOUND, stderr=f"{self._folder / REPLIES} has no reply to: {words}")
        same = [one for one in self._replies if one.argv == first.argv]
        number = self._answered[first.argv]
        self._answered[first.argv] += 1
        return same[min(number, len(same) - 1)]


@contextmanager
def open_target(address: str) -> Iterator[FakeTarget]:
    """Yield the device that `fake:FOLDER` records; BadInput names what is missing, or the line that is no reply."""
    folder = Path(address.removeprefix("fake:"))
    replies = _read(folder / REPLIES)
    if not (folder / "root").is_dir():
        raise BadInput(f"{folder}/root does not exist; the device's small files (root/proc/cpuinfo) lie there")
    with work_folder() as work:
        yield FakeTarget(folder, replies, work)


def _read(file: Path) -> list[Reply]:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{file} cannot be read: {error}; fake:FOLDER needs a folder that holds it") from error
    replies = []
    for number, line in enumerate(_lines(text), start=1):
        try:
            replies.append(_REPLY.validate_json(line))
            re.compile(replies[-1].argv)
        except (ValidationError, re.error) as error:
            faults = error.errors() if isinstance(error, ValidationError) else [{"loc": ("argv",), "msg": str(error)}]
            reasons = "; ".join(f"{'.'.join(map(str, fault['loc'])) or 'line'}: {fault['msg']}" for fault in faults)
            raise BadInput(f"{file}, line {number}: {reasons}") from error
        _require_files(replies[-1], file, number)
    return replies


def _require_files(reply: Reply, file: Path, number: int) -> None:
    if reply.stdout is not None and reply.lines:
        raise BadInput(f"{file}, line {number}: expected `stdout` or `lines`, not both")
    for key, name in (("stdout", reply.stdout), ("outputs", reply.outputs)):
        if name is not None and not (file.parent / name).is_file():
            raise BadInput(f"{file}, line {number}: {key}: {file.parent / name} does not exist")


def _after(option: str, argv: Sequence[str]) -> str:
    return argv[list(argv).index(option) + 1]


def _lines(text: str) -> list[str]:
    """Return the lines of a text; unlike splitlines, not torn at what a message may hold, such as U+2028."""
    return text.removesuffix("\n").split("\n") if text else []
