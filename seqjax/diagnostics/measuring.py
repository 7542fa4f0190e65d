"""`measure`: bias, variance and cost of gradient strategies, side by side on one problem."""

import functools
import json
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from seqjax.errors import Error, check_type, check_whole, counted, nearest
from seqjax.gradients.calls.check_scan import CheckedScan, Weights, read_scan
from seqjax.gradients.contract.compiling import jit_of
from seqjax.gradients.contract.gradient import Gradient, weighted_sum
from seqjax.gradients.contract.problem import Params, Problem, State
from seqjax.gradients.contract.rows import init_memory, one_input, reset_rows
from seqjax.gradients.contract.window import Batch, Memory
from seqjax.gradients.reverse.budget import num_bytes
from seqjax.gradients.steps.floats import ravel_float
from seqjax.memory import check_device_memory
from seqjax.plugin import registry
from seqjax.plugin.base import fields_of
from seqjax.plugin.config import describe
from seqjax.report.shown import Shown
from seqjax.report.table import Table
from seqjax.terminal.counted import CountedDisplay
from seqjax.terminal.live import shows_progress

if TYPE_CHECKING:  # matplotlib takes long to import
    import seqjax.report.figure

LABELS = {"bias": "relative bias", "snr": "signal-to-noise ratio", "seconds": "time of an update (s)"}
GROUPS = 20
"""The number of groups in which draws are averaged. The spread of their means gives the error of the overall mean."""
ROUNDS = 10
"""How many times each update is timed."""
SETTLING = 0.02
"""Seconds of untimed calls before an update is timed."""
OF = ("window", "history")


class WindowSequence(NamedTuple):
    """N consecutive windows, as training would take them.

    Args:
        state: the state in which the first window starts, leaves [B, ...].
        batches: the windows as one `Batch`, leaves [N, ...]; its `reset` is None if no row is ever reset.
    """

    state: Any
    batches: Batch


