"""Numbers of a device profile, each with where it was read or measured."""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar

from pydantic import Field, GetJsonSchemaHandler, field_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from edgeslim import units
from edgeslim.strict_yaml import Section

Text = Annotated[str, Field(min_length=1)]


class Sourced(Section):
    """A number and where it was read or measured; `value` is None where nobody measured it."""

    kind: ClassVar[str]
    value: float | None
    source: Text | None = None

    @property
    def shown(self) -> str:
        """The number with its unit, or "not measured"."""
        return "not measured" if self.value is None else units.show(self.value, self.kind)

    @field_validator("value", mode="before")
    @classmethod
    def _parse(cls, written: Any) -> float | None:
        return None if written is None else units.parse(str(written), cls.kind)

    @classmethod
    def _written(cls) -> JsonSchemaValue:
        """Return the JSON Schema of how a file says the number."""
        return {"type": "string", "pattern": units.pattern(cls.kind)}

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the JSON Schema of what a file says: the number as it is written, and then with its source."""
        found = handler(core)
        schema = handler.resolve_ref_schema(found)
        schema["properties"]["value"] = {"anyOf": [cls._written(), {"type": "null"}]}
        schema["if"] = {"required": ["value"], "properties": {"value": {"not": {"type": "null"}}}}
        schema["then"] = {"required": ["source"], "properties": {"source": {"type": "string"}}}
        return found

    def faults(self) -> Iterator[str]:
        """Yield that a number has no source."""
        if self.value is not None and self.source is None:
            yield f"{self.shown} has no source; say where it was read or measured, or write `value: null`"


class Bytes(Sourced):
    """A size, in bytes."""

    kind = "bytes"
    value: int | None


class BytesPerSecond(Sourced):
    """A bandwidth, in bytes per second."""

    kind = "bytes per second"


class Hertz(Sourced):
    """A clock, in hertz."""

    kind = "hertz"


class Seconds(Sourced):
    """A duration, in seconds."""

    kind = "seconds"


class Watts(Sourced):
    """A power, in watts."""

    kind = "watts"


class Flops(Sourced):
    """A rate of floating-point operations, per second."""

    kind = "floating-point operations per second"


class Ops(Sourced):
    """A rate of integer operations, per second."""

    kind = "operations per second"


class Count(Sourced):
    """A whole number from 1 on, without a unit."""

    value: int | None

    @property
    def shown(self) -> str:
        """The number, or "not measured"."""
        return "not measured" if self.value is None else str(self.value)

    @field_validator("value", mode="before")
    @classmethod
    def _parse(cls, written: Any) -> int | None:
        if written is None or (type(written) is int and written > 0):
            return written
        raise ValueError(f"expected a whole number from 1 on, got `{written}`")

    @classmethod
    def _written(cls) -> JsonSchemaValue:
        """Return the JSON Schema of how a file says the number."""
        return {"type": "integer", "minimum": 1}
