"""`Measures`: what `measure` found, with its equations, as a table, as JSON and as figures."""

import functools
import json
import math
from dataclasses import dataclass, fields
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from seqjax import registry
from seqjax.errors import Error, nearest
from seqjax.gradient import Gradient
from seqjax.plugin import fields_of
from seqjax.table import Table

LABELS = {"bias": "relative bias", "snr": "signal-to-noise ratio", "seconds": "time of an update (s)"}


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
    """Windows, steps of a window, rows."""
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
        from seqjax import plot

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
    from seqjax import plot

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
