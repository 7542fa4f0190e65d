"""Every check of seqjax, for each plugin of this package."""

import sqlite3

import pytest
from seqjax_extras.background import Background
from seqjax_extras.byte import Byte
from seqjax_extras.fixed_share import FixedShare
from seqjax_extras.from_the_start import FromTheStart
from seqjax_extras.lion import Lion
from seqjax_extras.lorenz import Lorenz
from seqjax_extras.mgu import MGU
from seqjax_extras.sqlite import SQLite

import seqjax

PLUGINS = [
    Lorenz(), Byte(), FromTheStart(), MGU(hidden=8), FixedShare(), FixedShare(share=0.5), Lion(), SQLite(),
    Background(),
]  # fmt: skip


@pytest.fixture(autouse=True)
def in_a_temporary_folder(tmp_path, monkeypatch):
    """Trackers and launchers write into the current folder."""
    monkeypatch.chdir(tmp_path)


@seqjax.testing.parametrize_checks(PLUGINS)
def test_plugin(check):
    check()


def test_an_experiment_of_them_runs():
    experiment = seqjax.Experiment(
        dataset=Lorenz(num_steps=500), sampler=FromTheStart(1, 20), model=MGU(hidden=8), gradient=FixedShare(),
        optimizer=Lion(learning_rate=0.01), epochs=200,
    )  # fmt: skip
    losses = experiment.run().metric("train_loss")
    assert losses[-1] < losses[0] / 4


def test_the_database_has_the_metrics_of_a_run():
    dataset, sampler = Lorenz(num_steps=500), FromTheStart(1, 20)
    experiment = seqjax.Experiment(dataset=dataset, sampler=sampler, model=MGU(hidden=8), epochs=2)
    run = experiment.run("a-run", tracker=SQLite())
    connection = sqlite3.connect("runs.sqlite")
    found = connection.execute("SELECT value FROM metrics WHERE name = 'train_loss' ORDER BY epoch").fetchall()
    connection.close()
    assert [value for (value,) in found] == list(run.metric("train_loss"))
