"""A worker that writes one word, with modules whose names a user's files may have."""

import json
from pathlib import Path

import numpy as np


def main(path: str) -> None:
    Path(path).write_text(json.loads('"written"') if np.ones(1).sum() == 1 else "")
