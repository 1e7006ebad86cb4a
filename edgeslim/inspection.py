"""Look into an artifact: the plan beside what each of its files holds today."""

from pathlib import Path

from edgeslim.artifact import open_artifact
from edgeslim.errors import EdgeslimError, IntegrityFailed
from edgeslim.ledger import Row, load_spellings, read_ledger
from edgeslim.numerics import load_numerics


def inspect(path: Path) -> dict[str, list[Row]]:
    """Return {file: ledger rows} for the INT8 files of an artifact's folder or archive.

    Everything is read back from the files as they are, not from what the build noted: an edited scale shows.
    Hashes are not checked here, `verify` does that. Raises as `open_artifact`, and IntegrityFailed for a file that
    cannot be read.
    """
    with open_artifact(path) as artifact:
        manifest = artifact.manifest
        try:
            plan = load_numerics(artifact.folder / manifest.numerics)
            spellings = load_spellings(artifact.folder / manifest.ledger)
            return {
                model.path: read_ledger(model.format, artifact.folder / model.path, plan, spellings[model.path])
                for model in manifest.models
                if model.path in spellings
            }
        except EdgeslimError:
            raise
        except Exception as error:
            raise IntegrityFailed(
                f"{path}: its plan or a model file is damaged ({type(error).__name__}: {error}); "
                "`edgeslim verify` names the file"
            ) from error
