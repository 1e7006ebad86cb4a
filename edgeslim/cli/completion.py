"""What a shell completes: names of devices, formats and other words that are known, files where these are none."""

from collections.abc import Callable, Iterable

import click
from click.shell_completion import CompletionItem

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def devices(_: click.Context, __: click.Parameter, begun: str) -> list[CompletionItem]:
    """Return the devices, by name and alias, that begin so; a profile's file where none does."""
    from edgeslim.devices.profile import all_profiles

    named = [(name, one.title) for one in all_profiles() for name in (one.name, *one.aliases)]
    return [CompletionItem(name, help=title) for name, title in sorted(named) if name.startswith(begun)] or _file(begun)


def formats(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Return the formats that begin so and were not given yet."""
    from edgeslim.formats import FORMATS

    given = context.params.get(str(parameter.name)) or ()
    return [CompletionItem(one) for one in FORMATS if one.startswith(begun) and one not in given]


def rewrites(_: click.Context, __: click.Parameter, begun: str) -> list[CompletionItem]:
    """Return the words of `--rewrite` that begin so."""
    from edgeslim.compress.legalize.rewrites import known_rewrites

    answers = [f"{name}={answer}" for name in known_rewrites() for answer in ("yes", "no")]
    return [CompletionItem(one) for one in ("auto", "none", *answers) if one.startswith(begun)]


def words(known: Iterable[str], *, files: bool = False) -> Complete:
    """Return what completes words that are known; with `files`, a file's name where none of them begins so."""

    def complete(_: click.Context, __: click.Parameter, begun: str) -> list[CompletionItem]:
        found = [CompletionItem(one) for one in known if one.startswith(begun)]
        return found or (_file(begun) if files else [])

    return complete


def _file(begun: str) -> list[CompletionItem]:
    return [CompletionItem(begun, type="file")]
