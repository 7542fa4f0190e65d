"""The reference texts that are part of every Python installation."""

from dataclasses import dataclass

from seqjax import Dataset, Text, register


@register("dataset", "python-docs")
@dataclass(frozen=True)
class PythonDocs(Dataset):
    """The texts of `help("topics")`: half a million characters of English and code, without a download.

    The text differs between versions of Python; a run records its hash.
    """

    def load(self):
        """All topics in alphabetical order, as one document."""
        from pydoc_data.topics import topics

        return Text("".join(topics[name] for name in sorted(topics)), "python-docs")
