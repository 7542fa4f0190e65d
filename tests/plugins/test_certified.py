"""The relative bias that is estimated during training, against the gradients of the same windows."""

import jax
import numpy as np
import pytest

import seqjax
from seqjax import Experiment
from seqjax.gradients import ravel_float
from seqjax.testing.compare import assert_close
from seqjax.testing.proofs.calls import KEY, call, initial_memory
from seqjax.testing.proofs.cases import case
from seqjax_gradients import RTRL, Adaptive, Certified, Dodge, Full, LearnedHazard, Only, Truncated
from seqjax_models import RNN
from seqjax_samplers import Sequential


def flat(tree):
    return np.asarray(ravel_float(tree)[0], np.float64)


@pytest.mark.parametrize("every", [1, 2])
def test_the_bias_is_that_of_the_measured_windows(every, x64):
    """The equations of the docstring, from the gradients of three windows, of which one in `every` is measured."""
    strategy, c = Certified(Truncated(steps=2), every=every, forget=0.4), case("learned")
    state, memory = c.state, initial_memory(strategy, c.problem, c.params, c.state)
    assert np.isnan(strategy.metrics(memory)["gradient_bias"])
    errors, gradients = [], []
    for w, batch in enumerate(c.windows):
        args = c.problem, c.params, state
        key = jax.random.key(KEY)
        full, truncated = (
            call(each, *args, initial_memory(each, *args), batch, key).grads for each in (Full(), Truncated(steps=2))
        )
        found = call(strategy, *args, memory, batch, key)
        assert_close(found.grads, truncated, f"window {w}: the strategy itself trains")
        if w % every == 0:
            errors.append(flat(truncated) - flat(full))
            gradients.append(flat(full))
        state, memory = found.state, found.memory
        weights = 0.6 ** np.arange(len(errors))[::-1]
        squares = [weights @ np.sum(np.square(vectors), 1) for vectors in (errors, gradients)]
        want = np.sqrt(squares[0] / squares[1])
        assert float(strategy.metrics(memory)["gradient_bias"]) == pytest.approx(want, rel=1e-9)


@pytest.mark.parametrize(
    ("gradient", "column"),
    [
        (Certified(Truncated(steps=3), every=2), "gradient_bias"),
        (Adaptive(max_steps=8), "gradient_steps"),
        (LearnedHazard(max_lag=8), "gradient_hazard"),
    ],
    ids=repr,
)
def test_it_is_a_column_of_the_metrics(gradient, column, tmp_path):
    text = seqjax.Text("the time traveller for so it will be convenient to speak of him " * 20)
    run = Experiment(dataset=text, sampler=Sequential(4, 16), model=RNN(hidden=4), gradient=gradient, epochs=2).run(
        tmp_path / "run"
    )
    values = np.asarray(seqjax.Run.open(tmp_path / "run").metric(column))
    np.testing.assert_array_equal(values, run.metric(column))
    assert values.shape == (2,)
    assert (values >= 0).all()


@pytest.mark.parametrize("strategy", [Only(Adaptive(max_steps=8)), Certified(Adaptive(max_steps=8))], ids=repr)
def test_the_metrics_of_the_inner_strategy_are_kept(strategy):
    c = case("learned")
    memory = initial_memory(strategy, c.problem, c.params, c.state)
    assert set(strategy.metrics(memory)) == set(strategy.metric_names)
    assert strategy.metrics(memory)["gradient_steps"] == 8


@pytest.mark.parametrize("wrapping", [Certified, Dodge])
def test_the_inner_strategy_is_of_the_window(wrapping):
    with pytest.raises(seqjax.Error, match="must be of the window"):
        wrapping(strategy=RTRL())
