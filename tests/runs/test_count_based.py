"""Count-based models, which are not trained: experiment, run and command line."""

import dataclasses
import math
import re
from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import Error, Experiment, Problem, Run, Series, Spec, Text, Tokens, measure, register, sweep
from seqjax.cli import main
from seqjax.models import CountBasedModel
from seqjax.plugin import registry
from seqjax_gradients import Full, Truncated
from seqjax_models import RNN, NGram
from seqjax_samplers import Random

TEXT = "the cat sat on the mat and the dog sat on the log. " * 8
FILE = """
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

import seqjax
from seqjax.models import CountBasedModel


@seqjax.register("model", "letters")
@dataclass(frozen=True)
class Letters(CountBasedModel):
    def count(self, stream, spec):
        return {"counts": {"all": np.bincount(stream.targets, minlength=spec.targets.size)}}

    def init_state(self, params, spec, key=None):
        return ()

    def step(self, params, state, x):
        return state, jnp.log(params["counts"]["all"])
"""


@pytest.fixture(scope="module", autouse=True)
def registered():
    """The models of this module, known while its tests run."""
    before = set(registry._registered)
    register("model", "frequencies")(Frequencies)
    yield
    for key in set(registry._registered) - before:
        if registry._registered[key][0].distribution == registry.LOCAL:
            del registry._registered[key]


@dataclass(frozen=True)
class Frequencies(CountBasedModel):
    """The probability of an id is proportional to its count plus `more`, whatever came before."""

    more: float = 1.0

    def count(self, stream, spec):
        """The number of times that each id is a target."""
        return {"counts": {"all": np.bincount(stream.targets, minlength=spec.targets.size).astype(np.int32)}}

    def init_state(self, params, spec, key=None):
        """The empty state."""
        return ()

    def step(self, params, state, x):
        """The same output always."""
        return state, jnp.log(params["counts"]["all"].astype(float) + self.more)


def experiment(**fields):
    return Experiment(**{"dataset": Text(TEXT), "train": 300, "heldout": 90, "model": Frequencies()} | fields)


def test_it_has_no_training_plugins():
    e = experiment()
    assert (e.sampler, e.gradient, e.optimizer, e.epochs) == (None, None, None, 1)
    assert "[sampler]" not in e.to_toml()
    assert dataclasses.replace(e, seed=3) == experiment(seed=3)
    assert Experiment(dataset=Text(TEXT)).sampler is not None


@pytest.mark.parametrize(
    ("fields", "named"),
    [({"sampler": Random(4, 10)}, "sampler"), ({"gradient": Truncated(steps=3), "epochs": 5}, "gradient, epochs")],
)
def test_giving_it_training_plugins_is_an_error(fields, named):
    with pytest.raises(Error, match=f"Frequencies is count-based, and takes no sampler.*leave out: {named}"):
        experiment(**fields)


def test_a_trained_model_has_the_default_training_plugins():
    e = Experiment(dataset=Text(TEXT), model=RNN(hidden=3), sampler=None, gradient=None, optimizer=None)
    default = Experiment()
    assert (e.sampler, e.gradient, e.optimizer) == (default.sampler, default.gradient, default.optimizer)


def test_a_run_counts_evaluates_and_is_opened_again(tmp_path):
    run = experiment().run(tmp_path / "run")
    ids = run.codec.encode(TEXT[:390])
    counts = np.bincount(ids[1:300], minlength=len(run.codec)) + 1.0
    p = counts / counts.sum()
    row = run.metrics[-1]
    assert row["train_loss"] == pytest.approx(-np.log(p[ids[1:300]]).mean(), rel=1e-6)
    assert row["heldout_perplexity"] == pytest.approx(math.exp(-np.log(p[ids[301:390]]).mean()), rel=1e-6)
    assert (row["epoch"], row["update"], row["tokens"]) == (1, 0, 299)
    opened = Run.open(tmp_path / "run")
    assert opened.experiment == run.experiment
    np.testing.assert_array_equal(opened.params["counts"]["all"], counts - 1)
    assert opened.params["counts"]["all"].dtype == jnp.int32
    assert opened.evaluate("heldout")["loss"] == row["heldout_loss"]
    assert opened.generate("the ", 3) == "the    "  # a space is the likeliest
    assert experiment().run(tmp_path / "run").metrics == run.metrics, "it is finished, and is not counted again"


def test_data_that_cannot_be_counted_leave_no_folder_behind(tmp_path):
    series = Experiment(dataset=Series(np.arange(50.0)), model=NGram())
    with pytest.raises(Error, match="the model ngram predicts the next of the tokens"):
        series.run(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_its_integer_parameters_do_not_set_the_precision_of_the_output():
    params, spec = {"counts": {"all": jnp.array([1, 2, 6], jnp.int32)}}, Spec(Tokens(3))
    problem = Problem.of(Frequencies(), spec, precision="bfloat16")
    _, loss = problem.step(params, (), (jnp.int32(0), jnp.int32(2)))
    assert loss == pytest.approx(-math.log(7 / 12), rel=0.01)


def test_counted_and_trained_models_are_compared(tmp_path):
    runs = sweep(
        experiment(), {"model": {"some": Frequencies(), "more": Frequencies(more=9.0)}, "seed": [0, 1]}, tmp_path
    )
    assert list(runs) == ["some, seed=0", "some, seed=1", "more, seed=0", "more, seed=1"]
    table = runs.compare("heldout_loss", against="some")
    assert len(table.rows) == 2


def test_it_has_no_gradient_to_measure():
    with pytest.raises(Error, match="Frequencies is count-based: it is not trained, and has no gradient"):
        measure(experiment().run(), [Full()])
    with pytest.raises(Error, match="Frequencies is count-based: it is not trained, and has no gradient"):
        experiment().run().scan_arguments(1, 10)


def test_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(FILE)
    (tmp_path / "text.txt").write_text(TEXT)
    flags = ["--load", "mine.py", "--dataset", "text-file", "--dataset.path", "text.txt", "--model", "letters"]
    assert main(["run", *flags, "--dry-run"]) == 0
    assert "letters · counted\nnothing was counted" in capsys.readouterr().out
    assert main(["run", *flags, "--epochs", "3"]) == 2
    assert "Letters is count-based" in capsys.readouterr().err
    assert main(["run", *flags, "--out", "run"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"letters · counted in \d\.\d s\nppl +train \d+\.\d\d · held out \d+\.\d\d\n", out)
    assert not Path("run/history.png").exists(), "nothing was learned epoch by epoch"
    assert "seqjax measure" not in out
    assert main(["evaluate", "run", "--load", "mine.py"]) == 0
    assert main(["measure", "run", "--load", "mine.py"]) == 2
    assert "count-based: it is not trained, and has no gradient" in capsys.readouterr().err
