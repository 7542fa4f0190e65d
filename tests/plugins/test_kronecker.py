"""kf-rtrl and ok: how parameters enter steps, one draw from the equations, all draws, and the order of the variances."""

import functools
import itertools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.influence import B, H, T, V, of_model, states_of
from support.parts import ravel

import seqjax as sj
from seqjax.gradients import init_memory, leaf_names, ravel_float
from seqjax.testing.compare import Failed, assert_close
from seqjax.testing.proofs.claims import check_unbiased_history
from seqjax.testing.quick_jit import quick_jit
from seqjax_gradients import OK, RTRL, UORO, KFRTRL, _products, ok
from seqjax_models import GRU, LSTM, RNN

pytestmark = pytest.mark.usefixtures("x64")

TOKENS, VALUES = sj.Spec(sj.Tokens(V)), sj.Spec(sj.Values(2))

STEPS = {
    "x @ W": lambda p, s, x: jnp.tanh(x @ p["W"][:3] if False else x @ p["W"] + s),
    "W @ x": lambda p, s, x: jnp.tanh(p["W"] @ s + x),
    "x @ W.T": lambda p, s, x: jnp.tanh(s @ p["W"].T + x),
    "W.T @ x": lambda p, s, x: jnp.sin(p["W"].T @ (s * x)),
    "a function of the vector": lambda p, s, x: s * jnp.cos(jnp.exp(-s) @ p["W"]) + x,
    "jit": lambda p, s, x: jax.jit(lambda W: jnp.tanh(W @ s))(p["W"]) + x,
    "checkpoint": lambda p, s, x: jax.checkpoint(lambda W: jnp.tanh(s @ W))(p["W"]) + x,
    "a row": lambda p, s, x: jnp.tanh(p["W"][jnp.argmax(x)] + s * x),
    "a column": lambda p, s, x: jnp.tanh(p["W"][:, 1] + s * x),
    "a row of take": lambda p, s, x: jnp.tanh(jnp.take(p["W"], jnp.argmax(x), axis=0) + s * x),
    "and a bias": lambda p, s, x: jnp.tanh(s @ p["W"] + p["b"] * x),
    "in two places": lambda p, s, x: jnp.tanh(s @ p["W"]) * (1 + jnp.tanh(x)) + 0.5 * s,
}
OTHERS = {
    "twice": lambda p, s, x: jnp.tanh(p["W"] @ (p["W"] @ s)) + x,
    "entry by entry": lambda p, s, x: jnp.tanh(p["W"] * s).sum(0) + x,
    "squared": lambda p, s, x: jnp.tanh(p["W"] ** 2 @ s) + x,
    "with a matrix": lambda p, s, x: jnp.tanh(p["W"] @ jnp.outer(s, x)).sum(1),
}


def as_problem(f, init_state=None):
    """Each step's loss is the sum of the squares of the state that enters it."""
    return sj.Problem(lambda p, s, x: (f(p, s, x), jnp.sum(s * s)), init_state)


def random_params(rng):
    return {"W": jnp.asarray(rng.normal(size=(3, 3))), "b": jnp.asarray(rng.normal(size=3))}


@pytest.mark.parametrize("name", STEPS)
def test_the_factors_are_those_of_the_derivative(name):
    rng, f = np.random.default_rng(0), STEPS[name]
    params, s, x = random_params(rng), jnp.asarray(rng.normal(size=3)), jnp.asarray(rng.normal(size=3))
    found = _products.entries(KFRTRL(), as_problem(f), params, lambda params: s, s, x)
    leaves, treedef = jax.tree.flatten(params)

    @quick_jit
    def both(leaves, s):
        after = lambda leaves, s: f(treedef.unflatten(leaves), s, x)
        return _products.factors(found, after, leaves, s, False), jax.jacrev(after, (0, 1))(leaves, s)

    got, (of_leaves, J) = both(leaves, s)
    (a, D), b = got.leaves
    W = np.moveaxis(np.einsum("n,sm->snm", a, D), 1, 1 + found[0].axis)
    assert_close((got.J, W), (J, of_leaves[0]), name, 1e-12)
    assert found[1] == ("whole" if name == "and a bias" else "unused")
    if name == "and a bias":
        assert_close(b, of_leaves[1], name)


