"""What models can be named here, found in files alone: nothing is run, and no torch is loaded."""

import ast
import importlib.util
import re
from pathlib import Path

WEIGHTS = (".safetensors", ".pt", ".pth")  # the endings of files of weights that are read
FOREIGN_WEIGHTS = (".ckpt", ".bin")  # and of those that are not
# What registers a builder of torchvision's, up to the name of the function that follows.
_BUILDER = re.compile(r"^@register_model\(.*?^def (\w+)\(", re.MULTILINE | re.DOTALL)


def holds_weights(source: str) -> bool:
    """Tell whether words name a file of weights that is read, and no network."""
    return Path(source).suffix in WEIGHTS


def factories_in(file: Path) -> list[str]:
    """Return the functions and classes of a Python file that could make a model.

    Raises OSError for one that cannot be read, SyntaxError and ValueError for one that is no Python.
    """
    tree = ast.parse(file.read_text(encoding="utf-8", errors="replace"))
    names = [one.name for one in tree.body if isinstance(one, ast.FunctionDef | ast.ClassDef)]
    return [name for name in names if not name.startswith("_")]


def torchvision_classifiers() -> list[str]:
    """Return the names of torchvision's classifiers, sorted; none where it is not installed."""
    package = importlib.util.find_spec("torchvision")
    if package is None or package.origin is None:
        return []
    files = (Path(package.origin).parent / "models").glob("*.py")
    return sorted(name for file in files for name in _BUILDER.findall(file.read_text(encoding="utf-8")))
