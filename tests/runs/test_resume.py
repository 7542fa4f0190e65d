"""An interrupted and resumed run equals an uninterrupted one, bit for bit."""

import contextlib
import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
from seqjax.runs.adopt import adopt
from support.crash import EXPERIMENTS, TEXT, NoFigure, count_chunks, crash_after, experiment, results

from seqjax import Error, Experiment, Run, create
from seqjax.runs import checkpoint, execute
from seqjax.training import feed
from seqjax_models import MLP
from seqjax_samplers import Sequential

pytestmark = pytest.mark.usefixtures("optimized")


@pytest.fixture(autouse=True)
def several_chunks(monkeypatch):
    """Chunks of four batches; the last one of an epoch is shorter."""
    monkeypatch.setattr(feed, "CHUNK_STEPS", 80)
    monkeypatch.setattr(Run, "plot", NoFigure)


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_interrupted_twice_after_every_chunk(name, tmp_path, monkeypatch):
    """With a checkpoint after every chunk, or only before the last one: rows and steps after it are made again."""
    e = experiment(name)
    chunks = count_chunks(monkeypatch, e, tmp_path / "whole")
    assert len(chunks) >= 6
    assert {chunk.done for chunk in chunks} == {True, False}
    whole = results(tmp_path / "whole")
    assert len(whole[0]) == 2
    for first in range(1, len(chunks)):
        path = tmp_path / f"after-{first}"
        with crash_after(monkeypatch, first):
            e.run(path, checkpoint_seconds=0)
        assert not (path / "params.safetensors").exists()
        with crash_after(monkeypatch, 1):
            e.run(path, checkpoint_seconds=1e9 if first % 2 else 0)
        run = e.run(path)
        assert run.finished
        assert results(path) == whole
        assert checkpoint.is_pruned(path)


@pytest.mark.slow
def test_the_size_of_a_chunk_changes_nothing(monkeypatch):
    """A warm-up of five steps extends over three windows, but a chunk of one batch has only one of them."""
    e = experiment("mlp, windows", model=MLP(lags=6, hidden=4), sampler=Sequential(4, 2), evaluate_every=1)
    rows = []
    for batches in (1, 2, 100):
        monkeypatch.setattr(feed, "CHUNK_STEPS", batches * 4 * 2)
        rows.append(e.run().metrics)
    for row, other, last in zip(*rows, strict=True):
        assert row["tokens"] == other["tokens"] == last["tokens"]
        for name in ("train_loss", "heldout_loss", "grad_norm"):
            assert row[name] == pytest.approx(last[name], rel=1e-5)
            assert other[name] == pytest.approx(last[name], rel=1e-5)


@pytest.mark.slow
def test_without_a_checkpoint_training_starts_anew(tmp_path, monkeypatch):
    e = experiment("gru, random")
    e.run(tmp_path / "whole")
    for _ in range(2):
        with crash_after(monkeypatch, 4):
            e.run(tmp_path / "run")
        assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 1
    e.run(tmp_path / "run")
    assert results(tmp_path / "run") == results(tmp_path / "whole")


@pytest.mark.slow
def test_a_run_goes_on_without_compiling_again(tmp_path, monkeypatch, caplog):
    """A restored state has the types and the layout of a trained one, so that the program is the same."""
    e = experiment("gru, random", seed=1)
    with crash_after(monkeypatch, 4):
        e.run(tmp_path / "run", checkpoint_seconds=0)
    caplog.clear()
    with jax.log_compiles(), caplog.at_level("WARNING"):
        e.run(tmp_path / "run")
    compiled = [message for message in caplog.messages if message.startswith("Compiling")]
    assert not [message for message in compiled if "epoch" in message]


@pytest.mark.slow
def test_training_goes_on_in_float64(tmp_path, monkeypatch, x64):
    e = experiment("rnn, rtrl, adamw")
    e.run(tmp_path / "whole")
    with crash_after(monkeypatch, 2):
        e.run(tmp_path / "run", checkpoint_seconds=0)
    e.run(tmp_path / "run")
    assert results(tmp_path / "run") == results(tmp_path / "whole")


