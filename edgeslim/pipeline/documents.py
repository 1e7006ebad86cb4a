"""Model card, licences and changelog of an artifact."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from edgeslim.errors import BadInput
from edgeslim.model.model import Model
from edgeslim.pipeline.manifest import VERSION
from edgeslim.pipeline.result import Built, Provenance
from edgeslim.resources import bundled, default_model_folder
from edgeslim.units import plain

# Of the bundled network, as its model card has it.
BUNDLED = Provenance("trained for edgeslim on Fashion-MNIST", "MIT")


def spdx(licence: str) -> str:
    """Return a licence as SPDX writes it ("Apache-2.0"); BadInput for one that SPDX does not know."""
    try:
        return canonicalize_license_expression(licence)
    except InvalidLicenseExpression as error:
        raise BadInput(
            f"--licence `{licence}`: expected an SPDX expression (https://spdx.org/licenses): MIT, Apache-2.0, "
            "`MIT OR Apache-2.0`, or LicenseRef-NAME for terms of your own"
        ) from error


def provenance(model: Model, origin: str | None, licence: str | None) -> Provenance:
    """Return where a network came from, as it is told; BadInput for words on the bundled one, of which it is known."""
    if not _is_bundled(model):
        return Provenance(" ".join(plain(origin or "").split()) or None, licence)
    if origin or licence:
        raise BadInput("--origin and --licence are of a network of your own; the bundled one's are known")
    return BUNDLED


def _is_bundled(model: Model) -> bool:
    return model.source == "default" and model.weights_source == "bundled"


def write_documents(staging: Path, made: Built) -> None:
    """Write model card, licences and changelog."""
    shutil.copyfile(bundled("LICENSE"), staging / "LICENSES" / "edgeslim-Apache-2.0.txt")  # run.py, preprocessing.py
    if made.stages.given.source == "default":
        shutil.copyfile(default_model_folder() / "LICENSE", staging / "LICENSES" / "Fashion-MNIST-MIT.txt")
    if _is_bundled(made.stages.given):
        shutil.copyfile(default_model_folder() / "MODEL_CARD.md", staging / "MODEL_CARD.md")
    else:
        (staging / "MODEL_CARD.md").write_text("\n\n".join(_model_card(made)) + "\n")
    steps = "\n".join(f"- {line}" for line in made.stages.final.history)
    (staging / "CHANGELOG.md").write_text(
        f"# Changelog\n\n## {VERSION}\n\nBuilt from `{made.stages.given.source}`:\n\n{steps}\n"
    )


def _model_card(made: Built) -> Iterator[str]:
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