@dataclass(frozen=True, eq=False, repr=False)
class Measures(Shown):
    """S strategies, measured on the same windows. Print it, pass it to `Report.table`, or read its arrays.

    With ĝ_1 ... ĝ_n the draws, m their mean, s² = Σ ‖ĝ_i - m‖² / (n - 1), and g the true gradient, of the windows or of
    the history as the strategy's `of` says:

        bias         √max(b, 0) / ‖g‖,   b = ‖m - g‖² - s²/n
        bias_error   its standard error: half the distance from the bias to the farther end of
                     √max(max(b, 0) ± 2e, 0) / ‖g‖, with e the standard error of b
        variance     s² / ‖g‖²
        snr          (‖m‖² - s²/n) / s²
        cosine       mean of ĝ_i·g / ‖ĝ_i‖‖g‖
        mean_cosine  m·g / ‖m‖‖g‖

    E‖m - g‖² = ‖E m - g‖² + s²/n: noise adds s²/n to the squared distance of a mean. b subtracts this term, so that E b
    is the squared bias. With β = E m - g and Σ the covariance of m, Var b = 4 βᵀΣβ + 2 tr Σ². e² estimates it from the
    means m_k of K groups of draws: 4/K Var_k (m_k·(m - g)) estimates 4 βᵀΣβ + 4 tr Σ², and tr Σ² is estimated from the
    sample covariance S of the m_k with ν = K - 1 degrees of freedom, ν² / (ν - 1)(ν + 2) (tr S² - (tr S)²/ν) / K² (Bai
    & Saranadasa 1996).

    A bias of less than three standard errors, or of a few rounding errors (1e-6 in float32), cannot be distinguished
    from zero. Where rare draws dominate the mean, as beyond the bound of `Jacobians.check_hazard`, neither the bias nor
    its error can be trusted. A deterministic strategy has no spread: its error and variance are 0, and its snr is
    infinite.
    """

    strategies: dict[str, Gradient]
    """The strategies by name."""
    shape: tuple[int, int, int]
    """The numbers of windows, of steps per window, and of rows."""
    norms: dict[str, float]
    """‖g‖ for the gradients `"window"` and `"history"`."""
    draws: np.ndarray
    """The number of draws from each strategy, int64[S]."""
    bias: np.ndarray
    """Relative to the gradient that the strategy estimates, float64[S]."""
    bias_error: np.ndarray
    """The standard error of `bias`, float64[S]."""
    history_bias: np.ndarray
    """Relative to the gradient of the whole history, whatever the strategy estimates, float64[S]."""
    history_bias_error: np.ndarray
    """The standard error of `history_bias`, float64[S]."""
    variance: np.ndarray
    """The relative variance of one draw, float64[S]."""
    snr: np.ndarray
    """The squared norm of the mean gradient divided by the variance, float64[S]; 1 / variance if there is no bias."""
    cosine: np.ndarray
    """The cosine between one draw and the true gradient, averaged over the draws, float64[S]."""
    mean_cosine: np.ndarray
    """The cosine between the mean of all draws and the true gradient, float64[S]."""
    alignment: np.ndarray
    """The cosines between the mean gradients of all pairs of strategies, float64[S, S]."""
    seconds: np.ndarray
    """Median seconds per compiled update of one window on one device, the strategies measured in turn, float64[S]."""
    temp_bytes: np.ndarray
    """The bytes that such an update needs besides its arguments and results, according to the compiler, int64[S]."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the strategies."""
        return tuple(self.strategies)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the table. The bias against the history is shown if there is more than one window."""
        history = ("history_bias", "history_bias_error") if self.shape[0] > 1 else ()
        middle = ("bias", "bias_error", *history, "variance", "snr", "cosine", "mean_cosine")
        return ("strategy", "claim", "of", "draws", *middle, "seconds", "temp_bytes")

    @property
    def rows(self) -> tuple[tuple[Any, ...], ...]:
        """The rows of the table, one per strategy."""
        texts = [(name, strategy.claim, strategy.of) for name, strategy in self.strategies.items()]
        arrays = [getattr(self, column).tolist() for column in self.columns[3:]]
        return tuple((*text, *numbers) for text, *numbers in zip(texts, *arrays, strict=True))

    def to_json(self) -> str:
        """All numbers by name; a number that is infinite or undefined is null."""
        values = {field.name: getattr(self, field.name) for field in fields(self)[1:]}
        arrays = {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
        plain = {
            name: np.where(np.isfinite(a), a.astype(object), np.array(None)).tolist() for name, a in arrays.items()
        }
        plugins = {name: {"plugin": repr(s), "claim": s.claim, "of": s.of} for name, s in self.strategies.items()}
        return (
            json.dumps({"strategies": plugins} | values | plain, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
        )

    def _parts(self) -> list[str | Table]:
        return [Table(self.columns, self.rows)]

    __repr__ = Shown.__str__

    def plot(self, what: str = "bias", *, figsize: tuple[float, float] | None = None) -> "seqjax.report.figure.Figure":
        """A matplotlib figure.

        Args:
            what: a column such as `"bias"` or `"snr"`, drawn against the field in which strategies of one class differ,
                such as `steps`; `"alignment"`, the cosines between mean gradients; or `"cost"`, bytes against time.
            figsize: the width and the height in inches.
        """
        from seqjax.report import plot

        known = ("alignment", "cost", *self.columns[4:])
        if what not in known:
            raise Error(f"no figure {what!r}{nearest(what, known)}; choose one of {', '.join(known)}")
        if what == "alignment":
            label = "cosine of mean gradients"
            figure = plot.heatmap(self.alignment, self.names, self.names, label=label, figsize=figsize)
            return figure.begin_caption("cosines between the mean gradients of strategies")
        if what == "cost":
            points = zip(self.names, self.seconds, self.temp_bytes, strict=True)
            front = {name: (1e3 * seconds, size / 1e6) for name, seconds, size in points}
            scales: dict[str, Any] = {"x_scale": _scale(self.seconds), "y_scale": _scale(self.temp_bytes)}
            scales |= {"x_label": "time of an update (ms)", "y_label": "temporary bytes (MB)"}
            figure = plot.points(front, **scales, figsize=figsize)
            return figure.begin_caption("temporary bytes and time of an update of gradient strategies")
        label = LABELS.get(what, what.replace("_", " "))
        return _by_field(self, what, figsize).begin_caption(f"{label} of gradient strategies")


def measure(
    step_or_problem: Callable | Problem,
    params: Params,
    state: State,
    xs: PyTree,
    gradients: Mapping[str, Gradient] | Sequence[Gradient] | Gradient,
    *,
    length: int | None = None,
    draws: int = 100,
    windows: int = 1,
    weights: Weights = None,
    has_aux: bool = False,
    batched: bool = False,
    seed: int = 0,
    together: int = 1,
    progress: bool | None = None,
) -> Measures:
    """Bias, variance, direction, seconds and bytes of gradient strategies, at fixed parameters.

    The measured quantity is the sum of a strategy's estimates over consecutive windows, between which its memory and
    the state are carried as in training. It is compared with two true gradients: the gradient of the windows, in each
    of which the incoming state is a constant, and the gradient of the history, through all of them. `Measures` has the
    equations.

    The draws from a random strategy are at most 20 calls of one compiled function, which holds the gradients of
    `together` draws; a deterministic strategy is evaluated once. `Run.measure` takes the windows of a run.

    >>> import jax.numpy as jnp
    >>> import seqjax as sj
    >>> from seqjax.gradients import Full, Truncated
    >>> def step(w, s, x):
    ...     s = 0.5 * s + w * x
    ...     return s, s
    >>> strategies = {"full": Full(), "2 steps": Truncated(steps=2)}
    >>> measures = sj.measure(step, jnp.array(1.0), jnp.array(0.0), jnp.ones(4), strategies, weights="last")
    >>> dict(zip(measures.names, measures.bias.round(3).tolist()))
    {'full': 0.0, '2 steps': 0.2}

    Args:
        step_or_problem: a scan body for one sequence, step(params, state, x) -> (new state, loss), or a Problem.
        params: the parameters at which to measure.
        state: the state in which the first window starts.
        xs: what the steps read, leaves [T, ...], cut into `windows` of equal length; None: nothing.
        gradients: a dict of strategies by name; or a list, or a single one, which are named by their config.
        length: T, if `xs` has no arrays, as in `jax.lax.scan`.
        draws: how many draws from each random strategy. Rounded up, so that the draws split into equal batches of
            `together`, at most 20 groups of them.
        windows: how many consecutive windows.
        weights: float[T], the weights of the losses; None: 1 / T; "last": only the last loss counts.
        has_aux: whether the step returns (new state, (loss, outputs)).
        batched: whether there are rows: state has leaves [B, ...], xs [T, B, ...], and weights are float[T, B].
        seed: seed of the draws, from 0 to 2³² - 1.
        together: how many draws are computed side by side. More draws are faster on a GPU, and need proportionally more
            bytes.
        progress: whether to print a line for each strategy, and on a terminal and in a notebook a live line with the
            number of draws; None: on a terminal and in a notebook.

    Raises:
        Error: there is no strategy; there are too few draws; `windows` does not divide T; a true gradient is zero;
            `length` is no number of steps, or not T, or it is missing; the arguments, or what the step returns, do not
            fit together.
    """
    named = named_strategies(gradients)
    check_options(named, draws, windows, seed, together)
    options: dict[str, Any] = {"length": length, "has_aux": has_aux, "batched": batched}
    scan = read_scan(step_or_problem, params, state, xs, weights, **options)
    windows_N = _cut_scan(scan, windows)
    return measure_windows(scan.problem, scan.params, windows_N, named, draws, seed, together, progress)


def measure_windows(
    problem: Problem,
    params: Params,
    windows_N: WindowSequence,
    named: Mapping[str, Gradient],
    draws: int,
    seed: int,
    together: int,
    progress: bool | None,
) -> Measures:
    """`measure` for windows and names that are known; arguments as there, checked by `check_options`."""
    if any(strategy.draws for strategy in named.values()):
        together = min(together, draws)
        size = draws * jax.random.key(0).nbytes + together * num_bytes(params)
        what = f"the keys of {draws:,} draws and the gradients of {together:,} side by side"
        check_device_memory(what, size, "Pass fewer draws, or a smaller together")
    show = shows_progress(progress) and jax.process_index() == 0
    with CountedDisplay(len(named), show, "the true gradients", alike=False) as display:
        true = {of: jit_of(_true_gradient, problem, of)(params, windows_N) for of in OF}
        norms = {of: float(np.linalg.norm(np.asarray(g_P, np.float64))) for of, g_P in true.items()}
        if not all(0 < norm < np.inf for norm in norms.values()):
            raise Error(f"the true gradient is zero or not finite, so that relative errors are undefined: {norms}")
        rows, means, updates = [], [], []
        for index, (name, strategy) in enumerate(named.items()):
            display.begin(name)
            keys = _keys(jax.random.fold_in(jax.random.key(seed), index), draws if strategy.draws else 1, together)
            row, mean_P = _from_draws(problem, strategy, params, windows_N, true, norms[strategy.of], keys, display)
            rows.append(row)
            means.append(mean_P)
            updates.append(_compiled_update(problem, strategy, params, windows_N))
            display.end(counted(keys.size, "draw"))
        display.show_text("timing the updates")
        seconds = _seconds(updates)
    shape = windows_N.batches.weights.shape
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    temp_bytes = np.array([compiled.memory_analysis().temp_size_in_bytes for compiled, _ in updates])
    return Measures(
        dict(named), shape, norms, **columns, alignment=_cosines(means), seconds=seconds, temp_bytes=temp_bytes
    )


def _from_draws(
    problem: Problem,
    strategy: Gradient,
    params: Params,
    windows_N: WindowSequence,
    true: Mapping[str, jax.Array],
    norm: float,
    keys_KCb: jax.Array,
    display: CountedDisplay,
) -> tuple[dict[str, Any], np.ndarray]:
    """The entries of `Measures` that the draws of one strategy give, and its mean gradient in units of `norm`.

    Args:
        problem: the problem.
        strategy: the strategy.
        params: the parameters.
        windows_N: the windows.
        true: the gradients float[P] of the windows and of the history.
        norm: the norm of the one that the strategy estimates. All gradients are divided by it, so that no square over-
            or underflows in float32.
        keys_KCb: the keys of K groups of draws.
        display: shows the number of draws so far.
    """
    scaled = {of: g_P / norm for of, g_P in true.items()}
    groups, moments_of = [], jit_of(_moments, problem, strategy)
    for n in range(len(keys_KCb)):
        moments = moments_of(params, windows_N, scaled[strategy.of], norm, keys_KCb, n)
        groups.append(jax.block_until_ready(moments))
        display.update(f"{(n + 1) * keys_KCb[0].size} of {counted(keys_KCb.size, 'draw')}")
    means_KP, squares_K, cosines_K = map(jnp.stack, zip(*groups, strict=True))
    entries = summarize(means_KP, squares_K, cosines_K, keys_KCb.size, scaled, strategy.of)
    return entries, np.asarray(means_KP.mean(0), np.float64)


def check_options(named: Mapping[str, Gradient], draws: Any, windows: Any, seed: Any, together: Any) -> None:
    """Raises an `Error` that names wrong arguments."""
    # Fewer than three draws do not show the spread.
    least = 3 if any(strategy.draws for strategy in named.values()) else 1
    check_whole(below_2_to=31, draws=(draws, least), windows=(windows, 1), together=(together, 1))
    check_whole(below_2_to=32, seed=(seed, 0))


def named_strategies(strategies: Any) -> dict[str, Gradient]:
    """The strategies by name."""
    if isinstance(strategies, Gradient):
        strategies = [strategies]
    if isinstance(strategies, str) or not isinstance(strategies, Iterable):
        strategies = {repr(strategies): None}
    if not isinstance(strategies, Mapping):
        strategies = list(strategies)
        names = [describe(s) if isinstance(s, Gradient) else repr(s) for s in strategies]
        if len(set(names)) < len(names) and all(isinstance(s, Gradient) for s in strategies):
            raise Error(f"some strategies are given twice: {', '.join(names)}; name them in a dict")
        strategies = dict(zip(names, strategies, strict=True))
    wrong = [f"{name!s:.80}" for name, strategy in strategies.items() if not isinstance(strategy, Gradient)]
    if wrong or not strategies:
        raise Error(
            f"measure takes strategies such as Full(), in a list or by name in a dict, not {', '.join(wrong) or 'none'}"
        )
    for name in strategies:
        check_type("measure: the name of a strategy", name, str, "a text")
    return dict(strategies)


def _cut_scan(scan: CheckedScan, count: int) -> WindowSequence:
    """The steps of one batch, cut into windows of equal length."""
    T, B = scan.weights.shape
    if T % count:
        raise Error(f"windows = {count} must divide the {T} steps")
    xs, weights = jax.tree.map(lambda a: a.reshape(count, T // count, *a.shape[1:]), (scan.xs, scan.weights))
    rows = jnp.broadcast_to(jnp.arange(B, dtype=jnp.int32), (count, B))
    return WindowSequence(scan.state, Batch(xs, weights, None, rows))


def _true_gradient(problem: Problem, of: str, params: Params, windows: WindowSequence) -> Float[Array, " P"]:
    """The gradient of all windows' losses: with a constant state entering each window, or through all of them."""

    def loss(params):
        def one(state, batch):
            carried = jax.lax.stop_gradient(state) if of == "window" else state
            start = carried if batch.reset is None else problem.start(params, carried, batch.reset)
            state, losses_TB = problem.unroll(params, start, batch.xs, scored=batch.weights != 0)
            return state, weighted_sum(batch.weights, losses_TB)

        # The backward pass through many windows would keep all of their steps: each window is computed again instead.
        return jax.lax.scan(jax.checkpoint(one), windows.state, windows.batches)[1].sum()

    return _flat(jax.grad(loss)(params))


