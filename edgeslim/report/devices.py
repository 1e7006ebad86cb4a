"""Devices and this machine, as a person reads them."""

from collections.abc import Sequence

from rich.console import RenderableType
from rich.table import Table

from edgeslim.devices.profile import DeviceProfile, Fact, describe, overview
from edgeslim.report.doctor import Finding


def devices_table(profiles: Sequence[DeviceProfile]) -> RenderableType:
    """Return one line a device."""
    table = Table()
    for column in ("device", "aliases", "class", "SoC", "runtimes, preferred first"):
        table.add_column(column)
    for one in profiles:
        table.add_row(*overview(one))
    return table


def facts_table(profile: DeviceProfile) -> RenderableType:
    """Return everything known about a device, each fact with its source."""
    table = Table(title=f"{profile.name}: {profile.title}", title_justify="left")
    for column in ("", "fact", "value", "source"):
        table.add_column(column, overflow="fold")
    section = None
    for fact in describe(profile):
        table.add_row(fact.section if fact.section != section else "", *_fact(fact))
        section = fact.section
    return table


def _fact(fact: Fact) -> tuple[str, str, str]:
    return fact.name, fact.value, fact.source or ""


def findings_table(findings: Sequence[Finding]) -> RenderableType:
    """Return what is installed and usable, with the command that would enable what is not."""
    table = Table()
    for column in ("", "what", "detail", "to enable it"):
        table.add_column(column)
    for one in findings:
        table.add_row(one.state, one.what, one.detail, one.cure or "")
    return table
