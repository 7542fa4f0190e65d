"""Which gradients fit the conductances of a spiking neuron?   python experiments/simulator_fit.py

The neurons of simulator.py. Each is fitted by 300 updates of Adam, from conductances that are up to 1.5 times too large
or too small. At the start, the full gradient points away from the true gNa, and from the true gK, in about half of the
neurons. Nevertheless, more fits end with a loss below .1 than with a gradient in segments of 400 steps, with one that
is clipped at every step, or with one that flows through v alone; their shares differ by little more than one standard
error, .06. The gradient through v alone has by far the lowest median loss. With each strategy, some fits end far off.
"""

import jax
import numpy as np

import seqjax as sj
from seqjax.report import at_most, between
from seqjax_gradients import Clipped, Full, Only, Truncated
from seqjax_optimizers import Adam

STRATEGIES = {  # and the share of fits that end with a small loss, and the final loss
    "full": (Full(), between(0.68, 0.95), at_most(0.02)), "truncated 400": (Truncated(400), between(0.38, 0.68), ""),
    "clipped 100": (Clipped(100.0), between(0.44, 0.74), ""),
    "only v": (Only(Truncated(1), leaves=("m", "h", "n")), between(0.46, 0.76), at_most(1e-5)),
}  # fmt: skip


def main(neurons: int = 64, num_steps: int = 2400, updates: int = 300) -> sj.Report:
    report, rng, step = sj.Report(__file__), np.random.default_rng(0), sj.testing.spiking_neuron(dt=0.025)
    (truth, rest), optimizer, curves = sj.testing.NEURON, Adam(learning_rate=0.03).build(updates), {}

    def fit(strategy, params, *xs):
        gradient = sj.value_and_grad(step, strategy, has_aux=True, batched=False)

        def update(carry, _):
            found = gradient(carry[0], rest, xs)
            change, moments = optimizer.update(found.grads, carry[1])
            return (jax.tree.map(jax.numpy.add, carry[0], change), moments), (found.loss, found.grads)

        (params, _), (losses, grads) = jax.lax.scan(update, (params, optimizer.init(params)), None, updates)
        return params, losses, grads

    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
        current = rng.normal(2, 1.5, (neurons, -(-num_steps // 200))).repeat(200, 1)[:, :num_steps]  # µA/cm²
        start = {name: g + np.log(1.5) * rng.uniform(-1, 1, neurons) for name, g in truth.items()}
        v = jax.vmap(lambda I: jax.lax.scan(lambda *args: step(truth, *args), rest, (I, I))[1][1])(current)
        for name, (strategy, share, loss) in STRATEGIES.items():
            final, losses, grads = jax.jit(jax.vmap(jax.tree_util.Partial(fit, strategy)))(start, current, v)
            report.row(f"final loss, {name}", losses[:, -1], loss)
            report.row(f"share of final losses below .1, {name}", float((losses[:, -1] < 0.1).mean()), share)
            for g in truth:
                report.row(f"{g} by the true one, {name}", np.exp(final[g] - truth[g]), between(0.85, 1.15))
                right = float((np.sign(grads[g][:, 0]) == np.sign(start[g] - truth[g])).mean())
                report.row(f"share of first gradients that point to the true {g}, {name}", right)
            curves[name] = np.arange(1, updates + 1), losses
    labels = {"average": "median", "of": "neuron", "x_label": "updates", "y_label": "loss ((10 mV)²)"}
    report.figure("loss", sj.plot.averages(curves, **labels, y_scale="log"))
    return report


if __name__ == "__main__":
    sj.script(main)
