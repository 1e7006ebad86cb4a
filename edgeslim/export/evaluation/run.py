"""Run every exported file in its real runtime: on the whole evaluation set, against the plan, and against the clock."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeslim.deploy.run_model import execution_graph, run_model
from edgeslim.deploy.targets.local import stop_all
from edgeslim.devices.profile import DeviceProfile
from edgeslim.errors import DeviceFailed, Refused, ToolFailed, try_diagnostic
from edgeslim.export import tflite_ends
from edgeslim.export.evaluation.first_difference import parting_in_file
from edgeslim.export.evaluation.inputs import first_rows, in_dtype, in_parts, input_files, write_inputs
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
from edgeslim.threads import cores

Outputs = tuple[NDArray[np.float32], ...]  # of a network, in its order, each (images, ...)

PARITY_IMAGES = 64
ORDER = ("fp32", "fp16", "int8")  # of the files of one format: each is compared with the first


@dataclass(frozen=True)
class Judged:
    """A file, its outputs on the evaluation set, and what they are worth; `planned` to `rows` for int8 files only."""

    job: Job
    runtime: RuntimeName
    spelling: Spelling
    outputs: Outputs
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
    eager = eager_outputs(model, context.data.evaluation)
    ordered = sorted(exported, key=lambda e: ORDER.index(e[0].precision))
    outputs, failures = _run_all([job for job, _ in ordered], eager, context, threads)
    if not outputs:
        raise ToolFailed("\n".join(["no file could be run:", *_told(ordered, failures)]))

    def judge(place: int) -> Judged | None:
        job, spelling = ordered[place]
        reference = next(found for at, found in outputs.items() if ordered[at][0].format == job.format)
        context.progress(f"judging {job.format} {job.precision}", place, len(ordered))
        try:
            return _judge(job, spelling, outputs[place], reference, eager, context, compressed)
        except DeviceFailed as error:
            failures[place] = f"{job.format} {job.precision}: {error.message}"
            return None

    judged = side_by_side(judge, outputs, cores() // threads, stop_all)
    return [one for one in judged if one is not None], _told(ordered, failures)


def _told(files: Sequence[tuple[Job, Spelling]], failures: Mapping[int, str]) -> list[str]:
    """Return of each format the first failure."""
    told = {files[place][0].format: failures[place] for place in sorted(failures, reverse=True)}
    return [told[name] for name in FORMATS if name in told]


def _run_all(
    jobs: Sequence[Job], eager: Outputs, context: Context, threads: int
) -> tuple[dict[int, Outputs], dict[int, str]]:
    """Return the outputs of files on the evaluation set, by their places, and why the runtimes of others failed.

    Behind a file that failed no other of its format is run. The inputs lie on the disk a part at a time; those of the
    first part stay.
    """
    found: dict[int, list[Outputs]] = {place: [] for place in range(len(jobs))}
    failures: dict[int, str] = {}
    parts, further = in_parts(context.data.evaluation), context.work / "further_inputs"

    def failed(place: int) -> bool:
        return any(one <= place and jobs[one].format == jobs[place].format for one in tuple(failures))

    def run(place: int, number: int, inputs: Mapping[str, Path]) -> None:
        job = jobs[place]
        if failed(place):
            return
        done = number * len(jobs) + place
        context.progress(f"running {job.format} {job.precision}", done, len(jobs) * len(parts))
        try:
            outputs = _run(job, inputs[FORMATS[job.format].runtime], eager, threads)
        except DeviceFailed as error:
            failures[place] = f"{job.format} {job.precision}: {error.message}"
            return
        if number == 0:
            _require_right(job, outputs, eager, context)
        found[place].append(outputs)

    for number, part in enumerate(parts):
        inputs = write_inputs(part, context.work if number == 0 else further)
        # The float files stand first: what a runtime cannot do at all is known before the others are run.
        side_by_side(partial(run, number=number, inputs=inputs), range(len(jobs)), cores() // threads, stop_all)
    shutil.rmtree(further, ignore_errors=True)
    whole = {place: zip(*found[place], strict=True) for place in found if not failed(place)}
    return {place: tuple(np.concatenate(one) for one in pieces) for place, pieces in whole.items()}, failures


def _run(job: Job, inputs: Path, eager: Outputs, threads: int) -> Outputs:
    """Return the outputs, as real numbers, of a file for the images in an .npy file in its runtime's layout."""
    ends = tflite_ends(job.target) if job.io == "int8" else None
    if ends is not None:
        inputs = in_dtype(inputs, "int8", _grid(ends.input).codes)
    if job.io == "float16":
        inputs = in_dtype(inputs, "float16", lambda row: row.astype(np.float16))
    runtime = FORMATS[job.format].runtime
    found = run_model(runtime, job.target, inputs, precision=job.precision, threads=threads, outputs=len(eager))
    grids = [None] * len(found) if ends is None else [_grid(one) for one in ends.outputs]
    pairs = zip(found, grids, strict=True)
    outputs = tuple(one.astype(np.float32, copy=False) if grid is None else grid.real(one) for one, grid in pairs)
    _require_shapes(job, outputs, eager)
    return outputs


