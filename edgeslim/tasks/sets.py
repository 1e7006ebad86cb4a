"""From what sources hold to three disjoint sets: images that calibrate, that select, and that judge."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgeslim.errors import BadData
from edgeslim.tasks.images import Data, ImageSet
from edgeslim.tasks.preprocessing import Preprocessing

SetName = Literal["calibration", "selection", "evaluation", "train"]
SETS: tuple[SetName, ...] = ("calibration", "selection", "evaluation")
TRAINING: tuple[SetName, ...] = ("train",)
SHARES: Mapping[SetName, int] = {"calibration": 1, "selection": 1, "evaluation": 2}
MOST: Mapping[SetName, int] = {"calibration": 512, "selection": 2000}
CALIBRATION_LEAST = 32
TRAINING_LEAST = 32


@dataclass(frozen=True)
class Found:
    """What one source holds: images, with the task's targets where they are known."""

    source: str
    images: NDArray[np.uint8] | list[Path]  # (N, H, W, C), or files
    targets: NDArray[Any] | None  # (N, ...)
    notes: tuple[str, ...] = ()  # what is to be said of how they are read

    def __len__(self) -> int:
        return len(self.images)

    def at(self, chosen: NDArray[np.int64], preprocessing: Preprocessing) -> ImageSet:
        """Return the images at some places, in the source's order."""
        chosen = np.sort(chosen)
        picked = self.images[chosen] if isinstance(self.images, np.ndarray) else [self.images[i] for i in chosen]
        return ImageSet(picked, None if self.targets is None else self.targets[chosen], preprocessing)


def split_folders(folder: Path) -> dict[SetName, str]:
    """Return which sets the folders in a folder are, by their names: train beside val or test; none where they are not.

    What was trained on calibrates and, without both val and test, selects; the last of them judges.
    """
    folders = [one for one in folder.iterdir() if one.is_dir()] if folder.is_dir() else []
    inside = {one.name.casefold(): one for one in folders if not one.name.startswith(".")}
    validation = sorted(inside.keys() & {"val", "valid", "validation"})
    others = [*validation, *(inside.keys() & {"test"})]
    if set(inside) != {"train", *others} or not others or len(validation) > 1:
        return {}
    held_back: dict[SetName, str] = {"selection": str(inside[others[0]])} if len(others) > 1 else {}
    return {"calibration": str(inside["train"]), **held_back, "evaluation": str(inside[others[-1]])}


def named_sets(
    calibration: str | Path | None,
    selection: str | Path | None,
    evaluation: str | Path | None,
    train: str | Path | None = None,
) -> dict[SetName, str]:
    """Return the sources of the sets that have one of their own."""
    named: dict[SetName, str | Path | None] = {
        "calibration": calibration,
        "selection": selection,
        "evaluation": evaluation,
        "train": train,
    }
    return {name: str(source) for name, source in named.items() if source is not None}


def in_sets(given: Mapping[SetName, Found], rest: Found | None, preprocessing: Preprocessing, seed: int) -> Data:
    """Return three disjoint sets: those `given`, and the others cut from the rest by the seed, by their SHARES.

    Without a rest, calibration and selection are cut from whichever of the two is given: nothing but what judges is
    ever taken for judging. Of a source that calibrates or selects alone, at most so many as MOST says are used. What is
    `given` to train on is a fourth set, which may share images with what calibrates; those that select are left out of
    it. Raises BadData where no images are left for a set, too few calibrate or train, or other sets share an image.
    """
    missing = [name for name in SETS if name not in given]
    if rest is not None and not missing:
        raise BadData(f"{rest.source} is read for nothing: all three sets have a source of their own; leave out --data")
    if rest is None and "evaluation" in missing:
        raise BadData("no images judge", "name them with --evaluation, or name --data, of which a part then judges")
    donor = next((one for one in (rest, given.get("calibration"), given.get("selection")) if one is not None), None)
    if missing and donor is None:
        raise BadData(
            "quantization is calibrated on images, and there are none", "name them with --calibration, or with --data"
        )
    cut = missing if rest is not None or not missing else [name for name in SETS if name != "evaluation"]
    sources = {**given, **{name: donor for name in cut if donor is not None}}
    sets = _cut(donor, cut, preprocessing, seed) if donor is not None and cut else {}
    sets |= {name: _cut(given[name], [name], preprocessing, seed)[name] for name in SETS if name not in sets}
    if "train" in given:
        given = {**given, "train": _without(given["train"], sets["selection"])}
        sources["train"] = given["train"]
        sets["train"] = given["train"].at(np.arange(len(given["train"])), preprocessing)
    _require_disjoint(sets, sources)
    roles: dict[int, list[SetName]] = {}  # of each source
    for name in (one for one in (*SETS, *TRAINING) if one in sources):
        roles.setdefault(id(sources[name]), []).append(name)
    heads = {" and ".join(names): sources[names[0]] for names in roles.values()}
    several = len(heads) > 1
    how = "; ".join(f"{head}: {one.source}" if several else one.source for head, one in heads.items())
    notes = "; ".join(f"{head}: {note}" if several else note for head, one in heads.items() for note in one.notes)
    return Data(
        how,
        False,
        sets["calibration"],
        sets["selection"],
        sets["evaluation"],
        sets.get("train"),
        how_read=notes or None,
    )


