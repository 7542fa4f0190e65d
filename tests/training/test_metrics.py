"""Metrics against loops over the outputs of a model, and their columns in a run."""

import functools
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import seqjax
from seqjax import Error, Experiment, Pairs, Series, Text, Tokens
from seqjax.runs.settings import Scalars
from seqjax.training import Metric, metrics
from seqjax_models import GRU, MLP
from seqjax_samplers import Random
from seqjax_tokenizers import Standardize

RNG = np.random.default_rng(0)
BOUNDS = [0, 3, 3, 400, 700, 701]
"""Documents that are empty, of one step, and longer than the windows that are computed at a time."""
MASK = RNG.random(701) < 0.5
X, Y, IDS = RNG.normal(size=(701, 2)), RNG.normal(5, 3, (701, 3)), RNG.integers(0, 4, 701)


def peak(output, target):
    return jnp.max(jnp.abs(output - target))


def by_hand(model, params, data, name, score, last):
    """The mean of a score, step by step; `last`: of the last scored step of each document alone."""
    found = []
    step = jax.jit(model.step)
    for first, end in itertools.pairwise(data.bounds):
        state, scores = model.init_state(params, data.spec), []
        for t in range(first, end):
            x = jnp.asarray(data.inputs[t])
            state, output = step(params, state, x)
            if t - first >= model.warmup and (data.mask is None or data.mask[t]):
                scores.append(float(score(np.asarray(output), data.targets[t])))
        found += scores[-1:] if last else scores
    return np.mean(found) if found else np.nan


@pytest.mark.parametrize("model", [GRU(hidden=3), MLP(lags=4, hidden=3)], ids=["gru", "mlp with a warm-up"])
@pytest.mark.parametrize("mask", [None, MASK], ids=["all", "some"])
@pytest.mark.parametrize(
    ("targets", "name", "score"),
    [
        (IDS, "accuracy", lambda output, target: np.argmax(output) == target),
        (Y, "mae", lambda output, target: np.abs(output - target).mean()),
    ],
    ids=["accuracy", "mae"],
)
def test_a_metric_is_a_mean_over_scored_steps(x64, model, mask, targets, name, score):
    data = Pairs(X, targets, mask, bounds=BOUNDS)
    problem = model.problem(data.spec)
    params = jax.tree.map(lambda a: a + 0.3 * RNG.normal(size=a.shape), problem.init(jax.random.key(0)))
    stream = seqjax.data.Stream(data.inputs, data.targets, data.bounds, data.mask)
    row = seqjax.evaluate(problem, params, stream, metrics=(name, f"last_{name}"))
    assert list(row)[-2:] == [name, f"last_{name}"]
    for key, last in ((name, False), (f"last_{name}", True)):
        assert row[key] == pytest.approx(by_hand(model, params, data, key, score, last), rel=1e-12)


def test_metrics_of_a_run_are_in_the_units_of_the_data():
    """They are what `predict` gives for the same part, and columns of both parts."""
    experiment = Experiment(
        dataset=Pairs(X, 1000 + 50 * X[:, 0]), tokenizer=Standardize(), model=GRU(hidden=4), epochs=2,
        sampler=Random(batch_size=4, num_steps=10), metrics=("mae", peak, Metric("end", peak, last=True)),
    )  # fmt: skip
    run = experiment.run()
    columns = [f"{part}_{name}" for name in ("mae", "peak", "end") for part in ("train", "heldout")]
    assert list(run.metrics[0])[-6:] == columns
    for part in ("train", "heldout"):
        data = run.prepared.parts[part]
        error = np.abs(run.predict(data) - data.targets)
        last = run.metrics[-1]
        assert last[f"{part}_mae"] == pytest.approx(error.mean(), rel=1e-4)
        assert last[f"{part}_peak"] == pytest.approx(error.max(1).mean(), rel=1e-4)
        assert last[f"{part}_end"] == pytest.approx(error[-1].max(), rel=1e-4)
    assert run.evaluate()["mae"] == run.metrics[-1]["heldout_mae"]


@pytest.mark.parametrize("tokenizer", [None, Standardize()])
def test_metrics_of_a_series(tokenizer):
    series = Series(np.cumsum(X, 0) * 100)
    sampler = Random(batch_size=4, num_steps=10)
    fields = {"tokenizer": tokenizer, "sampler": sampler, "model": GRU(hidden=3), "epochs": 1, "metrics": ("mae",)}
    run = Experiment(dataset=series, **fields).run()
    part = run.prepared.parts["heldout"]
    error = np.abs(run.predict(part.values) - part.values)[1:]
    assert run.metrics[-1]["heldout_mae"] == pytest.approx(error.mean(), rel=1e-4)


