"""What was computed before: results of finished steps, kept by the hash of everything they depend on."""

import hashlib
import io
import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeslim.errors import Recomputed, ToolFailed
from edgeslim.resources import is_own_file, own_folder, whole_file

if TYPE_CHECKING:
    from torch import fx

VERSION = 4  # of what is kept: a step that computes something else under the same name raises it
_SUFFIX = ".pt"


def remember(store: Path | None, step: str, depends_on: Any, compute: Callable[[], Any]) -> Any:
    """Return what `compute` returns, from the store where the same was computed before.

    `depends_on` is anything JSON can hold; results are what torch can save without code (tensors, numbers, text, lists
    and dictionaries of them). Without a store everything is computed. A file appears whole or not at all, so a killed
    process loses only the step it was in; a damaged one is computed anew, and one of another VERSION is not looked at.
    Raises ToolFailed where nothing can be kept.
    """
    if store is None:
        return compute()
    text = json.dumps([VERSION, step, depends_on], sort_keys=True)
    path = store / step / f"{hashlib.sha256(text.encode()).hexdigest()}{_ending()}"
    with _named_when_it_fails(store):
        known = _look_up(path)
    if known is not None:
        return known[0]
    result = compute()
    with _named_when_it_fails(store):
        own_folder(own_folder(store) / step)
        _write(path, result)
    return result


def note(store: Path, kind: str, of: Any, content: bytes) -> None:
    """Keep a note of some kind in place of what was noted `of` the same, which is anything JSON can hold.

    Where the store takes nothing, nothing is kept: a note is never more than a guess at what comes.
    """
    with suppress(OSError), whole_file(own_folder(own_folder(store) / kind) / note_file(store, kind, of).name) as part:
        part.write_bytes(content)


def note_file(store: Path, kind: str, of: Any) -> Path:
    """Return the file of a note, whether it is there or not."""
    return store / kind / f"{hashlib.sha256(json.dumps(of, sort_keys=True).encode()).hexdigest()}.json"


def read_note(file: Path) -> bytes | None:
    """Return what a note holds; None where there is none, or it is a link, another user's or cannot be read."""
    with suppress(OSError):
        return file.read_bytes() if is_own_file(file) else None
    return None


def is_of_another_version(file: Path) -> bool:
    """Tell whether a file of the store is a result of another VERSION, which this one never reads."""
    return file.suffix == _SUFFIX and not file.name.endswith(_ending())


def _ending() -> str:
    """Return how the names of this version's results end."""
    return f".v{VERSION}{_SUFFIX}"


@contextmanager
def _named_when_it_fails(store: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ToolFailed(
            f"cannot keep results in {store}: {error.strerror}; name another folder in EDGESLIM_CACHE"
        ) from error


def _look_up(path: Path) -> tuple[Any] | None:
    """Return what a file holds, None where there is none; a damaged one, a link or another user's goes, and is told."""
    try:
        if is_own_file(path):
            return (_read(path),)
        why = "is a link, no file, or another user's" if path.is_symlink() or path.exists() else None
    except OSError:
        raise
    except Exception:  # noqa: BLE001 - whatever damaged bytes make the reader stumble over
        why = "is damaged"
    if why is not None:
        warnings.warn(f"{path} {why}; it is made anew", Recomputed, stacklevel=2)
        path.unlink(missing_ok=True)
    return None


def _read(path: Path) -> Any:
    """Return what a file holds: a SHA-256, since torch's reader checks none, and what torch saved."""
    import torch

    content = path.read_bytes()
    if hashlib.sha256(content[32:]).digest() != content[:32]:
        raise ValueError(f"{path} is damaged")
    return torch.load(io.BytesIO(content[32:]), weights_only=True)


def _write(path: Path, result: Any) -> None:
    import torch

    buffer = io.BytesIO()
    torch.save(result, buffer)
    content = buffer.getvalue()
    with whole_file(path) as part:
        part.write_bytes(hashlib.sha256(content).digest() + content)


def graph_sha256(graph: "fx.GraphModule") -> str:
    """Return the hash of a graph's operators and of everything it holds."""
    digest = hashlib.sha256(str(graph.graph).encode())
    for name, value in sorted(graph.state_dict().items()):
        digest.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        digest.update(value.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()
