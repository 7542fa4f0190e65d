"""`show_end`: the range of the y axis in which the end of a training can be read."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from seqjax.report.ticks import PlainNumbers


def show_end(axes: Axes, drawn: Sequence[np.ndarray]) -> str:
    """Limits the y axis to the end of the training, if its start would take most of it; returns what is left out.

    It is the range of the second half of each curve, plus 50 % of headroom on the side of the start. On the other side
    it includes all points of the curve, such as the lowest loss of a run that overfits.
    """
    to_axis = axes.yaxis.get_transform().transform
    drawn = [values for values in drawn if values.shape[-1] >= 4]
    if not drawn:
        return ""
    with np.errstate(all="ignore"):
        curves = [to_axis(curve) for values in drawn for curve in values]
    every = np.concatenate(curves)
    last = np.concatenate([curve[len(curve) // 2 :] for curve in curves])
    every, last = every[np.isfinite(every)], last[np.isfinite(last)]
    if last.size:
        far = [_beyond(curve[np.isfinite(curve)], last.min(), last.max()) for curve in curves]
        last = np.concatenate([last, *far])
    if not last.size or not 0 < 3 * (last.max() - last.min()) < every.max() - every.min():
        return ""
    height, back = last.max() - last.min(), axes.yaxis.get_transform().inverted().transform
    low, high, hidden = last.min() - 0.05 * height, last.max() + 0.05 * height, []
    if every.max() > high:
        high += 0.5 * height
        hidden.append(f"up to {_three_digits(back(every.max()))}")
    if every.min() < low:
        low -= 0.5 * height
        hidden.append(f"down to {_three_digits(back(every.min()))}")
    axes.set_ylim(*map(float, back(np.array([low, high]))))
    return f"start outside the axis: {' and '.join(hidden)}"


def _beyond(curve: np.ndarray, low: float, high: float) -> np.ndarray:
    """The points of a curve outside a range, except points on the side on which the curve starts."""
    starts_above, starts_below = curve[:1] > high, curve[:1] < low
    return curve[((curve < low) & ~starts_below) | ((curve > high) & ~starts_above)]


def _three_digits(number: Any) -> str:
    return PlainNumbers()(float(f"{float(number):.3g}"))
