"""Does a character RNN memorise 10,000 characters? (8.5, 8.6)   python experiments/char_rnn.py --seeds 5

It does if the state is carried from window to window. Its perplexity is compared with the perplexity of exact
frequencies: those of what follows each context of k characters in the same text. Windows in random order start from the
initial state, so that even a model that has memorised the text has a perplexity of about 1.2, the mean over k from 1 to
35; the RNN does not quite reach it. With either sampler, most seeds continue a prompt as the text does for more than
sixty characters. On held-out text, the sampler with the lower training perplexity has the higher perplexity at the end,
and with both samplers it is higher than that of the frequencies of single letters.
"""

import jax
import numpy as np

import seqjax as sj
from seqjax.analysis import frequencies
from seqjax.datasets import TimeMachine
from seqjax.models import RNN
from seqjax.samplers import Random, Sequential

SAMPLERS = {
    "sequential": Sequential(batch_size=32, num_steps=35),  # carries the state from window to window
    "random": Random(batch_size=32, num_steps=35),
}
EXPECTED = {
    "sequential": {"expected": 1.0, "low": 1.0, "high": 1.1},
    "random": {"expected": 1.5, "low": 1.38, "high": 1.68},
}
SPEED = {"sequential": "69,604.6 on the chapter's GPU", "random": "68,624.1 on the chapter's GPU"}
# The perplexity by what follows k = 0, 1, ... characters.
CONTEXTS = (17.415, 9.865, 5.176, 2.697, 1.737, 1.372, 1.198, 1.111, 1.069, 1.046, 1.034)


def context_perplexity(text: str, k: int) -> float:
    """The perplexity of a text if the next character is predicted by its frequency after the last k characters."""
    longer = frequencies(text, k + 1).counts
    # The last k characters of the text have no next character.
    contexts = frequencies(text[:-1], k).counts if k else np.array([len(text)])
    nats = (contexts @ np.log(contexts) - longer @ np.log(longer)) / longer.sum()
    return np.exp(nats)


def length_in_text(continued: str, prompt: str, text: str) -> int:
    """How many characters after the prompt are as in the text."""
    known = [n for n in range(len(continued) + 1) if continued[:n] in text]
    return max(known) - len(prompt)


def main(
    dataset: sj.Dataset | None = None,
    epochs: int = 500,
    hidden: int = 512,
    seeds: int = 5,
    prompt: str = "time traveller ",
) -> sj.Report:
    base = sj.Experiment(
        dataset=dataset or TimeMachine(),
        train=10_000,
        heldout=5_000,
        model=RNN(hidden=hidden),
        epochs=epochs,
        evaluate_every=max(1, epochs // 20),
    )

    runs = sj.sweep(base, {"sampler": SAMPLERS, "seed": range(seeds)})

    report = sj.Report(__file__)
    text = runs.first.data.text[:10_000]
    num_params = sum(leaf.size for leaf in jax.tree.leaves(runs.first.params))
    report.row("parameters", num_params, 291_356 if hidden == 512 else None)
    for name, group in runs.variants.items():
        perplexities = [np.median(run.metric("train_perplexity")[-20:]) for run in group]
        report.row(f"training perplexity, {name}, median of the last 20 epochs", perplexities, **EXPECTED[name])
    for name, group in runs.variants.items():
        speeds = [run.metrics[-1]["tokens_per_second"] for run in group]
        lengths = [length_in_text(run.generate(prompt, 100), prompt, text) for run in group]
        report.row(f"tokens a second, {name}", speeds, remark=SPEED[name])
        report.row(f"of 100 characters after {prompt!r}, as in the text, {name}", lengths)
    for k, expected in enumerate(CONTEXTS):
        report.row(f"perplexity by what follows {k} characters", context_perplexity(text, k), expected, tolerance=5e-4)
    report.table("held_out", runs.compare("heldout_perplexity"))

    report.figure("train", sj.plot.runs(runs, x="epoch", y="train_perplexity"))
    return report


if __name__ == "__main__":
    sj.script(main)
