"""Scans whose edges are weighted by hand: one compiled program for all strategies that weigh edges or cut them."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.gradients import ARTBP, K1K2, Discounted, Only, Randomized, Truncated


class Passes(NamedTuple):
    """N passes through the steps, numbered in the order of execution, whose results are put together.

    Args:
        weights: float[N, T, L], the weights of the edges of each pass for the L float variables of the carry.
        owner: int[T], the pass from which the output of each step is taken.
    """

    weights: Any
    owner: Any


def weights_of(strategy: Any, num_steps: int, drawn: Any = ()) -> np.ndarray:
    """The weights of the edges, from what the strategy draws: (bool[T] of `randomized`, float[T] of `artbp`)."""
    steps = np.arange(num_steps)
    if isinstance(strategy, Only):
        return weights_of(strategy.strategy, num_steps, drawn)
    if isinstance(strategy, Truncated):
        return np.where((steps > 0) & (steps % strategy.steps == 0), 0.0, 1.0)
    if isinstance(strategy, Discounted):
        return np.full(num_steps, strategy.discount)
    if isinstance(strategy, Randomized):
        return np.where(drawn[0], 1 / strategy.keep_prob, 0)
    if isinstance(strategy, ARTBP):
        age, weights = 0, []
        for u in drawn[1]:
            hazard = (strategy.alpha - 1) / ((strategy.alpha - 2) * strategy.length + age + 1)
            cut = u < hazard or age + 1 >= (strategy.cap or np.inf)
            weights.append(0 if cut else 1 / (1 - hazard))
            age = 0 if cut else age + 1
        return np.array(weights, float)
    return np.ones(num_steps)


def passes_of(strategy: Any, num_steps: int, names: Sequence[str], drawn: Any = ()) -> Passes:
    """Those of a strategy, for a carry with float variables of these names."""
    steps = np.arange(num_steps)
    if isinstance(strategy, K1K2):
        # A pass for each block of k1 steps, which is cut k2 steps before the end of the block.
        owner, first = steps // strategy.k1, np.maximum(0, steps * strategy.k1 + strategy.k1 - strategy.k2)[:, None]
        weights = np.where((steps == first) & (first > 0), 0.0, 1.0)
    else:
        # As many passes as `k1k2` has at most, so that one compiled program serves all strategies.
        owner, weights = 0 * steps, np.tile(weights_of(strategy, num_steps, drawn), (num_steps, 1))
    leaves = strategy.leaves if isinstance(strategy, Only) else names
    return Passes(np.stack([np.where(name in leaves, weights, 1) for name in names], -1), owner)


def by_passes(f: Any, init: Any, xs: Any, passes: Passes, reset: Any, initial: Any = None) -> Any:
    """The carry after the last step and the outputs of `jax.lax.scan`, with weighted edges.

    Args:
        f: (carry, x) -> (carry, y), of a dictionary with the float variables in the order of the passes.
        init: the carry that enters the first step.
        xs: what the steps read, leaves [T, ...].
        passes: how the edges are weighed.
        reset: bool[T].
        initial: the carry that enters steps that are reset; None: `init`.
    """
    floats = [name for name, a in init.items() if jnp.issubdtype(a.dtype, jnp.inexact)]

    def one(weights_TL):
        def body(carry, inputs):
            x, weights_L, reset = inputs
            for name, weight in zip(floats, weights_L, strict=True):
                constant = jax.lax.stop_gradient(carry[name])
                carry = carry | {name: constant + weight * (carry[name] - constant)}
            return f(jax.tree.map(functools.partial(jnp.where, reset), initial or init, carry), x)

        return jax.lax.scan(body, init, (xs, weights_TL, reset))

    carries, ys = jax.vmap(one)(passes.weights)
    take = lambda a: a[passes.owner, jnp.arange(len(passes.owner))]
    return jax.tree.map(lambda a: a[passes.owner[-1]], carries), jax.tree.map(take, ys)