def test_an_unfinished_run_can_be_opened(tmp_path, monkeypatch):
    """It has the parameters of its last checkpoint and the rows up to it."""
    e = experiment("gru, random", epochs=3)
    with crash_after(monkeypatch, 1):
        e.run(tmp_path, checkpoint_seconds=1e9)
    with pytest.raises(Error, match="no parameters yet"):
        Run.open(tmp_path)
    with crash_after(monkeypatch, 8):
        e.run(tmp_path, checkpoint_seconds=0)
    run = Run.open(tmp_path)
    assert not run.finished
    assert run.metric("epoch").tolist() == [1, 2]
    saved = checkpoint.newest(tmp_path).arrays
    for keys, leaf in jax.tree_util.tree_leaves_with_path(run.params):
        np.testing.assert_array_equal(leaf, saved["params/" + checkpoint.leaf_name(keys)])


@pytest.fixture
def stopped(tmp_path, monkeypatch):
    """A run of three epochs, with a checkpoint inside the third epoch, two rows before it, and one row after it."""
    e = experiment("gru, random", epochs=4)
    path = tmp_path / "run"
    with crash_after(monkeypatch, 7):
        e.run(path, checkpoint_seconds=0)
    with crash_after(monkeypatch, 3):
        e.run(path, checkpoint_seconds=1e9)
    assert len((path / "metrics.jsonl").read_text().splitlines()) == 3
    e.run(tmp_path / "whole")
    return e, path, results(tmp_path / "whole")


def test_rows_after_the_checkpoint_are_made_once(stopped):
    e, path, whole = stopped
    assert len(Run.open(path).metrics) == 2
    e.run(path)
    assert results(path) == whole


@pytest.mark.parametrize("torn", [b'{"epoch": 4, "upd', b"\x00" * 20, b"\xff\xfe"])
def test_a_torn_last_line_is_left_out_with_a_warning(stopped, torn):
    e, path, whole = stopped
    with (path / "metrics.jsonl").open("ab") as file:
        file.write(torn)
    with pytest.warns(UserWarning, match="last line is incomplete"):
        e.run(path)
    assert results(path) == whole


def lines_without(n):
    return lambda lines: lines[:n] + lines[n + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda lines: [lines[0][:20] + b"\n", *lines[1:]],
        lambda lines: [b"\x00" * len(lines[0]) + b"\n", *lines[1:]],
        lambda lines: [b"[]\n", *lines[1:]],
        lambda lines: [b"\n", *lines],
        lines_without(0),
        lines_without(1),
        lambda lines: [lines[0], lines[0], *lines[1:]],
        lambda lines: lines[:1],
        lambda lines: [],
    ],
    ids=["cut", "zeros", "no row", "empty line", "first gone", "second gone", "twice", "short", "empty"],
)
def test_damaged_rows_are_exit_4_and_kept(stopped, damage):
    e, path, _ = stopped
    file = path / "metrics.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(damage(lines)))
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file() and file.name != ".lock"}
    with pytest.raises(Error) as caught:
        e.run(path)
    assert caught.value.exit_code == 4
    assert str(file) in str(caught.value)
    assert {file: file.read_bytes() for file in before} == before


