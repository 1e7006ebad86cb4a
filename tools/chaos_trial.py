"""One trial of chaos.py: what edgeslim leaves in a world of its own, held against what it leaves undisturbed."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

MARK = "EDGESLIM_CHAOS"  # in the environment of all that a trial starts
SIGNALS = (signal.SIGKILL, signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
KEPT_SHARE = 0.7  # of the trials find compiled programs in their store
INTERRUPTED = 130  # an exit code
END_S = 60.0  # an interrupted command ends by then
STARTED_S = 0.1  # a process that was just started has no environment to read yet
GONE_S = 5.0  # and so do processes whose parent was killed


@dataclass(frozen=True)
class World:
    """What is built when nothing happens: archives and folders by name ("old", "new"), and how long it takes."""

    folder: Path
    build_s: float
    bench_s: float

    def archive(self, name: str) -> bytes:
        """Return the bytes of one of the two archives."""
        return (self.folder / f"{name}.tar.gz").read_bytes()

    def content(self, name: str) -> dict[str, str]:
        """Return the hashes of one of the two folders, by path."""
        return hashes(self.folder / name)


class Trial:
    """A folder, a store and a folder for temporary files of its own, for what one trial starts."""

    def __init__(self, world: World, folder: Path, chance: np.random.Generator) -> None:
        self.world, self.folder, self.chance = world, folder, chance
        self.place, self.temporary, self.store = folder / "place", folder / "tmp", folder / "store"
        for one in (self.place, self.temporary):
            one.mkdir(parents=True)
        if (world.folder / "store").exists() and chance.random() < KEPT_SHARE:
            shutil.copytree(world.folder / "store", self.store)
        self.faults: list[str] = []

    def start(self, *words: str, beside: Mapping[str, str] | None = None) -> "subprocess.Popen[bytes]":
        """Start edgeslim; `beside` is what its environment has besides."""
        own = {
            **(beside or {}),
            MARK: str(self.folder),
            "TMPDIR": str(self.temporary),
            "EDGESLIM_CACHE": str(self.store),
        }
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "edgeslim", *words],
            env={**os.environ, **own},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=(self.folder / "words").open("ab"),
            start_new_session=True,
        )

    def build(self, out: Path) -> "subprocess.Popen[bytes]":
        """Start the build of the new artifact, over what may be there."""
        return self.start(*build_words(self.world.folder, out, "new"), "--overwrite")

    def words(self) -> str:
        """Return all that edgeslim said on stderr so far."""
        return (self.folder / "words").read_text()

    def require(self, holds: bool, fault: str) -> None:
        """Note a fault that does not hold."""
        if not holds:
            self.faults.append(fault)

    def put(self, name: str, place: Path) -> None:
        """Put one of the two artifacts somewhere."""
        shutil.copytree(self.world.folder / name, place)
        shutil.copyfile(self.world.folder / f"{name}.tar.gz", place.with_name(f"{place.name}.tar.gz"))

    def disturb(self, process: "subprocess.Popen[bytes]", within_s: float) -> signal.Signals:
        """Send a process a signal at a random moment and wait for its end."""
        number = SIGNALS[self.chance.integers(len(SIGNALS))]
        moment_s = self.chance.uniform(0, within_s)
        try:
            process.wait(moment_s)
        except subprocess.TimeoutExpired:
            process.send_signal(number)
        try:
            code = process.wait(END_S)
            wanted = (0, -number, INTERRUPTED)  # before its handlers are there Python ends by the signal
            self.require(code in wanted, f"{number.name} after {moment_s:.2f} s: exit code {code}")
        except subprocess.TimeoutExpired:
            self.faults.append(f"{number.name} after {moment_s:.2f} s: it had not ended after {END_S:g} s")
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.require_no_process(f"{number.name} after {moment_s:.2f} s")
        return number

    def require_no_process(self, what: str) -> None:
        """Note every process of this trial that lives on for GONE_S."""
        time.sleep(STARTED_S)
        deadline = time.monotonic() + GONE_S
        while (left := marked(str(self.folder))) and time.monotonic() < deadline:
            time.sleep(0.05)
        self.require(not left, f"{what}: processes were left: {', '.join(left.values())}")

    def require_whole(self, place: Path, names: tuple[str, ...], what: str, *, may_lack: bool) -> None:
        """Note an artifact that is none of some, whole; `may_lack`: nothing is there, or a part that is put back."""
        archive = place.with_name(f"{place.name}.tar.gz")
        states = [(self.world.content(name), self.world.archive(name)) for name in names]
        found = (hashes(place), archive.read_bytes() if archive.exists() else b"")
        if may_lack and (not place.exists() or not archive.exists()):
            return
        self.require(found in states, f"{what}: the artifact is none of {', '.join(names)}")

    def require_same_bytes(self, place: Path, what: str) -> None:
        """Build once more, undisturbed, and note any other end than the new artifact and nothing beside it."""
        code = self.build(place).wait()
        self.require(code == 0, f"{what}: the next build ended with {code}")
        self.require_whole(place, ("new",), f"{what}, built again", may_lack=False)
        self.require_no_folder(place, what)

    def require_no_folder(self, place: Path, what: str) -> None:
        """Note what lies beside the artifact or among the temporary files."""
        beside = {one.name for one in place.parent.iterdir()} - {place.name, f"{place.name}.tar.gz"}
        left = beside | {one.name for one in self.temporary.iterdir()}
        self.require(not left, f"{what}: left behind: {', '.join(sorted(left))}")


def build_words(folder: Path, out: Path, name: str) -> list[str]:
    """Return the words of a build; old and new ones demand other things, and so have other bytes."""
    drop = {"old": "99", "new": "100"}[name]
    wishes = f"--device raspberry-pi --weights random --no-prune --no-estimate --format onnx --max-drop {drop}"
    files = ("--data", str(folder / "images.npz"), "--out", str(out))
    return ["build", f"{folder / 'model.py'}:make", *wishes.split(), *files]


def bench_words(place: Path) -> list[str]:
    """Return the words of a short bench."""
    return ["bench", str(place), "--processes", "2", "--min-duration", "20ms", "--max-duration", "100ms", "-q"]


def measurements(place: Path) -> list[object]:
    """Return what was measured; ValueError for a file that is half written."""
    return [json.loads(file.read_text()) for file in sorted(place.glob("measurements/**/*.json"))]


def hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of an artifact by its path, without what was measured."""
    files = (file for file in sorted(folder.rglob("*")) if file.is_file())
    found = {file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    return {path: digest for path, digest in found.items() if not path.startswith("measurements/")}


def marked(mark: str) -> dict[str, str]:
    """Return the processes that a trial started and that have not ended: number -> command."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                found[entry.name] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:80]
        except OSError:
            continue  # it has just ended
    return found
