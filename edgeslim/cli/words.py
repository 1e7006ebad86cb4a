"""What the words of options and arguments may be, as far as that is known, and which of them are paths.

Shells complete them by it, and a project's file says them with paths that are relative to it.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from edgeslim.devices.profile import all_profiles, is_file_name
from edgeslim.formats import FORMATS
from edgeslim.kept import KINDS
from edgeslim.measure.meters import METERS
from edgeslim.recipe import PRUNING_UNITS

Known = Callable[[str], Iterable[str]]  # what has been typed -> the words that may begin so
Moved = Callable[[str, Path], str]  # a text in a file of a folder -> the same where the command is called


class Word(click.ParamType):  # type: ignore[type-arg] # generic from click 8.5 on
    """A text that is completed to the words that are known, with `or_file` to files where none of them begins so.

    `moved` says what a project's file means by it; by default, with `or_file`, what is no known word is a path.
    """

    name = "text"

    def __init__(self, known: Known, *, or_file: bool = False, moved: Moved | None = None) -> None:
        self.known, self.or_file, self._moved = known, or_file, moved

    def moved(self, text: str, folder: Path) -> str:
        """Return what a text in a file of a folder is where the command is called: a path there leads from here."""
        if self._moved is not None:
            return self._moved(text, folder)
        return moved_path(text, folder) if self.or_file and text not in self.known(text) else text

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002 - as click calls it
        param: click.Parameter,  # noqa: ARG002 - likewise
        incomplete: str,
    ) -> list[CompletionItem[str]]:
        """Return what may follow."""
        found = [CompletionItem(word) for word in self.known(incomplete) if word.startswith(incomplete)]
        return found or ([CompletionItem(incomplete, type="file")] if self.or_file else [])


def moved_path(path: str, folder: Path) -> str:
    """Return a path that is relative to a folder as one that is relative to the current one."""
    return path if Path(path).is_absolute() else os.path.relpath(folder / path)


def _moved_device(text: str, folder: Path) -> str:
    return moved_path(text, folder) if is_file_name(text) else text


def _moved_model(text: str, folder: Path) -> str:
    return moved_path(text, folder) if ".py" in (Path(text).suffix, Path(text.rpartition(":")[0]).suffix) else text


def _moved_address(text: str, folder: Path) -> str:
    """Return an address whose part after the colon may be a path: fake:FOLDER, emulator:FILE, csv:FILE."""
    kind, _, place = text.partition(":")
    if kind in ("fake", "csv") or (kind == "emulator" and is_file_name(place)):
        return f"{kind}:{moved_path(place, folder)}"
    return text


def _devices(_: str) -> Iterator[str]:
    for profile in all_profiles():
        yield from (profile.name, *profile.aliases)


def _models(incomplete: str) -> Iterator[str]:
    from edgeslim.model.sources.known import factories_in, torchvision_classifiers

    file, colon, _ = incomplete.rpartition(":")
    if file == "torchvision":
        yield from (f"torchvision:{name}" for name in torchvision_classifiers())
    elif colon:
        with suppress(OSError, SyntaxError, ValueError):
            yield from (f"{file}:{name}" for name in factories_in(Path(file)))
    else:
        yield "torchvision:"
        yield from _python_files(incomplete)


def _python_files(incomplete: str) -> Iterator[str]:
    """Yield the Python files of the folder that was typed so far, and the folders in it."""
    begun = incomplete[: incomplete.rfind("/") + 1]
    with suppress(OSError):
        for place in sorted(Path(begun or ".").iterdir()):
            if place.is_dir() and not place.name.startswith((".", "__")):
                yield f"{begun}{place.name}/"
            elif place.suffix == ".py":
                yield f"{begun}{place.name}:"


def _rewrites(_: str) -> Iterator[str]:
    from edgeslim.compress.legalize.rewrites import known_rewrites

    yield from ("auto", "none")
    yield from (f"{name}={answer}" for name in known_rewrites() for answer in ("yes", "no"))


def _boards(_: str) -> Iterator[str]:
    yield from ("local", "ssh://", "fake:")


def _emulators(_: str) -> Iterator[str]:
    yield "emulator"
    yield from (f"emulator:{profile.name}" for profile in all_profiles() if profile.emulation is not None)


def _boards_and_emulators(incomplete: str) -> Iterator[str]:
    yield from (*_boards(incomplete), *_emulators(incomplete))


def _one_of(*words: str) -> Known:
    return lambda _: words


def listed(*words: str) -> Word:
    """Return the type of a list such as `noisy,throttled`, whose last word is completed."""

    def known(incomplete: str) -> Iterator[str]:
        before = incomplete[: incomplete.rfind(",") + 1]
        return (f"{before}{word}" for word in words if word not in before.split(","))

    return Word(known)


MODEL = Word(_models, moved=_moved_model)
DEVICE = Word(_devices, or_file=True, moved=_moved_device)
WEIGHTS = Word(_one_of("random", "default"), or_file=True)
DATA = Word(_one_of("synthetic"), or_file=True)
FORMAT = Word(_one_of(*FORMATS))
PRUNING = Word(_one_of("auto", *(f"{unit}=" for unit in PRUNING_UNITS)))
REWRITE = Word(_rewrites)
BOARD = Word(_boards, moved=_moved_address)
EMULATOR = Word(_emulators, moved=_moved_address)
BOARD_OR_EMULATOR = Word(_boards_and_emulators, moved=_moved_address)
METER = Word(_one_of("auto", *METERS, "csv:"), moved=_moved_address)
KIND = Word(_one_of(*KINDS))
