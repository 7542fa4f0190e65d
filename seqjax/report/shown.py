"""`Shown`: how a result with texts and tables is shown as text, on a terminal and in a notebook."""

from collections.abc import Iterable, Iterator
from typing import Any

from rich.text import Text

from seqjax.errors import LINES, escape
from seqjax.report.table import Table, markdown


class Shown:
    """A result with texts and tables, which are its `_parts`."""

    def _parts(self) -> Iterable[str | Table]:
        """What is shown, from top to bottom."""
        raise NotImplementedError

    def __str__(self) -> str:
        return as_text(self._parts())

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        return as_renderables(self._parts())

    def _repr_markdown_(self) -> str:
        return as_markdown(self._parts())


def as_text(parts: Iterable[str | Table]) -> str:
    """Texts and tables as plain text."""
    return "\n".join(str(part) if isinstance(part, Table) else escape(part, LINES) for part in parts)


def as_renderables(parts: Iterable[str | Table]) -> Iterator[Any]:
    """Texts and tables as rich prints them on a terminal; no text is markup."""
    return (part if isinstance(part, Table) else Text(escape(part, LINES)) for part in parts)


def as_markdown(parts: Iterable[str | Table]) -> str:
    """Texts and tables as GitHub's Markdown."""
    return "\n\n".join(part.to_markdown() if isinstance(part, Table) else markdown(part.strip()) for part in parts)
