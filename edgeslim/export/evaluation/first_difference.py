"""The first node at which an exported fp32 file and the network it was made from part.

Run as a module, with FORMAT MODEL PROGRAM IMAGE ANSWER, it is the process that looks, with the exporter's own reader of
a file's values; ANSWER is the file for what it finds.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from edgeslim.export import float_values
from edgeslim.export.job import Job, program_path
from edgeslim.export.process import run_tool
from edgeslim.formats import FormatName
from edgeslim.model.equivalence import LEAST_DB, first_parting
from edgeslim.model.graph import graph_of


def parting_in_file(job: Job, image: NDArray[np.float32], work: Path) -> str:
    """Return in words where the file of an fp32 job and its network part on one image (1, C, H, W).

    `work` is the folder that the job was written in. Raises ToolFailed where the file's values cannot be read.
    """
    told, answer = work / f"{job.format}_parting.npy", work / f"{job.format}_parting.txt"
    np.save(told, image)
    command = [
        sys.executable,
        "-m",
        "edgeslim.export.evaluation.first_difference",
        job.format,
        job.target,
        program_path(work, "fp32"),
    ]
    run_tool([*map(str, command), str(told), str(answer)], answer.with_suffix(".log"), "reading the file's values")
    return answer.read_text()


def main(name: FormatName, model: Path, program: Path, image: Path, answer: Path) -> None:
    """Write where a file and its network part."""
    fed = np.load(image)
    graph = graph_of(torch.export.load(program))
    values = float_values(name, model, fed).values()
    answer.write_text(first_parting(graph, torch.from_numpy(fed), values, LEAST_DB) or "none of its nodes alone")


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:]))  # type: ignore[arg-type] # a format, as it was told
