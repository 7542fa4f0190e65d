"""Every built-in plugin passes its checks, and each check rejects a plugin that is wrong."""

import importlib
import itertools
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from support.wrong import name_of

import seqjax
from seqjax import Error
from seqjax.plugin import entries, registry
from seqjax.testing.checking import checks_of, run_checks
from seqjax.testing.line import run_check

BROKEN = Path(__file__).parent / "broken"
WRONG = [
    pytest.param(file, kind, name_of(cls), id=f"{kind}-{name_of(cls)}")
    for file in sorted(BROKEN.glob("*.py"))
    for kind, cls in re.findall(
        r'^ *@(?:wrong|seqjax\.register)\("(\w+)",[^@]*?^ *class (\w+)', file.read_text("utf-8"), re.M
    )
]
BUILT_IN = [
    pytest.param(entry, id=f"{entry.kind}-{entry.name}")
    for kind in registry.GROUPS
    for entry in entries(kind)
    if entry.distribution == "seqjax"
]


def instance(entry, tmp_path, request):
    """A plugin with its default fields; required fields are a path or a number."""
    values = np.random.default_rng(0).normal(size=(12, 125, 2))
    files = {
        "time-machine": lambda file: file.write_bytes(request.getfixturevalue("time_machine_file").read_bytes()),
        "text-file": lambda file: file.write_text("It was a dark and stormy night. " * 400),
        "csv": lambda file: np.savetxt(file, values[:4].reshape(-1, 2), delimiter=",", header="a,b", comments=""),
        "npy": lambda file: np.save(file, values),
        "npz": lambda file: np.savez(file, inputs=values, targets=values[..., 0]),
    }
    if entry.name not in files:
        return registry.load(entry)()
    file = tmp_path / f"file.{entry.name}"
    files[entry.name](file)
    return registry.load(entry)(path=str(file))


@pytest.fixture(autouse=True)
def clear_caches():
    """After each test, since each compiles many programs, which no other test uses."""
    yield
    jax.clear_caches()


@pytest.mark.slow
@pytest.mark.parametrize("entry", BUILT_IN)
def test_every_built_in_plugin_passes_its_checks(entry, tmp_path, request, monkeypatch):
    if entry.name in NOT_HERE:
        pytest.skip(NOT_HERE[entry.name])
    monkeypatch.chdir(tmp_path)
    plugin = instance(entry, tmp_path, request)
    lines = run_checks(plugin)
    assert {line.check.name: line.fault for line in lines if line.fault} == {}
    not_made = {line.check.name for line in lines if line.passed == "not made"}
    assert not_made <= MAY_BE_LEFT_OUT.get(entry.name, MAY_BE_LEFT_OUT.get(entry.kind, set())), lines


NOT_HERE = {
    "hf-dataset": "tests/plugins/test_hf_dataset.py checks it against a local server",
    "slurm": "it needs a cluster",
}
MAY_BE_LEFT_OUT = {
    # `es` and `pes` are biased and random, so that the gradients of arguments have no truth to be compared with.
    "gradient": {"draw follows outcomes", "value_and_grad of a scan", "gradients of params, state"},
    # These take models in which each parameter feeds one unit.
    "e-prop": {"state without floats", "learned initial state", "gradients of params"},
    "sk-rtrl": {"state without floats", "learned initial state", "gradients of params"},
    "kernl": {"state without floats", "gradients of params"},
    # `standardize` takes a series.
    "tokenizer": {"unknown tokens are visible", "Unicode", "empty text", "one long line", "two processes are equal"},
    # `local` waits for its jobs.
    "launcher": {"alive of running jobs"},
    # What a recurrence does not declare is not checked. All others are affine, stable and complex.
    "ind-rnn": {"affine recurrence", "stable recurrence", "complex state"},
    "min-gru": {"complex state"},
    "min-lstm": {"complex state"},
}


@pytest.mark.slow
def test_a_random_model_passes_its_checks():
    """Training gives it a key, with which its state holds more than without one."""
    lines = run_checks(seqjax.create("model", "gru", hidden=4, layers=2, dropout=0.5, recurrent_dropout=0.5))
    assert {line.check.name: line.fault for line in lines if line.fault} == {}


