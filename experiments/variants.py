"""What becomes of a character RNN with other parts? (8.5, exercises)   python experiments/variants.py --seeds 3

Vectors for characters in place of one-hot ones, two layers, rectified units with and without a clipped gradient; then
other texts with the vocabulary as it is, and the same prompt continued at several temperatures.
"""

from dataclasses import dataclass, replace

import jax

import seqjax as sj
from seqjax_corpora import PythonDocs, TimeMachine
from seqjax_models import RNN
from seqjax_optimizers import SGD


@dataclass(frozen=True)
class ReLU(sj.Cell):
    """h = relu(u + v)."""

    def cell(self, u, v, state):
        """The whole of it."""
        return self.State(jax.nn.relu(u + v))


def main(corpus: sj.Corpus | None = None, epochs: int = 200, hidden: int = 256, seeds: int = 3) -> sj.Report:
    base = sj.Experiment(
        corpus=corpus or TimeMachine(), train=10_000, heldout=5_000, model=RNN(hidden=hidden), epochs=epochs,
        evaluate_every=max(1, epochs // 20),
    )  # fmt: skip
    arms = {
        "one-hot": base,
        "embedding of 32": replace(base, model=RNN(hidden=hidden, embedding=32)),
        "two layers": replace(base, model=RNN(hidden=hidden, layers=2)),
        "relu": replace(base, model=ReLU(hidden=hidden)),
        "relu, gradient not clipped": replace(base, model=ReLU(hidden=hidden), optimizer=SGD(learning_rate=1.0)),
    }
    report = sj.Report(__file__)
    for name, experiment in arms.items():
        runs = sj.sweep(experiment, {"seed": range(seeds)})
        diverged = sum(run.diverged for run in runs.values())
        report.row(f"diverged, {name}", f"{diverged} of {seeds}")
        if not diverged:
            report.row(f"training perplexity, {name}", runs.metric("train_perplexity")[:, -1])
            report.row(f"held-out perplexity, {name}", runs.metric("heldout_perplexity")[:, -1])
        if name == "one-hot":
            first = runs.first
    other = "".join(c if c.isascii() and c.isalpha() else " " for c in PythonDocs().load().text[:40_000].lower())
    for name, text in {"the rest": "rest", "another, of Python": sj.Text(" ".join(other.split()))}.items():
        report.row(f"perplexity of {name}", first.evaluate(text)["perplexity"])
    for temperature in (0.0, 0.5, 1.0):
        report.row(f"continued at temperature {temperature}", first.generate("so it ", 60, temperature=temperature))
    return report


if __name__ == "__main__":
    sj.script(main)
