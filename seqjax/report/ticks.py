"""Ticks that people read: whole numbers, and plain numbers on a logarithmic axis."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axis import Axis
from matplotlib.ticker import Formatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

EVEN = 6
"""An axis that spans less than this factor has evenly spaced ticks."""
MULTIPLES = {20: (1.0, 2.0, 3.0, 5.0), 1_000: (1.0, 2.0, 5.0), np.inf: (1.0,)}
"""The ticks of each power of ten, on an axis that spans at most this factor."""


def whole_ticks(axis: Axis) -> None:
    """Ticks at whole numbers only: there is no epoch 1.5."""
    axis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))


def log_ticks(axis: Axis) -> None:
    """Makes an axis logarithmic, with labels such as 0.5, 20 and 10⁻⁶ at its major ticks alone."""
    set_scale = axis.axes.set_xscale if axis is axis.axes.xaxis else axis.axes.set_yscale
    set_scale("log")
    axis.set_major_locator(PlainLogLocator())
    axis.set_major_formatter(PlainNumbers())
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


class PlainLogLocator(LogLocator):
    """Powers of ten on a long axis, some of their multiples on a shorter one, and even steps on a short one."""

    def tick_values(self, vmin: float, vmax: float) -> Sequence[float]:
        """The ticks between two values."""
        span = vmax / vmin if vmin > 0 else np.inf
        if span < EVEN:
            return MaxNLocator(5, steps=[1, 2, 5, 10], min_n_ticks=3).tick_values(vmin, vmax)
        self.set_params(subs=next(multiples for most, multiples in MULTIPLES.items() if span <= most))
        return super().tick_values(vmin, vmax)


class PlainNumbers(Formatter):
    """0.5, 20 and 1,000; powers of ten from 10⁵ on and below 10⁻³."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        """The label of one tick."""
        if x == 0 or 1e-3 * (1 - 1e-9) <= abs(x) < 1e5:
            return f"{x:,.10f}".rstrip("0").rstrip(".")
        mantissa, exponent = f"{x:.9e}".split("e")
        factor = mantissa.rstrip("0").rstrip(".")
        power = f"10^{{{int(exponent)}}}"
        return f"${power}$" if factor == "1" else rf"${factor}\times{power}$"
