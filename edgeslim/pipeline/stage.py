"""What goes into an artifact's folder: model files, golden vectors, the plan, the recipe, the model card, licences."""

import shutil
from pathlib import Path

from edgeslim.artifact.archive import MEASUREMENTS, write_example
from edgeslim.artifact.manifest import Manifest
from edgeslim.export.evaluation.ledger import save_spellings
from edgeslim.measure.operators.used import FILE, save_used
from edgeslim.model.numerics import Numerics
from edgeslim.model.trials import save_trials
from edgeslim.pipeline.documents.times import save_times
from edgeslim.pipeline.documents.write import write_documents
from edgeslim.pipeline.golden import golden_images, write_golden
from edgeslim.pipeline.manifest import manifest_of
from edgeslim.pipeline.result import Built
from edgeslim.recipe import RECIPE_SCHEMA
from edgeslim.strict_yaml import editor_line


def stage(staging: Path, made: Built) -> Manifest:
    """Write everything but the manifest into `staging`; return the manifest, which `artifact.pack` completes."""
    for folder in ("models", "reference", "golden", "LICENSES", MEASUREMENTS):
        (staging / folder).mkdir(parents=True)
    write_example(staging)
    for one in made.judged:
        for file in one.job.files:
            shutil.copyfile(file, staging / one.folder / file.name)
    for path, source in made.delivery.files.items():
        (staging / path).parent.mkdir(exist_ok=True)
        shutil.copyfile(source, staging / path)
    golden = golden_images(made.data.evaluation)
    write_golden(staging, made, golden)
    numerics = made.stages.final.numerics or Numerics({}, {})
    numerics.save(staging / "numerics.json")
    save_spellings({one.path: one.spelling for one in made.judged if one.rows}, staging / "ledger.json")
    if made.operator_times is not None:
        save_used(made.operator_times, staging / FILE)
    (staging / "recipe.yaml").write_text(editor_line(RECIPE_SCHEMA.name) + made.recipe.text())
    save_times(made.times, staging / MEASUREMENTS)
    save_trials(made.stages.final.trials, staging / MEASUREMENTS)
    manifest = manifest_of(made)
    write_documents(staging, made, manifest)
    return manifest