def test_metrics_are_missing_where_nothing_is_evaluated():
    run = Experiment(dataset=Text("ab " * 500), model=GRU(hidden=3), epochs=3, evaluate_every=2, metrics=("accuracy",))
    trained = run.run()
    for name in ("train_accuracy", "heldout_accuracy", "heldout_loss"):
        assert np.isnan(trained.metric(name)).tolist() == [True, False, False]
    empty = Experiment(dataset=Text("ab " * 500), heldout=0, model=GRU(hidden=3), epochs=1, metrics=("accuracy",)).run()
    assert np.isnan(empty.metrics[-1]["heldout_accuracy"])
    assert 0 <= empty.metrics[-1]["train_accuracy"] <= 1


def test_the_names_are_those_of_the_command_line():
    assert Scalars(metrics=metrics.NAMES).metrics == metrics.NAMES
    with pytest.raises(Error, match="metrics"):
        Scalars(metrics=("precision",))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("accurate",), r"unknown metric 'accurate'; did you mean 'accuracy'"),
        (("mae", "mae"), r"'mae' is given twice"),
        ((peak, Metric("peak", peak)), r"'peak' is given twice"),
        ((Metric("loss", peak),), "'loss' is the name of a column"),
        ((functools.partial(peak),), "has no name; write a function with def"),
    ],
)
def test_wrong_metrics_are_refused_when_the_experiment_is_made(given, message):
    with pytest.raises(Error, match=message):
        Experiment(metrics=given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("accuracy", r"the metric 'accuracy' is for targets that are Tokens, and these are Values\(dim=1\)"),
        (lambda output: output, r"'<lambda>' raises TypeError.*\nit is called as <lambda>\(output, target\)"),
        (Metric("sum", lambda output, target: output), r"'sum' returned float32\[1\], and must return one number"),
    ],
)
def test_wrong_metrics_are_refused_before_training(given, message):
    with pytest.raises(Error, match=message):
        Experiment(dataset=Pairs(X, X[:, 0]), metrics=(given,)).run()


def test_a_problem_without_a_model_has_no_outputs():
    problem = seqjax.Problem(lambda params, state, x: (state, params * x[0]), lambda params, key=None: jnp.zeros(()))
    stream = seqjax.data.Stream(np.ones(3), np.ones(3), np.array([0, 3]))
    with pytest.raises(Error, match="metrics are computed from the outputs of a model"):
        seqjax.evaluate(problem, jnp.ones(()), stream, metrics=("mae",))


def test_a_loss_of_ones_own_is_trained_and_has_no_perplexity():
    """With the loss as a constant times the own one, the losses are those of the default one times the constant."""
    fields = {"dataset": Text("abc " * 500), "model": GRU(hidden=3), "epochs": 2, "metrics": ("accuracy",)}
    own = Experiment(**fields, loss=lambda output, target: 2 * Tokens(5).loss(output, target))
    half = Experiment(**fields, optimizer=seqjax.create("optimizer", "sgd", learning_rate=1.0))
    rows = [experiment.run().metrics for experiment in (own, half)]
    assert "heldout_perplexity" not in rows[0][0]
    assert "heldout_perplexity" in rows[1][0]
    assert rows[0][0]["train_loss"] > 1.9 * rows[1][0]["train_loss"]
    assert rows[0][1]["train_loss"] < rows[0][0]["train_loss"]


MODULE = seqjax.from_flax(nnx.GRUCell(2, 2, rngs=nnx.Rngs(0)))[0]
ADAM = optax.chain(optax.clip(1.0), optax.adam(0.01))


@pytest.mark.parametrize(
    ("fields", "advised"),
    [
        ({"loss": peak}, []),
        ({"metrics": (peak,)}, []),
        ({"optimizer": ADAM}, ["optimizer"]),
        ({"model": MODULE}, ["model"]),
        ({"model": MODULE, "optimizer": ADAM}, ["optimizer", "model"]),
        ({"loss": peak, "optimizer": ADAM}, []),
    ],
    ids=lambda value: " ".join(value),
)
def test_what_no_config_can_hold_runs_in_memory_or_as_a_plugin_of_its_kind(tmp_path, fields, advised):
    experiment = Experiment(dataset=Pairs(X, X[:, 0]), **fields)
    with pytest.raises(
        Error, match=r"a config cannot hold .*\nRun this experiment in memory, without a folder"
    ) as caught:
        experiment.run(tmp_path / "run", params={} if "model" in fields else None)
    text = str(caught.value)
    assert all(name in text for name in fields)
    assert re.findall("seqjax new (\\w+) ", text) == advised
    assert not (tmp_path / "run").exists()
