"""Metrics against loops over the outputs of a model, and their columns in a run."""

import functools
import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from support.documents import is_scored, scan_documents
from support.drawn import drawn_params

import seqjax
from seqjax import Error, Experiment, Pairs, Run, Series, Spec, Text, Tokens, Values
from seqjax.models import MLP, RNN
from seqjax.runs.settings import Scalars
from seqjax.tokenizers import Standardize
from seqjax.training import Metric, metrics

RNG = np.random.default_rng(0)
BOUNDS = [0, 3, 3, 300, 400, 401]
"""Documents that are empty, of one step, and longer than the windows that are computed at a time."""
MASK = RNG.random(401) < 0.5
X, Y, IDS = RNG.normal(size=(401, 2)), RNG.normal(5, 3, (401, 3)), RNG.integers(0, 4, 401)

SPEC = Spec(Values(2))


def peak(output, target):
    return jnp.max(jnp.abs(output - target))


@pytest.mark.parametrize(
    ("model", "targets", "name", "score"),
    [
        (RNN(hidden=3), IDS, "accuracy", lambda output, target: np.argmax(output) == target),
        (MLP(lags=4, hidden=3), Y, "mae", lambda output, target: np.abs(output - target).mean()),
    ],
    ids=["accuracy", "mae with a warm-up"],
)
def test_a_metric_is_a_mean_over_scored_steps(x64, model, targets, name, score):
    """Equals one scan over the documents; the metric `last_` counts the last scored step of each."""
    data = Pairs(X, targets, MASK, bounds=BOUNDS)
    problem = model.problem(data.spec)
    params = drawn_params(model, data.spec)
    step = lambda state, x: model.step(params, state, x)
    outputs = scan_documents(step, model.init_state(params, data.spec), data.inputs, data.bounds)
    counts = is_scored(data, model.warmup)
    scores = np.array([score(output, target) for output, target in zip(outputs, targets, strict=True)])
    documents = [scores[a:b][counts[a:b]] for a, b in itertools.pairwise(BOUNDS)]
    stream = seqjax.data.Stream(data.inputs, data.targets, data.bounds, data.mask)
    row = seqjax.evaluate(problem, params, stream, metrics=(name, f"last_{name}"))
    assert list(row)[-2:] == [name, f"last_{name}"]
    assert row[name] == pytest.approx(np.concatenate(documents).mean(), rel=1e-12)
    assert row[f"last_{name}"] == pytest.approx(np.mean([found[-1] for found in documents if len(found)]), rel=1e-12)


def test_the_last_step_of_each_document_counts_where_documents_are_read_at_the_same_time():
    ids = np.arange(24).reshape(6, 4) % 5
    targets = np.zeros_like(ids)
    targets[:, -1] = 1  # only a target of 1 is counted
    stream = seqjax.data.Stream(ids.ravel(), targets.ravel(), np.arange(0, 25, 4), None)
    problem = RNN(hidden=3).problem(Spec(Tokens(5)))
    is_one = Metric("is_one", lambda output, target: (target == 1).astype(float), last=True)
    row = seqjax.evaluate(problem, drawn_params(problem.model, problem.spec), stream, metrics=(is_one,))
    assert row["is_one"] == 1


def untrained(data, *metrics):
    """A run with drawn parameters, whose data are not split."""
    model, codec = RNN(hidden=4), Standardize().fit(data)
    spec = SPEC if isinstance(data, Series) else data.spec
    experiment = Experiment(dataset=data, tokenizer=Standardize(), model=model, metrics=metrics)
    return Run(experiment, codec, spec, drawn_params(model, spec))


def test_metrics_of_a_run_are_in_the_units_of_the_data():
    """They are what `predict` gives for the same data."""
    data = Pairs(X, 1000 + 50 * X[:, 0])
    run = untrained(data, "mae", peak, Metric("end", peak, last=True))
    row, error = run.evaluate(data), np.abs(run.predict(data) - data.targets)
    assert list(row)[-3:] == ["mae", "peak", "end"]
    assert row["mae"] == pytest.approx(error.mean(), rel=1e-4)
    assert row["peak"] == pytest.approx(error.max(1).mean(), rel=1e-4)
    assert row["end"] == pytest.approx(error[-1].max(), rel=1e-4)


def test_metrics_of_a_series():
    series = Series(np.cumsum(X, 0) * 100)
    run = untrained(series, "mae")
    error = np.abs(run.predict(series.values) - series.values)[1:]
    assert run.evaluate(series)["mae"] == pytest.approx(error.mean(), rel=1e-4)


def test_a_loss_of_ones_own_is_trained_and_has_no_perplexity():
    """The losses are twice those of the default loss. Metrics are missing where nothing is evaluated."""
    fields = {"dataset": Text("ab " * 500), "model": RNN(hidden=4), "epochs": 2, "metrics": ("accuracy",)}
    loss = lambda output, target: 2 * Tokens(4).loss(output, target)
    run = Experiment(**fields, loss=loss, evaluate_every=2).run()
    default = Run(Experiment(**fields), run.codec, run.spec, run.params)
    assert run.metric("train_loss")[-1] < run.metric("train_loss")[0]
    assert list(run.metrics[0])[-2:] == ["train_accuracy", "heldout_accuracy"]
    for name in ("train_accuracy", "heldout_accuracy", "heldout_loss"):
        assert np.isnan(run.metric(name)).tolist() == [True, False]
    own, usual = run.evaluate("heldout"), default.evaluate("heldout")
    assert own["loss"] == pytest.approx(2 * usual["loss"], rel=1e-5)
    assert (own.pop("accuracy"), "perplexity" in own) == (usual["accuracy"], False)
    assert usual["perplexity"] == pytest.approx(np.exp(usual["loss"]))
    assert np.isnan(default.evaluate(Text(""))["accuracy"])


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
        ((Metric("loss", peak),), "'loss' is a name that seqjax uses itself"),
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


def test_one_name_is_no_list():
    with pytest.raises(Error, match=r"expected a list, such as \['accuracy'\]$"):
        metrics.resolve("accuracy", seqjax.Spec(seqjax.Tokens(3)))


def test_which_value_of_a_column_is_the_best():
    assert metrics.BEST.keys() == metrics.NAMED.keys()
    best = {"heldout_loss": "lowest", "tokens_per_second": "highest", "train_last_accuracy": "highest", "own": None}
    assert list(map(metrics.best_of, best)) == list(best.values())