@pytest.mark.parametrize("left", ["checkpoints", "params.safetensors"])
def test_results_without_a_config_are_refused(stopped, left):
    """Checkpoints and parameters may belong to another experiment of the same shapes."""
    e, path, _ = stopped
    for file in list(path.iterdir()):
        if file.name != left and file.is_file():
            file.unlink()
    if left != "checkpoints":
        shutil.rmtree(path / "checkpoints")
        (path / left).touch()
    with pytest.raises(Error, match=f"holds no run, but {left}") as caught:
        e.run(path)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(change, marks=[pytest.mark.slow] * (change in ("x64", "precision")))
        for change in ("devices", "x64", "precision", "flags", "card", "dataset", "version", "plugin", "optimizer file")
    ],
)
def test_another_environment_is_exit_4_and_named(change, tmp_path, monkeypatch):
    file = tmp_path / "text.txt"
    file.write_text(TEXT * 5)
    fields = EXPERIMENTS["gru, random"] | {"dataset": create("dataset", "text-file", path=str(file))}
    e = Experiment(**fields, epochs=2)
    path = tmp_path / "run"
    with crash_after(monkeypatch, 4):
        e.run(path, devices=2, checkpoint_seconds=0)
    record = path / "environment.json"
    kept = json.loads(record.read_text())
    if change == "dataset":
        file.write_text(TEXT.replace("cat", "rat") * 5)
    elif change == "card":
        kept["device"] = "NVIDIA H100"
    elif change == "flags":
        monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
    elif change == "version":
        kept["versions"]["jaxlib"] = "0.0.1"
    elif change == "plugin":
        next(plugin for plugin in kept["plugins"] if plugin["kind"] == "model")["sha256"] = "0" * 64
    elif change == "optimizer file":
        kept["plugins"] = [plugin for plugin in kept["plugins"] if plugin["kind"] != "optimizer"]
    if json.loads(record.read_text()) != kept:
        record.write_text(json.dumps(kept))
        adopt(path)
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file() and file.name != ".lock"}
    words = {
        "devices": ["devices: then 2, now 1", "--devices", "--launcher.jobs"],
        "x64": ["enable_x64: then False, now True"],
        "precision": ["default_matmul_precision: then None, now highest"],
        "flags": ["xla_flags: then , now --xla_cpu_enable_fast_math=true"],
        "card": ["device: then NVIDIA H100, now cpu"],
        "dataset": ["dataset has changed", kept["data_sha256"]["dataset"]],
        "version": ["jaxlib: then 0.0.1"],
        "plugin": ["model seqjax/gru", "0" * 64],
        "optimizer file": ["optimizer seqjax/sgd: then None"],
    }[change]
    precision = jax.default_matmul_precision("highest" if change == "precision" else None)
    with jax.enable_x64(change == "x64"), precision, pytest.raises(Error) as caught:
        e.run(path, devices=1 if change == "devices" else 2)
    assert caught.value.exit_code == 4
    for word in (str(path), *words):
        assert word in str(caught.value)
    assert {file: file.read_bytes() for file in before} == before


@pytest.mark.parametrize("damage", ["{}", "[]", '{"plugins": []}', "\xff"])
def test_a_damaged_record_of_the_environment_is_exit_4(tmp_path, monkeypatch, damage):
    e = experiment("gru, random")
    with crash_after(monkeypatch, 4):
        e.run(tmp_path, checkpoint_seconds=0)
    (tmp_path / "environment.json").write_text(damage, encoding="latin-1")
    with pytest.raises(Error) as caught:
        e.run(tmp_path)
    assert caught.value.exit_code == 4
    assert "environment.json" in str(caught.value)


def test_a_run_that_another_process_has_finished_meanwhile_is_opened(tmp_path, monkeypatch):
    """The run was unfinished at the first look, and its folder was released before this process locked it."""
    e = experiment("gru, random")
    lock = execute.folder.lock

    @contextlib.contextmanager
    def lock_late(path):
        monkeypatch.undo()
        monkeypatch.setattr(feed, "CHUNK_STEPS", 80)
        e.run(path)
        times.append((path / "params.safetensors").stat().st_mtime_ns)
        with lock(path):
            yield

    times = []
    monkeypatch.setattr(execute.folder, "lock", lock_late)
    run = e.run(tmp_path)
    assert run.finished
    assert [(tmp_path / "params.safetensors").stat().st_mtime_ns] == times
    with pytest.raises(Error, match="another experiment"):
        dataclasses.replace(e, seed=1).run(tmp_path)
