"""How far back must a gradient reach to have the right sign?   python experiments/influence_balancing.py

A linear system in which the parameter θ moves the loss one way within 40 steps, and the other way in the end (Tallec &
Ollivier 2018, arXiv:1702.05043). Gradients that reach less far back drive θ from ½ away from -1/6, where the loss, 8 at
first, is 0. "Sliding K" goes K steps back from each loss; "chunks of T" have a loss at each of their T steps. The final
losses span forty powers of ten: those of the longer sliding windows are as expected within a factor of four, all others
in every digit.
"""

import jax
import numpy as np

import seqjax as sj
from seqjax.data import Stream
from seqjax.report import between, exactly, less_than, more_than
from seqjax_gradients import Full
from seqjax_optimizers import SGD
from seqjax_samplers import InOrder

LAST = {1: exactly(211), 10: exactly("3.5e15"), 100: exactly(3e-9)}
SLIDING = {20: exactly("3e13"), 40: between(13, 220, about=54), 50: between(2e-11, 3.2e-10, about=8e-11),
           100: between(2.5e-17, 4e-16, about=1e-16)}  # fmt: skip
VARIANTS = {  # steps of a window; whether only its last step has a loss; steps back from it; learning rate; final loss
    **{f"loss on the last of {T}": (T, True, 1, 1e-4, loss) for T, loss in LAST.items()},
    **{f"sliding {K}": (1, True, K, 1e-4, loss) for K, loss in SLIDING.items()},
    "chunks of 100": (100, False, 1, 1e-5, exactly("2e9")),
    "chunks of 150": (150, False, 1, 1e-4 / 15, exactly(4e-24)),
}


def final_loss(updates, T, last, back, learning_rate):
    c = np.full(updates * T, 1.0 if last else float(T))  # for `training` takes means, and these are sums
    stream = Stream(c, c, np.array([0, len(c)]), (np.arange(len(c)) % T == T - 1) | (not last))
    how = {"sampler": InOrder(num_steps=T), "gradient": Full(), "optimizer": SGD(learning_rate), "epochs": 1}
    problem = sj.testing.influence_balancing(back)
    state, _ = next(sj.train(problem, stream, **how, params=jax.numpy.array(0.5)))
    return 0.5 * (6 * float(state.params) + 1) ** 2  # in the end s[0] = -6 θ


def main(updates: int = 3000) -> sj.Report:
    report = sj.Report(__file__)
    with jax.enable_x64(True):
        for name, (*how, expected) in VARIANTS.items():
            report.row(f"final loss, {name}", final_loss(updates, *how), expected)
        A, b = sj.testing.INFLUENCE
        at_rest = np.linalg.solve(np.eye(23) - A, 0.5 * b)[None, None], np.zeros(1, np.int32)
        x, last = np.ones((400, 1)), np.eye(400)[:, -1:]
        found = sj.lags(sj.testing.influence_balancing(), 0.5, at_rest, (x, x), 399, weights=last)
    kept = np.cumsum(np.asarray(found.gradients))
    report.row("gradient at rest, θ = ½", kept[-1], exactly(24))
    report.row("the same from the last 40 steps", kept[39], less_than(0))
    report.row("the same from the last 41 steps", kept[40], more_than(0))
    labels = {"x_label": "K, steps kept", "y_label": "gradient at rest, θ = ½"}
    report.figure("by_steps", sj.plot.lines({"last K steps": (np.arange(1, 401), kept)}, **labels))
    return report


if __name__ == "__main__":
    sj.script(main)
