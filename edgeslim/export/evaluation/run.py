"""Run every exported file in its real runtime: on the whole evaluation set, against the plan, and against the clock."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeslim.deploy.run_model import execution_graph, run_model
from edgeslim.deploy.targets.local import stop_all
from edgeslim.devices.machine import cores
from edgeslim.devices.profile import DeviceProfile
from edgeslim.errors import DeviceFailed, Refused, ToolFailed, try_diagnostic
from edgeslim.export import tflite_ends
from edgeslim.export.evaluation.first_difference import parting_in_file
from edgeslim.export.evaluation.inputs import first_rows, in_dtype, input_files, write_inputs
from edgeslim.export.evaluation.integer_layers import proven_layers
from edgeslim.export.evaluation.ledger import Row, read_ledger
from edgeslim.export.job import End, Ends, Job, Spelling
from edgeslim.export.process import side_by_side
from edgeslim.formats import FORMATS, RuntimeName
from edgeslim.grid import Grid, sqnr_db
from edgeslim.model.context import Context
from edgeslim.model.equivalence import LEAST_DB, outputs_of
from edgeslim.model.model import Model
from edgeslim.tasks.images import ImageSet
from edgeslim.tasks.task import Score

PARITY_IMAGES = 64
ORDER = ("fp32", "fp16", "int8")  # of the files of one format: each is compared with the first


@dataclass(frozen=True)
class Judged:
    """A file, its outputs on the evaluation set, and what they are worth; `planned` to `rows` for int8 files only."""

    job: Job
    runtime: RuntimeName
    spelling: Spelling
    outputs: tuple[NDArray[np.float32], ...]  # in the network's order, each (images, ...)
    score: Score
    agreement_pct: float  # with the fp32 file of the same format
    sqnr_db: tuple[float, ...]  # of each output against the model in PyTorch
    planned: int | None  # layers planned to run on integers
    proven: tuple[str, ...] | None  # those the runtime showed to do so
    rows: tuple[Row, ...]
    ends: Ends | None = None  # of a file that takes and gives int8

    @property
    def label(self) -> str:
        """Format and precision: "onnx int8"."""
        return f"{self.job.format} {self.job.precision}"

    @property
    def folder(self) -> str:
        """Where in an artifact it lies: for the device, or as the float one that others are compared with."""
        return "reference" if self.job.precision == "fp32" else "models"

    @property
    def path(self) -> str:
        """Its path in an artifact."""
        return f"{self.folder}/{self.job.target.name}"

    @property
    def size_bytes(self) -> int:
        """Bytes of the file and its companions."""
        return sum(file.stat().st_size for file in self.job.files)


def judge_all(
    exported: Sequence[tuple[Job, Spelling]], model: Model, compressed: Model, threads: int, context: Context
) -> tuple[list[Judged], list[str]]:
    """Run every file in its real runtime on the whole evaluation set, and hold it against model, labels and plan.

    Returns the judged files, fp32 first, and a sentence for every format whose runtime failed. Raises Refused for an
    fp32 file that does not compute what `model.reference` does (the user's module in eager mode, where nothing was
    pruned), ToolFailed when no file could be run.
    """
    evaluation = context.data.evaluation
    inputs = write_inputs(evaluation, context.work)
    eager = eager_outputs(model, evaluation)
    found: dict[int, Judged] = {}
    failures: dict[str, str] = {}
    ordered = sorted(exported, key=lambda e: ORDER.index(e[0].precision))
    run = {job.format: Event() for job, _ in ordered if job.precision == ORDER[0]}  # others are compared with these

    def judge(number: int) -> None:
        job, spelling = ordered[number]
        twin = None
        if job.precision != ORDER[0] and job.format in run:
            run[job.format].wait()
            twin = next((one for one in found.values() if one.job.format == job.format), None)
        if job.format in failures:
            return
        context.progress(f"evaluating {job.format} {job.precision}", number / len(ordered))
        fed = inputs[FORMATS[job.format].runtime]
        try:
            one = _judge(job, spelling, twin, fed, eager, evaluation.targets, compressed, threads)
            _require_right(one, len(eager[0]), context)
            found[number] = one
        except DeviceFailed as error:
            failures[job.format] = f"{job.format} {job.precision}: {error}"
        finally:
            if job.precision == ORDER[0]:
                run[job.format].set()

    # The float files stand first, so that none that waits can keep the one it waits for from starting.
    side_by_side(judge, range(len(ordered)), cores() // threads, stop_all)
    judged = [found[number] for number in sorted(found)]
    if not judged:
        raise ToolFailed("\n".join(["no file could be run:", *failures.values()]))
    return judged, [failures[name] for name in FORMATS if name in failures]


def _judge(
    job: Job,
    spelling: Spelling,
    twin: Judged | None,
    inputs: Path,
    eager: Sequence[NDArray[np.float32]],
    targets: NDArray[Any] | None,
    compressed: Model,
    threads: int,
) -> Judged:
    """Run one file; `twin` is the fp32 file of its format, None for that file itself."""
    runtime, numerics = FORMATS[job.format].runtime, compressed.numerics
    ends = tflite_ends(job.target) if job.io == "int8" else None
    if ends is not None:
        inputs = in_dtype(inputs, "int8", _grid(ends.input).codes)
    if job.io == "float16":
        inputs = in_dtype(inputs, "float16", lambda row: row.astype(np.float16))
    found = run_model(runtime, job.target, inputs, precision=job.precision, threads=threads, outputs=len(eager))
    grids = [None] * len(found) if ends is None else [_grid(one) for one in ends.outputs]
    pairs = zip(found, grids, strict=True)
    outputs = tuple(one.astype(np.float32) if grid is None else grid.real(one) for one, grid in pairs)
    _require_shapes(job, outputs, eager)
    parity = tuple(sqnr_db(wanted, one[: len(wanted)]) for wanted, one in zip(eager, outputs, strict=True))
    planned = proven = None
    rows: tuple[Row, ...] = ()
    if job.precision == "int8" and numerics is not None:
        if not numerics.symmetric:  # such pairs are not where ONNX Runtime's kernels want them
            planned = len(numerics.integer_layers)
            executed = execution_graph(runtime, job.target, first_rows(inputs, 1), job.precision)
            proven = tuple(proven_layers(executed, spelling))
        rows = tuple(read_ledger(job.format, job.target, numerics, spelling))
    task, reference = compressed.task, outputs if twin is None else twin.outputs
    return Judged(
        job=job,
        runtime=runtime,
        spelling=spelling,
        outputs=outputs,
        score=task.score(outputs, targets, reference),
        agreement_pct=task.agreement_pct(outputs, reference),
        sqnr_db=parity,
        planned=planned,
        proven=proven,
        rows=rows,
        ends=ends,
    )


def _require_shapes(job: Job, outputs: Sequence[NDArray[np.float32]], eager: Sequence[NDArray[np.float32]]) -> None:
    """Raise Refused where a file gives its outputs in another order or shape than the network."""
    for name, found, wanted in zip(job.outputs, outputs, eager, strict=True):
        if found.shape[1:] != wanted.shape[1:]:
            raise Refused(
                f"the {job.format} {job.precision} export gives `{name}` as {found.shape[1:]}, the model as "
                f"{wanted.shape[1:]}"
            )


def _require_right(one: Judged, images: int, context: Context) -> None:
    """Raise Refused for an fp32 file that does not compute what the model does, naming where the two part."""
    if one.job.precision != "fp32" or min(one.sqnr_db) >= LEAST_DB:
        return
    name = one.job.outputs[int(np.argmin(one.sqnr_db))]
    sample = np.ascontiguousarray(first_rows(input_files(context.work)["onnxruntime"], 1))
    place, unread = try_diagnostic(
        "the node where the two part", lambda: parting_in_file(one.job, sample, context.work)
    )
    raise Refused(
        f"the {one.job.format} fp32 export does not compute what the model does: "
        f"SQNR {min(one.sqnr_db)} dB of `{name}` over {images} images, {LEAST_DB} dB demanded; "
        f"{unread[0] if unread else f'the two part at {place}'}"
    )


def _grid(end: End) -> Grid:
    """Return the grid of an int8 input or output; ToolFailed where the exporter left a float there."""
    if end.grid is None:
        raise ToolFailed(f"the exporter was asked for int8 inputs and outputs and wrote one of {end.dtype}")
    return end.grid


def eager_outputs(model: Model, images: ImageSet) -> tuple[NDArray[np.float32], ...]:
    """Return what the model must compute, in eager mode in PyTorch, for the first images of a set."""
    return outputs_of(model.reference, next(iter(images.tensors()))[:PARITY_IMAGES])


def known_failures(judged: Sequence[Judged], profile: DeviceProfile) -> list[str]:
    """Return what is known to go wrong with these files on the device."""
    return [
        f"{support.name} {failure.precision} on {profile.name}: {failure.text} ({failure.source})"
        for support in profile.runtimes
        for failure in support.known_failures
        if any(one.runtime == support.name and one.job.precision == failure.precision for one in judged)
    ]


def twin_of(one: Judged, judged: Sequence[Judged]) -> Judged | None:
    """Return the fp32 file of the same format."""
    return next((o for o in judged if o.job.format == one.job.format and o.job.precision == "fp32"), None)
