"""Every reason to doubt figures in words: once, with what it is about."""

from collections.abc import Sequence

from edgeslim.measure.measurement import Caution


def told_once(found: Sequence[tuple[str, Sequence[Caution]]], everything: str) -> list[tuple[str, str]]:
    """Return each caution once, its kind before what it is about and what was seen, and beside it what to do.

    `found`: what the records of a run are called, and their cautions; `everything`: what all of several are called.
    """
    groups: dict[tuple[str, str], dict[str, list[str]]] = {}
    for name, cautions in found:
        for one in dict.fromkeys(cautions):
            groups.setdefault((one.kind, one.advice), {}).setdefault(one.text, []).append(name)
    return [(f"{kind}: {_told(texts, len(found), everything)}", advice) for (kind, advice), texts in groups.items()]


def _told(texts: dict[str, list[str]], count: int, everything: str) -> str:
    named = ((everything if len(names) == count > 1 else ", ".join(names), text) for text, names in texts.items())
    return "; ".join(f"{names}: {text}" for names, text in named)
