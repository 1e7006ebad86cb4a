"""The operator times that a build used, as its artifact carries them: with them another machine chooses alike."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from edgeslim.artifact.archive import open_artifact
from edgeslim.bounds import MOST_RECORD_BYTES, content_of
from edgeslim.errors import BadInput, IntegrityFailed
from edgeslim.measure.operators.table import STRICT, OperatorTime
from edgeslim.model.operator import Operator

FILE = "operator_times.json"


@dataclass(frozen=True, config=STRICT)
class UsedTimes:
    """Times of single operators in a runtime: `estimated` for the device, or measured on the building machine.

    `times` are those of INT8, `others` those of the layers that must not be INT8, by precision.
    """

    runtime: str
    threads: int
    estimated: bool
    times: tuple[OperatorTime, ...]
    others: dict[str, tuple[OperatorTime, ...]] = Field(default_factory=dict)
    format: Literal["edgeslim-operator-times/1"] = "edgeslim-operator-times/1"

    def seconds(self, operators: Iterable[Operator], precision: str = "int8") -> dict[Operator, float]:
        """Return the times of some operators; BadInput where one is missing."""
        rows = self.times if precision == "int8" else self.others.get(precision, ())
        known = {row.operator: row.seconds for row in rows}
        wanted = list(dict.fromkeys(operators))
        missing = [one for one in wanted if one not in known]
        if missing:
            raise BadInput(
                f"the operator times that were given lack {len(missing)} of {len(wanted)} operators of this network "
                f"(first: {missing[0]}); they are of another one, or of other widths"
            )
        return {one: known[one] for one in wanted}


_ADAPTER = TypeAdapter(UsedTimes)


def used_times(
    runtime: str, threads: int, known: Mapping[str, Mapping[Operator, float]], *, estimated: bool
) -> UsedTimes:
    """Return times by precision as they are written: the operators in order."""
    rows = {
        precision: tuple(OperatorTime(one, seconds[one]) for one in sorted(seconds))
        for precision, seconds in sorted(known.items())
    }
    return UsedTimes(runtime, threads, estimated, rows.pop("int8", ()), rows)


def save_used(used: UsedTimes, file: Path) -> None:
    """Write the times as JSON."""
    file.write_text(json.dumps(asdict(used), indent=1) + "\n", encoding="utf-8")


def load_used(path: Path) -> UsedTimes:
    """Return the times in a file, or in an artifact's folder or archive; BadInput says what is wrong."""
    if path.suffix == ".json":
        return _read(path)
    try:
        with open_artifact(path) as artifact:
            if not (artifact.folder / FILE).is_file():
                raise BadInput(f"{path} carries no {FILE}: nothing was pruned by times when it was built")
            return _read(artifact.folder / FILE)
    except IntegrityFailed as error:
        raise BadInput(f"{path}: expected a file of operator times (.json) or an artifact: {error.sentence}") from error


def _read(file: Path) -> UsedTimes:
    try:
        found = _ADAPTER.validate_json(content_of(file, MOST_RECORD_BYTES))
    except OSError as error:
        raise BadInput(f"{file}: cannot be read: {error.strerror}") from error
    except (ValidationError, ValueError, BadInput) as error:
        fault = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise BadInput(f"{file} holds no operator times ({fault})") from error
    if any(row.seconds < 0 for rows in (found.times, *found.others.values()) for row in rows):
        raise BadInput(f"{file} holds no operator times (one is negative)")
    return found
