"""Is a network better than counting? (8.3, 8.5, 8.6)   python experiments/ngram_baselines.py --seeds 3

All models are trained on the first 10,000 characters. The next 5,000 characters are held out: n, up to 6, is selected
on them, and the dropout was selected on them earlier. The 5,000 characters after these are the test text, which is used
once. Networks that are trained as in the chapter memorise their text and learn little else. A GRU with dropout is
better than the best n-grams of all smoothings except that of Kneser and Ney. Dropout acts on h on its way to the
read-out and, with one mask for each sequence, on its way to the next step; it also acts while the training perplexity
is measured.
"""

import numpy as np

import seqjax as sj
from seqjax.datasets import TimeMachine
from seqjax.models import GRU, LSTM, RNN, NGram
from seqjax.optimizers import Adam
from seqjax.report import Table

SMOOTHINGS = ("none", "additive", "laplace", "witten-bell", "kneser-ney")
# The perplexities of the best n-gram.
HELDOUT = {
    "witten-bell": {"expected": 5.86, "low": 5.85, "high": 5.88},
    "kneser-ney": {"expected": 5.12, "low": 5.11, "high": 5.14},
}
TEST = {
    "witten-bell": {"expected": 7.97, "low": 7.95, "high": 7.99},
    "kneser-ney": {"expected": 6.64, "low": 6.63, "high": 6.65},
}
# The perplexities of networks.
NETWORK_TRAINING = {
    "gru": {"expected": 1.08, "low": 1.04, "high": 1.12},
    "lstm": {"expected": 1.15, "low": 1.08, "high": 1.25},
}
NETWORK_TEST = {"gru with dropout": {"high": 7.8}}


def train_networks(text: dict, epochs: int, hidden: int, seeds: int) -> dict[str, list[sj.Run]]:
    """The runs of each network, one for each seed."""
    models = {"rnn": RNN(hidden=hidden), "gru": GRU(hidden=hidden), "lstm": LSTM(hidden=hidden)}
    as_in_chapter = sj.Experiment(**text, epochs=epochs, evaluate_every=max(1, epochs // 20))
    with_dropout = sj.Experiment(
        **text,
        model=GRU(hidden=hidden, dropout=0.3, recurrent_dropout=0.7),
        optimizer=Adam(learning_rate=0.002, clip_norm=1.0),
        epochs=max(1, 3 * epochs // 10),
        evaluate_every=10,
    )
    runs = sj.sweep(as_in_chapter, {"model": models, "seed": range(seeds)})
    runs_with_dropout = sj.sweep(with_dropout, {"seed": range(seeds)})
    return {**runs.variants, "gru with dropout": list(runs_with_dropout.values())}


def main(
    dataset: sj.Dataset | None = None, epochs: int = 500, hidden: int = 256, seeds: int = 3, max_order: int = 6
) -> sj.Report:
    dataset = dataset or TimeMachine()
    text = {"dataset": dataset, "train": 10_000, "heldout": 5_000}
    test = sj.Text(dataset.load().text[15_000:20_000])

    report = sj.Report(__file__)
    perplexities = []  # model, held out, test
    for smoothing in SMOOTHINGS:
        by_order = []
        for order in range(1, max_order + 1):
            run = sj.Experiment(**text, model=NGram(order=order, smoothing=smoothing)).run()
            heldout_perplexity = run.metric("heldout_perplexity")[0]
            test_perplexity = run.evaluate(test)["perplexity"]
            by_order.append((heldout_perplexity, test_perplexity, order))
            perplexities.append((f"{order}-gram, {smoothing}", heldout_perplexity, test_perplexity))
        # The order with the lowest held-out perplexity, which comes first in each tuple.
        best_heldout, best_test, order = min(by_order)
        report.row(f"held-out perplexity, {order}-gram, {smoothing}", best_heldout, **HELDOUT.get(smoothing, {}))
        report.row(f"test perplexity, {order}-gram, {smoothing}", best_test, **TEST.get(smoothing, {}))

    # A model to which all tokens are equally likely has the size of the vocabulary as its perplexity.
    vocab_size = float(len(run.codec))
    perplexities.append(("uniform", vocab_size, vocab_size))

    for name, runs in train_networks(text, epochs, hidden, seeds).items():
        heldout_perplexities = [run.metric("heldout_perplexity")[-1] for run in runs]
        test_perplexities = [run.evaluate(test)["perplexity"] for run in runs]
        train_perplexities = [np.median(run.metric("train_perplexity")[-20:]) for run in runs]
        perplexities.append((name, np.median(heldout_perplexities), np.median(test_perplexities)))
        report.row(f"training perplexity, {name}", train_perplexities, **NETWORK_TRAINING.get(name, {}))
        report.row(f"test perplexity, {name}", test_perplexities, **NETWORK_TEST.get(name, {}))

    perplexities.sort(key=lambda row: row[1])
    rows = [(name, heldout, tested, np.log2(tested)) for name, heldout, tested in perplexities]
    report.table("perplexity", Table(("model", "held out", "test", "bits per character, test"), rows))
    return report


if __name__ == "__main__":
    sj.script(main)