def _flat(grads: Any) -> jax.Array:
    """A gradient as one vector float[P], in float32 at least."""
    vector = ravel_float(grads)[0]
    return vector.astype(np.promote_types(vector.dtype, np.float32))


def _update(
    problem: Problem, strategy: Gradient, params: Params, carry: tuple[Any, Any], batch: Batch, key: jax.Array
) -> tuple[tuple[Any, Any], Any]:
    """One window: the (state, memory) after it, and the gradient."""
    state, memory = carry
    start, memory = reset_rows(strategy, problem, params, state, memory, batch.reset, x=one_input(batch.xs))
    if batch.reset is None:
        batch = batch._replace(reset=jnp.zeros(batch.rows.shape, bool))
    estimate = strategy.draw_and_estimate(problem, params, start, memory, batch, key)
    return (estimate.state, estimate.memory), estimate.grads


def first_memory(strategy: Gradient, problem: Problem, params: Params, windows: WindowSequence) -> Memory:
    """The memory that enters the first window."""
    x = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[3:], a.dtype), windows.batches.xs)
    return init_memory(strategy, problem, params, windows.state, windows.batches.rows.shape[1], x)


class Moments(NamedTuple):
    """The moments of the draws of a group so far.

    Args:
        count: the number of draws.
        mean: their mean, float[P].
        squares: the sum of their squared distances from this mean.
        cosines: the sum of their cosines with the true gradient.
    """

    count: Any
    mean: Any
    squares: Any
    cosines: Any


