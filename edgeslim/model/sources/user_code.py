"""Code of others: a user's file, its factory and forward, libraries. What it prints, logs or ends is no result."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import NoReturn

from edgeslim.errors import BadModel


class _Left(BaseException):
    """The code asked for the end of the process."""


@contextmanager
def running_code_of(what: str, when: str = "") -> Iterator[None]:
    """Run code of the user's: what it prints goes to stderr, and however it ends itself, this process goes on.

    Raises BadModel, naming `what` and `when`, for whatever it raises but an interrupt: for an exit too, even a hard
    one.
    """
    leave, own = os._exit, os.getpid()

    def refuse(code: int) -> NoReturn:
        if os.getpid() != own:  # a process that it forked may end as it likes
            leave(code)
        raise _Left(f"os._exit({code})")

    os._exit = refuse  # type: ignore[assignment] # for as long as the code runs
    try:
        with redirect_stdout(sys.stderr):
            yield
    except (KeyboardInterrupt, BadModel):
        raise
    except BaseException as error:
        name = "an early end of the process" if isinstance(error, _Left) else type(error).__name__
        raise BadModel(f"{what} raised {name}{when}: {error}") from error
    finally:
        os._exit = leave


@contextmanager
def nothing_logged() -> Iterator[None]:
    """Let a library log nothing, not even of others that it loads: what goes wrong, it raises."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
