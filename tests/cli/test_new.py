"""`seqjax new` writes plugins that work. `.ci/authors` installs the packages, and runs their tests."""

import ast
import tomllib
from pathlib import Path

import pytest

import seqjax
from seqjax.cli import main
from seqjax.plugin import registry
from seqjax.testing.checking import run_checks


@pytest.fixture
def here(tmp_path, monkeypatch, forget_local_plugins):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("kind", registry.GROUPS)
def test_a_file_holds_a_plugin_of_the_given_name(kind, here, capsys):
    assert main(["new", kind, "a-first-one"]) == 0
    out = capsys.readouterr().out
    assert out == f"wrote    a_first_one.py\nnext     seqjax check {kind} a-first-one --load a_first_one.py\n"
    assert main(["list", kind, "a-first-one", "--load", "a_first_one.py"]) == 0
    assert type(seqjax.create(kind, "a-first-one")).__name__ == "AFirstOne"
    text = Path("a_first_one.py").read_text()
    assert "my-" not in text
    assert "My" not in text


@pytest.mark.slow
@pytest.mark.parametrize("kind", registry.GROUPS)
def test_a_new_plugin_passes_its_checks_before_a_line_is_changed(kind, here):
    main(["new", kind, "a-first-one"])
    registry.load_file("a_first_one.py")
    assert [line.fault for line in run_checks(seqjax.create(kind, "a-first-one")) if line.fault] == []


@pytest.mark.slow
def test_a_new_elementwise_model_passes_its_checks(here):
    main(["new", "model", "a-first-one", "--base", "elementwise"])
    registry.load_file("a_first_one.py")
    assert [line.fault for line in run_checks(seqjax.create("model", "a-first-one", hidden=3)) if line.fault] == []


@pytest.mark.slow
@pytest.mark.parametrize("base", ["wrapping", "influence"])
def test_a_new_strategy_with_another_base_passes_its_checks(base, here):
    main(["new", "gradient", "a-first-one", "--base", base])
    registry.load_file("a_first_one.py")
    assert [line.fault for line in run_checks(seqjax.create("gradient", "a-first-one")) if line.fault] == []


def test_a_model_may_have_another_base(here, capsys):
    assert main(["new", "model", "a-first-one", "--base", "elementwise"]) == 0
    registry.load_file("a_first_one.py")
    assert isinstance(seqjax.create("model", "a-first-one"), seqjax.Elementwise)
    assert main(["new", "sampler", "mine", "--base", "elementwise"]) == 2
    assert "--base elementwise is no base class of a sampler; leave it out" in capsys.readouterr().err
    assert main(["new", "model", "another", "--base", "cell"]) == 0
    assert "seqjax.Cell" in Path("another.py").read_text()


@pytest.mark.parametrize("kind", ["model", "tracker"])
def test_a_package_has_an_entry_point_tests_and_a_workflow(kind, here, capsys):
    assert main(["new", kind, "a-first-one", "--package", "--out", "packages"]) == 0
    folder = Path("packages/a-first-one")
    written = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert written == {
        "a_first_one.py", "pyproject.toml", "README.md", "tests/test_a_first_one.py", ".github/workflows/test.yml",
    }  # fmt: skip
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert project["name"] == "a-first-one"
    assert project["entry-points"] == {registry.GROUPS[kind]: {"a-first-one": "a_first_one:AFirstOne"}}
    ast.parse((folder / "tests/test_a_first_one.py").read_text())
    for path in written:
        text = (folder / path).read_text()
        assert "KIND" not in text
        assert "my-kind" not in text
    assert f"seqjax check {kind} a-first-one" in (folder / "README.md").read_text()


def test_nothing_is_overwritten(here, capsys):
    Path("mine.py").write_text("precious")
    assert main(["new", "model", "mine"]) == 2
    assert "mine.py exists, and nothing was written" in capsys.readouterr().err
    assert Path("mine.py").read_text() == "precious"
    Path("mine").mkdir()
    Path("mine/README.md").write_text("precious")
    assert main(["new", "model", "mine", "--package"]) == 2
    assert [path.name for path in Path("mine").iterdir()] == ["README.md"]


@pytest.mark.parametrize("name", ["2-layers", "class", "none"])
def test_a_name_that_python_uses_gets_a_prefix(name, here):
    assert main(["new", "optimizer", name]) == 0
    (file,) = here.iterdir()
    assert file.stem in (f"seqjax_{name.replace('-', '_')}", "none")
    registry.load_file(file)
    assert seqjax.create("optimizer", name)
