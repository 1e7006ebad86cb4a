"""Measured times of single operators, each measured once on a machine and kept in a folder."""

import hashlib
import importlib.util
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass

from edgeslim.deploy.installed import runtime_available
from edgeslim.deploy.targets.local import open_target
from edgeslim.devices.machine import this_machine
from edgeslim.errors import BadInput, MissingPackage, Refused, near_misses
from edgeslim.formats import FORMATS, RUNTIMES
from edgeslim.measure.operators.table import STRICT, OperatorTime, damaged, file_name, load_table, save_table
from edgeslim.model.operator import Operator
from edgeslim.progress import Tell, silent
from edgeslim.resources import in_package, python_command, python_path
from edgeslim.work_folders import work_folder

METHOD = 2  # a change of how operators are timed makes older tables useless
PRECISIONS = ("int8", "dynamic", "w8", "fp32")
START_TIMEOUT_S, OPERATOR_TIMEOUT_S = 300.0, 10.0
_PACKAGES: dict[str, tuple[str, ...]] = {name: one.probing for name, one in RUNTIMES.items()}
UNPACKING_ONCE = [name for name, one in RUNTIMES.items() if one.unpacks_once]
RANGING = [name for name, one in RUNTIMES.items() if one.ranges_inputs]
MEASURABLE = tuple(sorted(_PACKAGES))


@dataclass(frozen=True, config=STRICT)
class _Table:
    """What a file of the cache holds: under which conditions, and the times."""

    method: int
    runtime: str
    runtime_version: str
    precision: str
    threads: int
    architecture: str
    cpu_model: str
    cpu_flags_sha256: str
    times: tuple[OperatorTime, ...] = ()


_TABLE = TypeAdapter(_Table)


def measurable(runtime: str) -> bool:
    """Tell whether operators can be timed in a runtime here."""
    return runtime in MEASURABLE and runtime_available(runtime) is not None


def operator_times_s(
    runtime: str,
    precision: str,
    operators: Iterable[Operator],
    *,
    threads: int,
    cache: Path,
    progress: Tell = silent,
) -> dict[Operator, float]:
    """Return the measured seconds of one inference of each operator in `runtime` (in PRECISIONS) on this machine.

    "w8" is for runtimes that make floats of INT8 weights at every inference; elsewhere it is "fp32" itself.
    "dynamic" is for those that range what a layer reads.

    Calling the runtime, conversions of layout and padding that stands as a node of its own are not in them; an operator
    that the runtime fuses into its neighbour costs less in a network (OpenVINO: additions). Times found under `cache`,
    a folder, are not measured again; the others are, in one fresh process, and kept as they come. A file there holds
    for one version of the runtime, one kind of processor, one precision and one number of threads.

    Raises BadInput, Refused where a runtime cannot be timed here, MissingPackage, DeviceFailed with what the runtime
    said, and ToolFailed for a damaged file of the cache.
    """
    version = _version(runtime)
    if precision not in PRECISIONS:
        raise BadInput(f"precision `{precision}`: {' or '.join(PRECISIONS)} was expected")
    if precision == "w8" and runtime in UNPACKING_ONCE:
        raise BadInput(f"{runtime} runs INT8 weights of a float layer as fp32: ask for that")
    if precision == "dynamic" and runtime not in RANGING:
        raise BadInput(f"{runtime} has no layers that range what they read; {', '.join(RANGING)} has")
    if threads < 1:
        raise BadInput(f"{threads} threads: at least 1 was expected")
    wanted = list(dict.fromkeys(operators))
    conditions = _conditions(runtime, version, precision, threads)
    file = cache / _file_name(conditions)
    known = _load(file, conditions)
    missing = [operator for operator in wanted if operator not in known]
    if missing:
        _measure(missing, conditions, file, known, progress)
    return {operator: known[operator] for operator in wanted}


def _version(runtime: str) -> str:
    """Return the installed version of a runtime that can be timed."""
    if runtime not in _PACKAGES:
        known = ", ".join(_PACKAGES)
        raise Refused(
            f"operators cannot be timed in `{runtime}`{near_misses(runtime, _PACKAGES)}",
            [f"only runtimes that run on this machine's CPU can be: {known}"],
        )
    extra = next(one.extra for one in FORMATS.values() if one.runtime == runtime)
    version = runtime_available(runtime)
    for package in _PACKAGES[runtime]:
        if version is None or importlib.util.find_spec(package) is None:
            raise MissingPackage(package, extra)
    return str(version)


def _conditions(runtime: str, version: str, precision: str, threads: int) -> _Table:
    machine = this_machine()
    flags = hashlib.sha256(" ".join(sorted(machine.cpu_flags)).encode()).hexdigest()
    return _Table(METHOD, runtime, version, precision, threads, machine.architecture, machine.cpu_model, flags)


def _file_name(conditions: _Table) -> str:
    words = (
        conditions.runtime,
        conditions.runtime_version,
        conditions.precision,
        f"threads{conditions.threads}",
        conditions.architecture,
        conditions.cpu_model,
    )
    return file_name(words, conditions)


def _load(file: Path, conditions: _Table) -> dict[Operator, float]:
    """Return the times of a file of the cache; none where it does not exist, ToolFailed where it is damaged."""
    table = load_table(file, _TABLE, conditions, "times", "measured", "measuring")
    rows = () if table is None else table.times
    if any(row.seconds < 0 for row in rows):
        raise damaged(file, "a time is negative", "measuring")
    return {row.operator: row.seconds for row in rows}


def _measure(
    missing: Sequence[Operator], conditions: _Table, file: Path, known: dict[Operator, float], progress: Tell
) -> None:
    """Time the operators in a fresh process; what comes is added to `known` and saved, a batch at a time."""
    told = {
        "runtime": conditions.runtime,
        "precision": conditions.precision,
        "threads": conditions.threads,
        "operators": [asdict(operator) for operator in missing],
    }
    what, done = f"timing operators in {conditions.runtime}", 0
    progress(what, 0, len(missing))
    with work_folder() as folder, open_target() as target:
        job = folder / "job.json"
        job.write_text(json.dumps(told), encoding="utf-8")
        for line in target.run(_command(job), START_TIMEOUT_S + OPERATOR_TIMEOUT_S * len(missing)):
            message = json.loads(line)
            if message["type"] == "times":  # after an error the target raises with its reason
                known.update(zip(missing[done:], message["seconds"], strict=False))
                done += len(message["seconds"])
                _save(file, conditions, known)
                progress(what, done, len(missing))


def _command(job: Path) -> list[str]:
    # -P: the worker's own folder, whose modules have the names of libraries, stays out of the search path.
    worker = in_package("measure/operators/worker.py")
    return ["env", f"PYTHONPATH={python_path()}", *python_command(str(worker), str(job))]


def _save(file: Path, conditions: _Table, known: Mapping[Operator, float]) -> None:
    rows = [{"operator": asdict(operator), "seconds": known[operator]} for operator in sorted(known)]
    save_table(file, {**asdict(conditions), "times": rows})
