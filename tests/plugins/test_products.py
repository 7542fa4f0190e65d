"""How parameters enter a step, and the factors of their influence, against derivatives of whole matrices."""

import functools
import re
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqjax as sj
from seqjax.gradients import KFRTRL, OK, Batch, Full, init_memory
from seqjax.testing.compare import assert_close
from seqjax.testing.quick_jit import quick_jit
from seqjax_gradients.influence import _products

pytestmark = pytest.mark.usefixtures("x64")

MASK = np.random.default_rng(1).random((3, 3)) < 0.6
FACTORS = np.random.default_rng(2).normal(size=(3, 3))

STEPS = {
    "x @ W": lambda p, s, x: jnp.tanh(x @ p["W"] + s),
    "W @ x": lambda p, s, x: jnp.tanh(p["W"] @ s + x),
    "x @ W.T": lambda p, s, x: jnp.tanh(s @ p["W"].T + x),
    "W.T @ x": lambda p, s, x: jnp.sin(p["W"].T @ (s * x)),
    "a function of the vector": lambda p, s, x: s * jnp.cos(jnp.exp(-s) @ p["W"]) + x,
    "jit": lambda p, s, x: jax.jit(lambda W: jnp.tanh(W @ s))(p["W"]) + x,
    "a row": lambda p, s, x: jnp.tanh(p["W"][jnp.argmax(x)] + s * x),
    "a column": lambda p, s, x: jnp.tanh(p["W"][:, 1] + s * x),
    "a row of take": lambda p, s, x: jnp.tanh(jnp.take(p["W"], jnp.argmax(x), axis=0) + s * x),
    "and a bias": lambda p, s, x: jnp.tanh(s @ p["W"] + p["b"] * x),
    # The first matrix changes the state through the second product as well.
    "two products": lambda p, s, x: jnp.tanh(jnp.sin(s @ p["U"]) @ p["W"] + x),
    "beside other terms": lambda p, s, x: jnp.tanh(s @ p["W"]) * (1 + jnp.tanh(x)) + 0.5 * s,
    "a mask": lambda p, s, x: jnp.tanh(s @ jnp.where(MASK, p["W"], 0) + x),
    "the other side of a mask": lambda p, s, x: jnp.tanh(s @ jnp.where(MASK, 2.0, p["W"]) + x),
    "a mask that the step makes": lambda p, s, x: jnp.tanh(jnp.tril(p["W"]) @ s + x),
    "constant factors": lambda p, s, x: jnp.tanh((FACTORS * p["W"]) @ s + x),
    "a mask and W.T": lambda p, s, x: jnp.tanh(s @ (0.5 * jnp.where(MASK, p["W"].T, 0)) + x),
    "a row of factors": lambda p, s, x: jnp.tanh((p["W"] * FACTORS)[jnp.argmax(x)] + s * x),
}
OTHERS = {
    "twice": (lambda p, s, x: jnp.tanh(p["W"] @ (p["W"] @ s)) + x, r"is used 2 times \(dot_general, dot_general\)"),
    "tied": (
        lambda p, s, x: jnp.tanh(p["W"] @ s + p["W"][jnp.argmax(x)]),
        r"is used 2 times \(dot_general, dynamic_slice\)",
    ),
    "entry by entry": (lambda p, s, x: jnp.tanh(p["W"] * s).sum(0) + x, "enters the step through mul,"),
    "squared": (lambda p, s, x: jnp.tanh(p["W"] ** 2 @ s) + x, "enters the step through integer_pow,"),
    "a mask of the input": (
        lambda p, s, x: jnp.tanh(jnp.where(x > 0, p["W"], 0) @ s),
        "enters the step through select_n,",
    ),
    "inside of checkpoint": (
        lambda p, s, x: jax.checkpoint(lambda W: jnp.tanh(s @ W))(p["W"]) + x,
        "enters the step through (checkpoint|remat2?),",
    ),
    "inside of cond": (
        lambda p, s, x: jax.lax.cond(x[0] > 0, lambda W: jnp.tanh(s @ W), lambda W: s, p["W"]),
        "enters the step through cond,",
    ),
    "inside of a scan": (
        lambda p, s, x: jax.lax.scan(lambda s, _: (jnp.tanh(p["W"] @ s), None), s, length=2)[0] + x,
        "enters the step through scan,",
    ),
    "with a matrix": (
        lambda p, s, x: jnp.tanh(p["W"] @ jnp.outer(s, x)).sum(1),
        "enters the step through dot_general,",
    ),
    "a part of a row": (
        lambda p, s, x: s * x + jnp.pad(p["W"][jnp.argmax(x), 1:3], (0, 1)),
        "enters the step through (gather|dynamic_slice|slice),",
    ),
    "a part of a gathered row": (
        lambda p, s, x: s * x + jnp.pad(_part_of_row(p["W"], jnp.argmax(x)), (0, 1)),
        "enters the step through gather,",
    ),
}


def _part_of_row(W, i):
    """Two entries of row i, through one gather."""
    numbers = jax.lax.GatherDimensionNumbers(offset_dims=(0,), collapsed_slice_dims=(0,), start_index_map=(0,))
    return jax.lax.gather(W, i[None], numbers, slice_sizes=(1, 2))


U, W, (b, S, X) = np.random.default_rng(0).normal(size=(3, 3, 3))
PARAMS = {"U": U, "W": W, "b": b}


def as_problem(f, init_state=None):
    """Each step's loss is the sum of the squares of the state that enters it."""
    return sj.Problem(lambda p, s, x: (f(p, s, x), jnp.sum(s * s)), init_state)


