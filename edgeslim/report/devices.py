"""Devices and this machine, as a person reads them."""

from collections.abc import Sequence

from edgeslim.devices.profile import CoreCluster, DeviceProfile, Fact, describe, overview
from edgeslim.report.doctor import Diagnosis
from edgeslim.table import Table


def devices_table(profiles: Sequence[DeviceProfile]) -> Table:
    """Return one line a device."""
    columns = ("device", "aliases", "class", "SoC", "runtimes, preferred first")
    return Table("", columns, tuple(tuple(overview(one)) for one in profiles))


def brief_table(profile: DeviceProfile) -> Table:
    """Return what a person wants to know of a device first, in 15 lines at most."""
    name, aliases, kind, soc, _ = overview(profile)
    rows = [("device", ", ".join(filter(None, (name, aliases)))), ("kind", f"{kind}, {soc}, {profile.architecture}")]
    rows += [("cores", _cores(one)) for one in profile.cores]
    rows += [
        ("memory", f"RAM {profile.memory.ram.shown}, bandwidth {profile.memory.bandwidth.shown}"),
        *(("beside the CPU", one.name) for one in profile.accelerators),
        ("power", f"idle {profile.power.idle.shown}, busy {profile.power.active.shown}"),
    ]
    for one in profile.runtimes:
        rows.append((one.name, f"{', '.join(one.precisions)}; {one.min_version} or newer"))
        rows += [
            (f"{one.name} {failure.precision}", f"{failure.effect}: {failure.text}") for failure in one.known_failures
        ]
    if profile.estimator is not None:
        estimator = profile.estimator
        rows.append(("times estimated", f"for {estimator.runtime}, fitted on {estimator.times} times"))
    note = f"`edgeslim devices {profile.name} --all` shows every fact with its source"
    return Table(profile.title, ("fact", "value"), tuple(rows), (note,))


def _cores(cores: CoreCluster) -> str:
    isa = f", {', '.join(cores.isa)}" if cores.isa else ""
    return f"{cores.count.shown} x {cores.name}, clock {cores.max_clock.shown}{isa}"


def facts_table(profile: DeviceProfile) -> Table:
    """Return everything known about a device, each fact with its source."""
    rows, section = [], None
    for fact in describe(profile):
        rows.append((fact.section if fact.section != section else "", *_fact(fact)))
        section = fact.section
    return Table(f"{profile.name}: {profile.title}", ("section", "fact", "value", "source"), tuple(rows))


def _fact(fact: Fact) -> tuple[str, str, str]:
    return fact.name, fact.value, fact.source or ""


def findings_table(findings: Sequence[Diagnosis]) -> Table:
    """Return what is installed and usable, with the command that would enable what is not."""
    rows = tuple((one.state, one.what, one.detail, one.cure or "") for one in findings)
    return Table("", ("state", "what", "detail", "to enable it"), rows)
