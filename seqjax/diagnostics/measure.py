"""`measure`: bias, variance and cost of gradient strategies, side by side on one problem."""

import functools
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from seqjax.errors import Error, is_whole, nearest
from seqjax.gradients.base import Batch, Gradient, init_memory, reset_rows, weighted_sum
from seqjax.gradients.floats import ravel_float
from seqjax.gradients.problem import Params, Problem, State
from seqjax.gradients.scan import check_scan
from seqjax.plugin import registry
from seqjax.plugin.base import fields_of
from seqjax.plugin.config import describe
from seqjax.report.table import Table

LABELS = {"bias": "relative bias", "snr": "signal-to-noise ratio", "seconds": "time of an update (s)"}
GROUPS = 20
"""Number of groups in which draws are averaged; the spread of their means tells how uncertain the mean of all is."""
ROUNDS = 10
"""How often each update is timed."""
OF = ("window", "history")


class WindowSequence(NamedTuple):
    """N consecutive windows, as training would take them.

    Args:
        state: in which the first one starts, leaves [B, ...].
        batches: one a window, leaves [N, ...]; `reset` None where no row is ever reset.
    """

    state: Any
    batches: Batch


@runtime_checkable
class HasWindows(Protocol):
    """What `measure` asks of a run."""

    @property
    def problem(self) -> Any:
        """The problem that was trained."""

    def windows(self, count: int | None, at: str, params: Params) -> tuple[Params, WindowSequence]:
        """Parameters and the first windows of training; see `seqjax.Run.windows`."""


