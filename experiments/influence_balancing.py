"""How far back must a gradient reach to have the right sign?   python experiments/influence_balancing.py

In this linear system, the parameter θ moves the loss one way within 40 steps, and the other way in the long run (Tallec
& Ollivier 2018, arXiv:1702.05043). The loss is 8 at the initial θ = ½, and 0 at θ = -1/6. A gradient of 40 steps or
fewer has the wrong sign, and drives θ away from -1/6. Three kinds of gradient are compared: those of windows of T steps
of which only the last has a loss ("loss on the last of T"), those of single losses that are differentiated K steps back
("sliding K"), and those of windows of T steps that all have a loss ("chunks of T"). The final losses span forty powers
of ten: those of the longer sliding windows are as expected within a factor of four, and all others in every digit that
is given.
"""

from dataclasses import dataclass

import jax
import numpy as np

import seqjax as sj
from seqjax.data import Stream
from seqjax.gradients import Full
from seqjax.optimizers import SGD
from seqjax.samplers import InOrder

MAX_LAG = 399


@dataclass(frozen=True)
class Variant:
    """How θ is trained, and the loss that it should reach."""

    final_loss: dict[str, float]
    window: int = 1
    """The number of steps of a window; each window makes one update."""
    only_last: bool = False
    """Whether only the last step of a window has a loss."""
    back: int = 1
    """The number of steps that the problem replays for each loss, so that its gradient reaches beyond the window."""
    learning_rate: float = 1e-4


VARIANTS = {
    "loss on the last of 1": Variant({"expected": 211, "tolerance": 0.5}, window=1, only_last=True),
    "loss on the last of 10": Variant({"expected": 3.5e15, "tolerance": 5e13}, window=10, only_last=True),
    "loss on the last of 100": Variant({"expected": 3e-9, "tolerance": 5e-10}, window=100, only_last=True),
    "sliding 20": Variant({"expected": 3e13, "tolerance": 5e12}, back=20),
    "sliding 40": Variant({"expected": 54, "low": 13, "high": 220}, back=40),
    "sliding 50": Variant({"expected": 8e-11, "low": 2e-11, "high": 3.2e-10}, back=50),
    "sliding 100": Variant({"expected": 1e-16, "low": 2.5e-17, "high": 4e-16}, back=100),
    "chunks of 100": Variant({"expected": 2e9, "tolerance": 5e8}, window=100, learning_rate=1e-5),
    "chunks of 150": Variant({"expected": 4e-24, "tolerance": 5e-25}, window=150, learning_rate=1e-4 / 15),
}


def final_loss(variant: Variant, updates: int) -> float:
    """The loss in the long run, at the θ that training reaches."""
    num_steps = updates * variant.window
    has_loss = np.ones(num_steps, bool)
    # The problem multiplies each loss by c, so that the mean over a window, which `train` takes, becomes the sum.
    c = np.full(num_steps, float(variant.window))
    if variant.only_last:
        has_loss = np.arange(num_steps) % variant.window == variant.window - 1
        c = np.ones(num_steps)
    training = sj.train(
        sj.testing.influence_balancing(variant.back),
        Stream(inputs=c, targets=c, bounds=np.array([0, num_steps]), mask=has_loss),
        sampler=InOrder(num_steps=variant.window),
        gradient=Full(),
        optimizer=SGD(learning_rate=variant.learning_rate),
        epochs=1,
        params=jax.numpy.array(0.5),
    )
    trained, _ = next(training)
    # The loss is ½ (s[0] - 1)², and s[0] converges to -6 θ.
    return 0.5 * (6 * float(trained.params) + 1) ** 2


def gradient_by_lag() -> np.ndarray:
    """The gradient of one loss at θ = ½ in the state of rest: its part of each lag, float64[MAX_LAG + 1]."""
    theta = 0.5
    A, b = sj.testing.INFLUENCE
    at_rest = np.linalg.solve(np.eye(23) - A, theta * b)
    state = (at_rest[None], np.int32(0))
    x = np.ones(MAX_LAG + 1)
    found = sj.lags(sj.testing.influence_balancing(), theta, state, (x, x), MAX_LAG, weights="last")
    return np.asarray(found.gradients)


def main(updates: int = 3000) -> sj.Report:
    report = sj.Report(__file__)
    # A final loss of 4e-24 needs more digits of θ than float32 has.
    with jax.enable_x64(True):
        for name, variant in VARIANTS.items():
            report.row(f"final loss, {name}", final_loss(variant, updates), **variant.final_loss)
        kept = np.cumsum(gradient_by_lag())  # kept[k - 1] is the gradient of the last k steps
    report.row("gradient at rest, θ = ½", kept[-1], expected=24, tolerance=0.5)
    report.row("the same from the last 40 steps", kept[39], high=-1e-9)
    report.row("the same from the last 41 steps", kept[40], low=1e-9)

    lines = {"last K steps": (np.arange(1, len(kept) + 1), kept)}
    report.figure("by_steps", sj.plot.lines(lines, x_label="K, steps kept", y_label="gradient at rest, θ = ½"))
    return report


if __name__ == "__main__":
    sj.script(main)
