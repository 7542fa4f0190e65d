"""Which unbiased gradients reach the minimum?   python experiments/online_estimators.py --seeds 5

Influence balancing, as in influence_balancing.py. To be unbiased is not enough: the variance must be small for the
learning rate. ARTBP updates from cut to cut; its hazard is constant except in "alpha 4"; "control" does not reweight.
"""

import jax
import numpy as np

import seqjax as sj
from seqjax.data import Stream
from seqjax.report import Expected, at_most, between
from seqjax_gradients import ARTBP, PES, RTRL, UORO, Full
from seqjax_optimizers import SGD
from seqjax_samplers import InOrder

DIVERGES = Expected("> 8, diverges", lambda loss: loss > 8)
VARIANTS = {  # strategy; learning rate; final loss
    "rtrl": (RTRL(), 1e-4, between(4e-18, 4e-16, about=4e-17)), "uoro": (UORO(), 1e-4, DIVERGES),
    "uoro, rate 1e-5": (UORO(), 1e-5, between("5e-4", .95, about=.1)), "pes, 10 particles": (PES(10), 1e-4, DIVERGES),
    "pes, 1000 particles": (PES(1000), 1e-4, between(2e-18, 7e-14, about=1e-15)),
    "artbp 16": (ARTBP(16, None), 1e-4, DIVERGES), "artbp 16, rate 1e-5": (ARTBP(16, None), 1e-5, at_most(1.2e-15)),
    "artbp 50": (ARTBP(50, None), 1e-4, at_most(3e-29)), "artbp 16, alpha 4": (ARTBP(16), 1e-4, at_most(7e-9)),
    "control": (ARTBP(16), 1e-4, DIVERGES),
}  # fmt: skip


class Segment(ARTBP):
    """ARTBP from one cut to the next: no edge inside is cut, and all are reweighted."""

    def edge_weights(self, noise, memory, num_steps):
        at_cut = jax.numpy.zeros_like(noise), memory._replace(rows=np.int32(0)), num_steps
        return jax.numpy.roll(super().edge_weights(*at_cut)[0], 1), memory


def final_loss(name, seed, updates, strategy, learning_rate):
    c = np.ones((updates, 1))
    if isinstance(strategy, ARTBP):  # windows of 600 steps, of which those before the cut are scored
        survival = np.cumprod(1 - np.array([strategy.hazard(age, ()) for age in range(599)]))
        lengths = 1 + (np.random.default_rng(seed).random((updates, 1)) < survival).sum(1, keepdims=True)
        c = np.where(np.arange(600) < lengths, lengths, 0.0)  # for `training` takes means, and these are sums
        strategy = Full() if name == "control" else Segment(length=strategy.length, alpha=strategy.alpha)
    stream = Stream(c.ravel(), c.ravel(), np.array([0, c.size]), c.ravel() > 0)
    how = {"sampler": InOrder(num_steps=c.shape[1]), "gradient": strategy, "optimizer": SGD(learning_rate)}
    how |= {"epochs": 1, "seed": seed, "params": jax.numpy.array(0.5)}
    state, _ = next(sj.train(sj.testing.influence_balancing(), stream, **how))
    return 0.5 * (6 * float(state.params) + 1) ** 2  # in the end s[0] = -6 θ


def main(seeds: int = 5, updates: int = 3000) -> sj.Report:
    report = sj.Report(__file__)
    with jax.enable_x64(True):
        for name, (*how, expected) in VARIANTS.items():
            report.row(f"final loss, {name}", [final_loss(name, n, updates, *how) for n in range(seeds)], expected)
    return report


if __name__ == "__main__":
    sj.script(main)
