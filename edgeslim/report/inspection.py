"""Look into an artifact: the plan beside what its files hold today, where quantization errs, what pruning tried."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgeslim.artifact.archive import MEASUREMENTS, changed, open_artifact
from edgeslim.artifact.manifest import LayerError, Manifest
from edgeslim.backends import Inspected, backend_of_artifact
from edgeslim.errors import EdgeslimError, IntegrityFailed
from edgeslim.export.evaluation.ledger import Row, load_spellings, read_ledger
from edgeslim.formats import FormatName
from edgeslim.model.numerics import Numerics, load_numerics
from edgeslim.model.trials import Trial, load_trials
from edgeslim.readable import Readable

UNREAD = "the build could not read it there"


@dataclass(frozen=True)
class DepthRow:
    """One layer's SQNR in dB as the build measured it, beside what a person knows the layer by."""

    module: str  # in the network's own words: "stages.0.conv1"
    error: LayerError
    own_share_pct: float | None  # how much of the noise at its output a layer makes itself; None where it stays float
    why_none: Mapping[FormatName, str]  # for each format without a figure


@dataclass(frozen=True)
class Inspection(Readable, view="inspection_tables:inspection_view"):
    """Ledger rows by INT8 file, the error by depth in graph order, what pruning tried, and the accelerator's own part.

    Without error in an artifact that was not quantized; without trials in one for which no width was sought, and in an
    archive, which holds no times. `changed` says which files are not what the manifest lists, None where all are.
    """

    ledger: Mapping[str, Sequence[Row]]
    error_images: int
    error_by_depth: Sequence[DepthRow]
    trials: Sequence[Trial]
    accelerator: Inspected = field(default_factory=Inspected)
    changed: str | None = None

    def __repr__(self) -> str:
        """Say how much there is."""
        rows = sum(map(len, self.ledger.values()))
        return f"Inspection({len(self.ledger)} files, {rows} rows, {len(self.error_by_depth)} layers by depth)"


def inspect(path: str | Path) -> Inspection:
    """Return what the INT8 files of an artifact's folder or archive hold, and the error by depth the build measured.

    The ledger is read back from the files as they are, not from what the build noted: an edited scale shows.
    Files that were changed are shown as they are, and named. Raises as `open_artifact`, and IntegrityFailed for a file
    that cannot be read.
    """
    path = Path(path)
    with open_artifact(path) as artifact:
        manifest = artifact.manifest
        try:
            plan = load_numerics(artifact.folder / manifest.numerics)
            spellings = load_spellings(artifact.folder / manifest.ledger)
            ledger = {
                model.path: read_ledger(model.format, artifact.folder / model.path, plan, spellings[model.path])
                for model in manifest.models
                if model.path in spellings
            }
            errors = manifest.error_by_depth
            rows = _depth_rows(manifest, plan, ledger)
            trials = load_trials(artifact.folder / MEASUREMENTS)
            accelerator = backend_of_artifact(manifest).inspected(artifact)
            files = changed(artifact.folder)
            return Inspection(ledger, errors.images if errors else 0, rows, trials, accelerator, files)
        except EdgeslimError:
            raise
        except Exception as error:
            raise IntegrityFailed(
                f"{path}: its plan or a model file is damaged ({type(error).__name__}: {error}); "
                "`edgeslim verify` names the file"
            ) from error


def _depth_rows(manifest: Manifest, plan: Numerics, ledger: Mapping[str, Sequence[Row]]) -> list[DepthRow]:
    """Join the manifest's figures with the layers' modules and the ledger's reasons."""
    formats = {model.path: model.format for model in manifest.models}
    reasons = {
        (formats[path], row.name): row.reason
        for path, rows in ledger.items()
        for row in rows
        if row.kind == "edge" and row.reason
    }
    return [
        DepthRow(
            plan.layers[one.name].module,
            one,
            own_share_pct(one),
            {
                name: reasons.get((name, plan.layers[one.name].output), UNREAD)
                for name, value in one.exported_db.items()
                if value is None
            },
        )
        for one in (manifest.error_by_depth.layers if manifest.error_by_depth else ())
    ]


def own_share_pct(one: LayerError) -> float | None:
    """Return the noise a layer adds alone over all noise at its output, in percent, at most 100.

    More would mean that what earlier layers add cancels some of it.
    """
    if one.layer_db is None:
        return None
    return round(min(100.0, 100.0 * 10 ** ((one.cumulative_db - one.layer_db) / 10)), 1)
