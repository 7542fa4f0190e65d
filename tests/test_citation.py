"""`CITATION.cff` says what `pyproject.toml` says, in the fields of the Citation File Format 1.2.0."""

import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
FIELDS = {"cff-version", "message", "type", "title", "abstract", "authors", "version", "license", "keywords"}
"""Fields of the format that the file uses; the first two, the title and the authors are required."""


def test_the_citation_file_agrees_with_the_package():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert cited.keys() == FIELDS
    assert (cited["cff-version"], cited["type"]) == ("1.2.0", "software")
    assert cited["title"].partition(":")[0] == project["name"]
    assert cited["abstract"] == project["description"]
    assert {name: cited[name] for name in ("version", "license", "keywords")} == {
        name: project[name] for name in ("version", "license", "keywords")
    }
    assert cited["authors"] == [{"name": "The seqjax authors"}]
