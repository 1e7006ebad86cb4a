"""A profile laid over another one: `base` names that, and every section that stands in the file replaces its own."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, StrictInt

from edgeslim.devices.sourced import Text
from edgeslim.errors import BadProfile, near_misses
from edgeslim.strict_yaml import Section, read_document, validated

OF_ONE_CORE = ("emulation", "estimator")  # sections that hold for the cores they were made for alone


class Calibrated(Section):
    """What a calibration was done with; the error of what came of it stands in the estimator itself.

    `board` is the begin of the SHA-256 of the board's serial number, None where it tells none; `governor` likewise.
    `accepted` are the cautions of the measurements that its user let pass.
    """

    date: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")]
    board: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")] | None
    machine: Text
    kernel: Text
    governor: Text | None
    runtime: Text
    agent: Text
    emulator: Text
    processes: StrictInt
    accepted: tuple[Text, ...] = ()


class Head(Section):
    """The keys of an overlay that are no section of a profile."""

    base: Text
    calibrated: Calibrated | None = None


def laid_over_base(file: Path, places: Mapping[str, Path]) -> Any:
    """Return what a profile's file says, with every section that it leaves to its base taken from there.

    `base` is one of `places` (a device's name -> its file), or a file, relative to the overlay. An overlay of other
    cores takes none of OF_ONE_CORE from there. A file without `base` is returned as it is. BadProfile for a base that
    is unknown or an overlay itself, and for damaged keys of `Head`.
    """
    written = read_document(file, BadProfile)
    if not isinstance(written, dict) or "base" not in written:
        return written
    head = validated({key: written[key] for key in Head.model_fields if key in written}, file, Head, BadProfile)
    below = read_document(_place(head.base, file, places), BadProfile)
    if not isinstance(below, dict) or "base" in below:
        raise BadProfile(
            f"{file.name}: `base`: {head.base} is no whole profile; expected one without a base of its own"
        )
    if _core_names(written) not in ([], _core_names(below)):
        below = {key: value for key, value in below.items() if key not in OF_ONE_CORE}
    return below | {key: value for key, value in written.items() if key not in Head.model_fields}


def _core_names(written: Mapping[str, Any]) -> list[Any]:
    """Return the names of the cores that a file has, damaged or not; none where it leaves them to its base."""
    cores = written.get("cores")
    return [one.get("name") for one in cores if isinstance(one, dict)] if isinstance(cores, list) else []


def is_overlay(file: Path) -> bool:
    """Return whether a profile's file is laid over another one."""
    written = read_document(file, BadProfile)
    return isinstance(written, dict) and "base" in written


def _place(base: str, file: Path, places: Mapping[str, Path]) -> Path:
    if base in places:
        return places[base]
    if base.endswith((".yaml", ".yml")):
        return file.parent / base
    raise BadProfile(
        f"{file.name}: `base`: unknown device `{base}`{near_misses(base, places)}; expected a device's name or a "
        "profile's file"
    )
