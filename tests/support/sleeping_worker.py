"""A worker that writes its process down and sleeps for ten minutes."""

import os
import time
from pathlib import Path


def main(path: str) -> None:
    Path(path).write_text(str(os.getpid()))
    time.sleep(600)