def _moments(
    problem: Problem,
    strategy: Gradient,
    params: Params,
    windows: WindowSequence,
    true_P: jax.Array,
    norm: jax.Array,
    keys_KCb: jax.Array,
    group: jax.Array,
) -> Any:
    """Mean gradient float[P], summed squared distance from it and mean cosine with the truth of one group of draws.

    The draws of a group come in C blocks of b draws, which are computed side by side. A block is added to the moments
    of the group at once, so that no more than b gradients are held. `true_P` is in units of `norm`, and so are the
    results.
    """

    def draw(key):
        """One draw: the gradient summed over all windows, [P]."""

        def window(carry, inputs):
            carry, total_P = carry
            n, batch = inputs
            carry, grads = _update(problem, strategy, params, carry, batch, jax.random.fold_in(key, n))
            return (carry, total_P + _flat(grads)), None

        memory = first_memory(strategy, problem, params, windows)
        numbers = jnp.arange(len(windows.batches.weights))
        start = ((windows.state, memory), jnp.zeros_like(true_P))
        return jax.lax.scan(window, start, (numbers, windows.batches))[0][1] / norm

    def block(moments, keys_b):
        return add_draws(moments, jax.vmap(draw)(keys_b), true_P), None

    zero = jnp.zeros((), true_P.dtype)
    moments, _ = jax.lax.scan(block, Moments(zero, jnp.zeros_like(true_P), zero, zero), keys_KCb[group])
    return moments.mean, moments.squares, moments.cosines / moments.count


