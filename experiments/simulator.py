"""Where does the gradient of a spiking neuron explode?   python experiments/simulator.py

A neuron with sodium, potassium and leak channels is driven for 60 ms by a current that changes every 5 ms, and spikes a
few times. The loss compares its potential v with that of a neuron with other conductances. The gradient by v grows
first: in the median neuron, it is 50 times as large as at lag 1 within a millisecond (40 steps). The gradient by n
grows as much, but only hundreds of steps back, and the gradients by h and m grow less. A gradient in segments of 400
steps keeps the sign of the full gradient by gNa and by gL in nine neurons of ten, but by gK in about half of them, as
by chance. Segments of 1,600 steps keep the sign by gK in eight neurons of ten.
"""

import jax
import numpy as np

import seqjax as sj
from seqjax.gradients import Full, Truncated

# The largest growth of the gradient by each state variable, and the number of steps until it is 50-fold.
LARGEST_GROWTH = {
    "v": {"low": 170, "high": 680},
    "n": {"low": 170, "high": 700},
    "h": {"low": 60, "high": 240},
    "m": {"low": 20, "high": 80},
}
STEPS_UNTIL_50 = {"v": {"low": 18, "high": 40}, "n": {"low": 101}, "h": {"low": 101}, "m": {"low": 101}}
# The share of neurons in which segments of 400 steps keep the sign of the full gradient.
SAME_SIGN = {"gNa": {"low": 0.82, "high": 1}, "gK": {"low": 0.4, "high": 0.7}, "gL": {"low": 0.82, "high": 1}}
SEGMENTS = (1, 10, 20, 40, 100, 200, 400, 800, 1600)

STEPS_OF_CURRENT = 200  # the current is constant for 5 ms
STEP = sj.testing.spiking_neuron(dt=0.025)
TRUTH, REST = sj.testing.NEURON  # the true parameters, logarithms of conductances, and the state at rest


def draw(neurons: int, num_steps: int):
    """For each neuron, conductances that are up to 1.5 times too large or too small, and a current in µA/cm²."""
    rng = np.random.default_rng(0)
    changes = -(-num_steps // STEPS_OF_CURRENT)  # rounded up
    current = rng.normal(2, 1.5, (neurons, changes)).repeat(STEPS_OF_CURRENT, axis=1)[:, :num_steps]
    params = {name: true + np.log(1.5) * rng.uniform(-1, 1, neurons) for name, true in TRUTH.items()}
    return params, current


def true_potential(current):
    """The potential of the neuron with the true conductances, float64[num_steps]."""

    def step(state, x):
        return STEP(TRUTH, state, x)

    # The target is part of the input, but has no effect on the potential.
    _, (_, potential) = jax.lax.scan(step, REST, (current, current))
    return potential


def spikes(potential) -> np.ndarray:
    """How often the potential of each neuron rises above 0 mV."""
    return ((potential[:, 1:] > 0) & (potential[:, :-1] <= 0)).sum(1)


def gradient_growth(params, current, target) -> dict[str, np.ndarray]:
    """The norm of the gradient by each state variable by lag, relative to lag 1, float64[neurons, num_steps]."""
    num_steps = current.shape[1]

    def lags(params, *xs):
        return sj.lags(STEP, params, REST, xs, num_steps, has_aux=True)

    by_state = jax.vmap(lags)(params, current, target).by_state
    norms = {name: by_state[name].norms for name in LARGEST_GROWTH}
    return {name: np.asarray(norm / norm[:, :1]) for name, norm in norms.items()}


def steps_until_50(growth: np.ndarray) -> np.ndarray:
    """The number of lags at which the gradient has never been 50 times as large as at lag 1, for each neuron."""
    return (np.maximum.accumulate(growth, axis=1) < 50).sum(1)


def gradient_signs(strategy: sj.Gradient, params, current, target):
    """The sign of the gradient of each neuron by each parameter."""
    gradient = sj.value_and_grad(STEP, strategy, has_aux=True)

    def grads(params, *xs):
        return gradient(params, REST, xs)[1]

    return jax.tree.map(np.sign, jax.vmap(grads)(params, current, target))


def main(neurons: int = 64, lag_neurons: int = 16, num_steps: int = 2400) -> sj.Report:
    # In float64, so that rounding errors decide no sign.
    with jax.enable_x64(True):
        params, current = draw(neurons, num_steps)
        target = jax.vmap(true_potential)(current)
        # Gradients by lag take long, and so they are computed for the first neurons only.
        first_neurons = jax.tree.map(lambda leaf: leaf[:lag_neurons], (params, current, target))
        growth = gradient_growth(*first_neurons)
        full_signs = gradient_signs(Full(), params, current, target)
        same_sign = {name: [] for name in SAME_SIGN}
        for steps in SEGMENTS:
            signs = gradient_signs(Truncated(steps), params, current, target)
            for name, shares in same_sign.items():
                shares.append(float((signs[name] == full_signs[name]).mean()))
        spikes_of_data = spikes(target)

    report = sj.Report(__file__)
    report.row("spikes of the data", spikes_of_data, low=2, high=4)
    for name, of_neurons in growth.items():
        report.row(f"gradient by {name}, largest growth", of_neurons.max(1), **LARGEST_GROWTH[name])
        report.row(
            f"gradient by {name}, steps until 50-fold ({num_steps}: never)",
            steps_until_50(of_neurons),
            **STEPS_UNTIL_50[name],
        )
    for name, expected in SAME_SIGN.items():
        share = same_sign[name][SEGMENTS.index(400)]
        report.row(f"sign of the full gradient by {name}, segments of 400", share, **expected)

    # The last entry is that of all older lags together.
    by_lag = {name: (np.arange(1, num_steps), of_neurons[:, :-1]) for name, of_neurons in growth.items()}
    by_state = sj.plot.averages(
        by_lag,
        of="neuron",
        average="median",
        x_label="lag (steps of .025 ms)",
        y_label="gradient relative to lag 1",
        y_scale="log",
    )
    report.figure("by_state", by_state)
    signs = sj.plot.lines(
        {name: (SEGMENTS, shares) for name, shares in same_sign.items()},
        x_label="steps of a segment",
        y_label="share with the sign of the full gradient",
        x_scale="log",
    )
    report.figure("signs", signs)
    return report


if __name__ == "__main__":
    sj.script(main)
