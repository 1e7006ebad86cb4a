"""Write the tables of README.md and of the pages in docs/ from the code that enforces them.

A table stands between `<!-- table: NAME -->` and `<!-- end -->`. `--check` only says whether all are current.
"""

import argparse
import inspect
import re
import sys
from collections.abc import Callable
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import estimator_page
import support_tables
from prune_table import Row, load

from edgeslim import bounds as limits
from edgeslim import errors
from edgeslim.compress import known_steps, technique
from edgeslim.compress.legalize import rules as npu_rules
from edgeslim.compress.legalize.rewrites import known_rewrites, rewrite_named
from edgeslim.devices.profile import DeviceProfile, all_profiles, describe, overview
from edgeslim.export.operator_facts import layers_read, operator_facts, steps_apart, tried_with
from edgeslim.formats import FORMATS, RUNTIMES
from edgeslim.measure.meters import METERS
from edgeslim.pipeline.rules import RULES
from edgeslim.recipe import Recipe
from edgeslim.strict_yaml import Section
from edgeslim.table import markdown_rows as table
from edgeslim.units import show_memory

README = Path(__file__).resolve().parent.parent / "README.md"


def devices() -> str:
    """One row a device profile."""
    rows = []
    for one in all_profiles():
        name, aliases, kind, _, runtimes = overview(one)
        fails = "; ".join(f"{r.name} {f.precision} {f.effect}" for r in one.runtimes for f in r.known_failures)
        rows.append([f"`{name}`", aliases, kind, runtimes, fails])
    return table(["device", "alias", "class", "runtimes, preferred first", "known failures"], rows)


def profile_keys() -> str:
    """One row a key of a device profile: what it is, and the keys inside it."""
    rows = []
    for key, field in DeviceProfile.model_fields.items():
        kinds = [one for one in flattened(field.annotation) if inspect.isclass(one) and issubclass(one, Section)]
        inside = [name for kind in kinds for name in kind.model_fields]
        told = " ".join((inspect.getdoc(kinds[0]) or "").split()) if kinds else words(field.annotation)
        rows.append(
            [f"`{key}`", "yes" if field.is_required() else "no", told, ", ".join(f"`{name}`" for name in inside)]
        )
    return table(["key", "must be there", "what it is", "keys inside"], rows)


def bounds() -> str:
    """One row a bound of what is read."""
    rows: list[tuple[str, int]] = [
        ("a recipe, a profile", limits.MOST_YAML_BYTES),
        ("a manifest", limits.MOST_MANIFEST_BYTES),
        ("a file of operator times", limits.MOST_RECORD_BYTES),
        ("an artifact, unpacked", limits.MOST_ARCHIVE_BYTES),
        ("an array of an `.npz`", limits.MOST_ARRAY_BYTES),
        ("a line of a board", limits.LONGEST_LINE_BYTES),
        ("all lines of a program on a board", limits.MOST_LINES_BYTES),
        ("stderr of a program on a board, a board's answer to a question", limits.MOST_WORDS_BYTES),
    ]
    return table(["what", "at most"], [[what, show_memory(most)] for what, most in rows])


def operators() -> str:
    """One row an operator: how the INT8 file of each format computes it, and how far two runtimes are apart."""
    rows, apart = [], steps_apart()
    for name, facts in operator_facts().items():
        told = [f"none: {one.reason}" if one.kind == "none" else one.kind for one in facts.values()]
        rows.append([f"`{name}`", *told, "" if apart[name] is None else str(apart[name])])
    return table(["operator", *FORMATS, "ONNX Runtime and LiteRT apart, steps"], rows)


def precisions() -> str:
    """One row a precision of a convolution or a linear layer: what each runtime's kernel reads."""
    rows = [
        [f"`{precision}`", f"`{operator}`", *(read[operator] for read in by_format.values())]
        for precision, by_format in layers_read().items()
        for operator in ("conv2d", "linear")
    ]
    return table(["precision", "operator", *(RUNTIMES[one.runtime].packages[0] for one in FORMATS.values())], rows)


def operator_versions() -> str:
    """One row a package with which the operators were tried."""
    return table(["package", "version"], [[name, tried] for name, tried in tried_with().items()])


def flattened(annotation: Any) -> list[Any]:
    """Return the types inside an annotation, itself included."""
    return [annotation, *(inner for argument in get_args(annotation) for inner in flattened(argument))]


def words(annotation: Any) -> str:
    """Return a plain type as a person reads it."""
    if get_origin(annotation) is Literal:
        return " or ".join(map(str, get_args(annotation)))
    plain = [one.__name__ for one in flattened(annotation) if one in (str, bool, int, tuple)]
    return "list of texts" if "tuple" in plain else {"str": "text", "bool": "yes or no"}.get(plain[0], plain[0])


def rules() -> str:
    """One row a rule of the preflight: its docstring is the rule."""
    return table(
        ["rule", "what it demands"],
        [[f"`{r.__name__}`", " ".join((inspect.getdoc(r) or "").split())] for r in RULES],
    )


def exit_codes() -> str:
    """One row an exception that carries an exit code."""
    kinds = [k for k in vars(errors).values() if inspect.isclass(k) and issubclass(k, errors.EdgeslimError)]
    rows = [[str(k.exit_code), k.__name__, (inspect.getdoc(k) or "").splitlines()[0]] for k in kinds]
    unexpected = ["1", "anything else", "Our bug; the message names the report to send."]
    interrupted = ["130", "", "Interrupted; nothing half-written is left."]
    ordered = sorted((row for row in rows if row[1] != "EdgeslimError"), key=lambda row: row[0])
    return table(["code", "raised as", "meaning"], [unexpected, *ordered, interrupted])


