"""What is imported when: the light front door stays light, and choosing one plugin imports no other."""

import importlib
import json
import subprocess
import sys
from pkgutil import iter_modules, walk_packages
from types import ModuleType

import pytest
from support.shell import run

import seqjax
from seqjax import __all__ as public
from seqjax.plugin import entries, registry

PACKAGES = [f"seqjax_{kind}s" for kind in registry.GROUPS]

PROBE = """
import json, os, sys
{statement}
jax_backends = getattr(sys.modules.get("jax._src.xla_bridge"), "_backends", {{}})
json.dump([sorted(sys.modules), sorted(jax_backends)], os.fdopen(3, "w"))
"""
MAIN = """
from seqjax.cli import main
try:
    code = main({argv})
except SystemExit as leaving:
    code = leaving.code or 0
assert code == {code}, code
"""


def probe(statement: str, tmp_path) -> tuple[set[str], list[str]]:
    """The modules that a reset interpreter has after a statement, and the jax backends it has started."""
    out = tmp_path / "modules.json"
    done = run(
        ["sh", "-c", '"$0" -c "$1" 3>"$2"', sys.executable, PROBE.format(statement=statement), out], cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    modules, backends = json.loads(out.read_text())
    return set(modules), backends


def after(argv: list, code: int, tmp_path) -> tuple[set[str], list[str]]:
    return probe(MAIN.format(argv=argv, code=code), tmp_path)


def plugin_modules(modules: set[str]) -> set[str]:
    return {name for name in modules if name.partition(".")[0] in PACKAGES and "." in name}


def shown(value: object) -> str:
    return " ".join(value) or "nothing" if isinstance(value, list) else ""


SELDOM = {"flax", "datasets", "tokenizers", "matplotlib", "tensorboardX", "trackio"}
"""What few runs need, and takes seconds to import."""
HEAVY = {"jax", "jaxlib", "optax", "numpy", "pydantic", "rich", "safetensors", *SELDOM}


def test_import_seqjax_is_light(tmp_path):
    modules, _ = probe("import seqjax; dir(seqjax); seqjax.__version__", tmp_path)
    assert not modules & HEAVY
    assert not plugin_modules(modules)
    assert {name for name in modules if name.startswith("seqjax")} == {"seqjax"}


@pytest.mark.parametrize("use", ["seqjax.names('model'), seqjax.create", "seqjax.Error, seqjax.register"])
def test_names_are_had_without_jax(tmp_path, use):
    modules, _ = probe(f"import seqjax; {use}", tmp_path)
    assert "jax" not in modules
    assert not plugin_modules(modules)


LAYERS_ABOVE = ("data", "models", "training", "runs", "report", "analysis", "cli", "testing", "diagnostics")


def test_the_gradient_layer_can_be_used_alone(tmp_path):
    """Neither datasets nor tokenizers, pydantic, matplotlib or rich are imported with it, nor any other layer."""
    statement = "import seqjax.gradients; from seqjax.gradients import *"
    modules, _ = probe(statement, tmp_path)
    assert "jax" in modules
    assert not modules & {"datasets", "tokenizers", "pydantic", "matplotlib", "rich", "flax", "optax", "safetensors"}
    assert not {name for name in modules if name.startswith(tuple(f"seqjax.{layer}" for layer in LAYERS_ABOVE))}


def test_every_public_name_can_be_had_alone(tmp_path):
    """The order in which lazy names are first asked for must not matter: a cycle would show."""
    statement = f"""
import importlib, jax, sys
for name in {public}:
    for module in [m for m in sys.modules if m.partition(".")[0] == "seqjax"]:
        del sys.modules[module]
    getattr(importlib.import_module("seqjax"), name)
"""
    modules, backends = probe(statement, tmp_path)
    assert not plugin_modules(modules)
    assert backends == []


def test_no_package_exports_a_name_that_is_also_one_of_its_modules():
    """Otherwise `import seqjax.training.loop as loop` fails where `seqjax.training` is a function."""
    packages = ["seqjax", *(info.name for info in walk_packages(seqjax.__path__, "seqjax.") if info.ispkg), *PACKAGES]
    hidden = []
    for package in map(importlib.import_module, packages):
        for info in iter_modules(package.__path__):
            exported = getattr(package, info.name) if info.name in getattr(package, "__all__", ()) else None
            if exported is not None and not isinstance(exported, ModuleType):
                hidden.append(f"{package.__name__}.{info.name}")
    assert not hidden


def test_modules_can_be_imported_under_a_name_of_ones_own():
    code = (
        "import seqjax.training.loop as l, seqjax.training as t, seqjax.sweeps.sweeping as s; l.train, t.train, s.sweep"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_asking_for_one_plugin_imports_its_file_alone(tmp_path):
    modules, backends = probe("from seqjax_gradients import Truncated", tmp_path)
    assert plugin_modules(modules) == {"seqjax_gradients.truncated"}
    assert backends == []


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        ([], 0),
        (["--help"], 0),
        (["--version"], 0),
        (["list"], 0),
        (["list", "gradient"], 0),
        (["list", "--help"], 0),
        (["nosuchverb"], 2),
        (["list", "modle"], 2),
        (["show", "modle", "rnn"], 2),
        (["show", "model", "rnm"], 2),
        (["show", "--help"], 0),
        (["generate", "--help"], 0),
        (["evaluate", "--help"], 0),
        (["generate"], 2),
        (["evaluate", "r", "--prat", "rest"], 2),
        (["run", "--model", "rn"], 2),
        (["run", "--model", "rn", "--gradient", "randmized"], 2),
        (["run", "--model", "rn", "--epochs", "5"], 2),
        (["run", "--model", "rn", "--model.hidden", "5"], 2),
        (["run", "--modle", "rnn"], 2),
        (["run", "--modle.hidden", "3"], 2),
        (["run", "--epoch", "3"], 2),
        (["run", "--model.hidden"], 2),
        (["run", "--devices", "x"], 2),
        (["run", "--config", "nowhere.toml"], 2),
        (["run", "--load", "nowhere.py"], 2),
    ],
    ids=shown,
)
def test_help_lists_and_errors_of_kinds_names_and_flags_leave_jax_unimported(argv, code, tmp_path):
    modules, _ = after(argv, code, tmp_path)
    assert "jax" not in modules
    assert not plugin_modules(modules)


