"""What of an artifact is measured, and where the measurements lie."""

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np

from edgeslim.artifact.archive import MEASUREMENTS, check_integrity, open_artifact
from edgeslim.artifact.golden import golden_fault
from edgeslim.artifact.manifest import Manifest, ModelFile
from edgeslim.artifact.records import Record, save
from edgeslim.deploy.device import Candidate
from edgeslim.deploy.installed import runtime_available
from edgeslim.devices.machine import Machine
from edgeslim.errors import BadInput, ToolFailed
from edgeslim.measure.measurement import Caution

CUT_SHORT = "cut_short.jsonl"
LONGEST_PLACE = 80  # characters of an address in a folder's name


@dataclass(frozen=True)
class Entry:
    """One file of an artifact and its candidate."""

    candidate: Candidate
    model: ModelFile
    folder: Path

    @property
    def golden_inputs(self) -> np.ndarray:
        """The golden inputs in this file's layout and type, samples on axis 0."""
        return np.asarray(np.load(self.folder / self.model.inputs[0].golden_inputs))


@contextmanager
def measurable(path: Path) -> Iterator[tuple[Manifest, list[Entry]]]:
    """Open an artifact that is whole, whose runtimes are here and whose measurements can be kept: what is measured.

    Raises as `open_artifact`, `check_integrity`, `require_writable` and `entries_of`.
    """
    with open_artifact(path) as artifact:
        check_integrity(artifact.folder)
        if path.is_dir():
            require_writable(path)
        yield artifact.manifest, entries_of(artifact.folder, artifact.manifest)


def entries_of(folder: Path, manifest: Manifest, only: str | None = None) -> list[Entry]:
    """Return an artifact's files whose runtime is installed; `only` is the path of one of them.

    Those that are for an accelerator ask for it: where it is missing nothing runs in its place. Raises BadInput where
    there is none.
    """
    asked = () if manifest.accelerator is None else manifest.accelerator.agent_arguments
    found = [
        Entry(
            Candidate(model.label, model.runtime, folder / model.path, model.precision, asked),
            model,
            folder,
        )
        for model in manifest.models
        if runtime_available(model.runtime) is not None and only in (None, model.path)
    ]
    if not found:
        raise BadInput("none of the artifact's runtimes is installed; `edgeslim doctor` says how to install them")
    return found


def golden_doubt(entry: Entry, outputs: Sequence[np.ndarray], machine: Machine) -> list[Caution]:
    """Return a caution where a file's outputs for its golden inputs on a machine are not the golden ones."""
    golden = [np.load(entry.folder / one.golden) for one in entry.model.outputs]
    fault = golden_fault(entry.model, outputs, golden, machine)
    return [Caution("golden", fault, "`edgeslim verify` replays the golden vectors here")] if fault else []


def require_writable(folder: Path) -> None:
    """Raise BadInput where measurements could not be kept, before an hour is spent on them."""
    place = folder / MEASUREMENTS
    try:
        with tempfile.TemporaryFile(dir=place if place.is_dir() else folder):
            pass
    except OSError as error:
        raise BadInput(
            f"{folder} cannot be written to ({error.strerror}), and measurements are kept there; "
            "bench its archive to keep none"
        ) from error


def keep(measured: Sequence[Record], path: Path, on: str, cut_short: Sequence[str] = ()) -> Path | None:
    """Save measurements, or other records, in a new folder beside an artifact, and return it; an archive keeps none.

    `cut_short` is what a process that did not end had said: it counts for nothing, and is kept to be looked at.
    """
    if not path.is_dir() or not (measured or cut_short):
        return None
    place = "".join(letter if letter.isalnum() else "-" for letter in on)[:LONGEST_PLACE]
    name = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{place}"
    names = (name if number == 1 else f"{name}-{number}" for number in count(1))  # two may end in one second
    folder = next(one for one in (path / MEASUREMENTS / name for name in names) if not one.exists())
    try:
        save(measured, folder)
        if cut_short:
            (folder / CUT_SHORT).write_text("".join(f"{line}\n" for line in cut_short), encoding="utf-8")
    except OSError as error:
        raise ToolFailed(f"{folder}: the measurements cannot be kept: {error.strerror}") from error
    return folder
