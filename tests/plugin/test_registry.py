"""The registry: plugins that are built in, installed, loaded from a file, or defined in a test."""

import ast
import hashlib
import importlib
import json
import os
import pickle
import re
import shlex
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import jax
import pytest
from support.shell import call, install, seqjax
from support.small_run import NGRAM, TEXT, TOKENIZER

from seqjax import Error, WeightedEdges, create, names, register
from seqjax.plugin import entries, get, registry

ROOT = Path(__file__).parents[2]
POINTS = {
    (kind, name, target)
    for kind, group in registry.GROUPS.items()
    for name, target in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"][group].items()
}
"""What pyproject.toml declares: kind, name, module:Class."""

pytestmark = pytest.mark.usefixtures("forget_local_plugins")


@pytest.mark.parametrize(("kind", "name", "target"), sorted(POINTS))
def test_entry_point_is_what_its_class_registers(kind, name, target):
    cls = get(kind, name)
    assert f"{cls.__module__}:{cls.__qualname__}" == target
    assert cls.kind == kind
    (entry,) = (entry for entry in entries(kind) if entry.name == name)
    assert (entry.id, entry.target, entry.kind) == (f"seqjax/{name}", target, kind)
    assert Path(entry.source) == Path(sys.modules[cls.__module__].__file__)
    assert registry.entry_of(cls) == registry.find(kind, name) == registry.find(kind, entry.id) == entry
    assert get(kind, entry.id) is cls
    assert registry.summary(entry) == cls.__doc__.partition("\n")[0] != ""


def test_names_are_sorted_and_complete():
    for kind in registry.GROUPS:
        found = names(kind)
        assert found == sorted(found) == [entry.name for entry in entries(kind)]
        assert {*found} >= {name for k, name, _ in POINTS if k == kind}


@pytest.mark.parametrize("stub", sorted((ROOT / "plugins").glob("*/__init__.pyi")), ids=lambda p: p.parent.name)
def test_stub_names_the_public_classes(stub):
    package = importlib.import_module(stub.parent.name)
    declared = [alias for node in ast.parse(stub.read_text()).body for alias in node.names]
    assert all(alias.name == alias.asname for alias in declared), "write `import X as X`: it re-exports"
    assert sorted(alias.name for alias in declared) == sorted(package.__all__)
    targets = {f"{cls.__module__}:{cls.__qualname__}" for cls in (getattr(package, alias.name) for alias in declared)}
    assert targets == {target for _, _, target in POINTS if target.startswith(f"{package.__name__}.")}


@pytest.mark.parametrize("call_", [names, lambda kind: create(kind, "x"), lambda kind: register(kind, "x")])
def test_unknown_kind(call_):
    with pytest.raises(Error, match=r"(?s)unknown kind 'modle'; did you mean 'model'.*kinds: dataset, .*optimizer"):
        call_("modle")


@pytest.mark.parametrize("name", ["", "../x", "Full", "seqjax", "seqjax/", "/full", "other/full", "seqjax/full/x", "*"])
def test_only_a_name_or_a_full_id_is_found(name):
    with pytest.raises(Error, match="unknown gradient") as caught:
        get("gradient", name)
    assert f"\nknown: {', '.join(names('gradient'))}" in str(caught.value)


def test_create_checks_all_fields_at_once():
    with pytest.raises(Error, match="dataset 'text-file' cannot be made") as caught:
        create("dataset", "text-file", eror="strict", errors=2)
    assert [problem.partition(" ")[0] for problem in caught.value.problems] == ["eror:", "errors", "path:"]


def test_create_leaves_field_names_to_the_plugin():
    @register("gradient", "named")
    @dataclass(frozen=True)
    class Named(WeightedEdges):
        name: str = ""
        cls: str = ""

    assert create("gradient", "named", name="x", cls="y") == Named("x", "y")


def make(name="Mine", **options):
    """A strategy class with this name, as a cell of a notebook would define it."""
    cls = type(name, (WeightedEdges,), {"__doc__": "One.", "__module__": __name__, "__qualname__": name})
    return dataclass(**{"frozen": True, **options})(cls)