DEFAULTS = {
    "seqjax_datasets.python_docs",
    "seqjax_samplers.sequential",
    "seqjax_models.rnn",
    "seqjax_gradients.full",
    "seqjax_optimizers.sgd",
}
TRUNCATED = DEFAULTS - {"seqjax_gradients.full"} | {"seqjax_gradients.truncated"}


@pytest.mark.parametrize(
    ("argv", "code", "allowed"),
    [
        (["show", "model", "rnn"], 0, {"seqjax_models.rnn"}),
        (["show", "gradient", "randomized"], 0, {"seqjax_gradients.randomized"}),
        (["show", "optimizer", "adam"], 0, {"seqjax_optimizers.adam"}),
        (["run", "--model.hiden", "3"], 2, DEFAULTS),
        (["run", "--model", "rnn", "--model.hidden", "-3"], 2, DEFAULTS),
        (["run", "--gradient", "truncated", "--gradient.steps", "0"], 2, TRUNCATED),
        (["run", "--gradient", "truncated", "--gradient.steps", "x", "--sampler", "rndom"], 2, TRUNCATED),
        (["run", "--epochs", "0"], 2, DEFAULTS),
        (["run", "--help"], 0, DEFAULTS),
        (["run", "--gradient", "truncated", "--print-config"], 0, TRUNCATED),
    ],
    ids=shown,
)
def test_show_and_errors_of_fields_import_the_chosen_plugins_and_start_no_backend(argv, code, allowed, tmp_path):
    modules, backends = after(argv, code, tmp_path)
    assert plugin_modules(modules) <= allowed
    assert backends == []
    assert "matplotlib" not in modules
    if argv[0] == "show":
        assert plugin_modules(modules) == allowed


def test_no_plugin_is_shown_or_made_with_what_few_runs_need(tmp_path):
    """The libraries behind a plugin are imported when it works, not when it is named."""
    everything = [(kind, name) for kind in registry.GROUPS for name in registry.names(kind)]
    statement = f"""
from seqjax.cli import main
for kind, name in {everything}:
    assert main(["show", kind, name]) == 0
"""
    modules, backends = probe(statement, tmp_path)
    targets = {entry.target.partition(":")[0] for kind in registry.GROUPS for entry in entries(kind)}
    assert {target for target in targets if target.partition(".")[0] in PACKAGES} <= plugin_modules(modules)
    assert not modules & SELDOM
    assert backends == []


@pytest.mark.parametrize("name", ["Experiment", "Run", "Runs", "sweep", "train"])
def test_a_public_name_is_had_without_what_few_runs_need(name, tmp_path):
    modules, _ = probe(f"import seqjax; seqjax.{name}", tmp_path)
    assert not modules & SELDOM


def test_the_probe_sees_a_backend(tmp_path):
    """Otherwise the tests above could not fail."""
    modules, backends = probe("import jax; jax.devices()", tmp_path)
    assert "cpu" in backends
    assert "jax" in modules