def _cut(found: Found, names: Sequence[SetName], preprocessing: Preprocessing, seed: int) -> dict[SetName, ImageSet]:
    """Return some sets of one source, which is shuffled by the seed; what judges is all that the others leave."""
    shares, count = sum(SHARES[name] for name in names), len(found)
    sizes = {name: min(MOST.get(name, count), count * SHARES[name] // shares) for name in names}
    if sizes.get("calibration", CALIBRATION_LEAST) < CALIBRATION_LEAST:
        part = shares // SHARES["calibration"]
        which = {1: "all of which calibrate", 2: "of which a half calibrates", 4: "of which a quarter calibrates"}
        raise BadData(
            f"{found.source} has {count} images, {which.get(part, f'of which one in {part} calibrates')}; "
            f"at least {part * CALIBRATION_LEAST} are needed",
            "give more, or name others with --calibration: they need no labels",
        )
    order = np.random.default_rng(seed).permutation(count)
    sets, begin = {}, 0
    for name in names:
        end = count if name == "evaluation" else begin + sizes[name]
        if end == begin:
            raise BadData(f"{found.source} has {count} images, which leaves none for the {name}")
        sets[name], begin = found.at(order[begin:end], preprocessing), end
    return sets


def _without(found: Found, selection: ImageSet) -> Found:
    """Return what a source holds to train on: all of it but the images that select."""
    selecting = {_key(image) for image in selection.images}
    left = np.array([i for i, image in enumerate(found.images) if _key(image) not in selecting], np.int64)
    if len(left) < TRAINING_LEAST:
        raise BadData(
            f"{found.source} has {len(left)} images to train on; at least {TRAINING_LEAST} are needed",
            "give more; they need no labels",
        )
    if (out := len(found) - len(left)) == 0:
        return found
    images = found.images[left] if isinstance(found.images, np.ndarray) else [found.images[i] for i in left]
    targets = None if found.targets is None else found.targets[left]
    return Found(found.source, images, targets, (*found.notes, f"{out} images that select are not trained on"))


def _require_disjoint(sets: Mapping[SetName, ImageSet], sources: Mapping[SetName, Found]) -> None:
    """Refuse an image that is in two sets of different sources: the same file, or the same pixels of two archives."""
    seen = {name: {_key(image) for image in one.images} for name, one in sets.items()}
    pairs: list[tuple[SetName, SetName]] = [*combinations(SETS, 2)]
    for one, other in [*pairs, ("train", "evaluation")] if "train" in sets else pairs:
        shared = seen[one] & seen[other] if sources[one] is not sources[other] else set()
        if shared:
            both = f"{sources[one].source} ({one}) and {sources[other].source} ({other})"
            count, first = len(shared), _first_named(shared)
            if one == "train":
                raise BadData(f"{both} share {count} images{first}; what is trained on cannot judge")
            raise BadData(
                f"{both} share {count} images{first}; what calibrates, selects and judges must be different images"
            )


def _key(image: NDArray[np.uint8] | Path) -> str | bytes:
    return str(image.resolve()) if isinstance(image, Path) else sha256(image.tobytes()).digest()


def _first_named(shared: set[str | bytes]) -> str:
    named = sorted(one for one in shared if isinstance(one, str))
    return f", {named[0]} the first" if named else ""
