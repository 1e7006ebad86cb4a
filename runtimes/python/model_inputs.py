"""What goes into a model: samples from .npy files or from a seed, fitted to the inputs that the model has."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from messages import AgentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    # One input of a model: its name, shape (None: open), numpy's name of the dtype.
    Wanted = tuple[str, tuple[int | None, ...], str]
    Fit = Callable[[list[Wanted]], list[tuple[int, ...]]]
    Sample = list[np.ndarray]
    Run = Callable[[Sample], Sequence[np.ndarray | None]]  # None for what no .npy file can hold

DTYPES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64"),
)
_GAMMA = 0x9E3779B97F4A7C15
_MIXERS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))


@dataclass(frozen=True)
class Samples:
    """Arrays that hold the same number of samples, in the order of the model's inputs.

    `steps` tells how many rows of axis 0 are one sample of each array; 0 where axis 0 only counts samples.
    """

    arrays: tuple[np.ndarray, ...]
    steps: tuple[int, ...]
    count: int

    def __getitem__(self, index: int) -> Sample:
        """Return one sample, copied out of the files so that no inference waits for the disk."""
        return [_one(array, step, index) for array, step in zip(self.arrays, self.steps, strict=True)]

    def endless(self, start: int = 0) -> Iterator[Sample]:
        """Yield the samples one by one, over and over, from `start` on."""
        index = start
        while True:
            yield self[index % self.count]
            index += 1


class Source:
    """Where samples come from: the files, or a seed.

    What they must look like is known only when a runtime has read the model, and what the runtime makes of the model
    may depend on the samples, which fill in open dimensions. So a runtime calls `fit` while it loads.
    """

    def __init__(self, files: list[Path] | None, seed: int | None) -> None:
        """Open the files as memory-mapped arrays; AgentError ("missing-file", "bad-input")."""
        self._arrays = None if files is None else [_open(file) for file in files]
        self._seed = 0 if seed is None else seed
        self.samples = Samples((), (), 0)

    def fit(self, wanted: list[Wanted]) -> list[tuple[int, ...]]:
        """Set `samples` and return the shape of one sample for each input; AgentError ("bad-input")."""
        for name, _, dtype in wanted:
            if dtype not in DTYPES:
                raise AgentError("bad-input", f"input `{name}` takes {dtype}, which an .npy file cannot hold")
        if self._arrays is None:
            self.samples = _drawn(wanted, self._seed)
        elif len(self._arrays) != len(wanted):
            raise AgentError("bad-input", f"the model has {len(wanted)} inputs; {len(self._arrays)} were given")
        else:
            self.samples = _fitted(self._arrays, wanted)
        return [tensor.shape for tensor in self.samples[0]]


def require_file(path: Path) -> None:
    """Raise AgentError ("missing-file") where `path` is no file, or one that nobody may look for."""
    try:
        found = path.is_file()
    except OSError as error:  # a name that is too long, a folder that is closed to us
        raise AgentError("missing-file", f"{path}: {error.strerror}") from error
    if not found:
        raise AgentError("missing-file", f"{path} does not exist or is no file")


def _open(path: Path) -> np.ndarray:
    require_file(path)
    try:
        array: np.ndarray = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # a damaged header makes numpy raise types of its parser and of mmap
        raise AgentError("bad-input", f"{path} is no readable .npy array: {error}") from error
    if array.ndim == 0 or len(array) == 0:
        raise AgentError("bad-input", f"{path}: an array with at least one sample on axis 0 was expected")
    if not array.flags.c_contiguous:
        raise AgentError("bad-input", f"{path} is stored column by column; save numpy.ascontiguousarray of it")
    return array


def _one(array: np.ndarray, step: int, index: int) -> np.ndarray:
    return np.array(array[index * step : (index + 1) * step] if step else array[index], order="C")


def _fitted(arrays: list[np.ndarray], wanted: list[Wanted]) -> Samples:
    steps, counts = [], []
    for array, (name, shape, dtype) in zip(arrays, wanted, strict=True):
        if array.dtype != np.dtype(dtype):
            raise AgentError("bad-input", f"input `{name}`: the samples are {array.dtype}; the model takes {dtype}")
        step = (shape[0] or 1) if shape and array.ndim == len(shape) else 0
        one = (step, *array.shape[1:]) if step else array.shape[1:]
        if len(one) != len(shape) or any(size not in (None, one[axis]) for axis, size in enumerate(shape)):
            raise AgentError(
                "bad-input", f"input `{name}`: a sample has shape {list(one)}; the model takes {_words(shape)}"
            )
        if step and len(array) % step:
            raise AgentError("bad-input", f"input `{name}`: {len(array)} rows are no whole samples of {step} rows")
        steps.append(step)
        counts.append(len(array) // step if step else len(array))
    if len(set(counts)) > 1:
        raise AgentError("bad-input", f"the arrays hold different numbers of samples: {counts}")
    return Samples(tuple(arrays), tuple(steps), counts[0] if counts else 1)


def _drawn(wanted: list[Wanted], seed: int) -> Samples:
    """Return one sample of random values, the same for a seed on every machine and in every agent."""
    arrays: list[np.ndarray] = []
    used = 0
    for name, shape, dtype in wanted:
        full = tuple(1 if axis == 0 and size is None else size for axis, size in enumerate(shape))
        if None in full:
            raise AgentError("bad-input", f"input `{name}` is open: {_words(shape)}; give --inputs, which fill it in")
        sizes = [size for size in full if size is not None]
        values = as_dtype(splitmix64(seed, used, math.prod(sizes)), dtype).reshape(sizes)
        used += values.size
        arrays.append(values[None])
    return Samples(tuple(arrays), (0,) * len(arrays), 1)


def splitmix64(seed: int, first: int, count: int) -> np.ndarray:
    """Return the draws `first` to `first + count` of a splitmix64 generator that starts at `seed` (uint64)."""
    state = np.arange(first + 1, first + count + 1, dtype=np.uint64) * np.uint64(_GAMMA) + np.uint64(seed)
    for shift, factor in _MIXERS:
        state = (state ^ (state >> np.uint64(shift))) * np.uint64(factor)
    draws: np.ndarray = state ^ (state >> np.uint64(31))
    return draws


def as_dtype(draws: np.ndarray, dtype: str) -> np.ndarray:
    """Return a value for each draw: floats in [-1, 1) from the top 24 bits, integers and bools from the lowest bits."""
    if dtype.startswith("float"):
        return ((draws >> np.uint64(40)).astype(np.float64) * 2.0**-23 - 1).astype(dtype)
    if dtype == "bool":
        return (draws & np.uint64(1)).astype(bool)
    return draws.astype(dtype)


def _words(shape: tuple[int | None, ...]) -> str:
    return "[" + ", ".join("open" if size is None else str(size) for size in shape) + "]"
