"""`lags`: how much of a gradient travels how many steps back, from one backward pass over a scan."""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from seqjax.errors import Error, check_whole, counted, dtype_shape
from seqjax.gradients.calls.check_scan import Weights, read_scan
from seqjax.gradients.contract.compiling import jit_of
from seqjax.gradients.contract.problem import Params, Problem, State
from seqjax.gradients.influence.trajectory import record_rows, scan_blocks
from seqjax.gradients.reverse.budget import num_bytes
from seqjax.gradients.steps.floats import leaf_names, norm, partition_float
from seqjax.gradients.steps.mapping import mapped
from seqjax.memory import check_device_memory
from seqjax.report import shown
from seqjax.report.table import Table

if TYPE_CHECKING:  # matplotlib takes long to import
    import seqjax.report.figure

BLOCK = 2**23
"""The largest number of entries that the cotangents of a block of time steps may have."""
GROWN = 1_000
"""A gradient that grows by this factor on its way back explodes."""
LARGEST_HAZARD = 0.9
"""The largest constant hazard that `Lags.hazard` considers."""


class StateLags(NamedTuple):
    """How far the gradient travels through one state variable. Entry k - 1 belongs to lag k, up to K = max_lag.

    With λ^(k)_t = w_{t+k} ∂l_{t+k}/∂s_t, where s_t is this variable after step t in all rows,

        norms[k - 1] = max_t ‖λ^(k)_t‖,   steps[k - 1] = argmax_t ‖λ^(k)_t‖

    The last entry belongs to the sum of all older parts.

    Args:
        norms: float[K], the largest norm.
        steps: int32[K], the step t at which the norm is largest, from 0 on.
    """

    norms: Any
    steps: Any

    @property
    def first_norm(self) -> float:
        """The norm at the smallest lag at which it is not zero; 0 if the variable has no gradient."""
        norms = np.asarray(self.norms, np.float64)
        return float(norms[np.argmax(norms != 0)])

    def growth_lag(self, base: float) -> int | None:
        """The first lag below K at which the norm exceeds `base` `GROWN`-fold, or is not finite; None: there is none.

        The sum of all older parts counts as lag K only if it is not finite.
        """
        norms = np.asarray(self.norms, np.float64)
        grown = np.logical_not(norms <= GROWN * base)
        # The last entry is a sum over many lags, which may be large even if the part of each lag is small.
        grown[-1] = not np.isfinite(norms[-1])
        return int(np.argmax(grown)) + 1 if grown.any() else None