def factors(f, params, s, x):
    """How the parameters enter a step, and J and the factors of their influence."""
    found = _products.entries(KFRTRL(), as_problem(f).step, params, lambda params: s, s, x)
    trajectory = types.SimpleNamespace(
        params=params, after=lambda params, s, others, x: f(params, s, x), one_by_one=False
    )
    return found, _products.factors(found, trajectory, (s, [], x))


def influence(entry, part, at):
    """∂s/∂θ of one parameter from its factors, [S, ...]; None: it is unused."""
    if entry in ("unused", "whole"):
        return None if entry == "unused" else part
    dense = jnp.moveaxis(jnp.einsum("n,sm->snm", *part), 1, 1 + entry.axis)
    return dense if entry.scale is None else dense * entry.scale(*at)


@pytest.fixture(scope="module")
def derivatives():
    """For each step J and the influences of the parameters: from their factors, and by derivatives of the step."""

    @quick_jit
    def both(params, s, x):
        found = {}
        for name, f in STEPS.items():
            entries, (J, parts) = factors(f, params, s, x)
            parts = map(functools.partial(influence, at=(params, s, [], x)), entries, parts)
            found[name] = (J, dict(zip(params, parts, strict=True))), jax.jacrev(f, (1, 0))(params, s, x)
        return found

    with jax.enable_x64(True):
        return both(PARAMS, S, X)


@pytest.mark.parametrize("name", STEPS)
def test_the_factors_are_those_of_the_derivative(name, derivatives):
    (J, found), (by_s, by_params) = derivatives[name]
    used = {name for name, a in by_params.items() if np.asarray(a).any()}
    assert {name for name, a in found.items() if a is not None} == used
    assert_close((J, [found[each] for each in sorted(used)]), (by_s, [by_params[each] for each in sorted(used)]), name)


def test_an_input_of_zeros_has_no_influence():
    zeros = np.zeros(3)
    a, D = quick_jit(lambda *args: factors(STEPS["x @ W"], *args)[1][1][1])(PARAMS, zeros, zeros)
    assert not np.asarray(a).any()
    assert np.isfinite(D).all()


@pytest.mark.parametrize("strategy", [KFRTRL(), pytest.param(OK(rank=8), marks=pytest.mark.slow)], ids=repr)
def test_the_chosen_row_is_found_among_many(strategy):
    """Numbers of rows above 256 have no place in bfloat16, and those above 2048 none in float16.

    For an id that is not there `jnp.take` reads a constant, which has no derivative.
    """
    ids = {"U": np.array([257, 2999, 0]), "V": np.array([2051, 258, 1]), "W": np.array([2, 9, 1])}
    params = {"U": np.full((3000, 2), 0.5), "V": np.full((2, 3000), 0.5), "W": np.ones((4, 2))}
    runs = [sj.estimate(step_of_rows, each) for each in (strategy, Full())]
    both = quick_jit(lambda *args: [run(*args, key=jax.random.key(0)).grads for run in runs])
    grads, exact = jax.tree.map(np.asarray, both(params, np.zeros(2), ids))
    for name, axis, bound in (("U", 1, 1e-2), ("V", 0, 1e-3), ("W", 1, 1e-12)):
        found, wanted = (np.flatnonzero(np.any(g[name], axis)) for g in (grads, exact))
        assert found.tolist() == wanted.tolist() == sorted(set(ids[name].tolist()) - {9})
        if isinstance(strategy, OK):  # its rank suffices for all steps
            assert_close(grads[name], exact[name], name, bound)


def step_of_rows(p, s, x):
    row, column = p["U"].astype("bfloat16")[x["U"]], p["V"].astype("float16")[:, x["V"]]
    other = jnp.take(p["W"], x["W"], axis=0, mode="fill", fill_value=0.0)
    s = jnp.tanh(0.5 * s + row.astype(s.dtype) - 2 * column.astype(s.dtype) + 0.5 * other)
    return s, jnp.sum(s**2)


def refusal(f, params=PARAMS, initial=lambda params, key=None: np.zeros(3)):
    """The error of kf-rtrl for a step."""
    problem = as_problem(f, initial)

    def estimate(params, xs, weights):
        state = problem.init_rows(params, 1)
        batch = Batch(xs, weights, jnp.array([True]), jnp.zeros(1, jnp.int32))
        memory = init_memory(KFRTRL(), problem, params, state, 1, xs[0, 0])
        return KFRTRL()(problem, params, state, memory, batch, jax.random.key(0))

    with pytest.raises(sj.Error) as raised:
        jax.eval_shape(estimate, params, np.ones((2, 1, 3)), np.ones((2, 1)))
    return str(raised.value)


@pytest.mark.parametrize("name", OTHERS)
def test_other_ways_are_refused_by_their_names(name):
    """The error says what was found, what is allowed, and what takes any step."""
    f, found = OTHERS[name]
    text = refusal(f)
    assert re.search(rf"the parameter W of shape \(3, 3\) {found}", text), text
    assert "v @ W or W @ v" in text
    assert "Use rtrl or uoro" in text


def test_a_matrix_in_the_initial_state_is_refused():
    assert "changes the initial state" in refusal(STEPS["W @ x"], initial=lambda params, key=None: params["W"][0])


def test_three_axes_are_refused():
    f = lambda p, s, x: jnp.tanh(jnp.tensordot(p["W"], s, 1).sum(1)) + x
    assert "the parameter W of shape (3, 3, 3) has 3 axes" in refusal(f, {"W": np.ones((3, 3, 3))})
