"""Does a character RNN learn 10,000 characters by heart? (8.5)   python experiments/char_rnn.py

With the state carried from window to window it does, with windows in random order it does not quite. On held-out text
neither is better for it.
"""

from dataclasses import replace
from statistics import median

import seqjax as sj
from seqjax_corpora import TimeMachine
from seqjax_models import RNN
from seqjax_optimizers import SGD
from seqjax_samplers import Random, Sequential

EXPECTED = {"sequential": "1.0", "random": "1.5"}


def main(corpus: sj.Corpus | None = None, epochs: int = 500, hidden: int = 512, seed: int = 0) -> dict[str, float]:
    """Train perplexity, the median of the last 20 epochs, by sampler."""
    found = {}
    base = sj.Experiment(
        corpus=corpus or TimeMachine(), train=10_000, heldout=5_000, model=RNN(hidden=hidden),
        optimizer=SGD(learning_rate=1.0, clip_norm=1.0), epochs=epochs, seed=seed, evaluate_every=epochs,
    )  # fmt: skip
    print("sampler      train perplexity   expected   held-out perplexity")
    for name, sampler in {"sequential": Sequential(32, 35), "random": Random(32, 35)}.items():
        run = replace(base, sampler=sampler).run()
        found[name] = median(run.metric("train_perplexity")[-20:])
        heldout = run.metric("heldout_perplexity")[-1]
        print(f"{name:12} {found[name]:16.3f} {EXPECTED[name]:>10} {heldout:21.1f}")
    return found


if __name__ == "__main__":
    main()
