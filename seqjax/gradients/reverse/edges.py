"""Strategies in reverse mode that weigh the edges between steps."""

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from seqjax.errors import Error, dtype_shape
from seqjax.gradients.contract.gradient import Gradient, weighted_sum
from seqjax.gradients.contract.problem import Params, Problem, State
from seqjax.gradients.contract.rows import average_shared, over_rows
from seqjax.gradients.contract.window import Batch, Estimate, Memory, Noise, Start
from seqjax.gradients.reverse.scan_call import ScanCall
from seqjax.gradients.steps.dependence import depends_on
from seqjax.gradients.steps.precision import is_float
from seqjax.gradients.steps.scored import scored_steps
from seqjax.gradients.steps.unrolling import EdgeWeights
from seqjax.plugin.registry import name_of

MOST_SIGNS = 20
"""The largest number of signs whose patterns `sign_patterns` lists."""


class WeightedEdges(Gradient):
    """Reverse mode with weights on the edges between steps. The author writes `edge_weights`, for ONE sequence.

    >>> from dataclasses import dataclass
    >>> import jax.numpy as jnp
    >>> import seqjax as sj
    >>> @dataclass(frozen=True)
    ... class Half(sj.WeightedEdges):
    ...     claim = "biased"
    ...     def edge_weights(self, noise, memory, num_steps):
    ...         return jnp.full(num_steps, 0.5), memory
    >>> def step(w, s, x):
    ...     s = s + w * x
    ...     return s, s
    >>> scan = jnp.array(1.0), jnp.array(0.0), jnp.ones(3)
    >>> loss, grads = sj.value_and_grad(step, Half())(*scan, weights="last")
    >>> float(grads)  # 1 + 1/2 + 1/4
    1.75
    """

    of = "window"
    argnums = (0, 1, 2)

    def edge_weights(self, noise: Noise, memory: Memory, num_steps: int) -> tuple[Float[Array, " T"] | None, Memory]:
        """The weights float[T], and the memory for the next window.

        Entry t multiplies the tangent of the state that enters step t. None means all ones.

        Args:
            noise: what `draw` returned.
            memory: the memory of this sequence.
            num_steps: T.
        """
        raise NotImplementedError

    def estimate(self, problem, params, start, memory, batch, noise):
        num_steps, num_rows = batch.weights.shape

        def weigh(noise, memory):
            return _check_weights(self, self.edge_weights(noise, memory, num_steps), num_steps)

        weights, memory = over_rows(weigh, (0, Memory(None, 0)), num_rows, out_axes=(1, 0))(noise, memory)
        if weights is not None:
            check_edge_weights(problem, params, start(params), batch.xs)

        return self.gradient(problem, params, start, batch, weights)._replace(memory=average_shared(memory))

    def scan(self, call, noise, memory):
        """One scan with the edge weights. A strategy overrides it like `gradient`, and with None like `estimate`."""
        return call.run(self.scan_weights(call, noise, memory))

    def scan_weights(self, call: ScanCall, noise: Noise, memory: Memory) -> Float[Array, " T"] | None:
        """The edge weights of a call of `seqjax.scan`."""
        return _check_weights(self, self.edge_weights(noise, memory, call.num_steps), call.num_steps)[0]

    def gradient(
        self, problem: Problem, params: Params, start: Start, batch: Batch, edge_weights: EdgeWeights
    ) -> Estimate:
        """The gradient of a window with weights float[T, B] on its edges; None: all ones.

        A strategy overrides it if its weights allow for a faster way, such as `segment_gradient`.
        """
        return window_gradient(problem, params, start, batch, edge_weights)


def _check_weights(strategy: WeightedEdges, result: Any, num_steps: int) -> Any:
    """Checks what `edge_weights` returned, and returns it."""
    name = f"gradient {name_of(strategy)}: edge_weights"
    wanted = f"(edge_weights, memory), where the edge weights are float[{num_steps}], or None for ones"
    if not isinstance(result, tuple) or len(result) != 2:
        raise Error(f"{name} returned {dtype_shape(result)}, and must return {wanted}")
    weights, memory = result
    if not isinstance(memory, Memory):
        raise Error(f"{name} returned the memory as {dtype_shape(memory)}, and must return the Memory it was given")
    if weights is not None and (getattr(weights, "shape", None) != (num_steps,) or not is_float(weights)):
        raise Error(
            f"{name} returned {dtype_shape(weights)} for a window of {num_steps} steps, and must return {wanted}"
        )
    return result


