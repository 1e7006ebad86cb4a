"""Kill, interrupt, crowd and starve edgeslim at random moments, and hold what is left against what must be.

`python tools/chaos.py [--trials 300] [--seed 0]` builds a tiny network twice undisturbed, an old artifact and a new,
and then disturbs builds, benches and calibrations. After each trial the artifact is the old or the new one, no process
is left; the next command ends well, in the same bytes, and leaves no folder. Every fault is a line; the exit code is 1
for any.
"""

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import yaml
from chaos_trial import END_S, GONE_S, Trial, World, bench_words, build_words, measurements

from edgeslim.table import markdown_rows as table

sys.path.insert(0, str(Path(__file__).parent.parent))
from edgeslim.emulation.virtual_machine import REMOTE, VirtualMachine, missing_tools, running_machine
from edgeslim.resources import bundled

MODEL = """
from torch import nn
PREPROCESSING = {"width": 16, "height": 16, "channels": 3, "resize": 16, "mean": [0.5] * 3, "std": [0.25] * 3,
                 "color_order": "RGB", "interpolation": "bilinear"}

def make():
    return nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4))
"""
RECORDED = Path(__file__).parent.parent / "tests" / "fake_devices" / "raspberry-pi-4"
TOOL_FAILED, INVALID, REFUSED = 7, 5, 3  # exit codes
COUNTING_S = 15.0  # so long a calibrate surely counts
TIMING_S = 15.0  # and so long it times, once it has begun to
BEGINS_S = 300.0  # by then it has
RAM_BYTES = 512 * 2**20  # of a board that is timed


def disturbed_build(trial: Trial) -> None:
    """A build over an old artifact, or where none is, gets a signal at a random moment."""
    place = trial.place / "artifact"
    over = trial.chance.random() < 0.5
    if over:
        trial.put("old", place)
    number = trial.disturb(trial.build(place), trial.world.build_s * 1.1)
    killed = number is signal.SIGKILL
    trial.require_whole(place, ("old", "new") if over else ("new",), number.name, may_lack=killed or not over)
    if not killed:
        trial.require_no_folder(place, number.name)
    trial.require_same_bytes(place, number.name)


def disturbed_bench(trial: Trial) -> None:
    """A bench gets a signal at a random moment; the artifact and what was measured before are untouched."""
    place = trial.place / "artifact"
    trial.put("new", place)
    number = trial.disturb(trial.start(*bench_words(place)), trial.world.bench_s * 1.1)
    trial.require_whole(place, ("new",), number.name, may_lack=False)
    code = trial.start(*bench_words(place)).wait()
    trial.require(code in (0, INVALID), f"{number.name}: the next bench ended with {code}")
    trial.require(bool(measurements(place)), "nothing was measured")
    trial.require_no_folder(place, number.name)


def disturbed_calibrate(trial: Trial) -> None:
    """A calibrate gets a signal while it counts its models; the next one ends, with what is kept as it was made.

    A record stands in for the board, and the next one asks for this machine, which is refused: a whole one takes long.
    """
    board, out = trial.folder / "board", trial.place / "board.yaml"
    shutil.copytree(RECORDED / "root", board / "root")
    replies = [
        {"argv": "^uname -m$", "lines": ["aarch64"]},
        {"argv": "GNU_LIBC_VERSION", "lines": ["glibc 2.36"]},
        {"argv": "ls -d ", "lines": []},
    ]
    (board / "replies.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in replies))
    words = ["calibrate", "--device", "raspberry-pi-4", "--runtime", "onnxruntime", "--out", str(out), "-q", "--on"]
    number = trial.disturb(trial.start(*words, f"fake:{board}"), COUNTING_S)
    _require_calibrates_again(trial, words, out, number)


def disturbed_timing(trial: Trial) -> None:
    """A calibrate gets a signal while it times an emulated board; nothing of it runs on there."""
    out, device = trial.place / "board.yaml", trial.folder / "machine.yaml"
    written = yaml.safe_load((bundled("device_profiles") / "raspberry-pi-4.yaml").read_text())
    written["identification"]["cpu_models"] = ["CPU part 0xd08"]  # as the machine calls itself
    device.write_text(yaml.safe_dump(written, sort_keys=False))
    with running_machine("cortex-a72", RAM_BYTES) as board:
        words = ["calibrate", "--device", str(device), "--out", str(out), "--on"]
        reached = {"EDGESLIM_SSH_CONFIG": str(board.ssh_config), "EDGESLIM_REMOTE": REMOTE}
        process = trial.start(*words, board.address, beside=reached)
        deadline = time.monotonic() + BEGINS_S
        while process.poll() is None and "timing" not in trial.words() and time.monotonic() < deadline:
            time.sleep(0.1)
        trial.require("timing" in trial.words(), f"it never timed: {trial.words()[-300:]}")
        number = trial.disturb(process, TIMING_S)
        deadline = time.monotonic() + GONE_S
        while (left := _running_there(board)) and time.monotonic() < deadline:
            time.sleep(0.5)
        trial.require(not left, f"{number.name}: the board still runs {left}")
    _require_calibrates_again(trial, [*words[:-1], "-q", "--on"], out, number)


def _running_there(board: VirtualMachine) -> str:
    """Return the programs that run from edgeslim's folder on a machine, "" where none does."""
    look = f"for one in /proc/[0-9]*/exe; do readlink $one; done | grep ^{REMOTE}/"
    command = ["ssh", "-F", str(board.ssh_config), "-p", str(board.port), "root@127.0.0.1", look]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=END_S).stdout.strip()


