"""The BibTeX entries of plugins: those of the papers that their docstrings cite, and no others."""

import collections
import inspect
import re

import pytest
from support.shell import call

from seqjax import Error
from seqjax.plugin import registry
from seqjax.plugin.base import Plugin
from seqjax.plugin.citing import REFERENCES, bibtex_of

BUILT_IN = {
    f"{kind} {entry.name}": entry
    for kind in registry.GROUPS
    for entry in registry.entries(kind)
    if entry.distribution == registry.BUILT_IN
}
CITED = re.compile(r"([A-Z][\w-]+)(?:, [A-Z][\w-]+)*(?: & [A-Z][\w-]+| et al\.)? \(?((?:18|19|20)\d\d)\b")
"""Hochreiter & Schmidhuber 1997; Menick et al. (2021, ...); Aicher, Foti & Fox 2019."""
ENTRY = re.compile(r"@(\w+)\{([\w-]+),\n(.*?)\n\}", re.DOTALL)
FIELD = re.compile(r"^  (\w+) = \{(.*?)\},?$", re.MULTILINE | re.DOTALL)
REQUIRED = {
    "article": {"author", "title", "journal", "year"},
    "inproceedings": {"author", "title", "booktitle", "year"},
    "book": {"author", "title", "year"},
    "techreport": {"author", "title", "institution", "year"},
}
"""Kind of entry -> the fields that it needs."""


def text_of(cls):
    return " ".join(inspect.getdoc(cls).split())


def entries_in(text):
    """The entries: one dict of fields each, with the kind of entry and its key. Nothing else is in the text."""
    assert not ENTRY.sub("", text).strip(), "more than entries of the form @kind{key, fields}"
    found = []
    for kind, key, body in ENTRY.findall(text):
        assert not FIELD.sub("", body).strip(), f"{key}: more than fields of the form name = {{text}}"
        assert body.count("{") == body.count("}")
        found.append(
            {"kind": kind, "key": key, **{name: " ".join(value.split()) for name, value in FIELD.findall(body)}}
        )
    return found


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_entries_are_those_of_the_papers_that_the_docstring_cites(name):
    """Names, years, numbers of arXiv and titles are those of the docstring."""
    cls = registry.load(BUILT_IN[name])
    text, entries = text_of(cls), entries_in(bibtex_of(cls))
    cited = sorted({(name, year) for name, year in CITED.findall(text)})
    assert sorted((entry["author"].partition(",")[0], entry["year"]) for entry in entries) == cited
    for entry in entries:
        assert REQUIRED[entry["kind"]] <= entry.keys()
        assert ("eprint" in entry) == ("archiveprefix" in entry)
    eprints = {entry["eprint"] for entry in entries if "eprint" in entry}
    assert set(re.findall(r"arXiv:(\d{4}\.\d{5})", text)) <= eprints
    quoted = {title.lower().replace(" ", "") for title in re.findall(r'"([^"]{20,})"', text)}
    titles = {re.sub("[ {}]", "", entry["title"]).lower() for entry in entries}
    assert quoted <= titles


def repeated(values):
    return [value for value, count in collections.Counter(values).items() if count > 1]


def test_a_work_stands_once_and_is_cited():
    entries = entries_in(REFERENCES.read_text("utf-8"))
    keys = [entry["key"] for entry in entries]
    assert keys == sorted(keys)
    assert repeated(keys) == []
    assert repeated(re.sub(r"\W", "", entry["title"]).lower() for entry in entries) == []
    classes = [registry.load(entry) for entry in BUILT_IN.values()]
    assert {key for cls in classes for key in cls.cites} == set(keys)
    assert [cls.__name__ for cls in classes if cls.bibtex] == []


def test_a_plugin_may_cite_a_known_work_and_one_of_its_own():
    class Mine(Plugin):
        cites = ("elman1990finding",)
        bibtex = """
            @misc{doe2020,
              title = {Data}
            }
        """

    assert [entry["key"] for entry in entries_in(bibtex_of(Mine))] == ["elman1990finding", "doe2020"]


def test_an_unknown_key_is_an_error():
    class Mine(Plugin):
        cites = ("elman1990",)

    with pytest.raises(Error, match="cites 'elman1990', which seqjax does not know; did you mean 'elman1990finding'"):
        bibtex_of(Mine)


def test_list_prints_the_entries():
    shown = call("list", "gradient", "uoro").stdout
    assert (
        "\nto cite it:\n\n@inproceedings{tallec2018unbiased,\n  author = {Tallec, Corentin and Ollivier, Yann},\n"
        in shown
    )
    assert shown.count("@") == 1
    assert "to cite it" not in call("list", "gradient", "discounted").stdout
