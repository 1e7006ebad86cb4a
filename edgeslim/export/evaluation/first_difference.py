"""The first node at which an exported fp32 file and the network it was made from part, found in a worker."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from edgeslim.export import float_values
from edgeslim.export.job import Job, program_path
from edgeslim.export.process import run_worker
from edgeslim.formats import FormatName
from edgeslim.model.equivalence import LEAST_DB, first_parting
from edgeslim.model.graph import graph_of


def parting_in_file(job: Job, image: NDArray[np.float32], work: Path) -> str:
    """Return in words where the file of an fp32 job and its network part on one image (1, C, H, W).

    `work` is the folder that the job was written in. Raises ToolFailed where the file's values cannot be read.
    """
    told, answer = work / f"{job.format}_parting.npy", work / f"{job.format}_parting.txt"
    np.save(told, image)
    arguments = [job.format, job.target, program_path(work, "fp32"), told, answer]
    log, name = answer.with_suffix(".log"), f"{job.format} values"
    run_worker("edgeslim.export.evaluation.first_difference", arguments, log, "reading the file's values", name)
    return answer.read_text()


def main(name: FormatName, model: str, program: str, image: str, answer: str) -> None:
    """Write where a file and its network part into `answer`, with the exporter's own reader of a file's values."""
    fed = np.load(image)
    graph = graph_of(torch.export.load(program))
    values = float_values(name, Path(model), fed).values()
    Path(answer).write_text(first_parting(graph, torch.from_numpy(fed), values, LEAST_DB) or "none of its nodes alone")