class Lags(NamedTuple):
    """The parts of the gradient of a scan by the number of steps that they travel back; K = max_lag.

    Args:
        gradients: like the parameters, with a leading axis [K + 1]: entry k is the part that travels exactly k steps
            back, entry 0 the direct part, and the last entry the sum of all older parts. The entries sum to the
            gradient.
        norms: float[K + 1], the norms of these parts.
        bias: float[K]; bias[k - 1] is the relative error of the gradient that keeps the last k steps of each loss, lags
            0 to k - 1, as a sliding truncation does.
        by_state: the `StateLags` of each state variable by its name, in the order of the leaves of the state, as
            `jax.tree.leaves` has them.
    """

    gradients: Any
    norms: Any
    bias: Any
    by_state: Any = MappingProxyType({})

    @property
    def by_param(self) -> dict[str, np.ndarray]:
        """The norms of the parts of the gradient, float64[K + 1], of each parameter by its name."""
        return {
            name: np.asarray(jax.vmap(norm)(leaf), np.float64) for name, leaf in leaf_names(self.gradients, "params")
        }

    @property
    def explodes(self) -> tuple[str, int, int] | None:
        """The state variable whose gradient grows `GROWN`-fold within the fewest steps; None: there is none.

        Growth is relative to the largest of all variables' first norms: a variable that acts on the loss only through
        others begins with a tiny gradient, which may grow by a large factor and remain small.

        Returns:
            The name of the variable, the lag at which its gradient has grown `GROWN`-fold, and the step with the
            largest gradient at this lag.
        """
        finite = [lags.first_norm for lags in self.by_state.values() if np.isfinite(lags.first_norm)]
        growth_lags = {name: lags.growth_lag(max(finite, default=0.0)) for name, lags in self.by_state.items()}
        grown = [(lag, name) for name, lag in growth_lags.items() if lag is not None]
        if not grown:
            return None
        lag, name = min(grown)
        return name, lag, int(self.by_state[name].steps[lag - 1])

    def mean(self, kept: Float[Any, " K+1"]) -> Params:
        """The mean gradient of an estimator that keeps, on average, the share kept[k] of the part of lag k.

        A cut at a hazard c_k without reweighting keeps Π_{i<k} (1 - c_i), a discount λ keeps λ^k, and
        `ARTBP(cap=...).kept(K)` gives the shares that a cap leaves.

        Args:
            kept: float[K + 1], the last entry for all older parts.

        Raises:
            Error: `kept` are not real numbers, or have another length.
        """
        kept = _real_numbers("kept", kept)
        if kept.shape != self.norms.shape:
            raise Error(f"kept must have {len(self.norms)} entries, one for each lag and the last for all older lags")
        return jax.tree.map(lambda a: jnp.tensordot(jnp.asarray(kept, a.dtype), a, 1), self.gradients)

    def bias_of(self, kept: Float[Any, " K+1"]) -> float:
        """The relative error ‖E ĝ - g‖ / ‖g‖ of the mean gradient of such an estimator; `kept` as in `mean`."""
        whole = self.mean(np.ones(len(self.norms)))
        return float(norm(self.mean(_real_numbers("kept", kept) - 1)) / norm(whole))

    def steps(self, bias: float) -> int | None:
        """The smallest n such that keeping n or more steps has a relative error of at most `bias`.

        None: more than max_lag.

        Args:
            bias: from 0 on; .1 is 10 %.

        Raises:
            Error: `bias` is negative or no number.
        """
        error = _real_numbers("bias", bias)
        if error.ndim or not error >= 0:
            raise Error(f"bias = {bias!r:.80} must be a relative error, at least 0, such as 0.1 for 10 %")
        beyond = np.flatnonzero(~(np.asarray(self.bias) <= error))
        fewest = int(beyond[-1]) + 2 if len(beyond) else 1
        return fewest if fewest <= len(self.bias) else None

    @property
    def rate(self) -> float:
        """ρ of the fit ‖G_k‖ ∝ ρ^k over the lags from 1 on: the decay per step, by least squares on the logarithms."""
        fit = self._fit
        (k,) = np.nonzero(~np.isnan(fit))
        return float((fit[k[-1]] / fit[k[0]]) ** (1 / (k[-1] - k[0]))) if len(k) > 1 else float("nan")

    @property
    def _fit(self) -> np.ndarray:
        """The fit ‖G_k‖ ∝ ρ^k, float64[K + 1], NaN at lags that are not fitted: 0, K, and lags of rounding errors."""
        norms = np.asarray(self.norms, np.float64)
        eps = np.finfo(np.asarray(self.norms).dtype).eps
        (k,) = np.nonzero(norms[1:-1] > eps * norms[1:-1].max(initial=0))
        fit = np.full(len(norms), np.nan)
        if len(k) > 1:
            fit[k + 1] = np.exp(np.polyval(np.polyfit(k, np.log(norms[k + 1]), 1), k))
        return fit

    def variance(self, hazard: float | Sequence[float]) -> float:
        """The variance, relative to ‖g‖², of a gradient that is cut at one random lag and reweighted.

        A number of steps N is drawn with P(N ≥ k) = q_k = Π_{i<k} (1 - hazard[i]), and lags k ≤ N weigh 1 / q_k: the
        mean is the gradient g. With R_k = Σ_{j≥k} G_j

            V = Σ_k (‖R_k‖² - ‖R_{k+1}‖²) / (q_k ‖g‖²) - 1

        Here all losses share one cut. `ARTBP` and `Randomized` cut each edge independently, so that losses which are
        far apart have different cuts, and their variance is smaller.

        Args:
            hazard: c, the probability of a cut at any lag; or K probabilities, of a cut between lag k and k + 1. If
                there are fewer than K, the last one is repeated.

        Raises:
            Error: a hazard is not a probability below 1.
        """
        q = self._survival(hazard)
        return float(np.sum(self._drops / q) - 1)

    def mean_length(self, hazard: float | Sequence[float]) -> float:
        """The mean number of steps that a gradient cut with this hazard reaches back: Σ_k q_k, as in `variance`."""
        return float(self._survival(hazard).sum())

    def hazard(self, noise: float = 1.0) -> float:
        """The constant hazard c that minimises variance × cost, for `Randomized(keep_prob=1 - c)`.

        It minimises (noise + V) Σ_k q_k over c from 0 to `LARGEST_HAZARD`, with q_k = (1 - c)^k and V as in `variance`:
        the variance between sequences plus the variance that cutting adds, times the mean number of steps. With
        noise = 1 this is E‖ĝ‖² Σ_k q_k, and a gradient that decays as ρ^k is cut with c = 1 - ρ. The minimum over all
        survival probabilities has q_k ∝ √(‖R_k‖² - ‖R_{k+1}‖²) (Beatson & Adams 2019, "Efficient optimization of loops
        and limits with randomized telescoping sums", arXiv:1905.07006). Cuts of edges along a sequence follow it only
        if the hazard is constant: a hazard by age counts from the last cut, whose distance differs from loss to loss.

        Args:
            noise: the variance of the exact gradient from sequence to sequence, relative to its squared norm.

        Raises:
            Error: `noise` is not positive and finite; the gradient is zero or not finite.
        """
        variance = _real_numbers("noise", noise)
        if variance.ndim or not 0 < variance < np.inf:
            raise Error(
                f"noise = {noise!r:.80} must be positive and finite: at noise = 0 the full gradient has "
                "variance × cost = 0, the minimum"
            )
        if not np.isfinite(self._drops).all():
            raise Error("the gradient is zero or not finite, so that no hazard is better than another")
        rest = np.concatenate([[1.0], self.bias])  # ‖R_k‖ / ‖g‖, of which the smallest are rounding errors
        (k,) = np.nonzero(rest > 100 * np.finfo(np.asarray(self.norms).dtype).eps)
        hazards = np.concatenate([[0.0], np.geomspace(1e-4, LARGEST_HAZARD, 2_000)])
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            q = (1 - hazards[:, None]) ** np.arange(len(rest))
            cost = (variance - 1 + np.sum(self._drops[k] / q[:, k], 1)) * q.sum(1)
        return float(hazards[np.nanargmin(cost)])

    @property
    def _drops(self) -> np.ndarray:
        """(‖R_k‖² - ‖R_{k+1}‖²) / ‖g‖² for k = 0, ..., K; they sum to 1."""
        squares = np.concatenate([[1.0], np.asarray(self.bias, np.float64) ** 2, [0.0]])
        return squares[:-1] - squares[1:]

    def _survival(self, hazard):
        """The probabilities q_k of survival for k = 0, ..., K."""
        hazard = np.atleast_1d(np.asarray(_real_numbers("hazard", hazard), np.float64))
        if hazard.ndim != 1 or not len(hazard) or not ((hazard >= 0) & (hazard < 1)).all():
            raise Error("a hazard is a probability below 1, or a sequence of them, one per lag")
        missing = max(0, len(self.bias) - len(hazard))
        hazard = np.concatenate([hazard, np.full(missing, hazard[-1])])[: len(self.bias)]
        return np.cumprod(np.concatenate([[1.0], 1 - hazard]))

    @property
    def table(self) -> Table:
        """Bias and norm at a few lags. The last row has no norm, because the older lags are known only as a sum."""
        K = len(self.bias)
        rows = [(k, float(self.bias[k - 1]), float(self.norms[k]) if k < K else None) for k in listed_lags(K)]
        return Table(("steps kept", "relative bias", "norm of the next lag"), rows)

    @property
    def leaf_table(self) -> Table:
        """The norms of each parameter and of each state variable at a few lags."""
        lags = [k for k in listed_lags(len(self.bias)) if k < len(self.bias)]  # the last norm is of all older lags
        rows = [("param", name, *(float(norms[k]) for k in lags)) for name, norms in self.by_param.items()]
        rows += [
            ("state", name, *(float(state_lags.norms[k - 1]) for k in lags))
            for name, state_lags in self.by_state.items()
        ]
        return Table(("of", "name", *(f"lag {k}" for k in lags)), rows)

    def _parts(self) -> list[str | Table]:
        if self._is_traced():
            return [repr(self)]
        several = len(self.bias) > 1 and (len(self.by_state) > 1 or len(self.by_param) > 1)
        leaves = [self.leaf_table] if several else []
        return [self.table, self._conclusion(), *leaves, *self._explosion()]

    # These three methods are those of `Shown`, which cannot be a base class beside `NamedTuple`.
    def __str__(self) -> str:
        return shown.as_text(self._parts())

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        return shown.as_renderables(self._parts())

    def _repr_markdown_(self) -> str:
        return shown.as_markdown(self._parts())

    def _is_traced(self) -> bool:
        """Whether its arrays have no values, as inside `jit`, or those of several scans, as `vmap` returns them."""
        return np.ndim(self.norms) != 1 or isinstance(self.norms, jax.core.Tracer)

    def _conclusion(self) -> str:
        if not np.isfinite(self.bias).all():
            return "the gradient is zero or not finite"
        if not np.any(self.norms[1:]):
            return "no part of the gradient travels back: the state does not depend on the parameters"
        needed = [(share, self.steps(share)) for share in (0.1, 0.01)]
        words = [f"{share:.0%} from {counted(steps, 'step')} on" for share, steps in needed if steps]
        # One lag alone has no rate.
        rate = "" if np.isnan(self.rate) else f"norms change by a factor of {self.rate:.4g} a step; "
        bias = f"within {', '.join(words)}" if words else f"above 10% up to {counted(len(self.bias), 'step')}"
        return f"{rate}bias {bias}"

    def _explosion(self) -> list[str]:
        """Which state variable's gradient explodes; empty if none does."""
        if not self.explodes:
            return []
        name, lag, step = self.explodes
        return [f"the gradient by {name} explodes first: {GROWN:,}-fold within {lag} steps, largest at step {step}"]

    def __repr__(self) -> str:
        if self._is_traced():
            return f"Lags(norms: {dtype_shape(self.norms)})"
        return f"Lags({len(self.bias)} lags: {self._conclusion()})"  # the arrays alone are thousands of characters

    def plot(
        self, title: str = "", by: str | None = None, *, figsize: tuple[float, float] | None = None
    ) -> "seqjax.report.figure.Figure":
        """A matplotlib figure: the norms by lag with their fitted rate, and the relative bias by steps kept.

        The line of the fit is drawn over the lags where it holds; see `seqjax.plot.by_lag`.

        Args:
            title: the title of the figure.
            by: "state" or "param" shows the norms by lag of each state variable or parameter instead.
            figsize: the width and the height in inches.

        Raises:
            Error: `by` is something else.
        """
        from seqjax.report import plot

        if by is not None:
            if by not in ("state", "param"):
                raise Error(f'by = {by!r} must be "state", "param" or None')
            norms_of = {name: lags.norms for name, lags in self.by_state.items()} if by == "state" else self.by_param
            first = 1 if by == "state" else 0
            lines = {}
            for name, norms in norms_of.items():
                norms = np.asarray(norms, np.float64)
                lines[name] = np.arange(first, first + len(norms)), np.where(norms > 0, norms, np.nan)
            label = "norm of ∂l / ∂variable" if by == "state" else "norm of the part of the gradient"
            labels: dict[str, Any] = {"x_label": "lag (steps)", "y_label": label, "y_scale": "log", "title": title}
            return plot.lines(lines, **labels, figsize=figsize)
        figure = plot.by_lag(np.asarray(self.norms), np.asarray(self.bias), self._fit, title, figsize=figsize)
        return figure.begin_caption("norm of the gradient by lag, and relative bias of a truncation")