@dataclass(frozen=True, eq=False, repr=False)
class Measures:
    """S strategies, measured on the same windows. `print` it, give it to `Report.table`, or use its arrays.

    With ĝ_1 ... ĝ_n the draws, m their mean, s² = Σ ‖ĝ_i - m‖² / (n - 1), and g the true gradient of the strategy's
    own kind (`of`: of the windows or of the history):

        bias         √max(b, 0) / ‖g‖,   b = ‖m - g‖² - s²/n
        bias_error   its standard error: half the way to the farther end of √max(b ± 2e, 0) / ‖g‖, e that of b
        variance     s² / ‖g‖²
        snr          (‖m‖² - s²/n) / s²
        cosine       mean of ĝ_i·g / ‖ĝ_i‖‖g‖
        mean_cosine  m·g / ‖m‖‖g‖

    E‖m - g‖² = ‖E m - g‖² + s²/n: the distance of a mean is too long by its noise, which b takes off, so that E b is
    the squared bias. With β = E m - g and Σ the covariance of m, Var b = 4 βᵀΣβ + 2 tr Σ²; e² puts in the means m_k of
    K groups of draws: 4/K Var_k (m_k·(m - g)) estimates 4 βᵀΣβ + 4 tr Σ², and tr Σ² comes from their sample covariance
    S with ν = K - 1 degrees of freedom, ν² / (ν - 1)(ν + 2) (tr S² - (tr S)²/ν) / K² (Bai & Saranadasa 1996). Under
    three standard errors a bias is not distinct from none, nor is one of a few rounding errors, 1e-6 in float32. Where
    rare draws carry the mean, as beyond the bound of `Jacobians.check_hazard`, neither bias nor error can be trusted. A
    deterministic strategy has no spread: error 0, variance 0, snr infinite.
    """

    strategies: dict[str, Gradient]
    """By name."""
    shape: tuple[int, int, int]
    """WindowSequence, steps of a window, rows."""
    norms: dict[str, float]
    """‖g‖ of the windows and of the history."""
    draws: np.ndarray
    """How many of each strategy, int64[S]."""
    bias: np.ndarray
    """Relative to the gradient that the strategy is of, float64[S]."""
    bias_error: np.ndarray
    """Standard error of it."""
    history_bias: np.ndarray
    """The same against the gradient of the whole history, whatever the strategy is of."""
    history_bias_error: np.ndarray
    """Standard error of it."""
    variance: np.ndarray
    """Relative variance of one draw."""
    snr: np.ndarray
    """Squared length of the mean gradient by the variance: 1 / variance where there is no bias."""
    cosine: np.ndarray
    """With the true gradient, of one draw: the mean over the draws."""
    mean_cosine: np.ndarray
    """With the true gradient, of the mean of all draws."""
    alignment: np.ndarray
    """Cosines between the mean gradients of all pairs, float64[S, S]."""
    seconds: np.ndarray
    """Of an update of one window on one device, compiled: the median, the strategies taking turns."""
    temp_bytes: np.ndarray
    """What such an update takes beside its arguments and results, by the compiler."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the strategies."""
        return tuple(self.strategies)

    @property
    def columns(self) -> tuple[str, ...]:
        """Of the table; with the bias against the history where there is more than one window."""
        history = ("history_bias", "history_bias_error") if self.shape[0] > 1 else ()
        middle = ("bias", "bias_error", *history, "variance", "snr", "cosine", "mean_cosine")
        return ("strategy", "claim", "of", "draws", *middle, "seconds", "temp_bytes")

    @property
    def rows(self) -> tuple[tuple[Any, ...], ...]:
        """Of the table, one a strategy."""
        texts = [(name, strategy.claim, strategy.of) for name, strategy in self.strategies.items()]
        arrays = [getattr(self, column).tolist() for column in self.columns[3:]]
        return tuple((*text, *numbers) for text, *numbers in zip(texts, *arrays, strict=True))

    def to_json(self) -> str:
        """All numbers by name; null where one is infinite or undefined."""
        found = {field.name: getattr(self, field.name) for field in fields(self)[1:]}
        arrays = {name: value for name, value in found.items() if isinstance(value, np.ndarray)}
        plain = {
            name: np.where(np.isfinite(a), a.astype(object), np.array(None)).tolist() for name, a in arrays.items()
        }
        plugins = {name: {"plugin": repr(s), "claim": s.claim, "of": s.of} for name, s in self.strategies.items()}
        return json.dumps({"strategies": plugins} | found | plain, indent=1, allow_nan=False, ensure_ascii=False) + "\n"

    def __str__(self) -> str:
        return str(Table(self.columns, self.rows))

    __repr__ = __str__

    def _repr_markdown_(self) -> str:
        return Table(self.columns, self.rows).to_markdown()

    def plot(self, what: str = "bias") -> Any:
        """A matplotlib figure.

        Args:
            what: a column such as `"bias"` or `"snr"`, by the field in which strategies of one class differ, such as
                `steps`; `"alignment"`, the cosines between mean gradients; or `"cost"`, memory by time.
        """
        from seqjax.report import plot

        known = ("alignment", "cost", *self.columns[4:])
        if what not in known:
            raise Error(f"no figure {what!r}{nearest(what, known)}; there are {', '.join(known)}")
        if what == "alignment":
            return plot.heatmap(self.alignment, self.names, self.names, label="cosine of mean gradients")
        if what == "cost":
            points = zip(self.names, self.seconds, self.temp_bytes, strict=True)
            front = {name: ([1e3 * seconds], [taken / 1e6]) for name, seconds, taken in points}
            figure = plot.lines(front, x_label="time of an update (ms)", y_label="temporary memory (MB)")
            _log_where_wide(figure.axes[0].set_xscale, self.seconds)
            _log_where_wide(figure.axes[0].set_yscale, self.temp_bytes)
            return figure
        return _by_field(self, what)


