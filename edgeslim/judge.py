"""Run every exported file in its real runtime: on the whole evaluation set, against the plan, and against the clock."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from edgeslim.context import Context
from edgeslim.data import ImageSet
from edgeslim.errors import Refused
from edgeslim.export.job import Job, Spelling
from edgeslim.formats import FORMATS, RuntimeName
from edgeslim.harness import Candidate, execution_graph, measure, run_model
from edgeslim.ledger import Row, read_ledger
from edgeslim.measurement import Measurement
from edgeslim.model import Model
from edgeslim.proof import proven_layers
from edgeslim.quality import Score, agreement_pct, score, sqnr_db

FP32_SQNR_DB = 60.0  # below it an fp32 export does not compute what the model does
PARITY_IMAGES = 64
TIMED_PROCESSES = 5
TIMED_IMAGES = 32


@dataclass(frozen=True)
class Judged:
    """A file, its logits on the evaluation set, and what they are worth; `planned` to `rows` for int8 files only."""

    job: Job
    runtime: RuntimeName
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


def judge_all(
    exported: Sequence[tuple[Job, Spelling]], model: Model, compressed: Model, threads: int, context: Context
) -> list[Judged]:
    """Run every file in its real runtime on the whole evaluation set, and hold it against model, labels and plan."""
    evaluation = context.data.evaluation
    inputs = _evaluation_inputs(evaluation, context.work)
    eager = eager_logits(model, evaluation)
    judged: list[Judged] = []
    float_logits: dict[str, NDArray[np.float32]] = {}
    for number, (job, spelling) in enumerate(sorted(exported, key=lambda e: e[0].precision)):
        context.progress(f"evaluating {job.format} {job.precision}", number / len(exported))
        runtime = FORMATS[job.format].runtime
        fed = inputs[runtime]
        logits = run_model(runtime, job.target, fed, precision=job.precision, threads=threads)
        parity = sqnr_db(eager, logits[: len(eager)])
        rows: tuple[Row, ...] = ()
        proven = None
        if job.precision == "fp32":
            float_logits[job.format] = logits
            if parity < FP32_SQNR_DB:
                raise Refused(
                    f"the {job.format} fp32 export does not compute what the model does: "
                    f"SQNR {parity} dB over {len(eager)} images, {FP32_SQNR_DB} dB demanded"
                )
        elif compressed.numerics:
            proven = proven_layers(execution_graph(runtime, job.target, _first(fed, 1), job.precision), spelling)
            rows = tuple(read_ledger(job.format, job.target, compressed.numerics, spelling))
        reference = float_logits[job.format]
        judged.append(
            Judged(
                job, runtime, spelling, logits, score(logits, evaluation.labels, reference),
                agreement_pct(logits, reference), parity,
                len(compressed.numerics.integer_layers) if compressed.numerics and proven is not None else None,
                tuple(proven) if proven is not None else None, rows,
            )
        )  # fmt: skip
    return judged


def _evaluation_inputs(evaluation: ImageSet, work: Path) -> dict[str, Path]:
    """Write the preprocessed evaluation set once in each layout, batch by batch; return the file for each runtime."""
    shape = (
        len(evaluation),
        evaluation.preprocessing.height,
        evaluation.preprocessing.width,
        evaluation.preprocessing.channels,
    )
    files = {"nhwc": work / "inputs_nhwc.npy", "nchw": work / "inputs_nchw.npy"}
    last = np.lib.format.open_memmap(files["nhwc"], "w+", np.float32, shape)
    first = np.lib.format.open_memmap(files["nchw"], "w+", np.float32, (shape[0], shape[3], shape[1], shape[2]))
    done = 0
    for batch in evaluation.inputs():
        last[done : done + len(batch)] = batch
        first[done : done + len(batch)] = batch.transpose(0, 3, 1, 2)
        done += len(batch)
    last.flush()
    first.flush()
    return {"litert": files["nhwc"], "onnxruntime": files["nchw"], "openvino": files["nchw"]}


def _first(file: Path, count: int) -> NDArray[np.float32]:
    """Return the first rows of an .npy file."""
    return np.array(np.load(file, mmap_mode="r")[:count])


@torch.no_grad()
def eager_logits(model: Model, images: ImageSet) -> NDArray[np.float32]:
    """Return the model's own logits in PyTorch for the first images of a set."""
    batch = next(iter(images.tensors()))[:PARITY_IMAGES]
    return np.concatenate([model.graph(row).numpy() for row in batch.split(1)])


def time_all(judged: Sequence[Judged], threads: int, context: Context) -> list[Measurement]:
    """Time every file on this machine: fresh processes, interleaved."""
    inputs = _evaluation_inputs(context.data.evaluation.head(TIMED_IMAGES), context.work)
    return measure(
        [Candidate(j.label, j.runtime, j.job.target, j.job.precision) for j in judged],
        {j.runtime: _first(inputs[j.runtime], TIMED_IMAGES) for j in judged},
        threads=threads,
        processes=TIMED_PROCESSES,
        min_duration_s=0.2,
        progress=lambda label, done, total: context.progress(f"timing {label}", done / total),
    )