def _real_numbers(name: str, value: Any) -> Any:
    """A real number, or an array of them, as an array: one of JAX as it is, else float64."""
    try:
        array = value if isinstance(value, jax.Array) else np.asarray(value)
    except ValueError as fault:  # lists of different lengths
        raise Error(f"{name} = {value!r:.80}: {fault}") from fault
    if not any(jnp.issubdtype(array.dtype, kind) for kind in (np.bool, np.integer, np.floating)):
        raise Error(f"{name} = {value!r:.80} must be a real number, or an array of real numbers")
    return array if isinstance(array, jax.Array) else array.astype(np.float64)


def listed_lags(num_lags: int) -> list[int]:
    """The lags of a table: 1, 2, 5, 10, 20, 50, ... below `num_lags`, and `num_lags` itself."""
    powers = [10**n for n in range(len(str(num_lags)))]
    return [lag for power in powers for lag in (power, 2 * power, 5 * power) if lag < num_lags] + [num_lags]


def lags(
    step_or_problem: Callable | Problem,
    params: Params,
    state: State,
    xs: PyTree = None,
    max_lag: int | None = None,
    *,
    length: int | None = None,
    weights: Weights = None,
    has_aux: bool = False,
    batched: bool = False,
    reset: Bool[Array, "T ..."] | None = None,
    initial: State | None = None,
) -> Lags:
    """The parts of a gradient by the number of steps that they travel back, from one backward pass.

    It takes many times as long as one gradient: for 20,000 steps on two cores, where a gradient takes .04 to .09 s, it
    takes 4.1 s with max_lag = 10, 9.3 s with 500, and 27.6 s with 2,000. For P parameters it needs memory for about
    2 (max_lag + 1) P numbers.

    >>> import jax.numpy as jnp
    >>> import seqjax as sj
    >>> def step(w, s, x):
    ...     s = 0.5 * s + w * x
    ...     return s, s
    >>> found = sj.lags(step, jnp.array(1.0), jnp.array(0.0), jnp.ones(4), max_lag=3, weights="last")
    >>> found.norms.tolist()  # each step back halves the gradient
    [1.0, 0.5, 0.25, 0.125]
    >>> found.steps(bias=0.1)  # a truncation to 3 steps has a bias of at most 10 %
    3

    The steps may also be the iterations of a loop, which read nothing: `length` is their number, and x is None. These
    converge to a fixed point.

    >>> def iteration(w, s, x):
    ...     s = jnp.tanh(w * s + 0.2)
    ...     return s, s
    >>> found = sj.lags(iteration, jnp.array(0.7), jnp.array(0.0), length=40, weights="last")
    >>> found.steps(bias=0.01)  # 8 of 40 iterations suffice for a bias of at most 1 %
    8

    Args:
        step_or_problem: a scan body for one sequence, step(params, state, x) -> (new state, loss), or a Problem.
        params: the parameters at which to differentiate.
        state: the state in which the window starts, a constant.
        xs: what the steps read, leaves [T, ...]; None: nothing.
        max_lag: K, from 1 to T; the parts of lags from K on are summed. None: T, so that no lags are summed.
        length: T, if `xs` has no arrays, as in `jax.lax.scan`.
        weights: float[T], the weights of the losses; None: 1 / T; "last": only the last loss counts. A loss of weight 0
            may be NaN.
        has_aux: whether the step returns (new state, (loss, outputs)).
        batched: whether there are rows: state and initial have leaves [B, ...], xs [T, B, ...], weights are
            float[T, B], by default 1 / (T B), and reset is bool[T] or bool[T, B].
        reset: bool[T], the steps that start from `initial`, as in `estimate`: no part of the gradient travels across a
            reset.
        initial: the state at a reset; None: the `init_state` of a problem that has one, else `state`.

    Raises:
        Error: `max_lag` is not a whole number from 1 to T; `length` is no number of steps, or not T, or it is missing;
            the arguments, or what the step returns, do not fit together; the parts take more memory than there is.
    """
    check_whole(below_2_to=31, max_lag=(1 if max_lag is None else max_lag, 1))
    options: dict[str, Any] = {"has_aux": has_aux, "batched": batched, "reset": reset, "initial": initial}
    problem, *arrays = read_scan(step_or_problem, params, state, xs, weights, length=length, **options)
    num_steps = len(arrays[-1])
    max_lag = num_steps if max_lag is None else max_lag
    check_max_lag(max_lag, num_steps)
    size = 2 * (max_lag + 1) * num_bytes(arrays[0])
    check_device_memory(f"the parts of the gradient by {max_lag:,} lags", size, "Pass a smaller max_lag")
    return jit_of(_by_lag, problem, max_lag, BLOCK)(*arrays)


