"""Which gradients fit the conductances of a spiking neuron?   python experiments/simulator_fit.py

The neurons are those of simulator.py. Each is fitted by 300 updates of Adam, from conductances that are up to 1.5 times
too large or too small. At the start, the full gradient points away from the true gNa, and from the true gK, in about
half of the neurons. Nevertheless, more fits end with a loss below .1 with the full gradient than with a gradient in
segments of 400 steps, with one that is clipped at every step, or with one that flows through v alone. The shares differ
by little more than one standard error, .06. The gradient through v alone has by far the lowest median loss. With each
strategy, some fits end far from the true conductances.
"""

from dataclasses import dataclass, field

import jax
import numpy as np

import seqjax as sj
from seqjax.gradients import Clipped, Full, Only, Truncated
from seqjax.optimizers import Adam


@dataclass(frozen=True)
class Variant:
    """A strategy, and what its fits should reach."""

    strategy: sj.Gradient
    share: dict[str, float]
    """The share of fits that end with a loss below .1."""
    final_loss: dict[str, float] = field(default_factory=dict)


VARIANTS = {
    "full": Variant(Full(), {"low": 0.68, "high": 0.95}, {"high": 0.02}),
    "truncated 400": Variant(Truncated(400), {"low": 0.38, "high": 0.68}),
    "clipped 100": Variant(Clipped(100.0), {"low": 0.44, "high": 0.74}),
    # The gradient through the other state variables is cut at every step.
    "only v": Variant(Only(Truncated(1), leaves=("m", "h", "n")), {"low": 0.46, "high": 0.76}, {"high": 1e-05}),
}

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


def fit(strategy: sj.Gradient, updates: int, start, current, target):
    """Fits the neurons: the last parameters of each, and its loss and gradient before each update."""
    gradient = sj.value_and_grad(STEP, strategy, has_aux=True)
    optimizer = Adam(learning_rate=0.03).build(updates)

    def fit_one(params, *xs):
        def update(carry, _):
            params, moments = carry
            (loss, _), grads = gradient(params, REST, xs)
            change, moments = optimizer.update(grads, moments)
            params = jax.tree.map(jax.numpy.add, params, change)
            return (params, moments), (loss, grads)

        (params, _), (losses, grads) = jax.lax.scan(update, (params, optimizer.init(params)), None, updates)
        return params, losses, grads

    return jax.jit(jax.vmap(fit_one))(start, current, target)


def main(neurons: int = 64, num_steps: int = 2400, updates: int = 300) -> sj.Report:
    report = sj.Report(__file__)
    curves = {}
    # The promotion is standard because optax mixes dtypes.
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        start, current = draw(neurons, num_steps)
        target = jax.vmap(true_potential)(current)
        for name, variant in VARIANTS.items():
            final, losses, grads = fit(variant.strategy, updates, start, current, target)
            final_losses = losses[:, -1]
            report.row(f"final loss, {name}", final_losses, **variant.final_loss)
            small = float((final_losses < 0.1).mean())
            report.row(f"share of final losses below .1, {name}", small, **variant.share)
            for g, true in TRUTH.items():
                ratios = np.exp(final[g] - true)
                report.row(f"{g} by the true one, {name}", ratios, low=0.85, high=1.15)
                # A step against the gradient moves towards the true value if both have the same sign.
                right = float((np.sign(grads[g][:, 0]) == np.sign(start[g] - true)).mean())
                report.row(f"share of first gradients that point to the true {g}, {name}", right)
            curves[name] = (np.arange(1, updates + 1), losses)

    figure = sj.plot.averages(
        curves, average="median", of="neuron", x_label="updates", y_label="loss ((10 mV)²)", y_scale="log"
    )
    report.figure("loss", figure)
    return report


if __name__ == "__main__":
    sj.script(main)
