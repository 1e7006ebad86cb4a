"""The summary of a finished artifact, where it lies and what to type next; the words of its files are the same."""

import shlex
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from edgeslim.artifact.archive import MEASUREMENTS, archive_path, changed, open_artifact
from edgeslim.artifact.manifest import Manifest
from edgeslim.devices.profile import is_this_machine, known_devices, load_profile
from edgeslim.errors import BadInput
from edgeslim.pipeline.documents.summary import UNTIMED, summary, warnings_of
from edgeslim.pipeline.documents.times import Times, load_times
from edgeslim.pipeline.result import BuildReport
from edgeslim.readable import Readable
from edgeslim.report.measurements import measurement_data
from edgeslim.table import Table


@dataclass(frozen=True)
class Shown(Readable, view="summary:shown_table"):
    """What an artifact's folder or archive says of itself: its manifest, and the times that lie beside it.

    `untimed`: why there are no times; `changed`: which files are not what the manifest lists, None where all are.
    """

    path: Path
    manifest: Manifest
    times: Times | None
    untimed: str
    changed: str | None

    def __repr__(self) -> str:
        """Name what it is of."""
        return f"Shown({self.manifest!r} in {self.path})"


def show(path: str | Path) -> Shown:
    """Return what the build of an artifact's folder or archive found, from what lies there alone.

    Files that were changed are named. Raises as `open_artifact`.
    """
    path = Path(path)
    with open_artifact(path) as artifact:
        times, untimed = _times(artifact.folder, artifact.manifest)
        return Shown(path, artifact.manifest, times, untimed, changed(artifact.folder))


def _times(folder: Path, manifest: Manifest) -> tuple[Times | None, str]:
    """Return the times that lie beside an artifact, or why there are none."""
    try:
        return load_times(folder / MEASUREMENTS, [model.label for model in manifest.models]), UNTIMED
    except BadInput as error:  # one damaged record, of no hash, hides nothing that is hashed
        return None, str(error)


def shown_table(shown: Shown) -> Table:
    """Return the summary with where the artifact lies and what to type next."""
    found, path = summary(shown.manifest, shown.times, shown.untimed), shown.path
    lies = [f"artifact: {path}", f"archive:  {archive_path(path)}"] if path.is_dir() else [f"archive: {path}"]
    return replace(found, notes=(*found.notes, *lies, *_next_commands(shown)))


def build_view(report: BuildReport) -> Table:
    """Return the summary of what a build wrote, as it lies there by now."""
    return shown_table(show(report.artifact.folder))


def _next_commands(shown: Shown) -> list[str]:
    """Return what to type next, in lines that can be copied."""
    path, device = shown.path, shown.manifest.compatible.device
    profile = load_profile(device) if device in known_devices() else None
    here = (shown.times is not None and shown.times.here) if profile is None else is_this_machine(profile)
    packed = archive_path(path) if path.is_dir() else path
    commands = [f"inspect {shlex.quote(str(path))}"] if shown.manifest.status == "rejected" else []
    if profile is None or profile.transport != "none":
        commands.append(f"bench {shlex.quote(str(path))}" + ("" if here else " --on ssh://USER@BOARD"))
    commands.append(f"verify {shlex.quote(str(packed))}")
    return [f"{'next: ' if place == 0 else '      '}edgeslim {command}" for place, command in enumerate(commands)]


def shown_data(shown: Shown) -> dict[str, Any]:
    """Return the summary as JSON can hold it; what is null is not known."""
    manifest, times = shown.manifest, shown.times
    section = manifest.accelerator
    return {
        "folder": str(shown.path) if shown.path.is_dir() else None,
        "status": manifest.status,
        "reasons": list(manifest.reasons),
        "primary": manifest.primary,
        "device": manifest.compatible.device,
        "agreement_between_formats_pct": manifest.agreement_between_formats_pct,
        "models": [model.model_dump(mode="json") for model in manifest.models],
        "data": manifest.data.model_dump(mode="json"),
        **({} if section is None else {section.KEY: section.model_dump(mode="json")}),
        "measurements": None if times is None else [measurement_data(one) for one in times.measured],
        "on_the_device": None if times is None else [asdict(one) for one in times.device.simulations],
        "not_on_the_device": None if times is None else list(times.device.missing),
        "warnings": list(warnings_of(manifest, times)),
        "data_read": manifest.data.how_read,
        "in_float": list(manifest.in_float),
        "costs": manifest.costs,
        "changed": shown.changed,
    }
