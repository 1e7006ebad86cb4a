"""Folders of images by class: which folder is which class of the model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeslim.errors import BadData, near_misses
from edgeslim.tasks.image_files import images_in

SHOWN_CLASSES = 12


@dataclass(frozen=True)
class ClassFolders:
    """The class of each folder; `names`: the model's labels that they give it, where they are in alphabetical order."""

    classes: dict[Path, int]
    names: tuple[str, ...] | None
    order: str


def class_folders(folder: Path, names: Sequence[str], classes: int) -> ClassFolders | None:
    """Return the classes of the folders in a folder of images; None where it holds none.

    By name, whatever its case, where the names are the model's; by number where they are numbers of classes; else in
    alphabetical order. Raises BadData where that would be a guess.
    """
    folders = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not folders:
        return None
    if beside := images_in(folder):
        raise BadData(f"{len(beside)} images lie in {folder} beside its class folders (first: {beside[0].name})")
    found = {one: _classes_named(one.name, names) for one in folders}
    unknown = [one.name for one, fitting in found.items() if not fitting]
    if not unknown:
        _refuse_ambiguous(found)
        return ClassFolders(
            {one: fitting[0] for one, fitting in found.items()}, None, f"{len(folders)} folders, by the model's labels"
        )
    numbers = {one: int(one.name) for one in folders if one.name.isdecimal() and int(one.name) < classes}
    if len(set(numbers.values())) == len(folders):
        return ClassFolders(numbers, None, f"{len(folders)} folders, by the numbers of the model's classes")
    if len(unknown) < len(folders):
        raise BadData(
            f"class folder `{unknown[0]}` is no class of the model, though others are{near_misses(unknown[0], names)}",
            f"name each folder as a class of the model is called: {', '.join(names[:20])}",
        )
    if len(folders) != classes:
        raise BadData(
            f"{len(folders)} class folders for a model of {classes} classes, and their names are not the model's: "
            "alphabetical order would label them wrongly",
            "name each folder as the model's class is called, or by the number of the class",
        )
    own = tuple(one.name for one in folders)
    why = "none of them is one of the model's labels" if names else "the model names no labels"
    shown = ", ".join(f"{number} {name}" for number, name in enumerate(own[:SHOWN_CLASSES]))
    more = f" … {len(own) - 1} {own[-1]}" if len(own) > SHOWN_CLASSES else ""
    return ClassFolders(
        {one: number for number, one in enumerate(folders)},
        own,
        f"folders in alphabetical order, for {why}: {shown}{more}",
    )


def _classes_named(name: str, names: Sequence[str]) -> list[int]:
    """Return the classes that a folder's name is the label of: exactly, or else whatever its case."""
    exactly = [number for number, label in enumerate(names) if label == name]
    return exactly or [number for number, label in enumerate(names) if label.casefold() == name.casefold()]


def _refuse_ambiguous(found: Mapping[Path, Sequence[int]]) -> None:
    """Raise BadData where a folder may be more than one class, or two folders are the same one."""
    taken: dict[int, str] = {}
    for folder, fitting in found.items():
        if len(fitting) > 1:
            raise BadData(
                f"class folder `{folder.name}` may be any of the model's classes {', '.join(map(str, fitting))}, which "
                "have the same label; name labels of their own in LABELS"
            )
        if fitting[0] in taken:
            raise BadData(f"class folders `{taken[fitting[0]]}` and `{folder.name}` are the same class of the model")
        taken[fitting[0]] = folder.name