def add_draws(moments: Moments, new_bP: Float[Array, "b P"], true_P: Float[Array, " P"]) -> Moments:
    """The moments with b more draws (Chan, Golub & LeVeque 1983, "Algorithms for computing the sample variance").

    The sum of squares minus the square of the sum would cancel if the spread is small compared with the mean. Instead,
    the squared distances of the new draws from their own mean are added, and the squared distance between the two
    means.
    """
    count, mean_P, squares, cosines = moments
    b = len(new_bP)
    new_P = new_bP.mean(0)
    away_P, count = new_P - mean_P, count + b
    squares += ((new_bP - new_P) ** 2).sum() + (away_P**2).sum() * (b * (count - b) / count)
    lengths_b = jnp.linalg.norm(new_bP, axis=1) * jnp.linalg.norm(true_P)
    cosines += jnp.where(lengths_b > 0, new_bP @ true_P / jnp.where(lengths_b > 0, lengths_b, 1), 0).sum()
    return Moments(count, mean_P + away_P * (b / count), squares, cosines)


def _keys(key: jax.Array, draws: int, together: int) -> jax.Array:
    """Keys [K, C, b]: K groups of C blocks of b draws side by side, at least as many as `draws`."""
    together = min(together, draws)
    groups = min(GROUPS, -(-draws // together))
    blocks = -(-draws // (groups * together))
    return jax.random.split(key, (groups, blocks, together))


def _cosines(means: list) -> np.ndarray:
    """The cosines of all pairs of gradients, float64[S, S]; 0 if one of the two is zero."""
    units = [mean / (np.linalg.norm(mean) or 1.0) for mean in means]
    return np.array([[one @ other for other in units] for one in units])


def _compiled_update(
    problem: Problem, strategy: Gradient, params: Params, windows: WindowSequence
) -> tuple[Any, tuple[Any, ...]]:
    """One compiled update of the first window, and its arguments."""
    memory = first_memory(strategy, problem, params, windows)
    batch = jax.tree.map(lambda a: a[0], windows.batches)
    args = (params, (windows.state, memory), batch, jax.random.key(0))
    return jit_of(_update, problem, strategy).lower(*args).compile(), args


def _seconds(updates: list) -> Float[np.ndarray, " S"]:
    """Median seconds of each update. The updates take turns, so that a slower machine slows down all of them.

    An update that takes 100 ms and much memory leaves work behind: the next update took 11 ms in place of .2 ms.
    Untimed calls absorb this work before each measurement. They also fill the caches again after the other updates.
    """
    seconds = np.zeros((ROUNDS, len(updates)))
    for n in range(ROUNDS):
        for s, (compiled, args) in enumerate(updates):
            began = time.perf_counter()
            while time.perf_counter() - began < SETTLING:
                jax.block_until_ready(compiled(*args))
            began = time.perf_counter()
            jax.block_until_ready(compiled(*args))
            seconds[n, s] = time.perf_counter() - began
    return np.median(seconds, axis=0)


def summarize(
    means_KP: Float[Array, "K P"],
    squares_K: Float[Array, " K"],
    cosines_K: Float[Array, " K"],
    draws: int,
    true: dict[str, Any],
    of: str,
) -> dict[str, Any]:
    """The entries of `Measures` for one strategy, from K equal groups of draws.

    Args:
        means_KP: the mean gradient of each group.
        squares_K: the summed squared distance of a group's draws from its mean.
        cosines_K: the mean cosine of a group's draws with the true gradient.
        draws: the number of draws in all groups together.
        true: the gradients float[P] of the windows and of the history.
        of: which of them the strategy estimates.
    """
    products_of = jax.device_get({name: _products(means_KP, g_P) for name, g_P in true.items()})
    products_of = jax.tree.map(lambda a: np.asarray(a, np.float64), products_of)
    own = products_of[of]
    total = np.asarray(squares_K, np.float64).sum() + draws / len(means_KP) * np.trace(own["apart_KK"])
    variance = total / (draws - 1) if draws > 1 else 0.0
    bias, bias_error = _bias(own, variance / draws)
    history_bias, history_bias_error = _bias(products_of["history"], variance / draws)
    signal = max(own["mean"] - variance / draws, 0.0)
    return {
        "draws": draws,
        "bias": bias,
        "bias_error": bias_error,
        "history_bias": history_bias,
        "history_bias_error": history_bias_error,
        "variance": variance / own["true"],
        "snr": signal / variance if variance else math.inf,
        "cosine": np.asarray(cosines_K, np.float64).mean(),
        "mean_cosine": own["both"] / math.sqrt(own["mean"] * own["true"]) if own["mean"] else 0.0,
    }


@jax.jit
def _products(means_KP: jax.Array, g_P: jax.Array) -> dict[str, jax.Array]:
    """Squared norms and products of means and true gradient, in the highest precision that the device has."""
    dot = functools.partial(jnp.dot, precision="highest")
    m_P = means_KP.mean(0)
    apart_KP, off_P = means_KP - m_P, m_P - g_P
    return {
        "mean": dot(m_P, m_P),
        "true": dot(g_P, g_P),
        "both": dot(m_P, g_P),
        "off": dot(off_P, off_P),
        "apart_KK": dot(apart_KP, apart_KP.T),
        "along_K": dot(apart_KP, off_P),
    }


def _bias(products: Mapping[str, Any], noise: float) -> tuple[float, float]:
    """The relative bias and its standard error; `noise` is the variance of the mean."""
    squared = max(products["off"] - noise, 0.0)
    error = _error(products["along_K"], products["apart_KK"])
    low, middle, high = (math.sqrt(max(value, 0.0)) for value in (squared - 2 * error, squared, squared + 2 * error))
    return middle / math.sqrt(products["true"]), max(high - middle, middle - low) / 2 / math.sqrt(products["true"])


def _error(along_K: np.ndarray, apart_KK: np.ndarray) -> float:
    """The standard error e of a squared bias, as in `Measures`; 0 for a single draw."""
    K = len(along_K)
    if K == 1:
        return 0.0
    v, S_KK = K - 1, apart_KK / (K - 1)
    shape = v * v / ((v - 1) * (v + 2)) * ((S_KK**2).sum() - np.trace(S_KK) ** 2 / v) / K**2
    return math.sqrt(max(4 * (along_K**2).sum() / v / K - 2 * shape, 2 * shape))


def _by_field(measures: "Measures", what: str, figsize: tuple[float, float] | None) -> Any:
    """A figure of one column: a line per class whose strategies differ in one numeric field, else level lines.

    If there is no such class, there is a point per strategy. Grey bars show one standard error to either side. A value
    that is not positive, such as the bias of an exact strategy, appears in its name only.
    """
    from seqjax.report import plot

    values = getattr(measures, what)
    is_shown = np.isfinite(values) & (values > 0)  # a logarithmic axis shows no others
    names = [name if is_shown[n] else f"{name}: {values[n]:.3g}" for n, name in enumerate(measures.names)]
    values = np.where(is_shown, values, np.nan)
    errors = getattr(measures, f"{what}_error", np.zeros_like(values))
    x_S, lines, fields_seen = np.full(len(values), np.nan), {}, []
    for indices in _by_class(measures.strategies):
        strategies = [list(measures.strategies.values())[index] for index in indices]
        field, numbers = _varied(strategies)
        if field:
            indices = [indices[n] for n in np.argsort(numbers)]
            x_S[indices] = sorted(numbers)
            name = f"{registry.name_of(strategies[0])}, by {field}"
            lines[name if is_shown[indices].any() else f"{name}: no positive number"] = (x_S[indices], values[indices])
            fields_seen.append(field)
    labels: dict[str, Any] = {"y_label": LABELS.get(what, what.replace("_", " ")), "y_scale": _scale(values)}
    labels["figsize"] = figsize
    if lines:
        low, high = np.nanmin(x_S), np.nanmax(x_S)
        rest = {name: (np.array([low, high]), np.repeat(values[n], 2)) for n, name in enumerate(names)}
        lines |= {name: line for (name, line), x in zip(rest.items(), x_S, strict=True) if np.isnan(x)}
        figure = plot.lines(lines, x_label=", ".join(dict.fromkeys(fields_seen)), x_scale=_scale(x_S), **labels)
    else:
        x_S = np.arange(len(values))
        points = {name: (float(x), float(value)) for name, x, value in zip(names, x_S, values, strict=True)}
        figure = plot.points(points, x_label="strategy", **labels)
        figure.axes[0].set(xticks=[], xlim=(-0.5, len(values) - 0.5))
    figure.axes[0].vlines(x_S, np.maximum(values - errors, values / 100), values + errors, colors="gray", zorder=0)
    if errors[is_shown].any():
        figure.add_note("grey bars: one standard error to either side")
    return figure


def _scale(values: np.ndarray) -> Literal["linear", "log"]:
    """The scale of an axis: logarithmic if its values differ by more than a factor of 3."""
    known = values[values > 0]
    return "log" if known.size and known.max() > 3 * known.min() else "linear"


def _by_class(strategies: Mapping[str, Gradient]) -> Iterable[list[int]]:
    """The indices of the strategies of each class."""
    classes: dict[type, list[int]] = {}
    for index, strategy in enumerate(strategies.values()):
        classes.setdefault(type(strategy), []).append(index)
    return classes.values()


def _varied(strategies: Sequence[Gradient]) -> tuple[str | None, list[Any]]:
    """The field and its values if strategies of a class differ in exactly one numeric field, otherwise None and []."""
    known = fields_of(type(strategies[0]))  # type: ignore[arg-type]
    tables = {name: [getattr(strategy, name) for strategy in strategies] for name in known}
    varied = {name: values for name, values in tables.items() if len(set(values)) > 1}
    if len(varied) == 1:
        ((name, values),) = varied.items()
        if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
            return name, values
    return None, []