@pytest.mark.parametrize("name", ["", "Mine", "my_own", "-mine", "a--b", "../mine", "mine\n", "ü"])
def test_register_refuses_a_name(name):
    with pytest.raises(Error, match="use lower-case letters, digits and single dashes"):
        register("gradient", name)(make())


def test_register_refuses_classes_that_are_not_frozen_dataclasses():
    class Plain(WeightedEdges):
        pass

    @dataclass(frozen=True)
    class Parent(WeightedEdges):
        pass

    class Inherits(Parent):
        """A subclass of a frozen dataclass needs the decorator too: without it, its fields are ignored."""

        rate: float = 1.0

    for cls in (Plain, make(frozen=False), Inherits):
        with pytest.raises(Error, match=rf"'mine': write @dataclass\(frozen=True\).* class {cls.__name__}"):
            register("gradient", "mine")(cls)
    assert "mine" not in names("gradient")


def test_register_returns_the_class_and_names_it_local():
    cls = make()
    assert register("gradient", "mine")(cls) is cls
    assert get("gradient", "mine") is get("gradient", "local/mine") is cls
    assert type(create("gradient", "mine")) is cls
    assert "mine" in names("gradient")
    assert registry.entry_of(cls()).id == "local/mine"
    with pytest.raises(Error, match="Plain is not registered"):
        registry.entry_of(make("Plain"))


def test_the_same_class_again_replaces_itself_and_another_one_may_not_take_its_name():
    """A notebook cell that is run again, a module that is reloaded."""
    register("gradient", "mine")(make())
    second = register("gradient", "mine")(make())
    with pytest.raises(Error, match=r"'local/mine' is already registered by .*:Mine; .*:Other needs another name"):
        register("gradient", "mine")(make("Other"))
    assert get("gradient", "mine") is second
    assert names("gradient").count("mine") == 1


def test_an_installed_plugin_that_is_reloaded_replaces_itself(monkeypatch):
    full, key = get("gradient", "full"), ("gradient", "seqjax/full")
    monkeypatch.setitem(registry._registered, key, registry._registered[key])
    again = type("Full", (full,), {"__module__": full.__module__, "__qualname__": "Full"})
    assert register("gradient", "full")(dataclass(frozen=True)(again)) is get("gradient", "full") is not full


