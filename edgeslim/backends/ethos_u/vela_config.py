"""Our vela.ini: what it names, its hash, and whether a device's profile can be compiled for with it."""

import configparser
import hashlib

from edgeslim.devices.profile import DeviceProfile
from edgeslim.errors import near_misses
from edgeslim.resources import in_package

CONFIG = in_package("backends/ethos_u/vela.ini")


def known(kind: str) -> list[str]:
    """Return the names of the sections of a kind, "System_Config" or "Memory_Mode", in their order."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(CONFIG.read_text())
    return [section.partition(".")[2] for section in parser.sections() if section.startswith(f"{kind}.")]


def config_sha256() -> str:
    """Return the SHA-256 of vela.ini."""
    return hashlib.sha256(CONFIG.read_bytes()).hexdigest()


def profile_faults(profile: DeviceProfile) -> list[str]:
    """Return why Vela cannot compile for a device with an Ethos-U, each with its cure; none where it can."""
    where, compiler = profile.name, profile.compiler
    systems, modes = known("System_Config"), known("Memory_Mode")
    if compiler is None or compiler.memory_mode is None:
        what = "no `compiler` section" if compiler is None else "no memory mode"
        return [
            f"{where} has an Ethos-U and its profile {what}: Vela would guess where weights and activations lie; "
            f"write `memory_mode: ...` under `compiler` (vela.ini has {', '.join(modes)})"
        ]
    return [
        f"{where} names the {kind} `{name}`{near_misses(name, names)}; vela.ini has {', '.join(names)}"
        for kind, name, names in (
            ("system config", compiler.system_config, systems),
            ("memory mode", compiler.memory_mode, modes),
        )
        if name not in names
    ]
