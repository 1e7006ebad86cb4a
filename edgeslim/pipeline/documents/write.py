"""The words that travel in an artifact: its figures, model card, licences and changelog."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from edgeslim.artifact.archive import MEASUREMENTS
from edgeslim.artifact.manifest import Manifest
from edgeslim.pipeline.documents.provenance import is_bundled
from edgeslim.pipeline.documents.summary import TIMES_PAGE, summary
from edgeslim.pipeline.manifest import VERSION
from edgeslim.pipeline.result import Built
from edgeslim.resources import bundled, default_model_folder
from edgeslim.table import markdown


def write_documents(staging: Path, made: Built, manifest: Manifest) -> None:
    """Write README, model card, licences and changelog, and beside the archive the figures with their times."""
    shutil.copyfile(bundled("LICENSE"), staging / "LICENSES" / "edgeslim-Apache-2.0.txt")  # run.py, preprocessing.py
    if made.stages.given.source == "default":
        shutil.copyfile(default_model_folder() / "LICENSE", staging / "LICENSES" / "Fashion-MNIST-MIT.txt")
    steps = "\n".join(f"- {line}" for line in made.stages.final.history)
    (staging / "CHANGELOG.md").write_text(
        f"# Changelog\n\n## {VERSION}\n\nBuilt from `{made.stages.given.source}`:\n\n{steps}\n", "utf-8"
    )
    figures = markdown(summary(manifest, None))
    (staging / "README.md").write_text(f"{_head(manifest)}\n{figures}\n{_GUIDE}", "utf-8")
    (staging / "MODEL_CARD.md").write_text(f"{_card(made)}\n## As built for {_device(manifest)}\n\n{figures}", "utf-8")
    (staging / TIMES_PAGE).write_text(
        f"{_head(manifest)}\n{markdown(summary(manifest, made.times))}\n{_BESIDE}", "utf-8"
    )


_GUIDE = """\
[CONTENTS.md](CONTENTS.md) says what each file is and how to run the network, [ACCEPTANCE.md](ACCEPTANCE.md) how to
decide whether to take it, [MODEL_CARD.md](MODEL_CARD.md) what the network is for. `manifest.json` holds the figures
above, and all others, for programs; `edgeslim show` prints them.
"""
_BESIDE = f"""\
These are the figures with the times of the build, for which this file lies outside the archive and the hashes.
`edgeslim bench` keeps what it measures in folders of `{MEASUREMENTS}/`.
"""


def _head(manifest: Manifest) -> str:
    name, maker = manifest.artifact, manifest.tool_versions.get("edgeslim", "of an unknown version")
    return (
        f"# {name.name} {name.version}\n\n`{manifest.model.source}`, compressed by edgeslim {maker} for "
        f"{_device(manifest)}: **{manifest.status}**. The file for the device is bold; the fp32 files are what it is "
        "compared with.\n"
    )


def _device(manifest: Manifest) -> str:
    return f"a {manifest.compatible.title} (`{manifest.compatible.device}`)"


def _card(made: Built) -> str:
    """Return what the network is for: what came with the bundled weights, or what was said of it."""
    if is_bundled(made.stages.given):
        return (default_model_folder() / "MODEL_CARD.md").read_text("utf-8")
    return "\n\n".join(_paragraphs(made)) + "\n"


def _paragraphs(made: Built) -> Iterator[str]:
    """Yield the paragraphs of a model card: what was said of the network, and what was not."""
    model, known = made.stages.given, {"origin": made.provenance.origin, "licence": made.provenance.licence}
    yield f"# {model.source}"
    yield f"Weights: {model.weights_source}."
    for name, said in known.items():
        if said is not None:
            yield f"{name.capitalize()}: {said}"
    unknown = [*(name for name, said in known.items() if said is None), "training data"]
    named = " and ".join([*filter(None, [", ".join(unknown[:-1])]), unknown[-1]]).capitalize()
    yield f"{named} of this model were not given to edgeslim: ask whoever built this artifact."
