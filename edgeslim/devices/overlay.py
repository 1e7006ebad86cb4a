"""A profile laid over another one: `base` names that, and every section that stands in the file replaces its own."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field, StrictInt

from edgeslim.devices.sourced import Text
from edgeslim.errors import BadProfile, near_misses
from edgeslim.strict_yaml import Document, Section, faultless, read_document, read_section

Whole = TypeVar("Whole", bound=Section)
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


def read_over_base(file: Path, kind: type[Whole], places: Mapping[str, Path]) -> Whole:
    """Return the profile that a file says, with every section that it leaves to its base taken from there.

    `base` is one of `places` (a device's name -> its file), or a file, relative to the overlay. An overlay of other
    cores takes none of OF_ONE_CORE from there. A file without `base` is a whole profile. BadProfile for a base that
    is unknown or an overlay itself, and with every fault of the file.
    """
    over = read_document(file, BadProfile)
    if not isinstance(over.says, dict) or "base" not in over.says:
        return faultless(*read_section(over.says, kind, [over]), [over], BadProfile)
    _, faults = read_section({key: over.says[key] for key in Head.model_fields if key in over.says}, Head, [over])
    if not isinstance(over.says["base"], str):
        return faultless(None, faults, [over], BadProfile)
    documents = [over, below := _read_base(over, file, places)]
    profile, more = read_section(_laid_over(over.says, below.says), kind, documents)
    return faultless(profile, [*faults, *more], documents, BadProfile)


def _read_base(over: Document, file: Path, places: Mapping[str, Path]) -> Document:
    """Return what the profile says that an overlay names; BadProfile where that is no whole one."""
    base = over.says["base"]
    if base not in places and not base.endswith((".yaml", ".yml")):
        raise _unfit(
            over, f"unknown device `{base}`{near_misses(base, places)}; expected a device's name or a profile's file"
        )
    below = read_document(places.get(base, file.parent / base), BadProfile)
    if not isinstance(below.says, dict) or "base" in below.says:
        raise _unfit(over, f"{base} is no whole profile; expected one without a base of its own")
    return below


def _unfit(over: Document, why: str) -> BadProfile:
    return BadProfile(f"{over.name}:{over.position(('base',)).line}: `base`: {why}")


def _laid_over(over: Mapping[str, Any], below: Mapping[str, Any]) -> dict[str, Any]:
    other_cores = _core_names(over) not in ([], _core_names(below))
    left = {key: value for key, value in below.items() if not (other_cores and key in OF_ONE_CORE)}
    return left | {key: value for key, value in over.items() if key not in Head.model_fields}


def _core_names(written: Mapping[str, Any]) -> list[Any]:
    """Return the names of the cores that a file has, damaged or not; none where it leaves them to its base."""
    cores = written.get("cores")
    return [one.get("name") for one in cores if isinstance(one, dict)] if isinstance(cores, list) else []


def is_overlay(file: Path) -> bool:
    """Return whether a profile's file is laid over another one."""
    says = read_document(file, BadProfile).says
    return isinstance(says, dict) and "base" in says
