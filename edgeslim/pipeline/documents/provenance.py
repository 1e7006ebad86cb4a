"""Where a network came from and under which terms, as an artifact tells it."""

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from edgeslim.errors import BadInput
from edgeslim.model.model import Model
from edgeslim.pipeline.result import Provenance
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
    if not is_bundled(model):
        return Provenance(" ".join(plain(origin or "").split()) or None, licence)
    if origin or licence:
        raise BadInput("--origin and --licence are of a network of your own; the bundled one's are known")
    return BUNDLED


def is_bundled(model: Model) -> bool:
    """Tell whether a network is the bundled one with its own weights."""
    return model.source == "default" and model.weights_source == "bundled"
