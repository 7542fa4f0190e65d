"""The relative bias that is estimated during training, against the gradients of the same windows."""

import jax
import numpy as np
import pytest

import seqjax
from seqjax import Experiment
from seqjax.gradients import ravel_float
from seqjax.testing.calls import KEY, call, initial_memory
from seqjax.testing.cases import case
from seqjax.testing.compare import assert_close
from seqjax_gradients import Adaptive, Certified, Full, LearnedHazard, Truncated
from seqjax_models import RNN
from seqjax_samplers import Sequential


def flat(tree):
    return np.asarray(ravel_float(tree)[0], np.float64)


@pytest.mark.parametrize("every", [1, 2])
def test_the_bias_is_that_of_the_measured_windows(every, x64):
    """Running means over three windows, of which one in `every` is measured."""
    strategy, c = Certified(Truncated(steps=2), every=every, forget=0.4), case("learned")
    state, memory = c.state, initial_memory(strategy, c.problem, c.params, c.state)
    error = gradient = 0.0
    for w, batch in enumerate(c.windows):
        args = c.problem, c.params, state
        key = jax.random.key(KEY)
        full, truncated = (
            call(each, *args, initial_memory(each, *args), batch, key).grads for each in (Full(), Truncated(steps=2))
        )
        found = call(strategy, *args, memory, batch, key)
        assert_close(found.grads, truncated, f"window {w}: the strategy itself trains")
        if w % every == 0:
            error = 0.6 * error + 0.4 * (flat(truncated) - flat(full))
            gradient = 0.6 * gradient + 0.4 * flat(full)
        state, memory = found.state, found.memory
        bias = float(strategy.metrics(memory)["gradient_bias"])
        assert bias == pytest.approx(np.linalg.norm(error) / np.linalg.norm(gradient), rel=1e-10)


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