def measure(
    run_or_problem: HasWindows | Problem | Callable,
    strategies: Mapping[str, Gradient] | Sequence[Gradient] | Gradient,
    *,
    draws: int = 100,
    windows: int | None = None,
    at: str = "end",
    params: Params = None,
    state: State = None,
    xs: Any = None,
    weights: Any = None,
    seed: int = 0,
    together: int = 1,
) -> Measures:
    """Bias, variance, direction, seconds and memory of gradient strategies, at fixed parameters.

    What is measured is the sum of a strategy's estimates over consecutive windows, between which its memory and the
    state are carried as in training. It is set against two true gradients: of the windows (in each the incoming state
    is a constant) and of the history (through all of them). For the estimators and their equations see `Measures`.

    Of a run are taken its problem, its parameters and the first windows of its first epoch. A model with dropout is
    measured without it. A random strategy is drawn from in one compiled call, which holds the gradients of `together`
    draws and 20 means; a deterministic one is evaluated once.

    Args:
        run_or_problem: a run; a Problem; or a scan body for one sequence, step(params, state, x) -> (state, loss).
        strategies: by name; a list, or one alone, is named by what it is.
        draws: of each random strategy; rounded up to a multiple of 20 from there on, and of `together`.
        windows: how many consecutive ones; None: 3 of a run, 1 of anything else.
        at: of a run: `"end"`, its parameters, or `"init"`, those before its first update.
        params: other parameters of a run; required of anything else.
        state: leaves [B, ...], where the first window starts; not of a run.
        xs: leaves [T, B, ...], cut into `windows` of equal length; not of a run.
        weights: float[T, B] of the losses, None: 1 / (T B); not of a run.
        seed: of the draws, from 0 to 2³² - 1.
        together: how many draws are computed side by side: faster on a GPU, for that many times the memory.

    Raises:
        Error: no strategy; too few draws; windows that the data do not give; a true gradient of zero.
    """
    named = _named(strategies)
    _check(draws, windows, at, seed, together)
    problem: Problem
    if isinstance(run_or_problem, HasWindows):
        if not (state is None and xs is None and weights is None):
            raise Error("a run has its own windows: leave out state, xs and weights, or pass run.problem")
        problem = run_or_problem.problem
        params, windows_N = run_or_problem.windows(windows, at, params)
    else:
        problem = run_or_problem if isinstance(run_or_problem, Problem) else Problem(run_or_problem)
        params, windows_N = _cut_scan(params, state, xs, weights, 1 if windows is None else windows)
    true = {of: _true_gradient(problem, of, params, windows_N) for of in OF}
    norms = {of: float(np.linalg.norm(np.asarray(g_P, np.float64))) for of, g_P in true.items()}
    if not all(0 < norm < np.inf for norm in norms.values()):
        raise Error(f"the true gradient is zero or not finite, and nothing can be measured relative to it: {norms}")
    rows, means, updates = [], [], []
    for index, strategy in enumerate(named.values()):
        keys = _keys(jax.random.fold_in(jax.random.key(seed), index), draws if strategy.draws else 1, together)
        norm = norms[strategy.of]  # of 1, no square overflows
        scaled = {of: g_P / norm for of, g_P in true.items()}
        means_KP, squares_K, cosines_K = _moments(problem, strategy, params, windows_N, scaled[strategy.of], norm, keys)
        rows.append(summarize(means_KP, squares_K, cosines_K, keys.size, scaled, strategy.of))
        means.append(np.asarray(means_KP.mean(0), np.float64))
        updates.append(_compiled_update(problem, strategy, params, windows_N))
    shape = windows_N.batches.weights.shape
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    temp_bytes = np.array([compiled.memory_analysis().temp_size_in_bytes for compiled, _ in updates])
    return Measures(
        named, shape, norms, **columns, alignment=_cosines(means), seconds=_seconds(updates), temp_bytes=temp_bytes
    )


