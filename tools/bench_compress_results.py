"""What the compression benchmark found: a file of JSON lines that grows as results come, and is not computed twice."""

import json
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t

Figures = dict[str, Any]
DENSE = "dense"


@dataclass(frozen=True)
class Key:
    """What a result is of; `budget` is the share of the dense INT8 network's time, where there is one."""

    part: str
    model: str
    method: str
    images: int = 0
    seed: int = 0
    budget: float | None = None

    def __str__(self) -> str:
        budget = "" if self.budget is None else f", budget {self.budget:g}"
        return f"{self.part}: {self.model}, {self.method}, {self.images} images, seed {self.seed}{budget}"


class Results:
    """The results of one folder, in memory and in `results.jsonl`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / "results.jsonl"
        self._known: dict[Key, Figures] = {}
        if self._file.is_file():
            for line in self._file.read_text().splitlines():
                told = json.loads(line)
                self._known[Key(**told["of"])] = told["found"]

    def __contains__(self, key: Key) -> bool:
        return key in self._known

    def remembered(self, key: Key, compute: Callable[[], Figures]) -> Figures:
        """Return what is known of a key, or compute and keep it."""
        if key not in self._known:
            self.keep(key, compute())
        return self._known[key]

    def keep(self, key: Key, found: Figures) -> None:
        """Add a result to the file and tell of it on stderr."""
        self._known[key] = found
        with self._file.open("a") as opened:
            opened.write(json.dumps({"of": asdict(key), "found": found}) + "\n")
        shown = ", ".join(f"{name} {_short(value)}" for name, value in found.items())
        print(f"{time.strftime('%H:%M:%S')} {key}: {shown}", file=sys.stderr, flush=True)

    def of(self, part: str, model: str) -> dict[Key, Figures]:
        """Return the results of one part and model, in the order in which they came."""
        return {key: found for key, found in self._known.items() if (key.part, key.model) == (part, model)}

    def models(self, part: str) -> list[str]:
        """Return the models that have results of a part."""
        return list(dict.fromkeys(key.model for key in self._known if key.part == part))


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def mean_and_half(values: Iterable[float]) -> tuple[float, float]:
    """Return the mean and half of its 95 % interval (Student's t over seeds); infinite for a single value."""
    some = np.array(list(values), float)
    if len(some) < 2:
        return float(some.mean()), float("inf")
    half = t.ppf(0.975, len(some) - 1) * some.std(ddof=1) / np.sqrt(len(some))
    return float(some.mean()), float(half)
