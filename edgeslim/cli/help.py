"""What the help of every command looks like: options under headings, examples, and how a command may end."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

HEADING = "heading"  # attribute of an option: under what it stands
MOST_WITHOUT_HEADINGS = 12  # options
WHOLE = 1000  # characters: no sentence about a command is as long
ENDINGS = """\
  0  done
  1  a bug in edgeslim, with a report to send
  2  words or files that cannot be used
  3  the device cannot have it, or a result falls below a demand
  4  the device, or the agent on it, failed
  5  a measurement that must not be believed
  6  an artifact that is not what its manifest says
  7  an exporter, a runtime or this machine failed
  130  interrupted
"""


def heading(title: str) -> Callable[[Decorated], Decorated]:
    """Put the options that are declared below it, down to the next heading, under a title."""

    def decorate(command: Decorated) -> Decorated:
        for one in getattr(command, "__click_params__", ()):  # what click has collected so far, from the last one on
            if not hasattr(one, HEADING):
                setattr(one, HEADING, title)
        return command

    return decorate


class Command(click.Command):
    """A command whose options stand under headings, where there are many, followed by examples and exit codes."""

    def __init__(self, *words: Any, examples: Sequence[str] = (), **settings: Any) -> None:
        super().__init__(*words, **settings)
        self.examples = examples

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options by their headings, in the order in which they were declared."""
        options = [one for one in self.get_params(ctx) if isinstance(one, click.Option)]
        sections: dict[str, list[tuple[str, str]]] = {}
        title = "Options"
        for one in options:
            if len(options) > MOST_WITHOUT_HEADINGS:
                title = getattr(one, HEADING, title)
            if record := one.get_help_record(ctx):
                sections.setdefault(title, []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's own
        """Write the examples, each on a line of its own that can be copied, and the exit codes."""
        if self.examples:
            with formatter.section("Examples"):
                formatter.write("".join(f"  {line}\n" for line in self.examples))
        _write_endings(formatter)


class Commands(click.Group):
    """A group that says of each command a whole sentence, at any width, and how they end."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - likewise
        """Write the commands, each with the first sentence of its help."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, one.get_short_help_str(WHOLE)) for name, one in sorted(self.commands.items())])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - likewise
        """Write the exit codes."""
        _write_endings(formatter)


def _write_endings(formatter: click.HelpFormatter) -> None:
    with formatter.section("Exit codes"):
        formatter.write(ENDINGS)
