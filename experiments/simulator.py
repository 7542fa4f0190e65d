"""Where does the gradient of a spiking neuron explode?   python experiments/simulator.py

A neuron with sodium, potassium and leak channels is driven for 60 ms by a current that changes every 5 ms, and spikes a
few times. The loss compares its potential v with that of a neuron with other conductances. Relative to lag 1, the
gradient by v grows first, 50-fold within a millisecond (40 steps) in the median neuron. That by n grows as much, but
only hundreds of steps back, and those by h and m grow less. Segments of 400 steps keep the sign of the gradient by gNa
and gL in nine neurons of ten, and that by gK in about half of them, as chance would; 1,600 steps keep it in eight of
ten.
"""

import jax
import numpy as np

import seqjax as sj
from seqjax.report import between, more_than
from seqjax_gradients import Full, Truncated

GROWTH = {"v": (between(170, 680), between(18, 40)), "n": (between(170, 700), more_than(100)),
          "h": (between(60, 240), more_than(100)), "m": (between(20, 80), more_than(100))}  # fmt: skip
SAME = {"gNa": between(0.82, 1), "gK": between(0.4, 0.7), "gL": between(0.82, 1)}
SEGMENTS = (1, 10, 20, 40, 100, 200, 400, 800, 1600)


def main(neurons: int = 64, lag_neurons: int = 16, num_steps: int = 2400) -> sj.Report:
    report, rng, step = sj.Report(__file__), np.random.default_rng(0), sj.testing.spiking_neuron(dt=0.025)
    truth, rest = sj.testing.NEURON  # the parameters are logarithms of conductances
    with jax.enable_x64(True):
        current = rng.normal(2, 1.5, (neurons, -(-num_steps // 200))).repeat(200, 1)[:, :num_steps]  # µA/cm²
        start = {name: g + np.log(1.5) * rng.uniform(-1, 1, neurons) for name, g in truth.items()}
        v = jax.vmap(lambda I: jax.lax.scan(lambda *args: step(truth, *args), rest, (I, I))[1][1])(current)
        report.row("spikes of the data", ((v[:, 1:] > 0) & (v[:, :-1] <= 0)).sum(1), between(2, 4))
        lags = jax.vmap(lambda params, *xs: sj.lags(step, params, rest, xs, num_steps, has_aux=True, batched=False))
        found = lags(*jax.tree.map(lambda a: a[:lag_neurons], (start, current, v))).by_state
        growth = {name: np.asarray(found[name].norms / found[name].norms[:, :1]) for name in GROWTH}
        for name, (largest, lag) in GROWTH.items():
            below = (np.maximum.accumulate(growth[name], axis=1) < 50).sum(1)
            report.row(f"gradient by {name}, largest growth", growth[name].max(1), largest)
            report.row(f"gradient by {name}, steps until 50-fold ({num_steps}: never)", below, lag)
        by_lag = {name: (np.arange(1, num_steps), g[:, :-1]) for name, g in growth.items()}
        labels = {"x_label": "lag (steps of .025 ms)", "y_label": "gradient relative to lag 1", "y_scale": "log"}
        report.figure("by_state", sj.plot.averages(by_lag, of="neuron", average="median", **labels))

        def signs(strategy):
            gradient = sj.value_and_grad(step, strategy, has_aux=True, batched=False)
            grads = jax.vmap(lambda params, *xs: gradient(params, rest, xs).grads)(start, current, v)
            return jax.tree.map(np.sign, grads)

        full = signs(Full())
        same = [jax.tree.map(lambda a, b: float((a == b).mean()), full, signs(Truncated(steps))) for steps in SEGMENTS]
    for name, expected in SAME.items():
        report.row(f"sign of the full gradient by {name}, segments of 400", same[SEGMENTS.index(400)][name], expected)
    lines = {name: (SEGMENTS, [shares[name] for shares in same]) for name in SAME}
    labels = {"x_label": "steps of a segment", "y_label": "share with the sign of the full gradient", "x_scale": "log"}
    report.figure("signs", sj.plot.lines(lines, **labels))
    return report


if __name__ == "__main__":
    sj.script(main)