def _require_calibrates_again(trial: Trial, words: list[str], out: Path, number: signal.Signals) -> None:
    """Note a profile, a folder or a damaged store that a disturbed calibrate left."""
    trial.require(not out.exists(), f"{number.name}: a profile was written")
    if number is not signal.SIGKILL:
        trial.require_no_folder(out, number.name)
    code = trial.start(*words, "local").wait()
    trial.require(code == REFUSED, f"{number.name}: the next calibrate ended with {code}")
    trial.require("it is made anew" not in trial.words(), f"{number.name}: what is kept was not whole")
    trial.require_no_folder(out, number.name)


def two_builds(trial: Trial) -> None:
    """Two builds write one artifact and one store at once."""
    place = trial.place / "artifact"
    builds = [trial.build(place)]
    time.sleep(trial.chance.uniform(0, trial.world.build_s / 2))
    builds.append(trial.build(place))
    codes = [one.wait() for one in builds]
    trial.require(0 in codes and set(codes) <= {0, 2, TOOL_FAILED}, f"two at once ended with {codes}")
    trial.require_whole(place, ("new",), "two at once", may_lack=False)
    trial.require_no_process("two at once")
    trial.require_same_bytes(place, "two at once")


def eight_benches(trial: Trial) -> None:
    """Eight benches of one artifact run at once; each keeps its figures."""
    place = trial.place / "artifact"
    trial.put("new", place)
    benches = [trial.start(*bench_words(place)) for _ in range(8)]
    codes = [one.wait() for one in benches]
    trial.require(set(codes) <= {0, INVALID}, f"eight benches ended with {codes}")
    trial.require(len(measurements(place)) >= len(codes), f"eight benches kept {len(measurements(place))} files")
    trial.require_whole(place, ("new",), "eight benches", may_lack=False)
    trial.require_no_process("eight benches")
    trial.require_no_folder(place, "eight benches")


def full_disk(trial: Trial) -> None:
    """The disk that an artifact goes to is full after a random number of bytes."""
    size = sum(file.stat().st_size for file in trial.world.folder.glob("new/**/*") if file.is_file())
    bytes_there = int(trial.chance.integers(16 << 10, size * 3))
    with mounted(trial.place, bytes_there):
        place = trial.place / "artifact"
        code = trial.build(place).wait()
        what = f"a disk of {bytes_there} bytes"
        trial.require(code in (0, TOOL_FAILED), f"{what}: exit code {code}")
        if code:
            trial.require(list(trial.place.iterdir()) == [], f"{what}: something was left")
        else:
            trial.require_whole(place, ("new",), what, may_lack=False)
        trial.require_no_process(what)


