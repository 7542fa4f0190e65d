"""`jacobians`: how fast a recurrent state forgets, from the Jacobians of its steps."""

import functools
import math
import numbers
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from seqjax.diagnostics.gradient_by_lag import check_max_lag, listed_lags
from seqjax.errors import Error, check_whole
from seqjax.gradients.calls.check_scan import read_scan
from seqjax.gradients.contract.compiling import jit_of
from seqjax.gradients.contract.problem import Params, Problem, State
from seqjax.gradients.steps.floats import leaf_names, partition_float, ravel_float, split_float
from seqjax.memory import check_device_memory
from seqjax.report.shown import Shown
from seqjax.report.table import Table

if TYPE_CHECKING:  # matplotlib takes long to import
    import seqjax.report.figure


@dataclass(frozen=True, eq=False, repr=False)
class Jacobians(Shown):
    """Norms, eigenvalues and Lyapunov exponents of the Jacobians J_t = ∂s_t/∂s_{t-1} of a sequence.

    s_t are the float leaves of the state as one vector of S numbers, and

        mean_norm[k - 1], max_norm[k - 1]   of ‖∂s_t/∂s_{t-k}‖ = ‖J_t J_{t-1} ... J_{t-k+1}‖, the largest singular value
        by_state[v][k - 1]                  the maximum of ‖∂s_t/∂v_{t-k}‖, for the variable v of the state
        spectral_radius                     mean of max |eigenvalue of J_t|
        lyapunov[i]                         1/T Σ_t ln |R_t|_ii,   Q_t R_t = J_t Q_{t-1},   Q_0 = I

    where means and the maximum are over steps and rows. The Lyapunov exponents (Benettin et al. 1980) are natural
    logarithms per step. The exponents of each row are sorted, the largest first, and then averaged over the rows: the
    largest ones, the second largest ones, and so on. Over a short sequence they still contain the transient.
    """

    mean_norm: np.ndarray
    """The mean norm by lag, from 1 on, float64[max_lag]."""
    max_norm: np.ndarray
    """The largest norm by lag, from 1 on, float64[max_lag]."""
    spectral_radius: float
    """The mean spectral radius of a single step."""
    lyapunov: np.ndarray
    """The Lyapunov exponents float64[S], the largest first: each row is sorted, then the rows are averaged."""
    num_steps: int
    """T."""
    num_rows: int
    """B."""
    by_state: dict[str, np.ndarray] = field(default_factory=dict)
    """The largest norm by lag of ∂s_t/∂v_{t-k}, from 1 on, float64[max_lag], of each state variable v by its name, in
    the order of the leaves of the state, as `jax.tree.leaves` has them."""

    @property
    def growth(self) -> float:
        """ρ = exp(λ_1), λ_1 the largest Lyapunov exponent: the factor by which the state's tangent grows per step."""
        return math.exp(self.lyapunov[0])

    @property
    def largest_hazard(self) -> float:
        """1 - ρ²: a constant hazard below it has finite variance. 0 if no hazard above 0 has."""
        return max(0.0, 1 - self.growth**2)

    def check_hazard(self, hazard: float) -> bool:
        """Whether the variance of a constant hazard is finite; warns if it is not.

        An edge that is cut with probability c weighs 1 / (1 - c) where it survives. So the second moment of the part
        that travels k steps grows as (ρ² / (1 - c))^k, and its sum over k is finite only where c < 1 - ρ². ρ is
        `growth`; where the Jacobians differ much from step to step, their mean square grows faster, and the bound is
        lower. In a window of T steps the variance is finite, and grows at this rate with T.

        Args:
            hazard: c, the probability that an edge is cut: 1 - keep_prob, or 1 / mean length.

        Raises:
            Error: `hazard` is not a probability below 1.
        """
        if not isinstance(hazard, numbers.Real) or not 0 <= hazard < 1:
            raise Error(f"hazard = {hazard!r:.80} must be a probability below 1")
        finite = hazard == 0 or hazard < self.largest_hazard
        if not finite:
            bound = (
                f"below 1 - ρ² = {self.largest_hazard:.3g}" if self.largest_hazard else "0, because ρ is not below 1"
            )
            warnings.warn(
                f"a constant hazard of {hazard:g} has infinite variance here: it is not {bound}, where ρ = "
                f"{self.growth:.3g} is the growth per step (exp of the largest Lyapunov exponent); take a smaller "
                "hazard, or one that falls with age",
                UserWarning,
                stacklevel=2,
            )
        return finite

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the table of norms by lag."""
        return ("lag", "mean_norm", "max_norm")

    @property
    def rows(self) -> tuple[tuple[Any, ...], ...]:
        """The rows of the table of norms by lag, one per lag."""
        lags = range(1, len(self.mean_norm) + 1)
        return tuple(zip(lags, self.mean_norm.tolist(), self.max_norm.tolist(), strict=True))

    @property
    def state_table(self) -> Table:
        """The largest norms of each state variable at a few lags."""
        lags = listed_lags(len(self.mean_norm))
        rows = [(name, *(float(norms[lag - 1]) for lag in lags)) for name, norms in self.by_state.items()]
        return Table(("state variable", *(f"lag {lag}" for lag in lags)), rows)

    def _parts(self) -> list[str | Table]:
        states = [self.state_table] if len(self.by_state) > 1 else []
        return [self._size(), self._few_lags(), *states, self._conclusion()]

    def _size(self) -> str:
        return f"{self.num_steps} steps, {self.num_rows} rows, {len(self.lyapunov)} state numbers"

    def _few_lags(self) -> Table:
        return Table(self.columns, [self.rows[lag - 1] for lag in listed_lags(len(self.rows))])

    def _conclusion(self) -> str:
        exponents = self.lyapunov
        return (
            f"spectral radius of a step   {self.spectral_radius:.4g}, mean\n"
            f"Lyapunov exponents per step {exponents[0]:.4g} to {exponents[-1]:.4g}, sum {exponents.sum():.4g}\n"
            f"growth per step ρ           {self.growth:.4g}\n"
            + (
                f"constant hazards below 1 - ρ² = {self.largest_hazard:.4g} have finite variance"
                if self.largest_hazard
                else "no constant hazard has finite variance, because ρ is not below 1"
            )
        )

    __repr__ = Shown.__str__

    def plot(self, *, figsize: tuple[float, float] | None = None) -> "seqjax.report.figure.Figure":
        """A matplotlib figure of the norms by lag, their mean and maximum over the steps, with ρ^lag for comparison.

        Args:
            figsize: the width and the height in inches.
        """
        from seqjax.report import plot

        lags = np.arange(1, len(self.mean_norm) + 1)
        power = f"$\\rho^k$ with $\\rho$ = {self.growth:.3g}"
        curves = {"mean over t": self.mean_norm, "maximum over t": self.max_norm, power: self.growth**lags}
        lines = {name: (lags, np.where(norms > 0, norms, np.nan)) for name, norms in curves.items()}
        label = r"norm of $\partial s_t\,/\,\partial s_{t-k}$"
        return plot.lines(lines, x_label="lag k (steps)", y_label=label, y_scale="log", figsize=figsize)


def jacobians(
    step_or_problem: Callable | Problem,
    params: Params,
    state: State,
    xs: PyTree = None,
    max_lag: int | None = None,
    *,
    length: int | None = None,
    every: int = 1,
    has_aux: bool = False,
    batched: bool = False,
) -> Jacobians:
    """The Jacobians of a sequence's steps: norms of their products, spectral radius, Lyapunov exponents.

    Products are exact. They are kept for the last `max_lag` steps only, one row at a time: max_lag S² numbers, with S
    the size of the state. Each step takes max_lag products of S³ multiplications and a QR decomposition, and each
    `every`-th step max_lag + 1 eigenvalue problems.

    >>> import jax.numpy as jnp
    >>> import seqjax as sj
    >>> def step(w, s, x):
    ...     s = 0.5 * s + w * x
    ...     return s, s
    >>> found = sj.jacobians(step, jnp.array(1.0), jnp.array(0.0), jnp.ones(4), max_lag=3)
    >>> found.max_norm.tolist()
    [0.5, 0.25, 0.125]
    >>> round(found.growth, 4), round(found.largest_hazard, 4)
    (0.5, 0.75)

    Args:
        step_or_problem: a scan body for one sequence, step(params, state, x) -> (new state, loss), or a Problem.
        params: its parameters.
        state: the state in which the sequence starts. Leaves that are not floats are carried along.
        xs: what the steps read, leaves [T, ...]; None: nothing.
        max_lag: the largest lag, at most T; None: T.
        length: T, if `xs` has no arrays, as in `jax.lax.scan`.
        every: norms and eigenvalues are computed at each `every`-th step.
        has_aux: whether the step returns (new state, (loss, outputs)).
        batched: whether there are rows: state has leaves [B, ...], and xs [T, B, ...].

    Raises:
        Error: the state has no float leaves; the sequence has no such lag; `length` is no number of steps, or not T, or
            it is missing; the arguments, or what the step returns, do not fit together.
    """
    scan = read_scan(step_or_problem, params, state, xs, length=length, has_aux=has_aux, batched=batched)
    T, B = scan.weights.shape
    max_lag = T if max_lag is None else max_lag
    check_whole(below_2_to=31, max_lag=(max_lag, 1), every=(every, 1))
    check_max_lag(max_lag, T)
    floats, _ = partition_float(jax.tree.map(lambda a: a[0], scan.state))
    size = sum(a.size for a in jax.tree.leaves(floats))
    if not size:
        raise Error("the state has no float leaves, so that it has no Jacobians")
    numbers = 2 * max_lag * size**2  # the products of a step and of the step before
    what = f"Jacobians of {size:,} state numbers at {max_lag:,} lags"
    check_device_memory(what, 4 * numbers, "Pass a smaller max_lag")
    rows = jax.tree.map(lambda a: jnp.moveaxis(a, 1, 0), scan.xs)
    results = jax.device_get(jit_of(_walk_rows, scan.problem, max_lag, every)(scan.params, scan.state, rows))
    totals, logs_BS = jax.tree.map(lambda a: np.asarray(a, np.float64), results)
    lyapunov = np.sort(logs_BS / T, axis=1)[:, ::-1].mean(0)
    names = [name for name, _ in leaf_names(partition_float(scan.state)[0], "state")]
    by_state = {name: norms_BK.max(0) for name, norms_BK in zip(names, totals.by_state, strict=True)}
    radius = float((totals.radius / totals.count[:, 0]).mean())
    return Jacobians((totals.norm / totals.count).mean(0), totals.most.max(0), radius, lyapunov, T, B, by_state)


class _Carry(NamedTuple):
    """What is carried from step to step, for a state of S numbers and K lags.

    Args:
        s: the float leaves of the state, [S].
        others: its other leaves.
        products: J_t J_{t-1} ... J_{t-k+1} for k = 1, ..., K, [K, S, S].
        Q: the orthogonal matrix of the Lyapunov exponents, [S, S].
        logs: Σ_t ln |R_t|_ii, [S].
        totals: the sums over the steps so far.
    """

    s: Any
    others: Any
    products: Any
    Q: Any
    logs: Any
    totals: Any


class _Totals(NamedTuple):
    """Sums over the steps at which norms are computed.

    Args:
        count: by lag, the number of norms, [K].
        norm: by lag, the sum of the norms, [K].
        most: by lag, the largest norm, [K].
        by_state: for each leaf of the state and by lag, the largest norm, [K].
        radius: the sum of the spectral radii of single steps.
    """

    count: Any
    norm: Any
    most: Any
    by_state: Any
    radius: Any


def _walk_rows(problem, max_lag, every, params, state, xs):
    """`_walk` for one row after another, since the products of a single row may fill the memory."""
    return jax.lax.map(lambda row: _walk(problem, max_lag, every, params, *row), (state, xs))


def _walk(problem, K, every, params, state, xs_T):
    """Follows the Jacobians of one row from step to step. Returns the totals, and Σ_t ln |R_t|_ii, [S]."""
    T = len(jax.tree.leaves(xs_T)[0])
    s, others, join = ravel_float(state)
    dtype = np.promote_types(s.dtype, np.float32)

    def after(s, others, x):
        s, others, _ = ravel_float(problem.step(params, join(s, others), x)[0])
        return s, (s, others)

    def step(carry, inputs):
        t, x = inputs
        J_SS, (s, others) = jax.jacrev(after, has_aux=True)(carry.s, carry.others, x)
        J_SS = J_SS.astype(dtype)
        # Entry k - 1 is J_t J_{t-1} ... J_{t-k+1}. In the first steps of the sequence the entries that would reach
        # beyond its start are products with zeros.
        products_KSS = jnp.concatenate([J_SS[None], J_SS @ carry.products[:-1]])
        # A product of many Jacobians loses all directions but the fastest to rounding. The QR decomposition keeps the
        # directions Q orthogonal, and the growth along each of them is on the diagonal of R.
        Q_SS, R_SS = jnp.linalg.qr(J_SS @ carry.Q)
        logs_S = carry.logs + jnp.log(jnp.abs(jnp.diagonal(R_SS)))
        # The last step is always included, because only there the largest lags are sure to lie inside the sequence.
        taken = (T - 1 - t) % every == 0
        add = functools.partial(_add, ends)
        totals = jax.lax.cond(taken, add, lambda totals, *_: totals, carry.totals, products_KSS, t)
        return _Carry(s, others, products_KSS, Q_SS, logs_S, totals), None

    zeros = functools.partial(jnp.zeros, dtype=dtype)
    S = s.size
    ends = np.cumsum([leaf.size for leaf in split_float(state)[0]])
    totals = _Totals(zeros(K), zeros(K), zeros(K), [zeros(K) for _ in ends], zeros(()))
    start = _Carry(s, others, zeros((K, S, S)), jnp.eye(S, dtype=dtype), zeros(S), totals)
    end, _ = jax.lax.scan(step, start, (jnp.arange(T), xs_T))
    return end.totals, end.logs


def _add(ends, totals, products_KSS, t):
    """The totals with the norms of the products that end at step t, for the lags that lie inside the sequence.

    Args:
        ends: where the columns of each leaf of the state end.
        totals: the totals of the steps before.
        products_KSS: the products.
        t: the step.
    """
    inside_K = jnp.arange(len(totals.count)) <= t
    norms_K = jnp.where(inside_K, jax.vmap(_norm)(products_KSS), 0)
    columns = jnp.split(products_KSS, ends[:-1], axis=2)
    by_state = [jnp.where(inside_K, jax.vmap(_norm)(part), 0) for part in columns] if len(columns) > 1 else [norms_K]
    largest = jnp.abs(jnp.linalg.eigvals(products_KSS[0])).max()
    return _Totals(
        totals.count + inside_K.astype(totals.count.dtype),
        totals.norm + norms_K,
        jnp.maximum(totals.most, norms_K),
        list(map(jnp.maximum, totals.by_state, by_state)),
        totals.radius + largest,
    )


def _norm(A_SS):
    """The largest singular value, as the square root of the largest eigenvalue of AᵀA, which is faster to compute.

    A is divided by its largest entry first, so that no square over- or underflows.
    """
    scale = jnp.abs(A_SS).max()
    finite = jnp.isfinite(scale)
    unit_SS = jnp.where(finite, A_SS / jnp.where(scale > 0, scale, 1), 0)
    return jnp.where(finite, scale * jnp.sqrt(jnp.linalg.eigvalsh(unit_SS.T @ unit_SS)[-1]), scale)
