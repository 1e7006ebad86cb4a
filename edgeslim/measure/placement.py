"""Where a model's operators ran, and the doubts that follow."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Protocol, TypeVar

from edgeslim.measure.measurement import Caution


class Record(Protocol):
    """A dataclass that says what was asked for and what ran: a measurement, an emulated inference."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def precision_requested(self) -> str:
        """What the file holds."""

    @property
    def precision_actual(self) -> str:
        """What the runtime computed in."""

    @property
    def executors(self) -> Mapping[str, int]:
        """How many nodes ran where."""

    @property
    def seen(self) -> tuple[Caution, ...]:
        """The doubts so far."""


Ran = TypeVar("Ran", bound=Record)


def with_placement(one: Ran, accelerator: str | None) -> Ran:
    """Return a record with a caution where what ran is not what was asked for."""
    doubts: list[Caution] = placement_doubts(one.precision_requested, one.precision_actual, one.executors, accelerator)
    return replace(one, seen=(*one.seen, *doubts))


def placement_doubts(
    requested: str, actual: str, executors: Mapping[str, int], accelerator: str | None = None
) -> list[Caution]:
    """Return a caution for each way in which what ran is not what was asked for, by the runtime's own record."""
    seen: list[Caution] = []
    ran = actual.split("+")
    if requested == "fp32" and {"fp16", "bf16"} & set(ran):
        text = f"fp32 was asked for, {actual} ran"
        seen.append(Caution("fallback", text, "compare it with other fp16 figures, not with fp32"))
    if requested == "fp16" and "fp16" not in ran:
        text = f"fp16 was asked for, {actual} ran"
        seen.append(Caution("fallback", text, "ONNX Runtime's CPU computes fp16 in fp32; it says nothing about a GPU"))
    if requested == "int8" and not {"int8", "uint8"} & set(ran):
        text = f"int8 was asked for, {actual} ran"
        seen.append(Caution("fallback", text, "`edgeslim inspect` shows which layers the file holds as int8"))
    others = {name: count for name, count in executors.items() if accelerator and accelerator not in name}
    if others:
        ran_there = ", ".join(f"{count} nodes on {name}" for name, count in others.items())
        text = f"{accelerator} was required; by the runtime's record {ran_there}"
        seen.append(Caution("fallback", text, "look for operators the accelerator lacks, or for its missing driver"))
    return seen