def test_an_input_of_zeros_has_no_influence():
    f, zeros = STEPS["x @ W"], jnp.zeros(3)
    params = random_params(np.random.default_rng(0))
    found = _products.entries(KFRTRL(), as_problem(f), params, lambda params: zeros, zeros, zeros)
    leaves, treedef = jax.tree.flatten(params)
    after = lambda leaves, s: f(treedef.unflatten(leaves), s, zeros)
    a, D = _products.factors(found, after, leaves, zeros, False).leaves[0]
    assert not np.any(a)
    assert np.isfinite(D).all()


@pytest.mark.parametrize("name", [*OTHERS, "the initial state", "three axes"])
def test_other_ways_are_refused(name):
    params = random_params(np.random.default_rng(0))
    f, initial = OTHERS.get(name, STEPS["W @ x"]), lambda params, key=None: jnp.zeros(3)
    if name == "the initial state":
        initial = lambda params, key=None: params["W"][0]
    if name == "three axes":
        params["W"], f = jnp.ones((3, 3, 3)), lambda p, s, x: jnp.tanh(jnp.tensordot(p["W"], s, 1).sum(1)) + x
    problem, reset = as_problem(f, initial), jnp.array([True])
    state = problem.init_rows(params, 1)
    batch = sj.gradients.Batch(jnp.ones((2, 1, 3)), jnp.ones((2, 1)), reset, jnp.zeros(1, jnp.int32))
    with pytest.raises(sj.Error, match=r"the parameter W of shape .* must change the state through one"):
        strategy = KFRTRL()
        memory = init_memory(strategy, problem, params, state, 1)
        strategy(problem, params, state, memory, batch, jax.random.key(0))


def kf(c):
    """The rule of kf-rtrl for a `Cell` with biases b_h and b_hh, whose influences are the D of W_xh and W_hh."""

    def shorten(products, signs):
        (u, a), (A, D) = (np.stack(each) for each in zip(*products, strict=True))
        ratio = lambda x, y: np.sqrt((np.linalg.norm(x) + 1e-7) / (np.linalg.norm(y) + 1e-7))
        p0, p1 = ratio(A, u), ratio(D, a)
        return [(p0 * u + signs[0] * p1 * a, A / p0 + signs[0] * D / p1)]

    return shorten


def by_equations(c, derivatives, noise, shorten):
    """The gradients of three windows, in a loop over steps and rows.

    Args:
        c: a case of a `Cell`.
        derivatives: those of its windows.
        noise: for each window bool[B, T, signs].
        shorten: (list of products (u, A), signs) -> a shorter list.
    """
    names = [name for name, a in leaf_names(c.params, "params") for _ in range(a.size)]
    columns = {name: np.array([n == name for n in names]) for name in dict.fromkeys(names)}
    W_xh, W_hh, b_h, b_hh = (columns[f"layer_0.{name}"] for name in ("W_xh", "W_hh", "b_h", "b_hh"))
    found, carried = [], {}
    for d, batch, entering, bits in zip(derivatives, c.windows, states_of(c), noise, strict=True):
        total, weights = 0.0, np.asarray(batch.weights)
        for b in range(B):
            if b not in carried or batch.reset[b]:
                carried[b] = {"exact": np.zeros(d.I.shape[2:]), "W_xh": [], "W_hh": []}
            M = carried[b]
            for t in range(T):
                estimate = M["exact"].copy()
                for name, where in (("W_xh", W_xh), ("W_hh", W_hh)):
                    for u, A in M[name]:
                        estimate[:, where] += np.einsum("n,sm->snm", u, A).reshape(len(A), -1)
                total = total + weights[t, b] * (d.q[b, t] @ estimate + d.direct[b, t])
                J, I = d.J[b, t], d.I[b, t]
                x = np.asarray(batch.xs[0])[t, b]
                a = {"W_xh": np.eye(V)[x] if c.problem.spec is TOKENS else x, "W_hh": entering.layers[0].h[t, b]}
                signs = np.where(bits[b, t], 1.0, -1.0)
                for name, bias in (("W_xh", b_h), ("W_hh", b_hh)):
                    D = I[:, bias]
                    np.testing.assert_allclose(np.einsum("n,sm->snm", a[name], D).reshape(len(D), -1), I[:, columns[f"layer_0.{name}"]], atol=1e-12)
                    products = [(u, J @ A) for u, A in M[name]] or [(0 * a[name], 0 * D)] * max(1, shorten.length)
                    M[name] = shorten([*products, (a[name], D)], signs)
                M["exact"] = J @ M["exact"] + np.where(b_h | b_hh, I, 0)
        found.append(total)
    return found
