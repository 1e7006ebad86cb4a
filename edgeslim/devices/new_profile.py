"""The profile of a board that nobody described yet: a commented file, valid as it is, that knows nothing."""

import re
from pathlib import Path

from edgeslim.devices.profile import PROFILE_SCHEMA, known_devices
from edgeslim.errors import BadInput, ToolFailed
from edgeslim.resources import in_package, whole_file
from edgeslim.strict_yaml import editor_line

NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def write_new_profile(name: str, folder: Path) -> Path:
    """Write NAME.yaml into a folder and return it; BadInput for a name that cannot be, is known, or is there."""
    if not NAME.fullmatch(name):
        raise BadInput(f"--new `{name}`: expected small letters and digits, in words joined by `-`: my-board")
    if name in known_devices():
        raise BadInput(f"--new {name}: that device is known; a file with `base: {name}` changes sections of it")
    file = folder / f"{name}.yaml"
    if file.exists():
        raise BadInput(f"{file}: exists; choose another name")
    text = in_package("devices/new_profile.yaml").read_text("utf-8")
    named = re.sub(r"^(name|title): NAME$", rf'\1: "{name}"', text, flags=re.MULTILINE)
    try:
        with whole_file(file) as part:
            part.write_text(editor_line(PROFILE_SCHEMA.as_uri()) + named, "utf-8")
    except OSError as error:
        raise ToolFailed(f"{file} cannot be written: {error.strerror}") from error
    return file