KINDS: dict[str, tuple[Callable[[Trial], None], int]] = {
    "a build and a signal": (disturbed_build, 10),
    "a bench and a signal": (disturbed_bench, 4),
    "a calibrate that counts and a signal": (disturbed_calibrate, 2),
    "a calibrate that times a board and a signal": (disturbed_timing, 1),
    "two builds at once": (two_builds, 2),
    "eight benches at once": (eight_benches, 1),
    "a full disk": (full_disk, 3),
}  # with how often each comes


def _needs(kind: Callable[[Trial], None]) -> str | None:
    """Return why a kind of trial cannot be made here, None where it can."""
    if kind in (disturbed_calibrate, disturbed_timing) and not shutil.which("qemu-aarch64"):
        return "nothing is calibrated: qemu-aarch64 is not installed"
    if kind is disturbed_timing and (missing := missing_tools()):
        return f"no board is timed: {', '.join(missing)} is not installed"
    if kind is full_disk:
        with tempfile.TemporaryDirectory() as folder:
            try:
                with mounted(Path(folder), 1 << 20):
                    return None
            except (subprocess.CalledProcessError, OSError):
                return "no full disks: a disk of one's own cannot be mounted by this user"
    return None


def possible_kinds() -> dict[str, tuple[Callable[[Trial], None], int]]:
    """Return the kinds of trials that can be made here, and say which are left out."""
    missing = {name: why for name, (kind, _) in KINDS.items() if (why := _needs(kind))}
    for why in missing.values():
        print(why, flush=True)
    return {name: kind for name, kind in KINDS.items() if name not in missing}


@contextmanager
def mounted(folder: Path, size: int) -> Iterator[None]:
    """Lay a disk of some bytes over a folder; CalledProcessError where nobody may."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    subprocess.run(command, capture_output=True, check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)  # noqa: S607 - of this machine


def make_world(folder: Path) -> World:
    """Build both artifacts undisturbed, and time a build and a bench."""
    (folder / "model.py").write_text(MODEL)
    coarse = np.random.default_rng(3).integers(0, 256, (512, 4, 4, 3), np.uint8)
    np.savez(folder / "images.npz", images=coarse.repeat(4, 1).repeat(4, 2))
    trial = Trial(World(folder, 0, 0), folder / "first", np.random.default_rng(0))
    taken = {}
    for name in ("old", "new"):
        began_s = time.monotonic()
        if code := trial.start(*build_words(folder, folder / name, name)).wait():
            raise SystemExit(f"an undisturbed build ended with {code}:\n{trial.words()}")
        taken["build"] = time.monotonic() - began_s
    began_s = time.monotonic()
    if code := trial.start(*bench_words(folder / "new")).wait():
        raise SystemExit(f"an undisturbed bench ended with {code}:\n{trial.words()}")
    taken["bench"] = time.monotonic() - began_s
    shutil.rmtree(folder / "new" / "measurements")
    trial.store.rename(folder / "store")
    return World(folder, taken["build"], taken["bench"])


def main(arguments: list[str]) -> int:
    """Run the trials, say every fault, and print a table of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    wanted = parser.parse_args(arguments)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # what nohup and a shell's & ignore, all that is started would
    signal.signal(signal.SIGINT, signal.default_int_handler)
    chance = np.random.default_rng(wanted.seed)
    kinds = possible_kinds()
    often = np.array([one for _, one in kinds.values()], float)
    count, faulty, seconds = Counter[str](), Counter[str](), defaultdict[str, float](float)
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        world = make_world(Path(name))
        for number in range(wanted.trials):
            kind = str(chance.choice(list(kinds), p=often / often.sum()))
            trial = Trial(world, Path(name) / f"trial-{number}", np.random.default_rng((wanted.seed, number)))
            began_s = time.monotonic()
            kinds[kind][0](trial)
            seconds[kind] += time.monotonic() - began_s
            count[kind] += 1
            faulty[kind] += bool(trial.faults)
            for fault in trial.faults:
                print(f"trial {number}, {kind}: {fault}", flush=True)
            shutil.rmtree(trial.folder)
    rows = [[kind, str(count[kind]), str(faulty[kind]), f"{seconds[kind] / count[kind]:.1f} s"] for kind in count]
    print(table(["what", "trials", "with a fault", "a trial takes"], rows))
    return 1 if faulty.total() else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
