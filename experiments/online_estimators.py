"""Which unbiased gradients reach the minimum?   python experiments/online_estimators.py --seeds 5

The task is influence balancing, as in influence_balancing.py. An unbiased gradient reaches the minimum only if its
variance is small enough for the learning rate. ARTBP makes one update for each segment between two cuts. Its hazard is
constant, except in "alpha 4". The variant "control" has the segments of "alpha 4", but does not reweight.
"""

from dataclasses import dataclass

import jax
import numpy as np

import seqjax as sj
from seqjax.data import Stream
from seqjax.gradients import ARTBP, PES, RTRL, UORO, Full
from seqjax.optimizers import SGD
from seqjax.samplers import InOrder

# The number of steps of a window, which holds one segment. A segment that would be longer, as hardly any is, ends here.
LONGEST = 600


class Segment(ARTBP):
    """ARTBP from one cut to the next: no edge inside is cut, and all are reweighted."""

    def edge_weights(self, noise, memory, num_steps):
        no_cuts = jax.numpy.zeros_like(noise)
        age_0 = memory._replace(rows=np.int32(0))
        weights, _ = super().edge_weights(no_cuts, age_0, num_steps)
        # Entry t is for the edge into step t. The first edge inside a segment, which has age 0, is that into step 1.
        return jax.numpy.roll(weights, 1), memory


@dataclass(frozen=True)
class Variant:
    """How θ is trained, and the loss that it should reach."""

    strategy: sj.Gradient
    learning_rate: float
    final_loss: dict[str, float | str]
    cuts: ARTBP | None = None
    """What draws the segments, one for each update; None: an update at each step."""


# Without alpha, the hazard is constant, 1 / length.
CONSTANT_16 = Segment(length=16, alpha=None)
CONSTANT_50 = Segment(length=50, alpha=None)
ALPHA_4 = Segment(length=16, alpha=4.0)
DIVERGES = {"low": 10, "remark": "diverges"}
VARIANTS = {
    "rtrl": Variant(RTRL(), 1e-4, {"expected": 4e-17, "low": 4e-18, "high": 4e-16}),
    "uoro": Variant(UORO(), 1e-4, DIVERGES),
    "uoro, rate 1e-5": Variant(UORO(), 1e-5, {"expected": 0.1, "low": 0.0005, "high": 0.95}),
    "pes, 10 particles": Variant(PES(10), 1e-4, DIVERGES),
    "pes, 1000 particles": Variant(PES(1000), 1e-4, {"expected": 1e-15, "low": 2e-18, "high": 7e-14}),
    "artbp 16": Variant(CONSTANT_16, 1e-4, DIVERGES, cuts=CONSTANT_16),
    "artbp 16, rate 1e-5": Variant(CONSTANT_16, 1e-5, {"high": 1.2e-15}, cuts=CONSTANT_16),
    "artbp 50": Variant(CONSTANT_50, 1e-4, {"high": 3e-29}, cuts=CONSTANT_50),
    "artbp 16, alpha 4": Variant(ALPHA_4, 1e-4, {"high": 7e-9}, cuts=ALPHA_4),
    "control": Variant(Full(), 1e-4, DIVERGES, cuts=ALPHA_4),
}


def segment_lengths(cuts: ARTBP, count: int, seed: int) -> np.ndarray:
    """The lengths of segments between random cuts, int[count, 1], at most LONGEST."""
    hazard = np.array([cuts.hazard(age, ()) for age in range(LONGEST - 1)])
    survival = np.cumprod(1 - hazard)  # P(length > n), n = 1, 2, ...
    draws = np.random.default_rng(seed).random((count, 1))
    return 1 + (draws < survival).sum(1, keepdims=True)


def final_loss(variant: Variant, updates: int, seed: int) -> float:
    """The loss in the long run, at the θ that training reaches."""
    if variant.cuts is None:
        c = np.ones((updates, 1))
    else:
        # The problem multiplies each loss by c, so that the mean over a segment, which `train` takes, becomes the sum.
        # Where c is 0, after the end of the segment, the problem takes no step.
        lengths = segment_lengths(variant.cuts, updates, seed)
        c = np.where(np.arange(LONGEST) < lengths, lengths, 0.0)
    window = c.shape[1]
    c = c.ravel()
    training = sj.train(
        sj.testing.influence_balancing(),
        Stream(inputs=c, targets=c, bounds=np.array([0, c.size]), mask=c > 0),
        sampler=InOrder(num_steps=window),
        gradient=variant.strategy,
        optimizer=SGD(learning_rate=variant.learning_rate),
        epochs=1,
        seed=seed,
        params=jax.numpy.array(0.5),
    )
    trained, _ = next(training)
    # The loss is ½ (s[0] - 1)², and s[0] converges to -6 θ.
    return 0.5 * (6 * float(trained.params) + 1) ** 2


def main(seeds: int = 5, updates: int = 3000) -> sj.Report:
    report = sj.Report(__file__)
    # A final loss of 3e-29 needs more digits of θ than float32 has.
    with jax.enable_x64(True):
        for name, variant in VARIANTS.items():
            losses = [final_loss(variant, updates, seed) for seed in range(seeds)]
            report.row(f"final loss, {name}", losses, **variant.final_loss)
    return report


if __name__ == "__main__":
    sj.script(main)
