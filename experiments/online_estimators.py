"""Which gradients without bias come to the minimum?   python experiments/online_estimators.py --seeds 5

Influence balancing, as in influence_balancing.py. To have no bias is not enough: the variance must be small beside the
step. ARTBP updates from cut to cut, at a constant hazard but for "alpha 4"; "control" does not reweight.
"""

import jax
import numpy as np

import seqjax as sj
from seqjax.data import Stream
from seqjax.gradients import Memory
from seqjax_gradients import ARTBP, PES, RTRL, UORO, Full
from seqjax_optimizers import SGD
from seqjax_samplers import InOrder

CUTS = {L: ARTBP(length=L, alpha=None) for L in (16.0, 50.0)}
ARMS = {  # strategy, or where ARTBP cuts; learning rate; final loss
    "rtrl": (RTRL(), 1e-4, "~ 4e-17 (4e-18 to 4e-16)"),
    "uoro": (UORO(), 1e-4, "> 8, diverges"), "uoro, rate 1e-5": (UORO(), 1e-5, "~ .1 (5e-4 to .95)"),
    "pes, 10 particles": (PES(particles=10), 1e-4, "> 8, diverges"),
    "pes, 1000 particles": (PES(particles=1000), 1e-4, "~ 1e-15 (2e-18 to 7e-14)"),
    "artbp 16": (CUTS[16], 1e-4, "> 8, diverges"), "artbp 16, rate 1e-5": (CUTS[16], 1e-5, "<= 1.2e-15"),
    "artbp 50": (CUTS[50], 1e-4, "<= 3e-29"),
    "artbp 16, alpha 4": (ARTBP(length=16), 1e-4, "<= 7e-9"), "control": (ARTBP(length=16), 1e-4, "> 8, diverges"),
}  # fmt: skip


class Segment(ARTBP):
    """From one cut to the next: nothing inside is cut, and all is reweighted."""

    def edge_weights(self, noise, memory, num_steps):
        edge_weights, _ = super().edge_weights(jax.numpy.zeros_like(noise), Memory(rows=jax.numpy.int32(0)), num_steps)
        return jax.numpy.roll(edge_weights, 1), memory


def final_loss(seed, updates, strategy, learning_rate, weigh):
    c = np.ones((updates, 1))
    if isinstance(strategy, ARTBP):  # windows of 600 steps, of which those up to the cut are taken
        survival = np.cumprod(1 - np.array([strategy.hazard(age, ()) for age in range(599)]))
        lengths = 1 + (np.random.default_rng(seed).random((updates, 1)) < survival).sum(1, keepdims=True)
        c = np.where(np.arange(600) < lengths, lengths, 0.0)  # the trainer takes means, these are sums
        strategy = Segment(length=strategy.length, alpha=strategy.alpha) if weigh else Full()
    stream = Stream(c.ravel(), c.ravel(), np.array([0, c.size]), c.ravel() > 0)
    how = {"sampler": InOrder(num_steps=c.shape[1]), "gradient": strategy, "optimizer": SGD(learning_rate)}
    how |= {"epochs": 1, "seed": seed, "params": jax.numpy.array(0.5)}
    state, _ = next(sj.training(sj.testing.influence_balancing(), stream, **how))
    return 0.5 * (6 * float(state.params) + 1) ** 2  # in the end s[0] = -6 θ


def main(seeds: int = 5, updates: int = 3000) -> sj.Report:
    report = sj.Report(__file__)
    with jax.enable_x64(True):
        for name, (strategy, learning_rate, expected) in ARMS.items():
            how = updates, strategy, learning_rate, name != "control"
            report.row(f"final loss, {name}", [final_loss(seed, *how) for seed in range(seeds)], expected)
    return report


if __name__ == "__main__":
    sj.script(main)
