"""What fp16 costs, as if it had been simulated."""

from edgeslim.artifact.sections import HalfCheck
from edgeslim.devices.profile import load_profile

DEVICE = load_profile("jetson-orin-nano")


def check(**changes) -> HalfCheck:
    found = {"images": 100, "simulated_pct": 99.0, "bf16_simulated_pct": 90.0, "file_pct": 99.0}
    return HalfCheck(**{**found, "simulated_max_error": 0.01, "overflow": None, **changes})
