"""Is a network better than counting? (8.3, 8.5, 8.6)   python experiments/ngram_baselines.py --seeds 3

All models are trained on the first 10,000 characters. The next 5,000 select n, up to 6, and have selected the dropout;
the 5,000 after these are used once. Networks that are trained as in the chapter memorise their text and learn little
else. With dropout (also while its training perplexity is measured) of h on its way to the read-out and, with one mask
for each sequence, on its way to the next step, a GRU beats the best n-grams of all smoothings but Kneser and Ney's.
"""

import numpy as np

import seqjax as sj
from seqjax.report import Table, at_most, between
from seqjax_datasets import TimeMachine
from seqjax_models import GRU, LSTM, RNN, NGram
from seqjax_optimizers import Adam

EXPECTED = {
    "witten-bell": (between(5.85, 5.88, about=5.86), between(7.95, 7.99, about=7.97)),
    "kneser-ney": (between(5.11, 5.14, about=5.12), between(6.63, 6.65, about=6.64)),
}
TRAINING = {"rnn": "", "gru": between(1.04, 1.12, about=1.08), "lstm": between(1.08, 1.25, about=1.15)}


def main(
    dataset: sj.Dataset | None = None, epochs: int = 500, hidden: int = 256, seeds: int = 3, max_order: int = 6
) -> sj.Report:
    dataset, report, table = dataset or TimeMachine(), sj.Report(__file__), []
    test = sj.Text(dataset.load().text[15_000:20_000])
    text = {"dataset": dataset, "train": 10_000, "heldout": 5_000}
    for smoothing in ("none", "additive", "laplace", "witten-bell", "kneser-ney"):
        found = []
        for order in range(1, max_order + 1):
            run = sj.Experiment(**text, model=NGram(order=order, smoothing=smoothing)).run()
            found.append((run.metric("heldout_perplexity")[0], run.evaluate(test)["perplexity"], order))
            table.append((f"{order}-gram, {smoothing}", *found[-1][:2]))
        *chosen, order = min(found)
        for part, got, expected in zip(("held-out", "test"), chosen, EXPECTED.get(smoothing, ("", "")), strict=True):
            report.row(f"{part} perplexity, {order}-gram, {smoothing}", got, expected)
    table.append(("uniform", *[float(len(run.codec))] * 2))
    models = {"rnn": RNN(hidden=hidden), "gru": GRU(hidden=hidden), "lstm": LSTM(hidden=hidden)}
    base = sj.Experiment(**text, epochs=epochs, evaluate_every=max(1, epochs // 20))
    runs = dict(sj.sweep(base, {"model": models, "seed": range(seeds)}).variants)
    dropout = {"model": GRU(hidden=hidden, dropout=0.3, recurrent_dropout=0.7), "optimizer": Adam(0.002, clip_norm=1.0)}
    best = sj.Experiment(**text, **dropout, epochs=max(1, 3 * epochs // 10), evaluate_every=10)
    runs["gru with dropout"] = list(sj.sweep(best, {"seed": range(seeds)}).values())
    for name, group in runs.items():
        heldout = [run.metric("heldout_perplexity")[-1] for run in group]
        tested = [run.evaluate(test)["perplexity"] for run in group]
        table.append((name, np.median(heldout), np.median(tested)))
        trained = [np.median(run.metric("train_perplexity")[-20:]) for run in group]
        report.row(f"training perplexity, {name}", trained, TRAINING.get(name, ""))
        report.row(f"test perplexity, {name}", tested, at_most(7.8) if name not in TRAINING else "")
    rows = [(*row, np.log2(row[2])) for row in sorted(table, key=lambda row: row[1])]
    report.table("perplexity", Table(("model", "held out", "test", "bits per character, test"), rows))
    return report


if __name__ == "__main__":
    sj.script(main)