def formats() -> str:
    """One row a format."""
    rows = [[name, f.runtime, f"`*{f.suffix}`", f"`pip install 'edgeslim[{f.extra}]'`"] for name, f in FORMATS.items()]
    return table(["format", "run in", "file", "to write it"], rows)


def recipe() -> str:
    """One row a setting of a recipe, those of its steps included."""
    rows = [
        [f"`{name}`", f"`{field.get_default(call_default_factory=True)}`"]
        for name, field in Recipe.model_fields.items()
    ]
    rows = [row for row in rows if row[0] != "`steps`"]
    for name in known_steps():
        defaults = technique(name).Settings()
        rows += [[f"`{name}`: `{f.name}`", f"`{getattr(defaults, f.name)}`"] for f in fields(defaults)]
    return table(["setting", "default"], rows)


def meters() -> str:
    """One row a power meter, in the order in which `auto` asks."""
    rows = [[f"`{name}`", import_module(f"edgeslim.measure.meters.{name}").SCOPE] for name in METERS]
    return table(["meter", "what its figure covers"], rows)


def device_statuses() -> str:
    """One row a status of a device that failed."""
    return table(["status", "what to do"], [[f"`{name}`", step] for name, step in errors.DEVICE_STATUSES.items()])


def architectures() -> str:
    """One row a family of torchvision's classifiers: what prune_table.py found of it."""
    families: dict[str, list[Row]] = {}
    for name, row in load().items():
        families.setdefault(re.split(r"\d|_(?!resnet)", name)[0], []).append(row)
    return table(["family", "networks", "MACs kept, %, or why not"], [_family(*item) for item in families.items()])


def _family(name: str, rows: list[Row]) -> list[str]:
    kept = [row.kept_macs_pct for row in rows if row.kept_macs_pct is not None]
    outcomes = [" to ".join(f"{share:.1f}" for share in sorted({min(kept), max(kept)}))] if kept else []
    outcomes += sorted({row.outcome for row in rows if row.kept_macs_pct is None})
    return [name, str(len(rows)), "; ".join(outcomes)]


TABLES: dict[str, Callable[[], str]] = {
    f.__name__: f
    for f in (
        *(
            devices,
            profile_keys,
            bounds,
            rules,
            operators,
            precisions,
            operator_versions,
            exit_codes,
            formats,
            recipe,
            meters,
        ),
        *(device_statuses, architectures, *support_tables.TABLES),
    )
}


def rewritten(text: str) -> str:
    """Return `text` with every marked table written anew; KeyError for a name that is no table."""
    return re.sub(
        r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)",
        lambda match: f"{match[1]}{TABLES[match[2]]()}\n{match[3]}",
        text,
        flags=re.DOTALL,
    )


def npu_page(profile: DeviceProfile) -> str:
    """Return the page about what the NPU of a device runs."""
    rules = [[f"`{rule.__name__}`", npu_rules.sentence(rule)] for rule in npu_rules.RULES]
    limits = [[fact.name, fact.value] for fact in describe(profile) if fact.section == "npu" and fact.name != "source"]
    rewrites = []
    for name in known_rewrites():
        module = rewrite_named(name)
        rewrites.append([f"`{name}`", "yes" if module.EXACT else "no", (module.__doc__ or "").split("\n\n")[0]])
    source = "" if profile.npu is None else profile.npu.source
    return f"""# What the NPU of the {profile.title} runs

`edgeslim check MODEL --device {profile.name}` asks these rules of the folded network, and names every layer that breaks
one, with the rewrite that cures it. A build rewrites what they ask for (`--rewrite auto`), asks them again, and refuses
what is left (exit code 3). Written by `tools/docs_tables.py` from the rules, the profile and the rewrites.

Source: {source}.

{table(["rule", "what it demands"], rules)}

{table(["limit", "value"], limits)}

Weights may have one scale for each output channel where the profile's runtime says so; shapes are fixed when the model
is traced, and batch norms are folded before the rules are asked.

{table(["rewrite", "exact", "what it does"], [[cell.replace(chr(10), " ") for cell in row] for row in rewrites])}
"""


def pages() -> dict[Path, str]:
    """Return what every written file should hold."""
    npus = [profile for profile in all_profiles() if profile.npu is not None]
    written = {README.parent / "docs" / f"npu_{profile.name}.md": npu_page(profile) for profile in npus}
    estimator = {README.parent / "docs" / "estimator.md": estimator_page.page()}
    generated = {**written, **estimator}
    others = [README, *sorted((README.parent / "docs").glob("*.md"))]
    return {**{file: rewritten(file.read_text()) for file in others if file not in generated}, **generated}


def main() -> int:
    """Write all files, or with --check return 1 when that would change one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    code = 0
    for file, wanted in pages().items():
        if not check:
            file.parent.mkdir(exist_ok=True)
            file.write_text(wanted)
        elif not file.is_file() or file.read_text() != wanted:
            print(f"{file.name} is not current: run tools/docs_tables.py", file=sys.stderr)
            code = 1
    return code


if __name__ == "__main__":
    sys.exit(main())
