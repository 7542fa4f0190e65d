"""How much of the gradient does a network need to adapt to a drift?   python experiments/drift.py

Two papers say: little. Merin (2026a, arXiv:2603.15195): real-time recurrent learning through 4 random paths of 64, with
an error at every step, recovers 84 ± 6 % of what the exact influence recovers. Merin (2026b, arXiv:2603.28750, third
version): the immediate gradient alone is as good as the exact influence, within 3 points, with Adam in float64 and 20
seeds; in float32 that is not claimed.

This experiment stays within that scope: a vanilla RNN with 64 units predicts the next value of a sine, with an update
by Adam after every step. When it has learned the sine, the frequency changes, and each strategy goes on from the same
parameters. The recovery of a strategy is

    (loss without updates - loss of the strategy) / (loss without updates - loss of `rtrl`)

over the last fourth of the steps after the change. The learning rate is chosen from five, on one half of the seeds,
and counts on the other half, both ways. A recovery is near 1 as soon as the loss is small beside that without updates.
So the ratio of the losses is shown beside it.

Recoveries and ratios are medians over the seeds, with the 95 % interval of a median, which assumes nothing of the
distribution. Their mean is not stable: in a seed in which `rtrl` hardly adapts the divisor is near zero. In a seed in
which `rtrl` is no better than no updates, the recovery has no value: it counts as the lowest one of all for a strategy
that is worse than `rtrl`, and as the highest one for a better strategy.
"""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.stats
from protocol.editions import RATES
from protocol.scores import cross_fitted
from protocol.statistics import Interval

import seqjax as sj
from seqjax.gradients import RTRL, Immediate, SnAp, SparseRTRL
from seqjax.models import RNN
from seqjax.report import Table

STRATEGIES = {"rtrl": RTRL(), "sparse-rtrl, 4 paths": SparseRTRL(paths=4), "immediate": Immediate(), "snap": SnAp()}
FREQUENCIES = 0.2, 0.3
"""Radians a step, before the change and after it."""
FIRST_RATE = 0.003
"""The learning rate before the change."""
EQUIVALENT = 0.03
"""The margin of the claim of equivalence."""


def main(
    seeds: int = 20,
    steps: int = 3_000,
    hidden: int = 64,
    rates: tuple[float, ...] = RATES,
    precisions: tuple[Literal["float32", "float64"], ...] = ("float32", "float64"),
) -> sj.Report:
    """Lets all strategies adapt.

    Args:
        seeds: the number of seeds, at least 6, since fewer have no interval of 95 %.
        steps: the steps before the change, and as many after it.
        hidden: the units of the network.
        rates: the learning rates after the change.
        precisions: the precisions of all numbers.
    """
    if seeds < 6:
        raise sj.Error(
            f"--seeds {seeds}: fewer than 6 seeds have no interval of 95 %. Nothing was trained: give 6 or more"
        )
    report = sj.Report(__file__)
    rows = []
    for precision in precisions:
        with jax.enable_x64(precision == "float64"):
            losses = adapt(seeds, steps, hidden, rates)
        rows += [(precision, name, *each) for name, each in losses.items()]
        unadapted, exact = losses.pop("no updates"), losses["rtrl"]
        report.row(f"{precision}: loss without updates", str(median_interval(unadapted)))
        report.row(f"{precision}: loss of rtrl", str(median_interval(exact)))
        for name in [*losses][1:]:
            recovery = median_interval(recoveries(unadapted, exact, losses[name]))
            report.row(f"{precision}: recovery, {name}", str(recovery), remark=claim(name, precision, recovery))
            ratio = median_interval(losses[name] / exact)
            report.row(f"{precision}: loss beside that of rtrl, {name}", str(ratio))
    columns = ("precision", "strategy", *(f"seed {seed}" for seed in range(seeds)))
    report.table("losses_after_the_change", Table(columns, rows), folded=True)
    return report


def recoveries(unadapted_S: np.ndarray, exact_S: np.ndarray, losses_S: np.ndarray) -> np.ndarray:
    """The recovery in each seed, from the losses without updates, of `rtrl`, and of a strategy."""
    saved_S = unadapted_S - exact_S
    without_value_S = np.where(losses_S > exact_S, -np.inf, np.inf)
    return np.where(saved_S > 0, (unadapted_S - losses_S) / np.where(saved_S > 0, saved_S, 1), without_value_S)


def median_interval(values_S: np.ndarray) -> Interval:
    """The median over the seeds, with the interval that the ranks of the values give (Conover 1999, §3.2)."""
    interval = scipy.stats.quantile_test(values_S, p=0.5).confidence_interval(0.95)
    return Interval(float(np.median(values_S)), float(interval.low), float(interval.high))


def claim(name: str, precision: str, recovery: Interval) -> str:
    """What the papers claim of a strategy, and whether the interval agrees; "": nothing."""
    low, high = 0.84, np.inf
    if name == "immediate" and precision == "float64":
        low, high = 1 - EQUIVALENT, 1 + EQUIVALENT
    elif name != "sparse-rtrl, 4 paths":
        return ""
    agrees = "yes" if recovery.low >= low and recovery.high <= high else "undecided"
    agrees = "no" if recovery.high < low or recovery.low > high else agrees
    return f"claimed: {f'equal within {EQUIVALENT}' if high < np.inf else 'at least .84'}; {agrees}"


def adapt(seeds: int, steps: int, hidden: int, rates: tuple[float, ...]) -> dict[str, np.ndarray]:
    """The losses of each strategy after the change, float64[seeds], at the rate that the other half of them chooses."""
    problem = RNN(hidden=hidden, initializer="uniform").problem(sj.Spec(sj.Values(1)))
    keys = jax.random.split(jax.random.key(0), seeds)

    @jax.jit(static_argnums=0)
    def learn(gradient: sj.Gradient, rate, params, frequency):
        """The mean loss of the last fourth of the steps, and the parameters after them; one row for each seed."""
        learner = sj.Learner(problem, gradient, optax.adam(rate))
        wave = jnp.sin(frequency * jnp.arange(steps + 1.0))[:, None]

        def one(key, params):
            def step(state, inputs):
                state, metrics = learner.update(state, *inputs)
                return state, metrics["loss"]

            state, losses = jax.lax.scan(step, learner.init(key, params), (wave[:-1], wave[1:]))
            return losses[-(steps // 4) :].mean(), state.params

        return jax.vmap(one)(keys, params)

    before, after = FREQUENCIES
    _, learned = learn(RTRL(), FIRST_RATE, jax.vmap(problem.init)(keys), before)
    found = {"no updates": np.asarray(learn(Immediate(), 0.0, learned, after)[0])}
    for name, gradient in STRATEGIES.items():
        losses_RS = np.stack([learn(gradient, rate, learned, after)[0] for rate in rates])
        losses_RS = np.nan_to_num(losses_RS, nan=np.inf)
        found[name] = losses_RS[cross_fitted(losses_RS), range(seeds)]
    return found


if __name__ == "__main__":
    sj.script(main)
