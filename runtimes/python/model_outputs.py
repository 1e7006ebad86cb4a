"""What comes out of a model, saved: one .npy file for each output, with those of all samples one after the other."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
from messages import AgentError
from model_inputs import DTYPES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from messages import Channel
    from model_inputs import Run, Samples

# The header comes first in the file and holds the length of axis 0, which is known last: room is kept for it.
HEADER_BYTES = 256


def save_outputs(run: Run, samples: Samples, paths: list[Path], channel: Channel) -> None:
    """Run every sample once, save the model's first outputs, one for each path, and send `outputs` for each.

    Raises AgentError: "bad-input" where the model has fewer outputs, "write-failed".
    """
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(OutputFile(path)) for path in paths]
        for index in range(samples.count):
            outputs = run(samples[index])
            if len(outputs) < len(files):
                raise AgentError("bad-input", f"the model has {len(outputs)} outputs; {len(files)} were asked for")
            for file, output in zip(files, outputs, strict=False):
                file.append(output)
        for file in files:
            file.finish()
    for file in files:
        channel.emit("outputs", path=str(file.path), shape=file.shape, dtype=file.dtype.name)


class OutputFile:
    """An .npy file that grows along axis 0 as `PATH.part`, and gets its name when it is finished."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.shape: tuple[int, ...] = ()
        self.dtype = np.dtype(np.float32)
        self._part = path.with_name(path.name + ".part")
        self._file: IO[bytes]

    def __enter__(self) -> OutputFile:
        with self._writing():
            if self.path.exists() and not self.path.is_file():  # a rename would put the file in the place of a device
                raise AgentError("write-failed", f"{self.path} is there already and no file")
            self._file = self._part.open("wb")
            self._file.write(bytes(HEADER_BYTES))
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # what is left here was not finished: the failure is already on its way
            self._file.close()
            self._part.unlink()

    def append(self, output: np.ndarray | None) -> None:
        """Put an output, or one value without axes, behind those before it."""
        if not isinstance(output, np.ndarray | np.generic) or output.dtype.name not in DTYPES:
            raise AgentError("bad-input", f"{self.path}: the output is no array that an .npy file can hold")
        rows = np.atleast_1d(output)
        if not self.shape:
            self.shape, self.dtype = (0, *rows.shape[1:]), rows.dtype
        if rows.shape[1:] != self.shape[1:] or rows.dtype != self.dtype:
            raise AgentError(
                "runtime-failed",
                f"{self.path}: an output is {rows.dtype} {list(rows.shape)}, unlike those before it",
            )
        self.shape = (self.shape[0] + len(rows), *self.shape[1:])
        with self._writing():
            self._file.write(rows.tobytes())

    def finish(self) -> None:
        """Write the header and give the file its name."""
        fields = {"descr": self.dtype.str, "fortran_order": False, "shape": self.shape}
        magic = b"\x93NUMPY\x01\x00" + (HEADER_BYTES - 10).to_bytes(2, "little")
        with self._writing():
            self._file.seek(0)
            self._file.write(magic + repr(fields).encode().ljust(HEADER_BYTES - 11) + b"\n")
            self._file.close()
            self._part.replace(self.path)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise AgentError("write-failed", f"{self.path}: {error.strerror or error}") from error
