"""Manifests of the format `edgeslim-manifest/1`, read as today's: artifacts are kept for years."""

import json
from typing import Any

FORMAT = "edgeslim-manifest/1"


def as_format_2(text: bytes) -> bytes:
    """Return a manifest's text in today's format; one that is none of format 1 comes back as it is.

    What lacks a key that format 1 asks for comes back as it is too: whoever reads it says what is wrong with it.
    """
    if FORMAT.encode() not in text:
        return text
    try:
        raw = json.loads(text)
        return json.dumps(_converted(raw)).encode() if raw["format"] == FORMAT else text
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return text


def _converted(raw: dict[str, Any]) -> dict[str, Any]:
    """Return format 1, in which every network classified and had one output, in the words of format 2."""
    model = {key: value for key, value in raw["model"].items() if key != "classes"}
    rest = {key: value for key, value in raw.items() if key != "labels"}
    return {
        **rest,
        "format": "edgeslim-artifact/2",
        "model": model,
        "task": {"name": "classification", "labels": raw["labels"]},
        "models": [_model_file(one) for one in raw["models"]],
    }


def _model_file(raw: dict[str, Any]) -> dict[str, Any]:
    quality = dict(raw["quality"])
    top5_pct, sqnr_db = quality.pop("top5_pct"), quality.pop("sqnr_db")
    measured = {
        "metric": "top-1",
        "value": quality.pop("top1_pct"),
        "unit": "%",
        "ci95": quality.pop("ci95_pct"),
        "more": {} if top5_pct is None else {"top-5": top5_pct},
    }
    rest = {key: value for key, value in raw.items() if key not in ("golden_outputs", "tolerance")}
    own = {"golden": raw["golden_outputs"], "tolerance": raw["tolerance"], "sqnr_db": sqnr_db}
    outputs = [{**one, **own} for one in raw["outputs"]]
    return {**rest, "outputs": outputs, "quality": {**quality, **measured}}
