"""Count-based models, which are not trained: experiment, run and command line."""

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from support.shell import call
from support.tiny import TEXT, TINY, changed, copy, refused, replace_file

from seqjax import Experiment, Problem, Run, Spec, Text, Tokens, register
from seqjax.array_files.arrays import load_arrays, save_arrays
from seqjax.gradients import Full, Truncated
from seqjax.models import CountBasedModel
from seqjax.plugin import registry
from seqjax.runs.files import folder
from seqjax.testing.quick_jit import quick_jit


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


@pytest.fixture(scope="module", autouse=True)
def registered():
    register("model", "frequencies")(Frequencies)
    yield
    del registry._registered["model", "local/frequencies"]


def experiment(**fields):
    return Experiment(**{"dataset": Text(TEXT), "train": 300, "heldout": 90, "model": Frequencies()} | fields)


@pytest.fixture(scope="module")
def counted(registered, tmp_path_factory):
    return experiment().run(tmp_path_factory.mktemp("counted") / "run")


def test_it_has_no_training_plugins():
    e = experiment()
    assert (e.sampler, e.gradient, e.optimizer, e.epochs) == (None, None, None, 1)
    assert "[sampler]" not in e.to_toml()
    assert changed(e, seed=3) == experiment(seed=3)
    default = Experiment()
    trained = changed(TINY, sampler=None, gradient=None, optimizer=None)
    for kind in ("sampler", "gradient", "optimizer"):
        assert getattr(trained, kind) == getattr(default, kind) is not None
    with refused("Frequencies is count-based, and takes no sampler.*leave out: gradient, epochs", 2):
        experiment(gradient=Truncated(steps=3), epochs=5)


def test_a_run_counts_evaluates_and_is_opened_again(counted):
    ids = counted.codec.encode(TEXT[:390])
    counts = np.bincount(ids[1:300], minlength=len(counted.codec)) + 1.0
    p = counts / counts.sum()
    row = counted.metrics[-1]
    assert row["train_loss"] == pytest.approx(-np.log(p[ids[1:300]]).mean(), rel=1e-6)
    assert row["heldout_perplexity"] == pytest.approx(math.exp(-np.log(p[ids[301:390]]).mean()), rel=1e-6)
    assert (row["epoch"], row["update"], row["tokens"]) == (1, 0, 299)
    assert row["tokens_per_second"] == pytest.approx(299 / row["seconds"])
    opened = Run.open(counted.path)
    assert opened.experiment == counted.experiment
    np.testing.assert_array_equal(opened.params["counts"]["all"], counts - 1)
    assert opened.params["counts"]["all"].dtype == jnp.int32
    assert opened.evaluate("heldout")["loss"] == row["heldout_loss"]
    assert opened.generate("the ", 3) == "the    "  # a space is the likeliest
    assert experiment().run(counted.path).metrics == counted.metrics, "it is finished, and is not counted again"
    assert {file.name for file in counted.path.iterdir()}.isdisjoint({folder.CHECKPOINTS, folder.HISTORY})


def test_counts_of_other_names_or_types_are_exit_4(counted, tmp_path):
    """Their form depends on the data, so that the model itself is asked."""
    path = copy(counted.path, tmp_path / "run")
    arrays, header = load_arrays((path / folder.PARAMS).read_bytes())
    for other in ({"letters": arrays["counts/all"]}, {"counts/all": arrays["counts/all"][:3]}):
        replace_file(path, folder.PARAMS, save_arrays(other, json.loads(header)))
        with refused(f"{path} has no parameters of this model: "):
            Run.open(path)


def test_its_integer_parameters_do_not_set_the_precision_of_the_output():
    params, spec = {"counts": {"all": np.array([1, 2, 6], np.int32)}}, Spec(Tokens(3))
    problem = Problem.of(Frequencies(), spec, precision="bfloat16")
    _, loss = quick_jit(problem.step)(params, (), (np.int32(0), np.int32(2)))
    assert loss == pytest.approx(-math.log(7 / 12), rel=0.01)


def test_it_has_no_gradient_to_measure(counted):
    for use in (lambda: counted.measure([Full()]), lambda: counted.scan_arguments(1, 10)):
        with refused("Frequencies is count-based: it is not trained, and has no gradient", 2):
            use()


def test_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text(TEXT)
    flags = ["--dataset", "text-file", "--dataset.path", "text.txt", "--model", "ngram"]
    assert " · counted\nnothing was counted" in call("run", *flags, "--dry-run").stdout
    out = call("run", *flags, "--out", "run").stdout
    numbers = r"epoch 1 · loss \d\.\d+ · train ppl \d+\.\d\d · held-out ppl \d+\.\d\d · tokens/s [\d,]+\n"
    assert re.search(rf" · counted in \d\.\d s\nresult   {numbers}", out), out
