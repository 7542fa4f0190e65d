"""An interrupted and resumed run equals an uninterrupted one, bit for bit, in every way of training.

tests/runs/test_kills.py shows it quickly for a small run, and tests/faults for every call that changes a folder.
"""

import jax
import pytest
from support.crash import EXPERIMENTS, count_chunks, crash_after, experiment, results

from seqjax.models import MLP
from seqjax.runs.files.manifest import read_manifest
from seqjax.samplers import Sequential
from seqjax.training import feed

pytestmark = [pytest.mark.usefixtures("optimized"), pytest.mark.slow]


@pytest.fixture(autouse=True)
def several_chunks(monkeypatch):
    """Chunks of four batches; the last one of an epoch is shorter."""
    monkeypatch.setattr(feed, "CHUNK_STEPS", 80)


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
        assert len(read_manifest(path).checkpoints) == 1


def test_the_size_of_a_chunk_changes_nothing(monkeypatch):
    """A warm-up of five steps extends over three windows, but a chunk of one batch has only one of them."""
    e = experiment("mlp, windows", model=MLP(lags=6, hidden=4), sampler=Sequential(4, 2), evaluate_every=1)
    rows = []
    for batches in (1, 5, 100):
        monkeypatch.setattr(feed, "CHUNK_STEPS", batches * 4 * 2)
        rows.append(e.run().metrics)
    for row, other, last in zip(*rows, strict=True):
        assert row["tokens"] == other["tokens"] == last["tokens"]
        for name in ("train_loss", "heldout_loss", "grad_norm"):
            assert row[name] == pytest.approx(last[name], rel=1e-5)
            assert other[name] == pytest.approx(last[name], rel=1e-5)


def test_a_run_continues_without_compiling_again(tmp_path, monkeypatch, caplog):
    """A restored state has the types and the layout of a trained one, so that the program is the same."""
    e = experiment("gru, random", seed=1)
    with crash_after(monkeypatch, 4):
        e.run(tmp_path / "run", checkpoint_seconds=0)
    caplog.clear()
    with jax.log_compiles(), caplog.at_level("WARNING"):
        e.run(tmp_path / "run")
    compiled = [message for message in caplog.messages if message.startswith("Compiling")]
    assert not [message for message in compiled if "epoch" in message]