def _check(draws, windows, at, seed, together):
    """Raises an `Error` with all that is wrong."""
    ranges = {
        f"draws = {draws!r} must be a whole number, at least 3: fewer say nothing of the spread": (
            is_whole(draws) and draws >= 3
        ),
        f"windows = {windows!r} must be a whole number, at least 1": (
            windows is None or (is_whole(windows) and windows >= 1)
        ),
        f'at = {at!r} must be "init" or "end"; for other parameters pass params=': at in ("init", "end"),
        f"seed = {seed!r} must be a whole number, at least 0, and below 2^32": is_whole(seed) and 0 <= seed < 2**32,
        f"together = {together!r} must be a whole number, at least 1": is_whole(together) and together >= 1,
    }
    problems = [problem for problem, good in ranges.items() if not good]
    if problems:
        raise Error("measure:", problems=problems)


def _named(strategies):
    if isinstance(strategies, Gradient):
        strategies = [strategies]
    if not isinstance(strategies, Mapping):
        strategies = list(strategies)
        names = [describe(s) if isinstance(s, Gradient) else repr(s) for s in strategies]
        if len(set(names)) < len(names):
            raise Error(f"strategies that come twice: {', '.join(names)}; name them in a dict")
        strategies = dict(zip(names, strategies, strict=True))
    wrong = [name for name, strategy in strategies.items() if not isinstance(strategy, Gradient)]
    if wrong or not strategies:
        raise Error(f"measure takes strategies such as Full(), by name or in a list; not {', '.join(wrong) or 'none'}")
    return dict(strategies)


