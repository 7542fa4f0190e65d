"""The BibTeX entries of the works that a plugin cites."""

import functools
import inspect
import re
from pathlib import Path

from seqjax.errors import Error, nearest
from seqjax.plugin.base import Plugin
from seqjax.plugin.registry import name_of

REFERENCES = Path(__file__).with_name("references.bib")
"""The works that the built-in plugins cite, sorted by their keys."""
ENTRY = re.compile(r"^@\w+\{(?P<key>[\w-]+),\n.*?^\}", re.MULTILINE | re.DOTALL)


def bibtex_of(cls: type[Plugin]) -> str:
    """The BibTeX entries of the works that a plugin cites: first by its keys, then its own; empty if it cites none.

    Args:
        cls: a plugin class, whose `cites` are keys of `references.bib`, and whose `bibtex` has entries.

    Raises:
        Error: a key is not in `references.bib`.
    """
    known = _references()
    for key in cls.cites:
        if key not in known:
            raise Error(
                f"{cls.kind} {name_of(cls)}: cites {key!r}, which seqjax does not know{nearest(key, known)}\n"
                "Write the entry of another work as the class attribute bibtex"
            )
    return "\n\n".join(filter(None, [*(known[key] for key in cls.cites), inspect.cleandoc(cls.bibtex)]))


@functools.cache
def _references() -> dict[str, str]:
    """The entries of `references.bib` by their keys."""
    return {match["key"]: match[0] for match in ENTRY.finditer(REFERENCES.read_text("utf-8"))}
