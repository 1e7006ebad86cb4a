"""The process that runs one export job: `python -m edgeslim.export.worker JOB ANSWER`."""

import importlib
import sys
import warnings
from pathlib import Path

from edgeslim.export.job import load_job


def main(told: Path, answer: Path) -> None:
    """Read the job, let its format's module write the file, and leave the spelling behind."""
    warnings.simplefilter("ignore")  # the libraries' own; the log is read after a failure only
    job = load_job(told)
    importlib.import_module(f"edgeslim.export.{job.format}").write(job).save(answer)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
