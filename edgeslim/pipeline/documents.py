"""Model card, licences and changelog of an artifact."""

import shutil
from pathlib import Path

from edgeslim.pipeline.manifest import VERSION
from edgeslim.pipeline.result import Built
from edgeslim.resources import bundled, default_model_folder


def write_documents(staging: Path, made: Built) -> None:
    """Write model card, licences and changelog."""
    shutil.copyfile(bundled("LICENSE"), staging / "LICENSES" / "edgeslim-Apache-2.0.txt")  # run.py, preprocessing.py
    if made.stages.given.source == "default":
        shutil.copyfile(default_model_folder() / "LICENSE", staging / "LICENSES" / "Fashion-MNIST-MIT.txt")
    if made.stages.given.source == "default" and made.stages.given.weights_source == "bundled":
        shutil.copyfile(default_model_folder() / "MODEL_CARD.md", staging / "MODEL_CARD.md")
    else:
        (staging / "MODEL_CARD.md").write_text(
            f"# {made.stages.given.source}\n\nWeights: {made.stages.given.weights_source}. "
            "Origin, training data and licence of this model were not given to edgeslim: "
            "ask whoever built this artifact.\n"
        )
    steps = "\n".join(f"- {line}" for line in made.stages.final.history)
    (staging / "CHANGELOG.md").write_text(
        f"# Changelog\n\n## {VERSION}\n\nBuilt from `{made.stages.given.source}`:\n\n{steps}\n"
    )
