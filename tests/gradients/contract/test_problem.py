"""Problems compare by their parts; a scan that does not fit together is refused in plain words."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import Error, Problem, estimate, first_nonfinite, jacobians, lags, measure, value_and_grad
from seqjax.gradients import Full


def step(params, state, x):
    state = 0.9 * state + params * x
    return state, jnp.sum(jnp.square(state))


def vector_loss(params, state, x):
    state, _ = step(params, state, x)
    return state, jnp.square(state)


XS = np.ones((5, 1, 1), np.float32)


@pytest.mark.parametrize(
    ("xs", "message"), [(None, r"such as length=100"), (np.ones(5), r"for one sequence leave batched=True out")]
)
def test_inputs_without_time_and_rows_are_refused(xs, message):
    with pytest.raises(Error, match=message):
        estimate(step, Full(), batched=True)(np.ones(1), np.ones((1, 1)), xs)


def test_one_sequence_that_does_not_fit_is_named():
    run = estimate(step, Full())
    with pytest.raises(Error, match=r"xs\['target'\] is a single number: what the steps read has an axis T"):
        run(np.ones(1), np.ones(1), {"u": np.ones(5), "target": 0.0})
    with pytest.raises(Error, match=r"weights must be float\[T\] for a single sequence, not of shape \[\]"):
        run(np.ones(1), np.ones(1), np.ones((5, 1)), weights=1.0)
    with pytest.raises(Error, match="a step is a function"):
        estimate(3, Full(), batched=True)


def test_a_state_of_python_integers_is_that_of_floats():
    """It takes the dtype that the step returns."""

    def decay(w, state, x):
        return {"h": w * state["h"] + x}, state["h"] ** 2.0

    xs = np.ones(4)
    run = jax.jit(estimate(decay, Full(), (0, 1)))
    found, want = (run(0.5, {"h": h}, xs).grads for h in (2, np.array(2.0)))
    assert jax.tree.all(jax.tree.map(lambda a, b: bool(a == b), found, want))


FIRST = {
    "value_and_grad": lambda *scan, batched=True: jax.eval_shape(
        lambda: value_and_grad(scan[0], Full(), batched=batched)(*scan[1:])
    ),
    "lags": lambda *scan, batched=True: lags(*scan, 2, batched=batched),
    "jacobians": lambda *scan, batched=True: jacobians(*scan, 2, batched=batched),
    "measure": lambda *scan, batched=True: measure(*scan, [Full()], batched=batched),
    "first_nonfinite": lambda *scan, batched=True: first_nonfinite(*scan, batched=batched),
}
"""All that take a scan of anyone's."""

STEPS = {
    "a loss that is a vector": (
        vector_loss,
        r"a step's loss must be one number, float\[\], but this one is float32\[1\]",
    ),
    "a loss that is a count": (lambda p, s, x: (s, jnp.int32(1)), r"must be one number, float\[\], .* is int32\[\]"),
    "the loss first": (
        lambda p, s, x: step(p, s, x)[::-1],
        r"state goes into the step as float32\[1\] and comes out as float32\[\]; does it return \(loss, state\)\?",
    ),
    "the loss alone": (
        lambda p, s, x: step(p, s, x)[1],
        r"must return \(new state, loss\), but this one returns float32\[\]",
    ),
    "a state that changes its dtype": (
        lambda p, s, x: (s.astype(jnp.bfloat16), jnp.sum(s)),
        r"state goes into the step as float32\[1\] and comes out as bfloat16\[1\]: keep its dtype, such as "
        r"with \.astype\(state\.dtype\)",
    ),
    "a state that changes its structure": (
        lambda p, s, x: ((s, s), jnp.sum(s)),
        r"takes the state float32\[1\] and returns the state \(float32\[1\], float32\[1\]\)",
    ),
}


