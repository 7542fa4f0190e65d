"""What `rtrl`, `layerwise` and `sparse-rtrl` share: parts of the influence matrix are carried from window to window."""

import jax
import jax.numpy as jnp

from seqjax import SequenceGradient
from seqjax.gradients import (
    Estimate,
    Memory,
    Part,
    Structure,
    check_real,
    combine,
    partition_float,
    ravel_float,
    scored_steps,
    structure_of,
    weighted_sum,
)

from ._parts import after_window, gradient, plus_start


class Carrying(SequenceGradient):
    """The author writes `parts`: which parts of M = ds/dθ are carried.

        Σ_t dl_t/dθ = ∂L/∂θ + ∂L/∂s_0 M_0,   L = Σ_t l_t
        M_T = ∂s_T/∂s_0 M_0 + ∂s_T/∂θ

    for a window that starts in s_0 and ends in s_T.
    """

    of = "history"

    def parts(self, known: Structure) -> list[Part] | None:
        """The parts of M for a problem of which this is known; None: the whole matrix in one part."""
        raise NotImplementedError

    def _parts(self, problem, params, state):
        """The parts of M for the state of one sequence."""
        return self.parts(structure_of(problem, params)) or [Part(None, 0, ravel_float(state)[0].size)]

    def init(self, problem, params, state, x=None):
        """M = 0. The influence of the parameters on the initial state is added where a window starts."""
        check_real(self, params, state)
        return Memory(rows=[part.zeros(params) for part in self._parts(problem, params, state)])

    def estimate(self, problem, params, start, memory, batch, noise):
        state = start(params)
        floats, others = partition_float(state)

        def loss(params, floats):
            s, scored = combine(floats, others), scored_steps(batch.weights)
            end, losses, outputs = problem.unroll_with_outputs(params, s, batch.xs, None, scored)
            return weighted_sum(batch.weights, losses), (end, outputs)

        # The losses of all rows take one reverse pass together. M is computed afterwards, for each row.
        (value, (end, outputs)), (grads, q) = jax.value_and_grad(loss, (0, 1), has_aux=True)(params, floats)
        first = jax.tree.map(lambda a: a[0], state)
        parts = self._parts(problem, params, first)

        def carry(row, M, state, q, xs):
            """For one row, what its history before the window adds to the gradient, and M after the window."""
            M = plus_start(parts, M, lambda params: jax.tree.map(lambda a: a[row], start(params)), params)
            # The gradient reads M before the new M replaces it. XLA would copy a donated M otherwise.
            M, before = jax.lax.optimization_barrier((M, gradient(parts, ravel_float(q)[0], M, params)))
            return before, after_window(parts, problem, params, M, state, xs)

        xs = jax.tree.map(lambda a: jnp.moveaxis(a, 1, 0), batch.xs)
        before, M = _for_each_row(carry, jnp.arange(batch.weights.shape[1]), memory.rows, state, q, xs)
        grads = jax.tree.map(lambda a, b: a + b.sum(0), grads, before)
        return Estimate(value, grads, end, memory._replace(rows=M), outputs)


def _for_each_row(function, *args):
    """The results of a function of one row, for arguments [B, ...].

    A CPU takes one row after the other, so that the numbers of a row stay in its cache: with all rows together, `rtrl`
    took up to 2.4 times as long and twice the memory (LRU of 256 units, 8 rows). Other devices take all rows together.
    """
    together = jax.vmap(function)
    if len(args[0]) == 1:
        return together(*args)
    return jax.lax.platform_dependent(
        *args, cpu=lambda *args: jax.lax.map(lambda row: function(*row), args), default=together
    )