def _cut_scan(params: Params, state: State, xs: Any, weights: Any, count: int) -> tuple[Params, WindowSequence]:
    """The steps of one batch, cut into windows of equal length."""
    if params is None or state is None or xs is None:
        raise Error("measure needs params, state (leaves [B, ...]) and xs (leaves [T, B, ...]) of anything but a run")
    params, state, xs, weights = check_scan(params, state, xs, weights)
    T, B = weights.shape
    if T % count:
        raise Error(f"windows = {count} must divide the {T} steps of xs")
    xs, weights = jax.tree.map(lambda a: a.reshape(count, T // count, *a.shape[1:]), (xs, weights))
    rows = jnp.broadcast_to(jnp.arange(B, dtype=jnp.int32), (count, B))
    return params, WindowSequence(state, Batch(xs, weights, None, rows))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _true_gradient(problem: Problem, of: str, params: Params, windows: WindowSequence) -> Float[Array, " P"]:
    """The gradient of all windows' losses: with the state that enters each a constant, or through all of them."""

    def loss(params):
        def one(state, batch):
            carried = jax.lax.stop_gradient(state) if of == "window" else state
            start = carried if batch.reset is None else problem.start(params, carried, batch.reset)
            state, losses_TB = problem.unroll(params, start, batch.xs)
            return state, weighted_sum(batch.weights, losses_TB)

        return jax.lax.scan(jax.checkpoint(one), windows.state, windows.batches)[1].sum()

    return _flat(jax.grad(loss)(params))


def _flat(grads):
    """A gradient as one vector, in float32 at least."""
    vector = ravel_float(grads)[0]
    return vector.astype(np.promote_types(vector.dtype, np.float32))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _update(problem, strategy, params, carry, batch, key):
    """One window: the (state, memory) after it, and the gradient."""
    state, memory = carry
    start, memory = reset_rows(strategy, problem, params, state, memory, batch.reset)
    if batch.reset is None:
        batch = batch._replace(reset=jnp.zeros(batch.rows.shape, bool))
    estimate = strategy.draw_and_estimate(problem, params, start, memory, batch, key)
    return (estimate.state, estimate.memory), estimate.grads


@functools.partial(jax.jit, static_argnums=(0, 1))
def _moments(problem, strategy, params, windows, true_P, norm, keys_KCb):
    """Mean gradient [K, P], summed squared distance from it [K] and mean cosine with the truth [K] of each group.

    `true_P` is in units of `norm`, and so is what is returned. Means and squares are updated draw by draw (Chan, Golub
    & LeVeque 1983), so that nothing cancels.
    """

    def one(key):
        def body(carry, inputs):
            carry, total_P = carry
            n, batch = inputs
            carry, grads = _update(problem, strategy, params, carry, batch, jax.random.fold_in(key, n))
            return (carry, total_P + _flat(grads)), None

        memory = init_memory(strategy, problem, params, windows.state, windows.batches.rows.shape[1])
        numbers = jnp.arange(len(windows.batches.weights))
        start = ((windows.state, memory), jnp.zeros_like(true_P))
        return jax.lax.scan(body, start, (numbers, windows.batches))[0][1] / norm

    def more(carry, keys_b):
        count, mean_P, squares, cosines = carry
        b = len(keys_b)
        new_bP = jax.vmap(one)(keys_b)
        new_P = new_bP.mean(0)
        away_P, count = new_P - mean_P, count + b
        squares += ((new_bP - new_P) ** 2).sum() + (away_P**2).sum() * (b * (count - b) / count)
        lengths_b = jnp.linalg.norm(new_bP, axis=1) * jnp.linalg.norm(true_P)
        cosines += jnp.where(lengths_b > 0, new_bP @ true_P / jnp.where(lengths_b > 0, lengths_b, 1), 0).sum()
        return (count, mean_P + away_P * (b / count), squares, cosines), None

    def group(keys_Cb):
        zero = jnp.zeros((), true_P.dtype)
        (count, mean_P, squares, cosines), _ = jax.lax.scan(more, (zero, jnp.zeros_like(true_P), zero, zero), keys_Cb)
        return mean_P, squares, cosines / count

    return jax.lax.map(group, keys_KCb)


def _keys(key, draws, together):
    """Keys [K, C, b]: K groups of C times b draws side by side; at least so many as are asked for."""
    together = min(together, draws)
    groups = min(GROUPS, -(-draws // together))
    chunks = -(-draws // (groups * together))
    return jax.random.split(key, (groups, chunks, together))


def _cosines(means: list) -> np.ndarray:
    """Of all pairs, float64[S, S]; 0 with a gradient that is zero."""
    units = [mean / (np.linalg.norm(mean) or 1.0) for mean in means]
    return np.array([[one @ other for other in units] for one in units])


def _compiled_update(problem, strategy, params, windows):
    """One update of the first window, compiled, and its arguments."""
    memory = init_memory(strategy, problem, params, windows.state, windows.batches.rows.shape[1])
    batch = jax.tree.map(lambda a: a[0], windows.batches)
    args = (params, (windows.state, memory), batch, jax.random.key(0))
    return _update.lower(problem, strategy, *args).compile(), args


def _seconds(updates: list) -> Float[np.ndarray, " S"]:
    """Median time of each update; they take turns, so that what slows the machine down slows all of them."""
    for compiled, args in updates:
        jax.block_until_ready(compiled(*args))
    seconds = np.zeros((ROUNDS, len(updates)))
    for n in range(ROUNDS):
        for s, (compiled, args) in enumerate(updates):
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
    """What `Measures` says of one strategy, from K equal groups of draws.

    Args:
        means_KP: mean gradient of each group.
        squares_K: summed squared distance of a group's draws from its mean.
        cosines_K: mean cosine of a group's draws with the truth.
        draws: in all groups together.
        true: the gradients f[P] of the windows and of the history.
        of: which of them is the strategy's own.
    """
    found = {name: jax.device_get(_products(means_KP, g_P)) for name, g_P in true.items()}
    found = {name: jax.tree.map(lambda a: np.asarray(a, np.float64), products) for name, products in found.items()}
    own = found[of]
    total = np.asarray(squares_K, np.float64).sum() + draws / len(means_KP) * np.trace(own["apart_KK"])
    variance = total / (draws - 1) if draws > 1 else 0.0
    bias, bias_error = _bias(own, variance / draws)
    history_bias, history_bias_error = _bias(found["history"], variance / draws)
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
def _products(means_KP, g_P):
    """Squared lengths and products, in the highest precision that the device has."""
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


def _bias(products, noise):
    """The relative bias and its standard error; `noise` is the variance of the mean."""
    squared = max(products["off"] - noise, 0.0)
    error = _error(products["along_K"], products["apart_KK"])
    low, middle, high = (math.sqrt(max(value, 0.0)) for value in (squared - 2 * error, squared, squared + 2 * error))
    return middle / math.sqrt(products["true"]), max(high - middle, middle - low) / 2 / math.sqrt(products["true"])


def _error(along_K, apart_KK):
    """The standard error e of a squared bias; 0 where there is but one draw."""
    K = len(along_K)
    if K == 1:
        return 0.0
    v, S_KK = K - 1, apart_KK / (K - 1)
    shape = v * v / ((v - 1) * (v + 2)) * ((S_KK**2).sum() - np.trace(S_KK) ** 2 / v) / K**2
    return math.sqrt(max(4 * (along_K**2).sum() / v / K - 2 * shape, 2 * shape))


def _by_field(measures, what):
    """A line a class, by the number in which its strategies differ, and level lines for the rest; else points."""
    from seqjax.report import plot

    values = getattr(measures, what)
    values = np.where(np.isfinite(values) & (values > 0), values, np.nan)  # what a logarithmic axis can show
    errors = getattr(measures, f"{what}_error", np.zeros_like(values))
    x_S, lines, fields_seen = np.full(len(values), np.nan), {}, []
    for places in _by_class(measures.strategies):
        strategies = [list(measures.strategies.values())[place] for place in places]
        field, numbers = _varied(strategies)
        if field:
            places = [places[n] for n in np.argsort(numbers)]
            x_S[places] = sorted(numbers)
            lines[f"{registry.name_of(strategies[0])}, by {field}"] = (x_S[places], values[places])
            fields_seen.append(field)
    labels = {"x_label": ", ".join(dict.fromkeys(fields_seen)) or "strategy", "y_label": LABELS.get(what, what)}
    if lines:
        low, high = np.nanmin(x_S), np.nanmax(x_S)
        rest = {name: (np.array([low, high]), np.repeat(values[n], 2)) for n, name in enumerate(measures.names)}
        lines |= {name: line for (name, line), x in zip(rest.items(), x_S, strict=True) if np.isnan(x)}
        figure = plot.lines(lines, **labels)
        _log_where_wide(figure.axes[0].set_xscale, x_S)
    else:
        x_S = np.arange(len(values))
        figure = plot.lines({name: ([n], [values[n]]) for n, name in enumerate(measures.names)}, **labels)
        figure.axes[0].set_xticks([])
    figure.axes[0].vlines(x_S, np.maximum(values - errors, values / 100), values + errors, colors="gray", zorder=0)
    _log_where_wide(figure.axes[0].set_yscale, values)
    return figure


def _log_where_wide(set_scale, values):
    """A logarithmic axis where the values differ by more than their size."""
    known = values[values > 0]
    if known.size and known.max() > 3 * known.min():
        set_scale("log")


def _by_class(strategies):
    """The places of the strategies of each class."""
    classes: dict[type, list[int]] = {}
    for place, strategy in enumerate(strategies.values()):
        classes.setdefault(type(strategy), []).append(place)
    return classes.values()


def _varied(strategies):
    """The one numeric field in which strategies of a class differ, and its values; None where there is none."""
    known = fields_of(type(strategies[0]))  # type: ignore[arg-type]
    tables = {name: [getattr(strategy, name) for strategy in strategies] for name in known}
    varied = {name: found for name, found in tables.items() if len(set(found)) > 1}
    if len(varied) == 1:
        ((name, found),) = varied.items()
        if all(isinstance(value, int | float) and not isinstance(value, bool) for value in found):
            return name, found
    return None, []
