"""The covariance of random cuts, path by path, against enumeration of all outcomes.

A path (s, u) is the part of the gradient of step s's loss by the parameters that step u uses. It crosses the edges that
enter steps u + 1, ..., s, and is multiplied by the product ξ_A of their edge weights:
Cov = Σ_{A, B} (E[ξ_A ξ_B] - 1) g_A g_Bᵀ.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import seqjax
from seqjax.gradients import Batch, Memory
from seqjax.testing.compare import assert_close, assert_far
from seqjax.testing.proofs.cases import RESET, T, case

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("x64")]

ROWS = {"reset": (0, 0), "carried": (1, 2)}
"""Two rows of the first window, each with the age of the edge that enters it."""


def create(name, **fields):
    return seqjax.create("gradient", name, **fields)


@functools.cache
def paths(row):
    """The edges and the gradient of each path, by a loop in which each step has its own copy of the parameters."""
    (b, _), c = ROWS[row], case("small")
    batch, (theta, unravel) = c.windows[0], ravel_pytree(c.params)

    def losses(thetas):
        s = c.initial(unravel(thetas[0])) if RESET[0][b] else jax.tree.map(lambda a: a[b], c.state)
        found = []
        for t in range(T):
            s, loss = c.step(unravel(thetas[t + 1]), s, jax.tree.map(lambda a, t=t: a[t, b], batch.xs))
            found.append(batch.weights[t, b] * loss)
        return jnp.stack(found)

    g = np.asarray(jax.jit(jax.jacrev(losses))(jnp.tile(theta, (T + 1, 1))))
    return [(frozenset(range(u, s + 1)), g[s, u]) for s in range(T) for u in range(s + 2)]


def covariance(row, moment):
    """Σ_{A, B} (E[ξ_A ξ_B] - 1) g_A g_Bᵀ."""
    found = paths(row)
    weights = np.array([[moment(A, B) - 1 for B, _ in found] for A, _ in found])
    g = np.array([g for _, g in found])
    return g.T @ weights @ g


def enumerated(strategy, row):
    """The covariance of the estimate over all outcomes."""
    (b, age), c = ROWS[row], case("small")
    xs, weights = jax.tree.map(lambda a: a[:, b, None], (c.windows[0].xs, c.windows[0].weights))
    batch = Batch(xs, weights, c.windows[0].reset[b, None], jnp.array([b], jnp.int32))
    aged = isinstance(strategy, seqjax.RandomCuts)
    memory = Memory(rows=jnp.asarray(age, jnp.int32)) if aged else Memory()
    noise, probability = strategy.outcomes(c.problem, c.params, memory, T)

    def gradient(noise):
        start = lambda params: jax.tree.map(lambda a: a[None], c.initial(params))
        carried = lambda params: jax.tree.map(lambda a: a[b, None], c.state)
        memory = Memory(rows=jnp.array([age], jnp.int32)) if aged else Memory()
        start = start if RESET[0][b] else carried
        return ravel_pytree(strategy.estimate(c.problem, c.params, start, memory, batch, noise[None]).grads)[0]

    g = jax.jit(jax.vmap(gradient))(jnp.asarray(noise))
    mean = probability @ g
    return (g.T * probability) @ g - jnp.outer(mean, mean)


def independent(keep_prob):
    """E[ξ_A ξ_B] = Π over A ∩ B of 1/π_t."""
    pi = np.broadcast_to(keep_prob, T)
    return lambda A, B: np.prod([1 / pi[t] for t in A & B])


def aging(hazard, start):
    """E[ξ_A ξ_B] = E[Π over A ∩ B of 1 / (1 - c(age + offset))], with age and offset of the first edge of A ∪ B.

    An edge that only one of the paths crosses has mean 1, and keeping it adds to the age. If A ∩ B is empty, the mean
    is 1.
    """
    c = [float(hazard(age)) for age in range(start + 2 * T)]
    ages = [{start: 1.0}]
    for _ in range(T):
        after = {0: sum(p * c[a] for a, p in ages[-1].items())}
        ages.append(after | {a + 1: p * (1 - c[a]) for a, p in ages[-1].items()})

    def moment(A, B):
        if not A & B:
            return 1.0
        first = min(A | B)
        return sum(p * np.prod([1 / (1 - c[age + t - first]) for t in A & B]) for age, p in ages[first].items())

    return moment


PER_STEP = (0.9, 0.3, 1.0, 0.6, 0.5, 0.8)


@pytest.mark.parametrize("keep_prob", [0.6, PER_STEP], ids=["constant", "by step"])
def test_independent_cuts(keep_prob):
    got = enumerated(create("randomized", keep_prob=keep_prob), "carried")
    assert_close(np.asarray(got), covariance("carried", independent(keep_prob)), "covariance")


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize(
    ("fields", "hazard"),
    [
        ({"length": 3.0, "alpha": None}, lambda age: 1 / 3),
        ({"length": 3.0, "alpha": 4.0}, lambda age: 3 / (7 + age)),
        ({"table": (0.1, 0.6, 0.3)}, lambda age: (0.1, 0.6, 0.3)[min(age, 2)]),
    ],
    ids=["constant", "polynomial", "table"],
)
def test_cuts_with_an_age(fields, hazard, row):
    got = enumerated(create("artbp", **fields), row)
    assert_close(np.asarray(got), covariance(row, aging(hazard, ROWS[row][1])), "covariance")


def test_the_age_that_counts_is_that_of_the_union():
    """With the age at the first edge of A ∩ B the formula is wrong, so the test above can fail."""
    moment = aging(lambda age: 3 / (7 + age), ROWS["carried"][1])
    wrong = lambda A, B: moment(A & B, A & B)
    assert_far(covariance("carried", wrong), covariance("carried", moment), "covariance", 1e-4)