MATRIX = lambda p, s, x: (p @ s + x, jnp.sum(s))
READ = {
    "rows as one sequence": (
        MATRIX,
        False,
        (2, 3),
        (9, 2, 3),
        "the step raises TypeError.*if they have rows.*batched=True",
    ),
    "one sequence as rows": (MATRIX, True, (3,), (9, 3), "the step raises .*for one sequence leave batched=True out"),
    "rows, and a loss of each": (
        lambda p, s, x: (jnp.sum(p) * s + x, s),
        False,
        (2,),
        (9, 2),
        "must be one number.*if they have rows.*batched=True",
    ),
    "a state without rows": (MATRIX, True, (3,), (9, 2, 3), "xs has 2 rows: state has leaves"),
}
"""Arrays that are read the wrong way: the step, batched, shape of the state, shape of xs, what is said."""


@pytest.mark.parametrize("fault", READ)
@pytest.mark.parametrize("call", FIRST)
def test_rows_where_none_were_expected_and_none_where_they_were_are_named(call, fault):
    wrong, batched, state, xs, message = READ[fault]
    with pytest.raises(Error, match=f"(?s){message}"):
        FIRST[call](wrong, *(np.zeros(shape, np.float32) for shape in ((3, 3), state, xs)), batched=batched)


@pytest.mark.parametrize("fault", STEPS)
@pytest.mark.parametrize("call", FIRST)
def test_a_step_that_returns_something_else_is_refused(call, fault):
    wrong, message = STEPS[fault]
    with pytest.raises(Error, match=message):
        FIRST[call](wrong, np.ones(1, np.float32), np.ones((1, 1), np.float32), XS)


def test_a_dictionary_is_named_by_its_entry():
    def wrong(params, state, x):
        loss, h = jnp.sum(state["h"] * params), state["h"].astype(jnp.float16)
        return loss, state | {"h": h}

    args = np.ones(1, np.float32), {"h": np.ones((1, 1), np.float32), "n": np.zeros(1, np.int32)}, XS
    with pytest.raises(Error, match=r"takes the state \{'h': float32\[1\], 'n': int32\[\]\} and .* \(loss, state\)\?"):
        estimate(wrong, Full(), batched=True)(*args)
    with pytest.raises(Error, match=r"state\['h'\] goes into the step as float32\[1\] and comes out as float16\[1\]"):
        estimate(lambda *args: wrong(*args)[::-1], Full(), batched=True)(*args)


@pytest.mark.parametrize("call", FIRST)
def test_a_state_that_is_no_array_is_named(call):
    state = {"h": np.ones((1, 1)), "kind": "tanh"}
    with pytest.raises(Error, match=r"state\['kind'\] is a str, not an array.*close over the rest"):
        FIRST[call](step, np.ones(1), state, XS)


@pytest.mark.parametrize(
    "call", ["value_and_grad", "jacobians", *(pytest.param(c, marks=pytest.mark.slow) for c in ("lags", "measure"))]
)
def test_parameters_may_hold_what_is_no_array(call):
    """They are constants of the step."""
    cell = eqx.filter_jit(eqx.nn.MLP)(1, 1, 2, 1, key=jax.random.key(0))

    def apply(cell, state, x):
        return cell(state) * x, jnp.sum(state)

    found = FIRST[call](apply, cell, np.ones((1, 1), np.float32), XS)
    if call == "value_and_grad":
        assert found[1].activation is None


def test_a_state_of_weak_type_takes_the_dtype_of_the_step():
    """Such as a state that is made of Python numbers."""
    state = jnp.broadcast_to(2.0, (1,))
    assert state.weak_type
    run = estimate(lambda p, s, x: (s * p, s * p), Full(), batched=True)
    found = jax.eval_shape(lambda: run(jnp.bfloat16(0.5), state, XS))
    assert found.state.dtype == jnp.bfloat16


def test_problems_are_equal_if_their_fields_are():
    assert Problem(step) == Problem(step)
    assert hash(Problem(step)) == hash(Problem(step))
    assert Problem(step) != Problem(vector_loss)
    assert Problem(step) != Problem(step, warmup=3)


def test_a_problem_with_another_step_forgets_what_was_known_of_the_old_one():
    known = Problem(step, run=lambda *_: None, fused=True, structure=lambda params: None, is_value=True, warmup=3)
    assert known.changed(step=vector_loss) == Problem(vector_loss, warmup=3)
    assert Problem(step, warmup=3, x_like=(1,)).in_bfloat16().warmup == 3
    assert known.changed(warmup=0) == known.changed(is_value=False, warmup=0) != known
