"""The worker that runs one export job."""

import importlib
import warnings
from pathlib import Path

from edgeslim.export.job import load_job


def main(told: str, answer: str) -> None:
    """Read the job in a file, let its format's module write the file, and leave the spelling behind."""
    warnings.simplefilter("ignore")  # the libraries' own; the log is read after a failure only
    job = load_job(Path(told))
    importlib.import_module(f"edgeslim.export.{job.format}").write(job).save(Path(answer))
