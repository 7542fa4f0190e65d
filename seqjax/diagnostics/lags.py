"""`lags`: one backward pass over anybody's scan that says what truncating it would cost."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from seqjax.errors import Error, is_whole
from seqjax.gradients.lag_cotangents import Linear, forward, shift
from seqjax.gradients.problem import Params, Problem, State
from seqjax.gradients.scan import check_scan
from seqjax.report.table import Table

BLOCK = 2**23
"""How many numbers the cotangents of a block of time steps may have."""
LARGEST_HAZARD = 0.9
"""What `Lags.hazard` stays below."""


class Lags(NamedTuple):
    """The gradient of a scan by how many steps back it travels; K = max_lag.

    Args:
        gradients: like the parameters, with a leading axis [K + 1]: entry k is the part that travels exactly k steps
            back, 0 the direct one; the last entry is all that is older. They sum to the gradient.
        norms: float[K + 1], their norms.
        bias: float[K], bias[k - 1] = relative error of the gradient that keeps the last k steps of each loss, lags 0
            to k - 1, as a sliding truncation does.
    """

    gradients: Any
    norms: Any
    bias: Any

    def mean(self, kept: Float[Any, " K+1"]) -> Params:
        """The mean gradient of an estimator that keeps, on average, the share kept[k] of the part of lag k.

        A cut at a hazard c_k without reweighting keeps Π_{i<k} (1 - c_i), a discount λ keeps λ^k, and
        `ARTBP(cap=...).kept(K)` says what a cap leaves.
        """
        kept = jnp.asarray(kept, self.norms.dtype)
        if kept.shape != self.norms.shape:
            raise Error(f"kept has a share for each of {len(self.norms)} lags, the last of all that is older")
        return jax.tree.map(lambda a: jnp.tensordot(kept.astype(a.dtype), a, 1), self.gradients)

    def bias_of(self, kept: Float[Any, " K+1"]) -> float:
        """The relative error ‖E ĝ - g‖ / ‖g‖ of the mean gradient of such an estimator."""
        whole = self.mean(np.ones(len(self.norms)))
        return float(_norm(self.mean(np.asarray(kept) - 1)) / _norm(whole))

    def steps(self, bias: float) -> int | None:
        """The fewest steps from which on the relative error stays within `bias`; None: more than max_lag."""
        beyond = np.flatnonzero(~(np.asarray(self.bias) <= bias))
        fewest = int(beyond[-1]) + 2 if len(beyond) else 1
        return fewest if fewest <= len(self.bias) else None

    @property
    def rate(self) -> float:
        """ρ of the fit ‖G_k‖ ∝ ρ^k over the lags from 1 on, by least squares on the logarithms: decay per step."""
        norms = np.asarray(self.norms, np.float64)[1:-1]
        (k,) = np.nonzero(norms > np.finfo(np.asarray(self.norms).dtype).eps * norms.max(initial=0))
        return float(np.exp(np.polyfit(k, np.log(norms[k]), 1)[0])) if len(k) > 1 else float("nan")

    def variance(self, hazard: float | Sequence[float]) -> float:
        """The variance, relative to ‖g‖², of a gradient that is cut at one random lag and reweighted.

        A number of steps N is drawn with P(N ≥ k) = q_k = Π_{i<k} (1 - hazard[i]), and lags k ≤ N weigh 1 / q_k: the
        mean is the gradient g. With R_k = Σ_{j≥k} G_j

            V = Σ_k (‖R_k‖² - ‖R_{k+1}‖²) / (q_k ‖g‖²) - 1

        One cut serves all losses here. Where each edge is cut by itself, as `ARTBP` and `Randomized` do, losses that
        are far apart have cuts of their own, and the variance is smaller.

        Args:
            hazard: c, of a cut at any lag; or K probabilities, of a cut between lag k and k + 1 (fewer: the last one
                repeats).
        """
        q = self._survival(hazard)
        return float(np.sum(self._drops / q) - 1)

    def memory(self, hazard: float | Sequence[float]) -> float:
        """The mean number of steps that a gradient cut with this hazard reaches back and holds: Σ_k q_k."""
        return float(self._survival(hazard).sum())

    def hazard(self, noise: float = 1.0) -> float:
        """The constant hazard c that minimises variance × cost, for `Randomized(keep_prob=1 - c)`.

        Minimises (noise + V) Σ_k q_k over c from 0 to `LARGEST_HAZARD`, q_k = (1 - c)^k and V as in `variance`: what
        cutting adds to the variance between sequences, times the mean number of steps. With noise = 1 this is
        E‖ĝ‖² Σ_k q_k, and a gradient that decays as ρ^k is to be cut with c = 1 - ρ. The minimum over all survivals q
        has q_k ∝ √(‖R_k‖² - ‖R_{k+1}‖²) (Beatson & Adams 2019, "Efficient optimization of loops and limits with
        randomized telescoping sums", arXiv:1905.07006). Edges along a sequence cannot follow it: a hazard by age
        counts from the cut, and each loss sees another part of it, unless it is constant.

        Args:
            noise: the variance of the exact gradient from sequence to sequence, relative to its squared norm.
        """
        if noise <= 0:
            raise Error("noise must be positive: without any, the full gradient's variance × cost is 0, which is least")
        if not np.isfinite(self._drops).all():
            raise Error("the gradient is zero or not finite, so that there is nothing to weigh a cut by")
        rest = np.concatenate([[1.0], self.bias])  # ‖R_k‖ / ‖g‖, of which the smallest are rounding errors
        (k,) = np.nonzero(rest > 100 * np.finfo(np.asarray(self.norms).dtype).eps)
        hazards = np.concatenate([[0.0], np.geomspace(1e-4, LARGEST_HAZARD, 2_000)])
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            q = (1 - hazards[:, None]) ** np.arange(len(rest))
            cost = (noise - 1 + np.sum(self._drops[k] / q[:, k], 1)) * q.sum(1)
        return float(hazards[np.nanargmin(cost)])

    @property
    def _drops(self) -> np.ndarray:
        """(‖R_k‖² - ‖R_{k+1}‖²) / ‖g‖² for k = 0, ..., K; they sum to 1."""
        squares = np.concatenate([[1.0], np.asarray(self.bias, np.float64) ** 2, [0.0]])
        return squares[:-1] - squares[1:]

    def _survival(self, hazard):
        hazard = np.atleast_1d(np.asarray(hazard, np.float64))
        if hazard.ndim != 1 or not len(hazard) or not ((hazard >= 0) & (hazard < 1)).all():
            raise Error("a hazard is a probability below 1, or a sequence of them, one a lag")
        missing = max(0, len(self.bias) - len(hazard))
        hazard = np.concatenate([hazard, np.full(missing, hazard[-1])])[: len(self.bias)]
        return np.cumprod(np.concatenate([[1.0], 1 - hazard]))

    @property
    def table(self) -> Table:
        """Bias and norm at a few lags."""
        K = len(self.bias)
        few = sorted({k for power in (1, 10, 100, 1000, 10000) for k in (power, 2 * power, 5 * power) if k < K} | {K})
        rows = [(k, float(self.bias[k - 1]), float(self.norms[k])) for k in few]
        return Table(("steps kept", "relative bias", "norm of the next lag"), rows)

    def __str__(self) -> str:
        if not np.isfinite(self.bias).all():
            return f"{self.table}\nthe gradient is zero or not finite"
        if not np.any(self.norms[1:]):
            return f"{self.table}\nno part of the gradient travels back: the state does not depend on the parameters"
        needed = [(share, self.steps(share)) for share in (0.1, 0.01)]
        words = [f"{share:.0%} from {steps} steps on" for share, steps in needed if steps]
        rate = f"norms change by a factor of {self.rate:.4g} a step"
        return f"{self.table}\n{rate}; bias within {', '.join(words) or 'no bound'}"

    def plot(self, title: str = "") -> Any:
        """A matplotlib figure: relative bias by steps kept, and norm by lag with its fitted rate."""
        from seqjax.report import plot

        return plot.by_lag(np.asarray(self.norms), np.asarray(self.bias), self.rate, title)


def lags(
    step_or_problem: Callable | Problem,
    params: Params,
    state: State,
    xs: PyTree,
    max_lag: int,
    *,
    weights: Float[Array, "T B"] | None = None,
) -> Lags:
    """The gradient by how many steps back it travels, from one backward pass.

    Time: about max_lag / 2 times that of one gradient, on a CPU. Memory: (max_lag + 1) · P numbers for P parameters,
    once more while they are added up, and a few times `BLOCK` numbers: the steps go back in blocks, each of which is
    one product with the parameters' Jacobian.

    Args:
        step_or_problem: a scan body for one sequence, step(params, state, x) -> (state, loss), or a Problem.
        params: where to differentiate.
        state: where the window starts, a constant; leaves [B, ...] (an unbatched scan: add an axis of 1).
        xs: what the steps read, leaves [T, B, ...].
        max_lag: K ≥ 1, up to which lag the parts are kept apart.
        weights: float[T, B], what each loss counts; None: 1 / (T B).
    """
    problem = step_or_problem if isinstance(step_or_problem, Problem) else Problem(step_or_problem)
    if not is_whole(max_lag) or max_lag < 1:
        raise Error(f"max_lag must be a whole number, at least 1, not {max_lag!r}")
    params, state, xs, weights = check_scan(params, state, xs, weights)
    return _by_lag(problem, max_lag, BLOCK, params, state, xs, weights)


@functools.partial(jax.jit, static_argnames=("problem", "max_lag", "numbers"))
def _by_lag(problem, max_lag, numbers, params, state, xs, weights):
    _, _, steps = forward(problem, params, state, xs, weights)
    linear = Linear.of(problem, params, state)
    num_steps = len(weights)
    width = sum(a.size for a in steps.floats) // num_steps
    size = min(num_steps, max(1, numbers // max(1, max_lag * width)))
    axes = jax.tree.map(lambda a: min(1, a.ndim), params)  # of the lags: behind the first axis the products are faster

    def block(carry, steps):
        cotangents, first, later = carry
        direct, q = linear.losses(steps)

        def back(cotangents, inputs):
            step, q = inputs
            return shift(linear.back(cotangents, step), q), cotangents

        cotangents, passed = jax.lax.scan(back, cotangents, (steps, q), reverse=True)
        part = jax.vmap(linear.to_params(steps), in_axes=1, out_axes=axes, axis_size=max_lag)(passed)
        return (cotangents, *jax.tree.map(jnp.add, (first, later), (direct, part))), None

    cotangents = jax.tree.map(lambda a: jnp.zeros((max_lag, *a.shape[1:]), a.dtype), steps.floats)
    later = jax.tree.map(lambda a, axis: jnp.zeros((*a.shape[:axis], max_lag, *a.shape[axis:]), a.dtype), params, axes)
    carry = cotangents, jax.tree.map(jnp.zeros_like, params), later
    whole = num_steps - num_steps % size
    if whole < num_steps:
        carry, _ = block(carry, jax.tree.map(lambda a: a[whole:], steps))
    blocks = jax.tree.map(lambda a: a[:whole].reshape(-1, size, *a.shape[1:]), steps)
    (_, first, later), _ = jax.lax.scan(block, carry, blocks, reverse=True)
    gradients = jax.tree.map(
        lambda a, b, axis: jnp.concatenate([a[None], jnp.moveaxis(b, axis, 0)]), first, later, axes
    )

    def add(tail, part):
        tail = jax.tree.map(jnp.add, tail, part)
        return tail, (_norm(part), _norm(tail))

    _, (norms, tails) = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, params), gradients, reverse=True)
    return Lags(gradients, norms, tails[1:] / tails[0])


def _norm(tree):
    """The length of all leaves together, in float32 at least, of entries as large or as small as these can be."""
    dtype = np.result_type(np.float32, *[a.dtype for a in jax.tree.leaves(tree)])
    leaves = [jnp.abs(a.astype(dtype)) for a in jax.tree.leaves(tree)]
    largest = functools.reduce(jnp.maximum, [a.max(initial=0) for a in leaves])
    scale = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1)
    return scale * jnp.sqrt(sum(jnp.sum(jnp.square(a / scale)) for a in leaves))