def window_gradient(
    problem: Problem, params: Params, start: Start, batch: Batch, edge_weights: EdgeWeights = None
) -> Estimate:
    """The gradient of a window with weights on its edges, by one reverse pass.

    Args:
        problem: its `unroll_with_outputs` is differentiated.
        params: the parameters.
        start: params -> the state in which the window starts, leaves [B, ...].
        batch: the window.
        edge_weights: as in `seqjax.gradients.unroll`; None: all ones.

    Returns:
        The estimate, with an empty memory.
    """

    def loss(params):
        xs = problem.read(params, batch.xs)
        scored = scored_steps(batch.weights)
        state, losses, outputs = problem.unroll_with_outputs(params, start(params), xs, edge_weights, scored)
        return weighted_sum(batch.weights, losses), (state, outputs)

    (loss, (state, outputs)), grads = jax.value_and_grad(loss, has_aux=True)(params)
    return Estimate(loss, grads, state, Memory(), outputs)


class RandomCuts(WeightedEdges):
    """Cuts each edge between steps at random; a surviving edge weighs 1 / (1 - hazard), so that the mean is exact.

    The author writes `hazard`; edge weights, ages and outcomes follow from it. The age of a row persists from window to
    window (Tallec & Ollivier 2017, "Unbiasing truncated backpropagation through time", arXiv:1705.08209).

    >>> from dataclasses import dataclass
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import seqjax as sj
    >>> @dataclass(frozen=True)
    ... class Coin(sj.RandomCuts):
    ...     def hazard(self, age, shared):
    ...         return 0.5
    >>> def step(w, s, x):
    ...     s = s + w * x
    ...     return s, s
    >>> gradient = sj.value_and_grad(step, Coin())
    >>> scan = jnp.array(1.0), jnp.array(0.0), jnp.ones(3)
    >>> keys = jax.random.split(jax.random.key(0), 20)
    >>> losses, grads = jax.vmap(lambda key: gradient(*scan, weights="last", key=key))(keys)
    >>> sorted(set(grads.tolist()))  # 1, 1 + 2 or 1 + 2 + 4, with the mean 3
    [1.0, 3.0, 7.0]
    """

    claim = "unbiased"

    def hazard(self, age: Int[Array, ""], shared: Any) -> Float[Array, ""] | float:
        """The probability that this edge is cut.

        An edge of hazard 1 is always cut: the gradient that would cross it is lost, so the strategy is biased.

        Args:
            age: int32[], the number of edges kept since the last cut or the start of the sequence.
            shared: `memory.shared`.
        """
        raise NotImplementedError

    def init(self, problem, params, state, x=None):
        """The age 0 of a sequence that starts."""
        return Memory(rows=jnp.zeros((), jnp.int32))

    def draw(self, key, problem, params, memory, num_steps):
        """Draws which edges are cut, bool[T]."""
        u_T = jax.random.uniform(key, (num_steps,))
        return self._walk(memory, u_T, lambda u, hazard: u < hazard)[0]

    def outcomes(self, problem, params, memory, num_steps):
        """All 2^T patterns of cuts."""
        cuts_MT = bit_patterns(num_steps)

        def probability(cuts_T):
            _, hazard_T, _ = self._walk(memory, cuts_T, lambda cut, hazard: cut)
            return jnp.prod(jnp.where(cuts_T, hazard_T, 1 - hazard_T))

        return cuts_MT, jax.vmap(probability)(cuts_MT)

    def edge_weights(self, noise, memory, num_steps):
        """0 at a cut, else 1 / (1 - hazard)."""
        cuts_T, hazard_T, age = self._walk(memory, noise, lambda cut, hazard: cut)
        # `outcomes` also lists that an edge of hazard 1 survives, with probability 0. The weight of this edge must be
        # finite, because 0 times infinity is NaN.
        kept_T = ~cuts_T & (hazard_T < 1)
        return jnp.where(kept_T, 1 / jnp.where(kept_T, 1 - hazard_T, 1), 0), memory._replace(rows=age)

    def check_values(self, memory, num_steps):
        """Checks that the hazards of the ages below `num_steps` are probabilities.

        Raises:
            Error: a hazard is not in [0, 1]; or is 1, and the strategy claims to be unbiased.
        """
        of_age = lambda age: jnp.asarray(self.hazard(age, memory.shared), float)
        hazards = np.asarray(jax.vmap(of_age)(jnp.arange(num_steps)))
        unbiased = self.claim == "unbiased"
        wrong = np.flatnonzero(~((hazards >= 0) & (hazards < 1 if unbiased else hazards <= 1)))
        if wrong.size:
            lost = "in [0, 1), since the gradient across an edge that is always cut is lost"
            raise Error(
                f"gradient {name_of(self)}: hazard({wrong[0]}) = {hazards[wrong[0]]:g}, and the probability of a cut "
                f"must be {lost if unbiased else 'in [0, 1]'}"
            )

    def _walk(self, memory, source_T, is_cut):
        """Follows the age along T edges.

        Args:
            memory: the memory that enters the window.
            source_T: one entry per edge, from which `is_cut` decides.
            is_cut: (entry, hazard) -> bool[].

        Returns:
            The cuts bool[T], the hazards float[T], and the age after the last edge.
        """

        def edge(age, source):
            hazard = self.hazard(age, memory.shared)
            if not isinstance(hazard, int | float) and getattr(hazard, "shape", None) != ():
                returned = dtype_shape(hazard)
                raise Error(
                    f"gradient {name_of(self)}: hazard returned {returned}, and must return a probability, float[]"
                )
            hazard = jnp.asarray(hazard, float)
            cut = is_cut(source, hazard)
            return jnp.where(cut, 0, age + 1), (cut, hazard)

        # In `shard_map` the age varies over devices as the source does, and a scan has to know this from its start.
        start = memory.rows + jnp.zeros_like(source_T[0], memory.rows.dtype)
        age, (cuts_T, hazard_T) = jax.lax.scan(edge, start, source_T)
        return cuts_T, hazard_T, age


