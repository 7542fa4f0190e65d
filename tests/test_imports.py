"""What is imported when: the light front door stays light, and choosing one plugin imports no other."""

import importlib
from pkgutil import iter_modules, walk_packages
from types import ModuleType

from support.imports import PACKAGES, imported, plugin_modules

import seqjax
from seqjax.plugin import entries, registry

SELDOM = {"flax", "datasets", "tokenizers", "matplotlib", "tensorboardX", "trackio", "sklearn"}
"""What few runs need, and takes seconds to import."""
HEAVY = {"jax", "jaxlib", "optax", "numpy", "pydantic", "rich", "safetensors", *SELDOM}

ENDS = """
import sys
from seqjax.cli import main

def ends(line, code):
    try:
        found = main(line.split())
    except SystemExit as leaving:
        found = leaving.code or 0
    assert found == code, (line, found)
"""
"""A function that runs a command, and checks its exit code."""
WITHOUT_JAX = {
    0: [
        *("", "--help", "--version", "list", "list gradient", "list --help"),
        *("check --help", "generate --help", "evaluate --help"),
    ],
    2: [
        *("nosuchverb", "list modle", "list modle rnn", "list model rnm", "generate", "evaluate r --prat rest"),
        *("run --model rn", "run --model rn --gradient randmized", "run --model rn --model.hidden 5"),
        *("run --modle rnn", "run --modle.hidden 3", "run --epoch 3", "run --model.hidden", "run --devices x"),
        *("run --config nowhere.toml", "run --load nowhere.py"),
    ],
}
"""Exit code -> commands: help, lists, and errors of kinds, names and flags."""


def test_import_seqjax_is_light_and_many_commands_leave_jax_unimported(tmp_path):
    commands = [(line, code) for code, lines in WITHOUT_JAX.items() for line in lines]
    statements = [
        "import seqjax; dir(seqjax); seqjax.__version__",
        "import seqjax; seqjax.names('model'), seqjax.create, seqjax.Error, seqjax.register",
        f"{ENDS}\nfor case in {commands}:\n    ends(*case)\n    assert 'jax' not in sys.modules, case",
    ]
    (light, _), *without_jax = imported(statements, tmp_path)
    assert not light & HEAVY
    assert {name for name in light if name.startswith("seqjax")} == {"seqjax"}
    for modules, _ in without_jax:
        assert "jax" not in modules
        assert not plugin_modules(modules)


LAYERS_ABOVE = ("data", "models", "training", "runs", "report", "analysis", "cli", "testing", "diagnostics")


def test_the_gradient_layer_can_be_used_alone(tmp_path):
    """Neither datasets nor tokenizers, pydantic, matplotlib or rich are imported with it, nor any other layer."""
    ((modules, _),) = imported(["import seqjax.gradients; from seqjax.gradients import *"], tmp_path)
    assert "jax" in modules
    assert not modules & {"pydantic", "rich", "optax", "safetensors", *SELDOM}
    assert not {name for name in modules if name.startswith(tuple(f"seqjax.{layer}" for layer in LAYERS_ABOVE))}


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


DEFAULTS = {
    "seqjax_datasets.python_docs",
    "seqjax_samplers.sequential",
    "seqjax_models.rnn",
    "seqjax_gradients.reverse.full",
    "seqjax_optimizers.sgd",
}
TRUNCATED = DEFAULTS - {"seqjax_gradients.reverse.full"} | {"seqjax_gradients.reverse.truncated"}
ALLOWED = [
    ("list model rnn", 0, {"seqjax_models.rnn"}),
    ("run --gradient truncated --gradient.steps x --sampler rndom", 2, TRUNCATED - {"seqjax_samplers.sequential"}),
    ("run --help", 0, DEFAULTS),
    ("run --gradient truncated --print-config", 0, TRUNCATED),
]
"""Command, exit code, and the modules of plugins that it may import."""


def test_only_the_chosen_plugins_are_imported_without_what_few_runs_need_and_no_backend_starts(tmp_path):
    """The libraries behind a plugin or a public name are imported when it works, not when it is named or shown."""
    built_in = [e for kind in registry.GROUPS for e in entries(kind) if e.distribution == registry.BUILT_IN]
    shown, targets = [f"list {e.kind} {e.name}" for e in built_in], {e.target.partition(":")[0] for e in built_in}
    drawing = ["Report", "from_flax", "plot", "script"]
    light = sorted({*seqjax.__all__} - {*drawing})
    cases = {
        "pass": set(),
        "from seqjax.gradients import Truncated": {"seqjax_gradients.reverse.truncated"},
        "import seqjax.training.loop as l, seqjax.training as t; l.train, t.train": set(),
        f"import seqjax\nfor name in {light}: getattr(seqjax, name)": set(),
        f"import seqjax\nfor name in {drawing}: getattr(seqjax, name)\nseqjax.plot.lines({{'a': [1, 2]}})": set(),
        **{f"{ENDS}\nends({line!r}, {code})": allowed for line, code, allowed in ALLOWED},
        f"{ENDS}\nfor line in {shown}: ends(line, 0)": targets,
        "import jax; jax.devices()": set(),
    }
    found = imported([*cases], tmp_path, "import seqjax; seqjax.Experiment")
    *_, (_, backends) = found
    assert backends == ["cpu"], "otherwise no backend would be seen"
    for (statement, allowed), (modules, backends) in list(zip(cases.items(), found, strict=True))[:-1]:
        public = {name for name in plugin_modules(modules) if "._" not in name}
        assert public == allowed if "ends('run" not in statement else public <= allowed, statement
        assert backends == [], statement
        assert "matplotlib.pyplot" not in modules
        assert not modules & (SELDOM - {"flax", "matplotlib"} if "from_flax" in statement else SELDOM), statement
