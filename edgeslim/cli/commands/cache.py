"""`cache`: what is kept between builds, and clearing it."""

from dataclasses import asdict

import click

from edgeslim.cli import words
from edgeslim.cli.help import Command
from edgeslim.cli.options import AS_JSON, echo, print_json, show
from edgeslim.errors import BadInput
from edgeslim.kept import clear, kept
from edgeslim.resources import default_store
from edgeslim.table import Table
from edgeslim.units import show_bytes

DAY_S = 86400.0


@click.command(cls=Command, examples=("edgeslim cache", "edgeslim cache --clear --kind images --older-than 30"))
@click.option("--clear", "cleared", is_flag=True, help="Remove it; what is needed again is made anew.")
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    metavar="KIND",
    type=words.KIND,
    help="Only of this kind; may be repeated.",
)
@click.option("--older-than", type=click.FloatRange(0), metavar="DAYS", help="Only what was not used for so long.")
@click.option("--other-versions", is_flag=True, help="Only what another version of edgeslim kept: it is never read.")
@AS_JSON
def cache(cleared: bool, kinds: tuple[str, ...], older_than: float | None, other_versions: bool, as_json: bool) -> None:
    """Show what is kept between builds and where, or clear it."""
    store = default_store()
    if not cleared and (kinds or older_than is not None or other_versions):
        raise BadInput("--kind, --older-than and --other-versions say what --clear removes")
    freed = clear(store, kinds, (older_than or 0.0) * DAY_S, other_versions=other_versions) if cleared else None
    found = kept(store)
    if as_json:
        print_json({"folder": str(store), "freed_bytes": freed, "kept": [asdict(one) for one in found]})
        return
    if freed is not None:
        echo(f"{show_bytes(freed)} removed from {store}")
        return
    rows = tuple(
        (
            one.kind,
            one.what,
            str(one.files),
            show_bytes(one.size_bytes),
            show_bytes(one.other_versions_bytes) if one.other_versions_bytes else "",
            f"{one.age_s / DAY_S:.0f}",
        )
        for one in found
    )
    total = f"{show_bytes(sum(one.size_bytes for one in found))} in {store} (EDGESLIM_CACHE names another folder)"
    numbers = frozenset({"files", "size", "of another version", "days unused"})
    show(
        Table(
            "kept between builds",
            ("kind", "what", "files", "size", "of another version", "days unused"),
            rows,
            (total, "`edgeslim cache --clear` removes it; what is needed again is made anew"),
            right=numbers,
            whole=numbers,
        )
    )
