"""How results read in a program and in a notebook: as the command line shows them.

What makes their tables is the room of reports, which this one reaches by name when a result is looked at.
"""

from collections.abc import Sequence
from importlib import import_module
from typing import ClassVar

from edgeslim.errors import EdgeslimError
from edgeslim.table import Table

View = Table | str | Sequence[Table | str]


class Readable:
    """A result that `print` and a notebook show as the command line does; its `repr` stays short.

    `view` of a subclass names what makes its tables, "MODULE:FUNCTION" of the room of reports, loaded when they are
    looked at. A result whose artifact is gone is shown as its `repr`.
    """

    _view: ClassVar[str]

    def __init_subclass__(cls, view: str = "", **words: object) -> None:
        super().__init_subclass__(**words)
        if view:
            cls._view = view

    def __str__(self) -> str:
        """Return what the command line prints of it, as wide as the terminal."""
        view = self._made()
        text: str = repr(self) if view is None else import_module("edgeslim.report.tables").as_text(view)
        return text

    def _repr_html_(self) -> str | None:
        """Return the same for a notebook; None where it shows the `repr`."""
        view = self._made()
        page: str | None = None if view is None else import_module("edgeslim.report.tables").as_html(view)
        return page

    def _made(self) -> View | None:
        module, _, function = self._view.partition(":")
        try:
            made: View = getattr(import_module(f"edgeslim.report.{module}"), function)(self)
        except (EdgeslimError, OSError):  # its files are gone or damaged, and printing a name raises nothing
            return None
        return made