def check_edge_weights(problem: Problem, params: Params, state: State, xs: PyTree) -> None:
    """Checks that a problem with an `unroll` of its own reads the edge weights. Traces it, and computes nothing.

    Args:
        problem: the problem.
        params: the parameters.
        state: leaves [B, ...].
        xs: leaves [T, B, ...].

    Raises:
        Error: the unroll ignores the edge weights, so that nothing would be cut.
    """
    if problem.run is None:
        return

    def gradient(edge_weights):
        return jax.grad(lambda params: problem.unroll(params, state, xs, edge_weights)[1].sum())(params)

    if any(depends_on(gradient, jnp.ones(len(jax.tree.leaves(xs)[0])))):
        return
    x = jax.tree.map(lambda a: a[0], xs)

    def next_state(params):
        return jax.vmap(problem.step, (None, 0, 0))(params, state, x)[0]

    # A state that only holds inputs carries no gradient, so its unroll needs no edge weights.
    if any(depends_on(next_state, params)):
        raise Error(
            "the unroll of this problem ignores its edge weights, so that this strategy cuts nothing; multiply the "
            "tangent of the state that enters step t by edge_weights[t], with seqjax.gradients.weigh_edge, or leave "
            "unroll out, so that the step is scanned"
        )


def segment_edges(num_steps: int, steps: Any) -> Float[Array, " T"]:
    """Edge weights that cut a window into segments: 0 at positive multiples of `steps`, else 1.

    The first step of the window is not cut, so that a learned initial state gets its gradient.

    Args:
        num_steps: T.
        steps: the length of a segment; it may be traced.
    """
    t = jnp.arange(num_steps)
    return jnp.where((t % steps == 0) & (t > 0), 0.0, 1.0)


def bit_patterns(n: int) -> Bool[np.ndarray, "M n"]:
    """All 2^n rows of n booleans, which are the outcomes of n independent cuts."""
    return np.array(list(itertools.product([False, True], repeat=n)), bool).reshape(-1, n)


def sign_patterns(*shape: int) -> tuple[Bool[np.ndarray, "M ..."], Float[Array, " M"]]:
    """All patterns bool[M, *shape] of signs, and their equal probabilities.

    Raises:
        NotImplementedError: there are too many to list.
    """
    num_signs = math.prod(shape)
    if num_signs > MOST_SIGNS:
        raise NotImplementedError(f"2^{num_signs} patterns of signs are too many to list; at most 2^{MOST_SIGNS}")
    bits = np.arange(2**num_signs)[:, None] >> np.arange(num_signs) & 1
    patterns = bits.astype(bool).reshape(len(bits), *shape)
    return patterns, jnp.full(len(patterns), 1 / len(patterns))
