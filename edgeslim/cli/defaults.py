"""A project's defaults for options: edgeslim.toml, or [tool.edgeslim] in pyproject.toml, here or in a folder above.

The command line wins over the file, the file over what edgeslim takes otherwise.
"""

import json
import os
import shlex
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from edgeslim.bounds import MOST_YAML_BYTES, content_of
from edgeslim.cli.help import Command
from edgeslim.cli.words import Word, moved_path
from edgeslim.errors import BadInput, near_misses
from edgeslim.model.sources.known import holds_weights

OWN, SHARED = "edgeslim.toml", "pyproject.toml"
SHARED_TABLE = ("tool", "edgeslim")
# Options that are of one call: no file says them.
OF_ONE_CALL = ("json", "quiet", "verbose", "dry-run", "help")
# Options that name what one command writes: said in its table alone.
OF_ONE_COMMAND = ("out", "plot")
# What a recipe says, and options over it.
OF_A_RECIPE = (
    *("formats", "max_drop", "max_latency", "max_size", "prune", "no_prune", "train_time", "keep_float"),
    *("half_weights", "weights_only", "dynamic", "rewrite", "cut_probabilities", "strict", "threads", "seed"),
)
# A parameter that the command line names -> those of which the file's defaults count no longer.
VOIDS = {
    "recipe_file": (*OF_A_RECIPE, "train"),
    "prune": ("no_prune",),
    "no_prune": ("prune", "train_time", "train"),
}


@dataclass(frozen=True)
class Project:
    """A file of defaults: its tables, and what its errors call it."""

    file: Path
    tables: Mapping[str, Any]
    prefix: tuple[str, ...] = ()

    def at(self, *keys: str) -> str:
        """Return the file and the table that some keys lead to, as errors name it."""
        name, path = os.path.relpath(self.file), ".".join((*self.prefix, *keys))
        return f"{name} [{path}]" if path else name


class WithDefaults(Command):
    """A command whose options have the defaults of the project's file."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the file, unless help or a completion is asked for, and then the words."""
        if not ctx.resilient_parsing and not set(args) & set(ctx.help_option_names):
            project = find_project(_here())
            if project is not None:
                ctx.obj = project
                given = self.make_parser(ctx).parse_args(list(args))[0]
                void = {name for word in given for name in VOIDS.get(word, ())}
                if holds_weights(given.get("source") or ""):
                    void.add("weights")
                defaults = _read(project, ctx)[self.name or ""]
                ctx.default_map = {name: value for name, value in defaults.items() if name not in void}
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Say on stderr which defaults were taken from which file, and do it."""
        words = list(_words_taken(ctx))
        if words and not ctx.params.get("quiet") and not ctx.params.get("as_json"):
            click.echo(f"defaults of {os.path.relpath(ctx.obj.file)}: {shlex.join(words)}", err=True)
        return super().invoke(ctx)


def from_command_line(context: click.Context, name: str) -> bool:
    """Tell whether an option was typed: a default of the project's file may mean nothing to a call."""
    return context.get_parameter_source(name) is ParameterSource.COMMANDLINE


def find_project(folder: Path | None) -> Project | None:
    """Return the file of defaults in a folder or the nearest one above it; None where there is none.

    Nothing is looked for above a repository's root, the home folder, or a folder whose owner is another one than that
    of the first. Raises BadInput for a file that cannot be read, that belongs to neither this user nor its folder's
    owner, and for two in one folder.
    """
    first = None
    for place in () if folder is None else (folder, *folder.parents):
        try:
            owner = place.stat().st_uid
            first = owner if first is None else first
            if owner != first:
                return None
            found = [one for one in (_own(place), _shared(place)) if one is not None]
            if len(found) > 1:
                raise BadInput(f"{found[0].at()} and {found[1].at()} both hold defaults; keep one of them")
            if found:
                _require_owner(found[0].file, owner)
                return found[0]
        except OSError as error:
            raise BadInput(f"{error.filename or place}: cannot be read: {error.strerror}") from error
        if place == Path.home() or (place / ".git").exists():
            return None
    return None


def _here() -> Path | None:
    try:
        return Path.cwd()
    except OSError:  # the folder is gone
        return None


def _own(place: Path) -> Project | None:
    file = place / OWN
    return Project(file, _toml(file)) if file.is_file() else None


def _shared(place: Path) -> Project | None:
    file = place / SHARED
    tables: Any = _toml(file) if file.is_file() else {}
    for key in SHARED_TABLE:
        tables = tables.get(key) if isinstance(tables, dict) else None
    if tables is None:
        return None
    project = Project(file, tables, SHARED_TABLE)
    if not isinstance(tables, dict):
        raise BadInput(f"{project.at()}: expected a table; got `{_written(tables)}`")
    return project


def _toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(content_of(file, MOST_YAML_BYTES).decode("utf-8"))
    except ValueError as error:
        raise BadInput(f"{os.path.relpath(file)}: not TOML: {error}") from error


def _require_owner(file: Path, owner: int) -> None:
    if file.stat().st_uid not in (owner, os.geteuid()):
        raise BadInput(f"{file}: belongs to another user, who would say what is built here; remove it, or own it")


