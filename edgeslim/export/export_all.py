"""Write every format of a compressed model, each in workers; what fails is told, the rest is kept."""

import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event

import numpy as np
import torch

from edgeslim.errors import ToolFailed
from edgeslim.export import export
from edgeslim.export.job import Job, Spelling, program_path
from edgeslim.export.process import keep_logs, side_by_side, stop_workers
from edgeslim.formats import FORMATS, FormatName, Io
from edgeslim.model.context import Context
from edgeslim.model.graph import program_of
from edgeslim.model.model import Model
from edgeslim.threads import cores

PROBE_IMAGES = 16  # on them tensors are matched, and a converter's own tensors get their ranges


def export_all(
    dense: Model,
    compressed: Model,
    formats: Iterable[FormatName],
    ends: Callable[[str], Io],
    context: Context,
    destination: Path,
    half: Model | None = None,
) -> tuple[list[tuple[Job, Spelling]], list[str]]:
    """Write every format in fp32 and, where there is a plan, in int8; return them and what failed.

    `half` is the network with a HalfPlan, before quantization: as ONNX it is written in fp16 too. `ends` says what a
    file of a precision takes and gives.
    """
    outputs = [one.name for one in dense.outputs]
    work, precisions = context.work, write_networks(dense, compressed, half, context)
    wanted = [(n, p) for n in _in_order(formats) for p in precisions if p != "fp16" or n == "onnx"]
    done: dict[tuple[FormatName, str], tuple[Job, Spelling]] = {}
    errors: dict[FormatName, ToolFailed] = {}
    written = {name: Event() for name, precision in wanted if precision == "fp32"}  # others may be made from it

    def write(name: FormatName) -> None:
        """Write all files of one format: without its fp32 file nothing of it can be judged."""
        source = FORMATS[name].made_from
        if source in written:
            written[source].wait()
        for precision in [one for at, one in wanted if at == name]:
            context.progress(f"{name} {precision}", len(done), len(wanted))
            try:
                done[name, precision] = export_job(name, precision, work, outputs, ends(precision))
            except ToolFailed as error:
                errors[name] = error
                break
            finally:
                written[name].set()

    # Formats side by side, that which waits for another last.
    names = sorted(written, key=lambda name: FORMATS[name].made_from is not None)
    side_by_side(write, names, cores(), stop_workers)
    failed = [keep_logs(errors[name].sentence, work, destination) for name in FORMATS if name in errors]
    if not done:
        raise ToolFailed("\n".join(["no format could be written:", *failed]))
    return [done[one] for one in wanted if one in done], failed


def write_networks(dense: Model, compressed: Model, half: Model | None, context: Context) -> list[str]:
    """Write the programs and plans that exporters read into the work folder; return the precisions there are."""
    work = context.work
    probe = work / "probe.npy"
    images = next(iter(context.data.calibration.tensors()))[:PROBE_IMAGES]
    np.save(probe, images.numpy())
    precisions = {"fp32": dense}
    if half is not None and half.half is not None:
        precisions["fp16"] = half
        half.half.save(work / "half.json")
    if compressed.numerics:
        precisions["int8"] = compressed
    for precision, model in precisions.items():
        saved = io.BytesIO()  # torch ends the process where it writes to a full disk itself
        torch.export.save(program_of(model.graph, images[:1]), saved)
        program_path(work, precision).write_bytes(saved.getbuffer())
    if compressed.numerics:
        compressed.numerics.save(work / "numerics.json")
    return list(precisions)


def _in_order(formats: Iterable[FormatName]) -> list[FormatName]:
    """Return the formats with each before what is made from its fp32 file."""
    return sorted(formats, key=list(FORMATS).index)


def export_job(
    name: FormatName, precision: str, work: Path, outputs: Sequence[str], io: Io = "float32"
) -> tuple[Job, Spelling]:
    """Write one file in workers; `work` holds what `export_all` puts there, `outputs` are the names of its outputs."""
    job = Job(
        name,
        precision,
        source=program_path(work, precision),
        target=work / name / f"model_{precision}{FORMATS[name].suffix}",
        probe=work / "probe.npy",
        numerics=work / "numerics.json" if precision == "int8" else None,
        io=io,
        half=work / "half.json" if precision == "fp16" else None,
        outputs=tuple(outputs),
    )
    if FORMATS[name].made_from == "onnx":
        job = _from_onnx(job, work)
    return job, export(job, work / f"{name}_{precision}.log")


def _from_onnx(job: Job, work: Path) -> Job:
    """Return a job with its ONNX source written: the fp32 file where there is one, else one of its own."""
    shared = work / "onnx" / job.target.with_suffix(".onnx").name
    if job.precision == "fp32" and shared.is_file():
        return replace(job, source=shared)
    onnx = replace(job, format="onnx", target=job.target.with_suffix(".onnx"), runtime=FORMATS[job.format].runtime)
    spelling = work / f"{job.format}_{job.precision}.onnx-spelling.json"
    export(onnx, work / f"{job.format}_{job.precision}_onnx.log").save(spelling)
    return replace(job, source=onnx.target, spelling=spelling)