def _parity(outputs: Outputs, eager: Outputs) -> tuple[float, ...]:
    return tuple(sqnr_db(wanted, one[: len(wanted)]) for wanted, one in zip(eager, outputs, strict=True))


def _judge(
    job: Job,
    spelling: Spelling,
    outputs: Outputs,
    reference: Outputs,
    eager: Outputs,
    context: Context,
    compressed: Model,
) -> Judged:
    """Return what a file's outputs are worth; `reference`: those of the first file of its format."""
    runtime, numerics, task = FORMATS[job.format].runtime, compressed.numerics, compressed.task
    planned = proven = None
    rows: tuple[Row, ...] = ()
    if job.precision == "int8" and numerics is not None:
        if not numerics.symmetric:  # such pairs are not where ONNX Runtime's kernels want them
            planned = len(numerics.integer_layers)
            executed = execution_graph(runtime, job.target, _first_input(job, context.work), job.precision)
            proven = tuple(proven_layers(executed, spelling))
        rows = tuple(read_ledger(job.format, job.target, numerics, spelling))
    return Judged(
        job=job,
        runtime=runtime,
        spelling=spelling,
        outputs=outputs,
        score=task.score(outputs, context.data.evaluation.targets, reference),
        agreement_pct=task.agreement_pct(outputs, reference),
        sqnr_db=_parity(outputs, eager),
        planned=planned,
        proven=proven,
        rows=rows,
        ends=tflite_ends(job.target) if job.io == "int8" else None,
    )


def _first_input(job: Job, work: Path) -> NDArray[Any]:
    """Return the first evaluation image as a file takes it."""
    inputs = input_files(work)[FORMATS[job.format].runtime]
    return first_rows(inputs if job.io == "float32" else inputs.with_name(f"{inputs.stem}_{job.io}.npy"), 1)


def _require_shapes(job: Job, outputs: Outputs, eager: Outputs) -> None:
    """Raise Refused where a file gives its outputs in another order or shape than the network."""
    for name, found, wanted in zip(job.outputs, outputs, eager, strict=True):
        if found.shape[1:] != wanted.shape[1:]:
            raise Refused(
                f"the {job.format} {job.precision} export gives `{name}` as {found.shape[1:]}, the model as "
                f"{wanted.shape[1:]}"
            )


def _require_right(job: Job, outputs: Outputs, eager: Outputs, context: Context) -> None:
    """Raise Refused for an fp32 file that does not compute what the model does, naming where the two part."""
    found = _parity(outputs, eager)
    if job.precision != "fp32" or min(found) >= LEAST_DB:
        return
    name = job.outputs[int(np.argmin(found))]
    sample = np.ascontiguousarray(first_rows(input_files(context.work)["onnxruntime"], 1))
    place, unread = try_diagnostic("the node where the two part", lambda: parting_in_file(job, sample, context.work))
    raise Refused(
        f"the {job.format} fp32 export does not compute what the model does: "
        f"SQNR {min(found)} dB of `{name}` over {len(eager[0])} images, {LEAST_DB} dB demanded; "
        f"{unread[0] if unread else f'the two part at {place}'}"
    )


def _grid(end: End) -> Grid:
    """Return the grid of an int8 input or output; ToolFailed where the exporter left a float there."""
    if end.grid is None:
        raise ToolFailed(f"the exporter was asked for int8 inputs and outputs and wrote one of {end.dtype}")
    return end.grid


def eager_outputs(model: Model, images: ImageSet) -> Outputs:
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