Options = Mapping[str, Mapping[str, click.Parameter]]  # of each command, by the keys that a file has for them


def _read(project: Project, context: click.Context) -> dict[str, dict[str, Any]]:
    """Return the defaults of every command by parameter; BadInput with every fault of the file."""
    group = context.find_root().command
    every = group.commands if isinstance(group, click.Group) else {}
    options = {name: _options(one) for name, one in every.items() if isinstance(one, WithDefaults)}
    found: dict[str, dict[str, Any]] = {name: {} for name in options}
    faults: list[str] = []
    for table, key, value, commands in _entries(project, options):
        if not commands:
            faults.append(f"{project.at(*table)}: {_why_unknown(key, table, options, every)}")
        for parameter, name in ((options[name][key], name) for name in commands):
            try:
                found[name][str(parameter.name)] = _value(parameter, value, project.file.parent, context)
            except (ValueError, click.BadParameter) as error:
                told = error.message if isinstance(error, click.BadParameter) else str(error)
                faults.append(f"{project.at(*table)}: `{key}`: {told}")
    if faults:
        raise BadInput("\n".join(dict.fromkeys(faults)))
    return found


def _options(command: click.Command) -> dict[str, click.Parameter]:
    """Return what a file may say of a command: its options by their long names, and arguments that may be left out."""
    found: dict[str, click.Parameter] = {}
    for one in command.params:
        if isinstance(one, click.Option):
            found |= {word.removeprefix("--"): one for word in one.opts if word.startswith("--")}
        elif not one.required:
            found[str(one.name)] = one
    return {key: one for key, one in found.items() if key not in OF_ONE_CALL}


def _entries(project: Project, options: Options) -> Iterator[tuple[tuple[str, ...], str, Any, list[str]]]:
    """Yield table, key and value of every default, and the commands that have it: first what is said of them all."""
    tables = {key: one for key, one in project.tables.items() if key in options and isinstance(one, dict)}
    for key, value in project.tables.items():
        if key not in tables:
            having = () if key in OF_ONE_COMMAND else options
            yield (), key, value, [name for name in having if key in options[name]]
    for name, table in tables.items():
        for key, value in table.items():
            yield (name,), key, value, [name] if key in options[name] else []


def _why_unknown(key: str, table: tuple[str, ...], options: Options, commands: Mapping[str, Any]) -> str:
    """Return why a key is none of a file of defaults."""
    if key in OF_ONE_CALL:
        return f"`{key}` is of one call, and no default"
    if not table and key in options:
        return f"`{key}`: expected a table of its options"
    if not table and key in commands:
        return f"the options of `{key}` are of one call, and no defaults"
    if not table and key in OF_ONE_COMMAND:
        having = [f"[{name}]" for name, own in options.items() if key in own]
        return f"`{key}` names what one command writes; say it in a command's table: {', '.join(having)}"
    known = options[table[0]] if table else {*options, *(one for known in options.values() for one in known)}
    return f"unknown key `{key}`{near_misses(key, known)}"


def _value(parameter: click.Parameter, value: Any, folder: Path, context: click.Context) -> Any:
    """Return a default as its parameter takes it; ValueError and BadParameter say what was expected."""
    if parameter.multiple:
        if not isinstance(value, list):
            raise ValueError(f"expected a list; got `{_written(value)}`")
        return [_single(parameter, one, folder, context) for one in value]
    return _single(parameter, value, folder, context)


def _single(parameter: click.Parameter, value: Any, folder: Path, context: click.Context) -> Any:
    kinds: dict[str, tuple[str, tuple[type, ...]]] = {
        "boolean": ("true or false", (bool,)),
        "integer": ("a whole number", (int,)),
        "integer range": ("a whole number", (int,)),
        "float": ("a number", (int, float)),
    }
    words, types = kinds.get(parameter.type.name, ("text", (str,)))
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        raise ValueError(f"expected {words}; got `{_written(value)}`")
    if isinstance(value, str):
        value = _moved(parameter, value, folder)
    return parameter.type.convert(value, parameter, context)


def _written(value: Any) -> str:
    """Return a value as TOML has it, in one line."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _moved(parameter: click.Parameter, value: str, folder: Path) -> str:
    """Return a text in which a path, which is relative to the file, is so to the folder of the call."""
    if isinstance(parameter.type, click.Path):
        return moved_path(value, folder)
    return parameter.type.moved(value, folder) if isinstance(parameter.type, Word) else value


def _words_taken(context: click.Context) -> Iterator[str]:
    """Yield the defaults that were taken from the file as they would be typed."""
    for one in context.command.params:
        value = context.params.get(str(one.name))
        if context.get_parameter_source(str(one.name)) is not ParameterSource.DEFAULT_MAP:
            continue
        word = max(one.opts, key=len)
        if isinstance(one, click.Argument):
            yield str(value)
        elif isinstance(value, bool):
            yield from [word] if value else one.secondary_opts[:1]
        else:
            for single in value if isinstance(value, list | tuple) else [value]:
                yield from (word, str(single))
