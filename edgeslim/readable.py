"""How results read in a program and in a notebook: as the command line shows them."""

from collections.abc import Sequence
from importlib import import_module
from typing import ClassVar

from edgeslim.table import Table

View = Table | str | Sequence[Table | str]


class Readable:
    """A result that `print` and a notebook show as the command line does; its `repr` stays short.

    `view` of a subclass names what makes its tables, "MODULE:FUNCTION" of the room of reports, loaded when they are
    looked at.
    """

    _view: ClassVar[str]

    def __init_subclass__(cls, view: str = "", **words: object) -> None:
        super().__init_subclass__(**words)
        if view:
            cls._view = view

    def __str__(self) -> str:
        """Return what the command line prints of it, as wide as the terminal."""
        text: str = import_module("edgeslim.report.tables").as_text(self._made())
        return text

    def _repr_html_(self) -> str:
        """Return the same for a notebook."""
        page: str = import_module("edgeslim.report.tables").as_html(self._made())
        return page

    def _made(self) -> View:
        module, _, function = self._view.partition(":")
        made: View = getattr(import_module(f"edgeslim.report.{module}"), function)(self)
        return made