def check_max_lag(max_lag: int, num_steps: int) -> None:
    """Raises an `Error` if a lag is larger than the number of steps."""
    if max_lag > num_steps:
        raise Error(f"max_lag = {max_lag} must be at most {num_steps}, the number of steps")


def _by_lag(problem, max_lag, numbers, params, state, xs, weights):
    """The parts of the gradient, block by block of time steps from the last one to the first.

    G_k = Σ_t λ^(k)_t I_t for all k at once is one product of the cotangents of many steps with the derivatives of these
    steps. It needs the cotangents of all steps and lags side by side, so the steps are taken in blocks whose cotangents
    are at most `numbers` numbers.
    """
    _, _, trajectory = record_rows(problem, params, state, xs, weights)
    steps = trajectory.steps
    num_steps = len(weights)
    width = sum(a.size for a in steps.floats) // num_steps
    size = min(num_steps, max(1, numbers // max(1, max_lag * width)))
    # The axis of the lags in the sums. Behind the first axis of a parameter the products are faster than before it.
    axes = jax.tree.map(lambda a: min(1, a.ndim), params)

    def block(carry, inputs):
        t, steps = inputs
        (cotangents, largest), first, later = carry
        _, direct, q = trajectory.of_losses(steps)

        # Entry k - 1 of the cotangents is λ^(k), leaves [K, B, ...]. The last entry gathers all that is older.
        def back(carry, inputs):
            cotangents, largest = carry
            t, step, q = inputs
            passed = trajectory.back(cotangents, step)
            before = jax.tree.map(lambda a, q: jnp.concatenate([q[None], a[:-1]]).at[-1].add(a[-1]), passed, q)
            largest = [_largest(old, jax.vmap(norm)(a), t) for old, a in zip(largest, cotangents, strict=True)]
            return (before, largest), cotangents

        carry, passed = jax.lax.scan(back, (cotangents, largest), (t, steps, q), reverse=True)
        to_params = trajectory.to_params(steps)
        if trajectory.one_by_one:
            lag_first = [jnp.moveaxis(a, 1, 0) for a in passed]
            part = jax.tree.map(
                lambda a, axis: jnp.moveaxis(a, 0, axis), mapped(to_params, (0,), max_lag, True)(lag_first), axes
            )
        else:
            part = jax.vmap(to_params, in_axes=1, out_axes=axes, axis_size=max_lag)(passed)
        return carry, *jax.tree.map(jnp.add, (first, later), (direct, part))

    cotangents = jax.tree.map(lambda a: jnp.zeros((max_lag, *a.shape[1:]), a.dtype), steps.floats)
    later = jax.tree.map(lambda a, axis: jnp.zeros((*a.shape[:axis], max_lag, *a.shape[axis:]), a.dtype), params, axes)
    nothing = [StateLags(jnp.zeros(max_lag, norm(a).dtype), jnp.zeros(max_lag, jnp.int32)) for a in cotangents]
    carry = (cotangents, nothing), jax.tree.map(jnp.zeros_like, params), later
    numbered = jnp.arange(num_steps, dtype=jnp.int32), steps
    (_, largest), first, later = scan_blocks(block, carry, numbered, size)
    gradients = jax.tree.map(
        lambda a, b, axis: jnp.concatenate([a[None], jnp.moveaxis(b, axis, 0)]), first, later, axes
    )

    # R_k = Σ_{j≥k} G_j, from the last lag to the first; ‖R_k‖ / ‖R_0‖ is the bias of keeping k steps.
    def add(tail, part):
        tail = jax.tree.map(jnp.add, tail, part)
        return tail, (norm(part), norm(tail))

    _, (norms, tails) = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, params), gradients, reverse=True)
    names = [name for name, _ in leaf_names(partition_float(state)[0], "state")]
    # `jit` would return the names of a plain dict in alphabetical order, not in the order of the state.
    return Lags(gradients, norms, tails[1:] / tails[0], OrderedDict(zip(names, largest, strict=True)))


def _largest(old: StateLags, norms: Float[Array, " K"], t: Int[Array, ""]) -> StateLags:
    """The larger norm of each lag, with its step. A norm that is not finite counts as larger than all others."""
    larger = ~(norms <= old.norms) & ~jnp.isnan(old.norms)
    return StateLags(jnp.where(larger, norms, old.norms), jnp.where(larger, t, old.steps))
