"""One exported file with everything that was found out about it by running it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeslim.export.job import Job, Spelling
from edgeslim.ledger import Row
from edgeslim.quality import Score


@dataclass(frozen=True)
class Judged:
    """A file, its logits on the evaluation set, and what they are worth; `planned` to `rows` for int8 files only."""

    job: Job
    runtime: str
    spelling: Spelling
    logits: NDArray[np.float32]
    score: Score
    agreement_pct: float  # with the fp32 file of the same format
    sqnr_db: float  # against the model in PyTorch
    planned: int | None  # layers planned to run on integers
    proven: tuple[str, ...] | None  # those the runtime showed to do so
    rows: tuple[Row, ...]

    @property
    def label(self) -> str:
        """Format and precision: "onnx int8"."""
        return f"{self.job.format} {self.job.precision}"

    @property
    def size_bytes(self) -> int:
        """Bytes of the file and its companions."""
        return sum(file.stat().st_size for file in self.job.files)
