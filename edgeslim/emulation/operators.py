"""Times of single operators on a device that is not here: counted once on its emulated core, kept, and estimated.

Only for a device whose estimator was fitted on the runtime's own INT8 code: of another's, counts decide nothing.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path

from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass

from edgeslim.deploy.device import Candidate
from edgeslim.deploy.libraries import libraries
from edgeslim.devices.profile import DeviceProfile
from edgeslim.emulation.core import Emulator, open_emulator
from edgeslim.emulation.estimator import cycles, estimator_of, speedup
from edgeslim.measure.operators.table import file_name, load_table, save_table
from edgeslim.measure.operators.write import write_probe
from edgeslim.model.operator import Operator
from edgeslim.progress import Tell, silent
from edgeslim.work_folders import work_folder

METHOD = 1  # a change of how operators are counted makes older tables useless
KEPT_AT_ONCE = 16  # operators whose counts are lost together when the process is killed
NEXT_TO_NOTHING = Operator("add", 1, 1, 8, 8)  # what calling the runtime takes, by itself
_STRICT = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True, config=_STRICT)
class _Row:
    operator: Operator
    counts: dict[str, int]


@dataclass(frozen=True, config=_STRICT)
class _Table:
    """What a file of the cache holds: under which conditions, and the counts."""

    method: int
    runtime: str
    runtime_version: str
    precision: str
    core: str
    midr: str
    features: str
    caches: tuple[str, ...]
    emulator: str
    plugin: str
    counts: tuple[_Row, ...] = ()


_TABLE = TypeAdapter(_Table)


def estimated_operator_times_s(
    runtime: str,
    precision: str,
    operators: Iterable[Operator],
    profile: DeviceProfile,
    *,
    threads: int = 1,
    cache: Path,
    progress: Tell = silent,
) -> dict[Operator, float]:
    """Return the estimated seconds of one inference of each operator on the device, caches warm.

    Calling the runtime is not in them; several threads divide all alike by the median speed-up of networks. Operators
    counted before under the same conditions (runtime and its version, precision, core, caches, QEMU) are read from
    `cache`, a folder; the others are counted, each in a process of its own, and kept as they come. Raises BadInput,
    Refused and ToolFailed as `open_emulator`, `estimator_of` and `speedup` do, and DeviceFailed.
    """
    estimator = estimator_of(profile)
    costs, rate_hz = estimator.costs, (estimator.clock.value or float("nan")) * speedup(estimator, threads).median
    wanted = list(dict.fromkeys(operators))
    with open_emulator(profile) as emulator:
        conditions = _conditions(runtime, precision, emulator)
        file = cache / _file_name(conditions)
        known = _load(file, conditions)
        missing = [operator for operator in dict.fromkeys([NEXT_TO_NOTHING, *wanted]) if operator not in known]
        for first in range(0, len(missing), KEPT_AT_ONCE):
            progress(f"counting operators in {runtime} on an emulated {profile.name}", first, len(missing))
            for operator in missing[first : first + KEPT_AT_ONCE]:
                known[operator] = _count(operator, runtime, precision, emulator)
            _save(file, conditions, known)
    calling = cycles(known[NEXT_TO_NOTHING], costs)
    return {one: max(0.0, cycles(known[one], costs) - calling) / rate_hz for one in wanted}


def _count(operator: Operator, runtime: str, precision: str, emulator: Emulator) -> dict[str, int]:
    with work_folder() as folder:
        model = folder / "operator"
        write_probe(runtime, operator, precision, model)
        candidate = Candidate(str(operator), runtime, model, precision)
        return emulator.inference(candidate, ["--seed", "0"])[1]


def _conditions(runtime: str, precision: str, emulator: Emulator) -> _Table:
    emulation = emulator.emulation
    return _Table(
        method=METHOD,
        runtime=runtime,
        runtime_version=libraries(runtime, emulator.profile.architecture).version,
        precision=precision,
        core=emulation.qemu_cpu,
        midr=emulation.midr,
        features=" ".join(emulation.cpu_features),
        caches=emulator.caches,
        emulator=emulator.name,
        plugin=hashlib.sha256(emulator.tools.plugin.read_bytes()).hexdigest(),
    )


def _file_name(conditions: _Table) -> str:
    return file_name(
        (conditions.runtime, conditions.runtime_version, conditions.precision, conditions.core), conditions
    )


def _load(file: Path, conditions: _Table) -> dict[Operator, dict[str, int]]:
    """Return the counts of a file of the cache; none where it does not exist, ToolFailed where it is damaged."""
    table = load_table(file, _TABLE, conditions, "counts", "taken", "counting")
    return {} if table is None else {row.operator: row.counts for row in table.counts}


def _save(file: Path, conditions: _Table, known: Mapping[Operator, dict[str, int]]) -> None:
    rows = [{"operator": asdict(operator), "counts": known[operator]} for operator in sorted(known)]
    save_table(file, {**asdict(conditions), "counts": rows})
