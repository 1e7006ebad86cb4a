"""What to type in place of words that name no model."""

import re
import shlex
from difflib import get_close_matches
from pathlib import Path

from edgeslim.errors import MissingPackage
from edgeslim.model.sources.known import FOREIGN_WEIGHTS, factories_in, holds_weights, torchvision_classifiers
from edgeslim.model.sources.timm import timm_package

EXPECTED = "expected FILE.py:NAME, torchvision:NAME, timm:NAME, an image classifier's folder, or nothing"
ULTRALYTICS = re.compile(r"(yolo[_-]?v?\d|rtdetr|fastsam|mobile_sam|sam\d?_)[a-z0-9._-]*\.pt", re.IGNORECASE)
HUB = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def advice(source: str) -> str:
    """Return what is wrong with words for a model, in a sentence that ends in what to type."""
    path = Path(source)
    if path.suffix == ".py":
        return _without_factory(path)
    if ULTRALYTICS.fullmatch(path.name):
        return (
            f"`{source}` is a checkpoint of Ultralytics' package, whose objects edgeslim does not load; {EXPECTED}. "
            "Write its network as a plain module, and give the weights with --weights"
        )
    if holds_weights(source) or path.suffix in FOREIGN_WEIGHTS:
        return _of_weights(source)
    if path.is_dir():
        return (
            f"`{source}` is a folder without config.json; {EXPECTED} (config.json, model.safetensors, "
            "preprocessor_config.json); images are given with --data"
        )
    if HUB.fullmatch(source) and ":" not in source:
        return _of_a_hub(source)
    close = _close_to(source.lower())
    meant = f"; did you mean {' or '.join(f'`{name}`' for name in close)}?" if close else ""
    return f"`{source}` is no model; {EXPECTED}{meant}"


def _of_weights(source: str) -> str:
    """Return what to type for a file of weights without the network that they belong to."""
    typed = shlex.quote(source)
    if not holds_weights(source):
        return (
            f"`{source}` holds weights, not a network, and is not read: save their state dict as .safetensors or .pt, "
            "and name the module that they belong to: model.py:make --weights FILE"
        )
    return (
        f"`{source}` holds weights, not a network; name the module that they belong to: model.py:make --weights "
        f"{typed}; of a torchvision classifier, `edgeslim init {typed} --device NAME` writes it"
    )


def _of_a_hub(source: str) -> str:
    """Return what to type for a name on a model hub, whose files somebody must bring."""
    owner, _, name = source.partition("/")
    ways = [f"then name the folder: {name}"]
    if owner == "timm":
        ways.append(f"timm:{name} --weights {name}/model.safetensors")
    return (
        f"`{source}` looks like a name on Hugging Face's hub, and edgeslim downloads nothing. Bring it once "
        f"(hf download {source} --local-dir {name}), {', or '.join(ways)}"
    )


def _without_factory(path: Path) -> str:
    """Return what a Python file offers to make the model, read but not run."""
    if not path.is_file():
        return f"{path} does not exist; {EXPECTED}"
    try:
        offered = [f"{path}:{name}" for name in factories_in(path)]
    except (SyntaxError, ValueError) as error:
        return f"{path} is no Python that can be read ({error}); {EXPECTED}"
    if not offered:
        return f"{path} defines no function or class that could make the model; {EXPECTED}"
    return f"`{path}` names a file without what makes the model in it; type {' or '.join(offered[:5])}"


def _close_to(name: str) -> list[str]:
    """Return what the libraries that are installed call nearly so, as one types it."""
    known = dict.fromkeys(torchvision_classifiers(), "torchvision:")
    if name not in known:
        known = dict.fromkeys(_timm_names(), "timm:") | known
    return [f"{known[one]}{one}" for one in get_close_matches(name, known, n=3, cutoff=0.8)]


def _timm_names() -> list[str]:
    """Return the names of timm's networks; none where it is not installed."""
    try:
        timm = timm_package()
    except MissingPackage:
        return []
    names: list[str] = timm.list_models()
    return names
