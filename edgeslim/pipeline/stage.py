"""What goes into an artifact's folder: model files, golden vectors, the plan, the recipe, the model card, licences."""

import shutil
from pathlib import Path

from edgeslim.artifact.archive import MEASUREMENTS, write_example
from edgeslim.artifact.manifest import (
    Manifest,
)
from edgeslim.artifact.records import save
from edgeslim.backends.ethos_u.section import copy_compiled, simulation
from edgeslim.backends.ethos_u.simulation import save_simulation
from edgeslim.backends.tensorrt.section import copy_builder
from edgeslim.export.evaluation.ledger import save_spellings
from edgeslim.model.numerics import Numerics
from edgeslim.model.trials import save_trials
from edgeslim.pipeline.documents import write_documents
from edgeslim.pipeline.golden import (
    golden_images,
    write_golden,
)
from edgeslim.pipeline.manifest import folder_of, manifest_of, path_of
from edgeslim.pipeline.result import Made

EMULATED = "emulated"  # the folder of what was counted, beside that of what was measured


def stage(staging: Path, made: Made) -> Manifest:
    """Write everything but the manifest into `staging`; return the manifest, which `artifact.pack` completes."""
    for folder in ("models", "reference", "golden", "LICENSES", MEASUREMENTS):
        (staging / folder).mkdir(parents=True)
    write_example(staging)
    for one in made.judged:
        for file in one.job.files:
            shutil.copyfile(file, staging / folder_of(one) / file.name)
    if made.npu is not None:
        copy_compiled(made.npu, staging)
        save_simulation(simulation(made.npu, made.profile.name), staging / MEASUREMENTS)
    if made.half is not None:
        copy_builder(staging)
    golden = golden_images(made.data.evaluation)
    write_golden(staging, made, golden)
    numerics = made.compressed.numerics or Numerics({}, {})
    numerics.save(staging / "numerics.json")
    save_spellings({path_of(one): one.spelling for one in made.judged if one.rows}, staging / "ledger.json")
    (staging / "recipe.yaml").write_text(made.recipe.text())
    write_documents(staging, made)
    save(made.measurements, staging / MEASUREMENTS)
    if made.simulations:
        save(made.simulations, staging / MEASUREMENTS / EMULATED)
    save_trials(made.compressed.trials, staging / MEASUREMENTS)
    return manifest_of(made)
