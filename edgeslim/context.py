"""What a step may look at besides the model it changes."""

from dataclasses import dataclass
from pathlib import Path

from edgeslim.data import Data
from edgeslim.device_profile import DeviceProfile
from edgeslim.progress import Progress


@dataclass(frozen=True)
class Context:
    """The surroundings of a step: the device, the data, a seed, a work folder, and whom to tell of progress."""

    profile: DeviceProfile
    data: Data
    seed: int
    work: Path
    progress: Progress