@pytest.mark.slow
@pytest.mark.parametrize(("file", "kind", "name"), WRONG)
def test_a_wrong_plugin_is_rejected_by_the_right_check(file, kind, name, tmp_path, monkeypatch, forget_local_plugins):
    """The other checks are not made, which takes minutes: that they reject nothing else, the built-in plugins show."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(BROKEN.parents[1]))  # for other processes, in which checks load the file again
    registry.load_file(file)
    plugin = seqjax.create(kind, f"local/{name}")
    lines = [run_check(plugin, check) for check in checks_of(plugin) if check.name in type(plugin).rejected_by]
    assert {line.check.name for line in lines if line.fault} == type(plugin).rejected_by


def test_there_are_wrong_plugins_of_each_kind_for_each_check(forget_local_plugins):
    """Every check that is not proved elsewhere rejects at least one plugin."""
    for file in sorted(BROKEN.glob("*.py")):
        registry.load_file(file)
    plugins = [registry.load(entry)() for kind in registry.GROUPS for entry in entries(kind) if entry.version == ""]
    assert {plugin.kind for plugin in plugins} == set(registry.GROUPS)
    rejected = {name for plugin in plugins for name in type(plugin).rejected_by}
    known = {check.name for plugin in plugins for check in checks_of(plugin)}
    assert rejected <= known
    assert known - rejected <= PROVED_ELSEWHERE


PROVED_ELSEWHERE = {
    "entry point", "import starts no backend",  # below
    # tests/gradients/test_faults.py
    "bfloat16", "padding has no effect", "reset rows start anew", "second derivatives", "unscored losses may be NaN",
    "value_and_grad of a scan", "vmap over seeds",
}  # fmt: skip


MINE = '''
from dataclasses import dataclass
import seqjax
from seqjax.samplers import InOrder

@seqjax.register("sampler", "mine")
@dataclass(frozen=True)
class Mine(InOrder):
    """Reads in order."""
'''


def test_an_entry_point_of_another_name_or_group_is_found(tmp_path, monkeypatch, forget_local_plugins):
    (tmp_path / "misnamed.py").write_text(MINE)
    info = tmp_path / "misnamed-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: misnamed\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    plugin, passed = importlib.import_module("misnamed").Mine(), []
    (check,) = (check for check in checks_of(plugin) if check.name == "entry point")
    for group, name in itertools.product(("samplers", "sampler"), ("mine", "my")):
        (info / "entry_points.txt").write_text(f"[seqjax.{group}]\n{name} = misnamed:Mine\n")
        passed.append(run_check(plugin, check).passed)
    assert passed == ["yes", "no", "no", "no"]


@pytest.mark.slow
def test_the_examples_of_the_guide_pass_their_checks(tmp_path, forget_local_plugins):
    guide = (Path(__file__).parents[2] / "docs/plugins.md").read_text("utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", guide, re.M | re.S)
    wanted = [block for block in blocks if "@seqjax.register" in block or block.startswith("import functools")]
    (tmp_path / "guide.py").write_text("\n\n".join(wanted))
    registry.load_file(tmp_path / "guide.py")
    local = [registry.load(e)() for kind in registry.GROUPS for e in entries(kind) if e.distribution == registry.LOCAL]
    assert {plugin.kind for plugin in local} == set(registry.GROUPS)
    faults = {type(plugin).__name__: [line.fault for line in run_checks(plugin) if line.fault] for plugin in local}
    assert faults == {name: [] for name in faults}


def test_a_file_that_checks_its_plugin_when_it_is_imported_is_not_run_again_and_again(tmp_path, forget_local_plugins):
    """Another process loads the file; there, no further process is started."""
    (tmp_path / "mine.py").write_text(f"{MINE}\n\nseqjax.testing.check(Mine())\n")
    with pytest.raises(Error, match="importing its file starts the backend"):
        registry.load_file(tmp_path / "mine.py")
