"""Every built-in plugin passes its checks, and each check rejects a plugin that is wrong."""

import re
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from support.shell import run
from support.wrong import name_of

import seqjax
from seqjax import Error
from seqjax.plugin import entries, registry
from seqjax.report.table import Table
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
    cls, fields = registry.load(entry), {}
    if (entry.kind, entry.name) == ("dataset", "time-machine"):
        fields["path"] = str(request.getfixturevalue("time_machine_file"))
    if (entry.kind, entry.name) == ("dataset", "text-file"):
        fields["path"] = str(tmp_path / "book.txt")
        Path(fields["path"]).write_text("It was a dark and stormy night. " * 400)
    if entry.name in ("csv", "npy", "npz"):
        fields["path"] = str(tmp_path / f"table.{entry.name}")
        values = np.random.default_rng(0).normal(size=(12, 125, 2))
        if entry.name == "csv":
            np.savetxt(fields["path"], values[:4].reshape(-1, 2), delimiter=",", header="a,b", comments="")
        elif entry.name == "npy":
            np.save(fields["path"], values)
        else:
            np.savez(fields["path"], inputs=values, targets=values[..., 0])
    return cls(**fields)


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
    assert not_made <= MAY_BE_LEFT_OUT.get(entry.kind, set()), lines


NOT_HERE = {
    "hf-dataset": "it needs a network; tests/plugins/test_hf_dataset.py reads local files",
    "slurm": "it needs a cluster",
}
MAY_BE_LEFT_OUT = {
    # `es` and `pes` are biased and random, so that the gradients of arguments have no truth to be compared with.
    "gradient": {"draw follows outcomes", "value_and_grad of a scan", "gradients of params, state"},
    # `standardize` takes a series.
    "tokenizer": {"unknown tokens are visible", "Unicode", "empty text", "one long line", "two processes are equal"},
    # `local` waits for its jobs.
    "launcher": {"alive of running jobs"},
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
    for line in lines:
        print(f"{kind:10} {name:32} {line.check.name:28} {line.fault.partition(chr(10))[0]}")
    assert {line.check.name for line in lines if line.fault} == type(plugin).rejected_by


def test_there_are_wrong_plugins_of_each_kind_for_each_check(forget_local_plugins):
    """Every check that is not proved elsewhere rejects at least one plugin."""
    for file in sorted(BROKEN.glob("*.py")):
        registry.load_file(file)
    plugins = [registry.load(entry)() for kind in registry.GROUPS for entry in entries(kind) if entry.version == ""]
    assert len(plugins) >= 40
    rows = [(p.kind, registry.name_of(p), ", ".join(sorted(type(p).rejected_by))) for p in plugins]
    print(f"\n{len(plugins)} wrong plugins\n{Table(('kind', 'plugin', 'rejected by'), rows)}")
    assert {plugin.kind for plugin in plugins} == set(registry.GROUPS)
    rejected = {name for plugin in plugins for name in type(plugin).rejected_by}
    known = {check.name for plugin in plugins for check in checks_of(plugin)}
    assert rejected <= known
    assert known - rejected <= PROVED_ELSEWHERE


PROVED_ELSEWHERE = {
    "entry point",  # below
    # tests/gradients/test_faults.py
    "bfloat16", "padding has no effect", "reset rows start anew", "unscored losses may be NaN",
    "value_and_grad of a scan", "vmap over seeds",
}  # fmt: skip


def test_an_entry_point_of_another_name_or_group_is_found(tmp_path):
    text = (BROKEN / "backend.py").read_text("utf-8").replace("jnp.full((), 0.1)", "0.1")
    (tmp_path / "misnamed.py").write_text(text)
    info = tmp_path / "misnamed-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: misnamed\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[seqjax.optimizers]\nstarts-a-backend = misnamed:StartsABackend\n")
    code = """
from pathlib import Path
from misnamed import StartsABackend
from seqjax.testing.checking import checks_of
from seqjax.testing.line import run_check
(check,) = (check for check in checks_of(StartsABackend()) if check.name == "entry point")
for group in ("optimizers", "optimizer"):
    for name in ("starts-a-backend", "start-a-backend"):
        points = Path("misnamed-1.0.dist-info", "entry_points.txt")
        points.write_text(f"[seqjax.{group}]\\n{name} = misnamed:StartsABackend\\n")
        print(run_check(StartsABackend(), check).passed)
"""
    done = run([sys.executable, "-c", code], cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stdout.split()) == (0, ["yes", "no", "no", "no"]), done.stderr


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


def test_check_takes_an_instance():
    with pytest.raises(Error, match="check takes an instance of a plugin"):
        seqjax.testing.check(seqjax.Text)


def test_a_file_that_checks_its_plugin_when_it_is_imported_is_not_run_again_and_again(tmp_path, forget_local_plugins):
    """Another process loads the file; there, no further process is started."""
    file = tmp_path / "mine.py"
    text = (BROKEN / "backend.py").read_text("utf-8").replace("jnp.full((), 0.1)", "0.1")
    file.write_text(f"{text}\n\nlines = seqjax.testing.check(StartsABackend())\n")
    with pytest.raises(Error, match="importing its file starts the backend"):
        registry.load_file(file)
