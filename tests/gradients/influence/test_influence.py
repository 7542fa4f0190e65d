"""The base of relatives of RTRL: the matrix by units is the dense one, also where steps begin anew."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqjax as sj
from seqjax.gradients import init_memory
from seqjax.models import LSTM
from seqjax.testing.compare import assert_close
from seqjax.testing.quick_jit import quick_jit

pytestmark = pytest.mark.usefixtures("x64")

T, B, V = 4, 2, 3
PROBLEM = LSTM(hidden=3).problem(sj.Spec(sj.Tokens(V)))


@dataclass(frozen=True)
class OwnNumber(sj.Influence):
    """Keeps what each number of the state does to itself, always in the dense matrix."""

    claim = "biased"

    def advance(self, M, J, I):
        return 0.9 * jnp.diagonal(J)[:, None] * M + I


@dataclass(frozen=True)
class ByUnits(OwnNumber):
    """The same, by units where that is possible."""

    def within_units(self, J):
        return 0.9 * jnp.eye(len(J))[..., None] * J


def test_by_units_is_the_dense_matrix_with_resets_and_a_carried_memory():
    """A unit of an LSTM has two numbers, of which the diagonal keeps each to itself."""
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda a: rng.normal(size=a.shape), jax.eval_shape(PROBLEM.init, jax.random.key(0)))
    windows, reset = rng.integers(0, V, (2, T, B)), np.zeros((T, B), bool)
    reset[2, 0] = reset[0, 1] = True

    def follow(strategy, params, windows):
        state, memory, found = PROBLEM.init_rows(params, B), None, []
        for ids in windows:
            e = sj.estimate(PROBLEM, strategy, batched=True)(params, state, (ids, ids), memory=memory, reset=reset)
            state, memory = e.state, e.memory
            found.append((e.loss, e.grads, e.state))
        return found

    both = quick_jit(lambda *args: [follow(strategy, *args) for strategy in (OwnNumber(), ByUnits())])
    assert_close(*both(params, windows), "two windows")


def test_the_sizes_of_the_two_ways():
    def size(strategy):
        def rows(key):
            params = PROBLEM.init(key)
            return init_memory(strategy, PROBLEM, params, PROBLEM.init_rows(params, 1), 1).rows

        return sum(a.size for a in jax.tree.leaves(jax.eval_shape(rows, jax.random.key(0))))

    layer = (V + 3) * 12 + 12  # W_xh, W_hh and b_h of four blocks
    assert (size(OwnNumber()), size(ByUnits())) == (6 * (layer + 4 * V), 2 * layer)


@dataclass(frozen=True)
class Counted(sj.Influence):
    """Plain RTRL whose I is divided by a number that is 1 where a sequence starts, and grows by 1 in each step."""

    claim = "biased"

    def init(self, problem, params, state, x=None):
        memory = super().init(problem, params, state, x)
        return memory._replace(rows=(memory.rows, jnp.ones(())))

    def influence(self, carried):
        return carried[0]

    def begin(self, carried, I):
        return carried[0] + I, carried[1]

    def advance(self, carried, J, I):
        M, number = carried
        return J @ M + I / number, number + 1


def test_a_reset_is_the_start_of_another_window_for_all_that_is_carried():
    def step(w, s, x):
        s = jnp.tanh(w * s + x)
        return s, s**2

    def both(w, xs):
        whole = sj.estimate(step, Counted())(w, jnp.zeros(()), xs, reset=np.arange(T) == 2)
        parts = [sj.estimate(step, Counted())(w, jnp.zeros(()), part) for part in (xs[:2], xs[2:])]
        return whole.grads, (parts[0].grads + parts[1].grads) / 2

    assert_close(*quick_jit(both)(jnp.array(0.7), jnp.linspace(0.3, 1, T)), "one window with a reset, two windows")
