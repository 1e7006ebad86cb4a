"""What to type in place of words that name no model."""

import re
from difflib import get_close_matches
from pathlib import Path

from edgeslim.model.sources.known import factories_in, torchvision_classifiers

EXPECTED = "expected FILE.py:FACTORY, torchvision:NAME, or nothing"
WEIGHTS = (".pt", ".pth", ".safetensors", ".ckpt", ".bin")
ULTRALYTICS = re.compile(r"(yolo[_-]?v?\d|rtdetr|fastsam|mobile_sam|sam\d?_)[a-z0-9._-]*\.pt", re.IGNORECASE)
HUB = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
FACTORY = """\
edgeslim downloads nothing and takes PyTorch modules. Get it once, then give a file that makes it:
    from transformers import AutoModelForImageClassification
    def make(): return AutoModelForImageClassification.from_pretrained("FOLDER ON DISK")  # and PREPROCESSING = {...}"""


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
    if path.suffix in WEIGHTS:
        return (
            f"`{source}` holds weights, not a network; name the module that they belong to: "
            f"model.py:make --weights {source}"
        )
    if path.is_dir():
        return f"`{source}` is a folder; {EXPECTED}; images are given with --data"
    if HUB.fullmatch(source) and ":" not in source:
        return f"`{source}` looks like a name on a model hub. {FACTORY}"
    close = get_close_matches(source.lower(), torchvision_classifiers(), n=3, cutoff=0.8)
    meant = f"; did you mean {' or '.join(f'`torchvision:{name}`' for name in close)}?" if close else ""
    return f"`{source}` is no model; {EXPECTED}{meant}"


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
