"""How much is read of what others wrote: beyond it a file, an answer or an array is refused, and not tried."""

import math
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeslim.units import show_memory

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_YAML_BYTES = 4 << 20  # a profile has some 30 KB
MOST_MANIFEST_BYTES = 64 << 20
MOST_RECORD_BYTES = 512 << 20  # the raw times of a day
MOST_ARRAY_BYTES = 1 << 40
MOST_ARCHIVE_BYTES = 16 << 30  # of an artifact, unpacked
# Of the sides of an image see tasks/preprocessing.py, which travels alone.
# Of a board, see deploy/bounds.py.
LONGEST_LINE_BYTES = 32 << 20  # the graph of a large network is one line
MOST_LINES_BYTES = 512 << 20  # a day of samples
MOST_WORDS_BYTES = 32 << 20  # of stderr, and of the answer to a question


def content_of(file: Path, most_bytes: int) -> bytes:
    """Return what a file holds; OSError, ValueError for no plain file and for one of more than `most_bytes`."""
    if file.exists() and not file.is_file():
        raise ValueError("is no plain file")
    size = file.stat().st_size
    if size > most_bytes:
        raise ValueError(f"has {show_memory(size)}; {show_memory(most_bytes)} are read at most")
    return file.read_bytes()


def arrays_of(file: Path) -> "dict[str, NDArray[Any]]":
    """Return the arrays of an .npz file by name.

    Each is as large as its header says, and no larger than what is stored of it: nothing is allocated for a claim.
    Raises OSError, ValueError (objects, a damaged or doubled member), zipfile.BadZipFile.
    """
    import numpy as np

    found: dict[str, NDArray[Any]] = {}
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            if name in found:
                raise ValueError(f"it holds `{name}` twice")
            with archive.open(member) as stream:
                version = np.lib.format.read_magic(stream)
                reader = (
                    np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                )
                shape, _, dtype = reader(stream)
                claimed = math.prod(shape) * dtype.itemsize
                if claimed > min(member.file_size, MOST_ARRAY_BYTES):
                    raise ValueError(f"`{name}` claims {shape} of {dtype}, and holds {show_memory(member.file_size)}")
            with archive.open(member) as stream:
                found[name] = np.asarray(np.lib.format.read_array(stream, allow_pickle=False))
    return found
