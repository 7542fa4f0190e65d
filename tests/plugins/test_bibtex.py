"""The BibTeX entries of plugins: those of the papers that their docstrings cite, and no others."""

import collections
import importlib
import inspect
import re
import sys
from pathlib import Path

import pytest
from support.shell import call

from seqjax import Error
from seqjax.plugin import registry
from seqjax.plugin.base import Plugin
from seqjax.plugin.citing import REFERENCES, bibtex_of

EXTRAS = Path(__file__).parents[2] / "examples" / "seqjax-extras"
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


def check_entries(cls):
    """Compares the entries of a class with what its docstring cites: names, years, numbers of arXiv, DOIs, titles."""
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


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_entries_are_those_of_the_papers_that_the_docstring_cites(name):
    check_entries(registry.load(BUILT_IN[name]))


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


def test_a_repeated_work_is_found():
    assert repeated(["doe2020", "roe2021", "doe2020"]) == ["doe2020"]


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


def test_every_citation_is_found():
    """A citation that the pattern overlooks would not be missed: each year and each number of arXiv belongs to one."""
    for name, entry in BUILT_IN.items():
        text = text_of(registry.load(entry))
        years = set(re.findall(r"(?<![\d.,])(?:18|19|20)\d\d(?![\d.])", text))
        assert years == {year for _, year in CITED.findall(text)} | (years & ELSE.get(name, set())), name
        assert "arXiv" not in text or CITED.search(text), name


ELSE = {"dataset stocks": {"1990", "2022"}}
"""Years that are no citations."""


@pytest.mark.parametrize("module", sorted(file.stem for file in (EXTRAS / "seqjax_extras").glob("[!_]*.py")))
def test_the_example_package_has_entries_too(module, monkeypatch, forget_local_plugins):
    monkeypatch.syspath_prepend(EXTRAS)
    try:
        loaded = importlib.import_module(f"seqjax_extras.{module}")
        for cls in vars(loaded).values():
            if inspect.isclass(cls) and cls.__module__ == loaded.__name__ and hasattr(cls, "bibtex"):
                check_entries(cls)
    finally:
        for name in [name for name in sys.modules if name.startswith("seqjax_extras")]:
            del sys.modules[name]


def test_show_prints_the_entries():
    shown = call("show", "gradient", "uoro").stdout
    assert (
        "\nto cite it:\n\n@inproceedings{tallec2018unbiased,\n  author = {Tallec, Corentin and Ollivier, Yann},\n"
        in shown
    )
    assert shown.count("@") == 1
    assert "to cite it" not in call("show", "gradient", "discounted").stdout


def test_show_prints_the_entry_of_a_local_plugin(tmp_path, forget_local_plugins):
    file = tmp_path / "mine.py"
    file.write_text('''
from dataclasses import dataclass

import seqjax


@seqjax.register("dataset", "mine")
@dataclass(frozen=True)
class Mine(seqjax.Dataset):
    """Data (Doe 2020)."""

    bibtex = """
        @misc{doe2020,
          title = {Data}
        }
    """
''')
    assert (
        "\nto cite it:\n\n@misc{doe2020,\n  title = {Data}\n}\n"
        in call("show", "dataset", "mine", "--load", file).stdout
    )
