"""What a build would do, before anything is loaded: every setting of its recipe, and where the artifact would lie."""

from dataclasses import dataclass
from pathlib import Path

from edgeslim.artifact.archive import archive_path
from edgeslim.compress import foreseen
from edgeslim.devices.profile import DeviceProfile
from edgeslim.formats import FORMATS
from edgeslim.model.model import BUNDLED
from edgeslim.recipe import Recipe
from edgeslim.units import plain


@dataclass(frozen=True)
class DryRun:
    """A recipe with every setting as one device has it; `left`: what only the build decides, by step and setting."""

    device: str
    title: str  # of the device
    source: str
    out: Path
    recipe: Recipe
    left: dict[tuple[int, str], str]

    @property
    def archive(self) -> Path:
        """Where the archive would lie."""
        return archive_path(self.out)

    def text(self) -> str:
        """Return the recipe as YAML that `load_recipe` reads back and that means the same, the rest in comments."""
        head = (
            f"a build of {self.source} for {self.device} ({self.title}) would do this",
            f"artifact: {self.out}",
            f"archive: {self.archive}",
        )
        body = _remarked(self.recipe.text(), self.left)
        return "".join(f"# {_in_one_line(line)}\n" for line in head) + body


def dry_run(recipe: Recipe, profile: DeviceProfile, source: str | None, out: Path) -> DryRun:
    """Return what a build of a recipe would do; BadInput and Refused for steps as `resolve_all` has it."""
    runtimes = [FORMATS[name].runtime for name in recipe.formats]
    found = [foreseen(call, profile, runtimes) for call in recipe.steps]
    left = {(place, name): words for place, (_, told) in enumerate(found) for name, words in told.items()}
    settled = recipe.model_copy(update={"steps": tuple(call for call, _ in found)})
    return DryRun(profile.name, profile.title, source or BUNDLED, out, settled, left)


def _remarked(text: str, left: dict[tuple[int, str], str]) -> str:
    """Return a recipe's YAML with words behind some settings of its steps: a comment on the line of the key."""
    lines, step = [], -1
    for line in text.splitlines():
        step += line.startswith("- step: ")
        key = line.removeprefix("    ").partition(":")[0] if line.startswith("    ") else ""
        words = left.get((step, key))
        lines.append(f"{line}\n" if words is None else f"{line}  # {words}\n")
    return "".join(lines)


def _in_one_line(text: str) -> str:
    """Return text that cannot end a comment."""
    return plain(text).replace("\n", "\\n")