def test_a_local_name_beside_an_installed_one():
    register("gradient", "full")(make())
    with pytest.raises(Error, match="write the full id, one of: 'local/full', 'seqjax/full'"):
        get("gradient", "full")
    assert get("gradient", "seqjax/full").__name__ == "Full"
    assert get("gradient", "local/full").__name__ == "Mine"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder as `pip install --target` leaves it, with three distributions."""
    site = tmp_path_factory.mktemp("site")
    for name in ("echo", "rival", "broken"):
        install(name, site)
    (site / "seqjax_broken" / "syntax.py").write_text("class Syntax(:\n")
    return site


@pytest.fixture
def add_site(monkeypatch):
    """A function that makes the packages in a folder known until the end of the test, as PYTHONPATH does."""
    before, known = set(sys.modules), set(registry._registered)

    def add(site):
        monkeypatch.syspath_prepend(site)
        registry._installed.cache_clear()

    yield add
    monkeypatch.undo()
    registry._installed.cache_clear()
    for name in set(sys.modules) - before:
        if name.startswith(("seqjax_echo", "seqjax_rival", "seqjax_broken")):
            del sys.modules[name]
    for key in set(registry._registered) - known:
        if not key[1].startswith("seqjax/"):
            del registry._registered[key]


def test_an_installed_package_is_listed_without_being_imported(site, add_site, tmp_path, monkeypatch):
    monkeypatch.setenv("ECHO_MARKER", str(tmp_path / "imported"))
    done = seqjax("list", "gradient", PYTHONPATH=str(site))
    assert done.returncode == 0, done.stderr
    (line,) = (line.split(maxsplit=2) for line in done.stdout.splitlines() if "seqjax-echo/echo " in line)
    assert line == ["seqjax-echo/echo", "1.2.3", "Sends the gradient back weaker and weaker."]
    add_site(site)
    assert "did you mean 'echo'" in call("run", "--gradient", "ehco").stderr
    assert not (tmp_path / "imported").exists()
    done = call("list", "gradient", "seqjax-echo/echo")
    assert (tmp_path / "imported").exists(), "the marker works"
    for word in ("decay", "float; default 0.5", "What is left of it", "strategies.py", "seqjax-echo 1.2.3"):
        assert word in done.stdout
    done = call("run", "--gradient", "seqjax-echo/echo", "--gradient.decay", "1", "--print-config")
    assert tomllib.loads(done.stdout)["gradient"] == {"plugin": "seqjax-echo/echo", "decay": 1.0}


def test_an_entry_point_may_name_a_reexport(site, add_site):
    """`package:Class` is the usual target, and the class lives in a module of the package."""
    add_site(site)
    done = call("list", "gradient", "reexported")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("gradient seqjax-echo/reexported\n")
    assert "distribution  seqjax-echo 1.2.3" in done.stdout


def test_two_packages_with_one_class_name(site, add_site):
    add_site(site)
    with pytest.raises(Error, match=r"seqjax\.gradients\.Echo is a class of the packages seqjax-echo and seqjax-rival"):
        from seqjax.gradients import Echo  # noqa: F401
    from seqjax.gradients import Full, Reexported

    # A package cannot take the name of a built-in plugin.
    assert (Full.__module__, Reexported.__module__) == ("seqjax_gradients.reverse.full", "seqjax_echo.strategies")


def test_two_packages_with_one_short_name(site, add_site):
    add_site(site)
    listed = call("list", "gradient", "--verbose")
    assert (listed.returncode, listed.stderr) == (0, "")
    ids = {line.split()[0] for line in listed.stdout.splitlines() if line.startswith("  ")}
    assert ids >= {"seqjax-echo/echo", "seqjax-rival/echo", "seqjax/full", "seqjax-rival/full"}
    assert "gradient 'echo' is the name of seqjax-echo/echo, seqjax-rival/echo: write the full id" in listed.stdout
    assert "gradient 'full' is the name of seqjax-rival/full, seqjax/full: it means seqjax/full" in listed.stdout
    assert re.search(r"^ +seqjax_gradients\.reverse\.full:Full, .*full\.py$", listed.stdout, re.M)
    assert "gradient 'seqjax-broken/broken' (distribution seqjax-broken 9.9" in listed.stdout
    assert "No module named 'a_dependency_that_is_not_there'" in listed.stdout
    done = call("list", "gradient", "echo")
    assert (done.returncode, done.stdout) == (2, "")
    assert all(repr(full_id) in done.stderr for full_id in ("seqjax-echo/echo", "seqjax-rival/echo"))
    # A package cannot take the name of a built-in plugin.
    for name, full_id in {"full": "seqjax/full", "seqjax-rival/full": "seqjax-rival/full"}.items():
        assert call("list", "gradient", name).stdout.startswith(f"gradient {full_id}\n")
    # The default experiment has full ids, and does not change.
    done = call("run", "--print-config")
    assert tomllib.loads(done.stdout)["gradient"] == {"plugin": "seqjax/full", "checkpoint": False}


BROKEN = {
    "malformed": ("no module at all",),
    "broken": ("seqjax_broken.raises:Broken", "No module named 'a_dependency_that_is_not_there'"),
    "gone": ("seqjax_broken.gone:Gone", "No module named 'seqjax_broken.gone'"),
    "leaves": ("seqjax_broken.leaves:Leaves", "this module leaves"),
    "silent": ("seqjax_broken:Silent", "@seqjax.register"),
    "syntax": ("seqjax_broken.syntax:Syntax", "SyntaxError"),
}


def test_a_package_that_fails_is_an_error_only_if_chosen(site, add_site):
    add_site(site)
    listed = call("list")
    assert (listed.returncode, listed.stderr) == (0, "")
    for name, words in BROKEN.items():
        assert f"seqjax-broken/{name}" in listed.stdout
        for argv in (("run", "--gradient", name), ("list", "gradient", f"seqjax-broken/{name}")):
            done = call(*argv)
            assert (done.returncode, done.stdout) == (2, ""), done.stderr
            assert "Traceback" not in done.stderr
            for word in ("seqjax-broken", "9.9", *words):
                assert word in done.stderr


def info(site, name, metadata, entry_points):
    """The folder of an installed package; metadata may be None."""
    folder = site / f"{name}-1.0.dist-info"
    folder.mkdir()
    (folder / "entry_points.txt").write_bytes(entry_points)
    if metadata is not None:
        (folder / "METADATA").write_bytes(metadata)


def test_an_entry_point_in_a_group_that_is_not_read_is_reported(tmp_path, add_site):
    points = b"[seqjax.gradient]\nmisplaced = somewhere:Something\n"
    info(tmp_path, "odd", b"Name: seqjax-misplaced\nVersion: 1\n", points)
    add_site(tmp_path)
    said = "seqjax-misplaced offers 'misplaced' in the group 'seqjax.gradient', which seqjax does not read"
    done = call("list", "gradient", "misplaced")
    assert done.returncode == 2
    assert f"{said}; did you mean 'seqjax.gradients'" in done.stderr
    assert said in call("list", "optimizer", "--verbose").stdout


def test_a_package_whose_metadata_are_damaged_has_the_name_of_its_module(tmp_path, add_site):
    damaged = {"empty": b"", "absent": None, "latin": b"Name: caf\xe9\n"}
    for name, metadata in damaged.items():
        info(tmp_path, name, metadata, f"[seqjax.models]\nx = module_{name}.inner:X\n[seqjax.odd]\ny = a:b\n".encode())
    add_site(tmp_path)
    done = call("list", "model", "--verbose")
    assert (done.returncode, done.stderr) == (0, "")
    for name in damaged:
        assert f"  module_{name}/x " in done.stdout
    assert "a offers 'y' in the group 'seqjax.odd'" in done.stdout


@pytest.mark.parametrize("entry_points", [b"[seqjax.models]\nmodule:X\n", b"[a]\ncaf\xe9 = a:b\n"])
def test_a_package_whose_entry_points_are_damaged_is_named(tmp_path, add_site, entry_points):
    info(tmp_path, "odd", b"Name: odd-package\nVersion: 1\n", entry_points)
    add_site(tmp_path)
    done = call("list")
    assert (done.returncode, done.stdout) == (2, "")
    assert "entry_points.txt of the installed package odd-package is damaged" in done.stderr
    assert "pip install --force-reinstall odd-package" in done.stderr


MINE = '''
from dataclasses import dataclass
import jax.numpy as jnp
import seqjax

@seqjax.register("gradient", "mine")
@dataclass(frozen=True)
class Mine(seqjax.WeightedEdges):
    """Lets a constant part through."""
    claim = "biased"
    part: float = 0.5
    def edge_weights(self, noise, memory, num_steps):
        return jnp.full(num_steps, self.part), memory
'''
MORE = '''
from dataclasses import dataclass
import seqjax, seqjax_datasets, seqjax_models

@seqjax.register("model", "mine")
@dataclass(frozen=True)
class Model(seqjax_models.NGram):
    """Another n-gram model."""

@seqjax.register("dataset", "mine")
@dataclass(frozen=True)
class Dataset(seqjax_datasets.TextFile):
    """Another dataset."""
'''


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run with three plugins of two files of one name, whose folders have a space, and which are then forgotten."""
    folder = tmp_path_factory.mktemp("local files")
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")
    loads, known = [], dict(registry._registered)
    for name, text in {"a": MORE, "b": TOKENIZER}.items():
        (folder / name).mkdir()
        (folder / name / "mine.py").write_text(text)
        loads += ["--load", folder / name / "mine.py"]
    names = ["--tokenizer", "mine", "--dataset", "mine", "--dataset.path", folder / "text.txt", "--model", "mine"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_NUM_CPU_DEVICES", str(os.cpu_count()))
        done = call("run", *NGRAM[4:8], *names, *loads, "--out", folder / "run")
    assert done.returncode == 0, done.stderr
    registry._registered.clear()
    registry._registered.update(known)
    return folder / "run"


def test_a_run_keeps_the_files_of_its_plugins_and_each_is_named_once(trained):
    assert tomllib.loads((trained / "config.toml").read_text())["tokenizer"] == {"plugin": "local/mine"}
    plugins = json.loads((trained / "environment.json").read_text())["plugins"]
    hashes = {plugin["kind"]: plugin["sha256"] for plugin in plugins if plugin["id"] == "local/mine"}
    of_more, of_tokenizer = (hashlib.sha256(text.encode()).hexdigest() for text in (MORE, TOKENIZER))
    assert hashes == {"dataset": of_more, "tokenizer": of_tokenizer, "model": of_more}
    asked = call("evaluate", trained).stderr
    loads = shlex.split(asked[asked.index("--load ") :])
    assert [Path(file).read_text() for file in loads[1::2]] == [MORE, TOKENIZER]
    assert call("evaluate", trained, *loads).returncode == 0


def test_the_config_of_such_a_run_asks_for_its_files(trained):
    asked = call("run", "--config", trained / "config.toml", "--out", trained.with_name("again"))
    assert (asked.returncode, asked.stdout) == (2, "")
    assert "local/mine" in asked.stderr
    assert "--load" in asked.stderr


def test_a_damaged_record_suggests_no_file_outside_the_run(trained, tmp_path):
    """The files of a run are data, and may hold anything."""
    record = json.loads((trained / "environment.json").read_text())
    for plugin in record["plugins"]:
        plugin["file"] = "../../evil.py"
    (tmp_path / "environment.json").write_text(json.dumps(record))
    (tmp_path / "config.toml").write_bytes((trained / "config.toml").read_bytes())
    asked = call("evaluate", tmp_path)
    assert asked.returncode == 4
    assert "--load" not in asked.stderr
    assert "Traceback" not in asked.stderr


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """The file mine.py in the working folder."""
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(MINE)


def test_a_loaded_file_leaves_the_path_alone_and_can_be_pickled(mine, tmp_path):
    (tmp_path / "helper_beside_mine.py").write_text("")
    before = list(sys.path)
    registry.load_file("mine.py")
    assert sys.path == before
    strategy = create("gradient", "mine", part=1)
    assert pickle.loads(pickle.dumps(strategy)) == strategy
    assert registry.entry_of(strategy).source == str(tmp_path / "mine.py")
    Path("imports.py").write_text("import helper_beside_mine\n" + MINE)
    with pytest.raises(Error, match="No module named 'helper_beside_mine'"):
        registry.load_file("imports.py")


def test_a_file_loaded_again_replaces_itself(mine):
    registry.load_file("mine.py")
    registry.load_file(Path("mine.py").resolve())
    Path("mine.py").write_text(MINE.replace("0.5", "0.25"))
    registry.load_file("./mine.py")
    assert names("gradient").count("mine") == 1
    assert create("gradient", "mine").part == 0.25


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file"),
        ("", "not a Python file"),
        ("x = 1", r"registers no plugin.*@seqjax\.register"),
        ("def f(:", "SyntaxError"),
        (MINE.replace("@dataclass(frozen=True)\n", ""), r"write @dataclass\(frozen=True\)"),
        (MINE + "1 / 0", "ZeroDivisionError: division by zero"),
    ],
)
def test_a_file_that_cannot_be_loaded(tmp_path, text, message):
    file = tmp_path / ("faulty.txt" if text == "" else "faulty.py")
    if text is not None:
        file.write_text(text)
    before = names("gradient")
    done = call("list", "gradient", "full", "--load", file)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"seqjax: --load {file}: ")
    assert re.search(message, done.stderr), done.stderr
    assert names("gradient") == before, "a file that fails leaves no plugin behind"


def test_a_loaded_file_may_start_jax(mine, monkeypatch):
    """A file that makes arrays starts the backend before `run` sets the number of devices."""
    Path("mine.py").write_text(MINE + "\nTABLE = jnp.arange(3)\n")
    monkeypatch.delenv("JAX_NUM_CPU_DEVICES", raising=False)
    before = jax.device_count()
    done = call("run", "--load", "mine.py", "--gradient", "mine", "--print-config")
    assert done.returncode == 0, done.stderr
    assert jax.device_count() == before
