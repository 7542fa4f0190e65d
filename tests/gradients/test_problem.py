"""What a problem and its step have to be, and what is said where they are not."""

import jax.numpy as jnp
import pytest

from seqjax import Error, Problem, create, value_and_grad
from seqjax_gradients import Full


def step(params, state, x):
    state = 0.9 * state + params * x
    return state, jnp.sum(jnp.square(state))


def vector_loss(params, state, x):
    state, _ = step(params, state, x)
    return state, jnp.square(state)


XS = jnp.ones((5, 1, 1))


def test_a_loss_that_is_no_number_is_refused():
    """Else it would broadcast against the weights of a single row, and count T times."""
    with pytest.raises(Error, match="must be one number"):
        value_and_grad(vector_loss, Full())(jnp.ones(1), jnp.ones((1, 1)), XS)
    assert value_and_grad(step, Full())(jnp.ones(1), jnp.ones((1, 1)), XS).loss > 0


@pytest.mark.parametrize("xs", [None, jnp.ones(5)])
def test_inputs_without_time_and_rows_are_refused(xs):
    with pytest.raises(Error, match="add an axis of 1"):
        value_and_grad(step, Full())(jnp.ones(1), jnp.ones((1, 1)), xs)


def test_problems_are_equal_if_their_parts_and_their_class_are():
    class Late(Problem):
        warmup = 3

    assert Problem(step) == Problem(step)
    assert hash(Problem(step)) == hash(Problem(step))
    assert Problem(step) != Problem(vector_loss)
    assert Late(step) == Late(step)
    assert Late(step) != Problem(step)
    assert Problem(step) != Late(step)


def test_an_infinite_hyper_parameter_is_refused():
    with pytest.raises(Error, match="learning_rate = inf"):
        create("optimizer", "sgd", learning_rate=float("inf"))
