"""Files of a build as if their runtimes had run them."""

from pathlib import Path

import numpy as np

from edgeslim.export.evaluation.run import Judged
from edgeslim.export.job import Job, Spelling
from edgeslim.formats import FORMATS
from edgeslim.recipe import Recipe, StepCall
from edgeslim.tasks.task import Score

RECIPE = Recipe(steps=(StepCall(step="fold"), StepCall(step="quantize")))


def judged(name, precision: str, top1_pct: float = 90.0, **changes) -> Judged:
    target = Path(f"model_{precision}{FORMATS[name].suffix}")
    job = Job(name, precision, Path("in"), target, Path("probe"), outputs=("logits",))
    planned, proven = (1, ("conv2d",)) if precision == "int8" else (None, None)
    facts = {
        "job": job, "runtime": FORMATS[name].runtime, "spelling": Spelling(nodes={"conv2d": "node"}),
        "outputs": (np.zeros((4, 3), np.float32),),
        "score": Score("accuracy", "top-1", top1_pct, "%", (80.0, 95.0), 100),
        "agreement_pct": 99.0, "sqnr_db": (30.0,), "planned": planned, "proven": proven, "rows": (),
    }  # fmt: skip
    return Judged(**{**facts, **changes})
