"""The reference names every public name, every plugin and every field."""

import ast
import re
from pathlib import Path

import pytest
import reference

from seqjax.plugin import registry
from seqjax.plugin.base import fields_of

ROOT = Path(__file__).parents[2]


def exported() -> set[str]:
    """The names that the stubs of the packages list, in full."""
    found = set()
    for stub in ROOT.glob("seqjax/**/__init__.pyi"):
        package = ".".join(stub.parent.relative_to(ROOT).parts)
        imports = [node for node in ast.parse(stub.read_text("utf-8")).body if isinstance(node, ast.ImportFrom)]
        found |= {f"{package}.{alias.name}" for node in imports for alias in node.names}
    return found


def undocumented(pages: dict[str, str]) -> set[str]:
    """The exported names that have neither a directive nor a link to one."""
    directives = set()
    for file, text in pages.items():
        directives |= set(re.findall(r"^\.\. (?:auto\w+|py:module):: (\S+)$", text, re.M))
        directives |= {f"{Path(file).stem}.{name}" for name in re.findall(r"^\.\. py:data:: (\S+)$", text, re.M)}
    missing = set()
    for full in exported():
        module, _, name = full.rpartition(".")
        linked = re.search(rf":py:\w+:`{name} <(\S+)>`", pages.get(f"{module}.rst", ""))
        if full not in directives and not (linked and linked[1] in directives):
            missing.add(full)
    return missing


def test_every_exported_name_is_documented():
    assert {"seqjax.lags", "seqjax.gradients.Memory", "seqjax.analysis.markov"} <= exported()
    assert undocumented(reference.pages()) == set()


@pytest.mark.parametrize(("gone", "missing"), [(".. autofunction:: seqjax.lags", {"lags"}), ("`Plan <", {"Plan"})])
def test_a_name_that_is_not_documented_is_found(gone, missing):
    pages = {name: text.replace(gone, "") for name, text in reference.pages().items()}
    assert {full.rpartition(".")[2] for full in undocumented(pages)} == missing


def test_a_type_alias_has_its_docstring():
    assert ".. py:data:: Params\n\n   A pytree of float arrays" in reference.pages()["seqjax.gradients.rst"]


@pytest.mark.parametrize("kind", registry.GROUPS)
def test_the_page_of_a_kind_has_every_plugin_with_its_fields(kind):
    sections = re.split(r"^(\S+)\n-+\n", reference.pages()[f"plugins-{kind}.rst"], flags=re.M)
    shown = dict(zip(sections[1::2], sections[2::2], strict=True))
    built_in = {entry.name: entry for entry in registry.entries(kind) if entry.distribution == "seqjax"}
    assert shown.keys() == built_in.keys()
    for name, entry in built_in.items():
        assert f"<{registry.GROUPS[kind]}.{entry.target.partition(':')[2]}>`" in sections[0]
        fields = fields_of(registry.load(entry))
        assert re.findall(r"^   ``(\w+)`` : ", shown[name], re.M) == list(fields)
        assert all(field.type.replace("*", r"\*") in shown[name] for field in fields.values())


def test_equal_files_are_not_written_again_and_others_are_deleted(tmp_path):
    reference.write(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == set(reference.pages())
    kept, changed = tmp_path / "seqjax.rst", tmp_path / "index.rst"
    before = kept.stat().st_mtime_ns
    changed.write_text("changed")
    (tmp_path / "seqjax.gone.rst").write_text("of a module that was removed")
    reference.write(tmp_path)
    assert kept.stat().st_mtime_ns == before
    assert changed.read_text("utf-8") == reference.pages()["index.rst"]
    assert not (tmp_path / "seqjax.gone.rst").exists()
