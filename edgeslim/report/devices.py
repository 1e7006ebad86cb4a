"""Devices and this machine, as a person reads them."""

from collections.abc import Sequence

from edgeslim.devices.profile import DeviceProfile, Fact, describe, overview
from edgeslim.report.doctor import Diagnosis
from edgeslim.table import Table


def devices_table(profiles: Sequence[DeviceProfile]) -> Table:
    """Return one line a device."""
    columns = ("device", "aliases", "class", "SoC", "runtimes, preferred first")
    return Table("", columns, tuple(tuple(overview(one)) for one in profiles))


def facts_table(profile: DeviceProfile) -> Table:
    """Return everything known about a device, each fact with its source."""
    rows, section = [], None
    for fact in describe(profile):
        rows.append((fact.section if fact.section != section else "", *_fact(fact)))
        section = fact.section
    return Table(f"{profile.name}: {profile.title}", ("", "fact", "value", "source"), tuple(rows))


def _fact(fact: Fact) -> tuple[str, str, str]:
    return fact.name, fact.value, fact.source or ""


def findings_table(findings: Sequence[Diagnosis]) -> Table:
    """Return what is installed and usable, with the command that would enable what is not."""
    rows = tuple((one.state, one.what, one.detail, one.cure or "") for one in findings)
    return Table("", ("", "what", "detail", "to enable it"), rows)
