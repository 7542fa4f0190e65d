"""Is a network better than counting? (8.3, 8.5, 8.6)   python experiments/in_context.py --seeds 3

All read the first 10,000 characters; the next 5,000 choose n, up to 6, and chose the dropout; the 5,000 after are read
once. Trained as in the chapter, networks know their text by heart and little else. With units dropped (in its training
perplexity too), of h on its way up and, the same all through a sequence, on its way to the next step, a GRU leaves all
counts behind but the winner's: those of Kneser and Ney.
"""

import numpy as np

import seqjax as sj
from seqjax_datasets import TimeMachine
from seqjax_models import GRU, LSTM, RNN, NGram
from seqjax_optimizers import Adam

SMOOTHINGS = ("none", "additive", "laplace", "witten-bell", "kneser-ney")
EXPECTED = {
    "witten-bell": ("~ 5.86 (5.85 to 5.88)", "~ 7.97 (7.95 to 7.99)"),
    "kneser-ney": ("~ 5.12 (5.11 to 5.14)", "~ 6.64 (6.63 to 6.65)"),
}
BY_HEART = {"rnn": "", "gru": "~ 1.08 (1.04 to 1.12)", "lstm": "~ 1.15 (1.08 to 1.25)"}


def main(
    dataset: sj.Dataset | None = None, epochs: int = 500, hidden: int = 256, seeds: int = 3, max_order: int = 6
) -> sj.Report:
    dataset, report, table = dataset or TimeMachine(), sj.Report(__file__), []
    test = sj.Text(dataset.load().text[15_000:20_000])
    text = {"dataset": dataset, "train": 10_000, "heldout": 5_000}
    for smoothing in SMOOTHINGS:
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
    runs = dict(sj.sweep(base, {"model": models, "seed": range(seeds)}).arms)
    dropout = GRU(hidden=hidden, dropout=0.3, recurrent_dropout=0.7)
    adam = {"model": dropout, "optimizer": Adam(learning_rate=0.002, clip_norm=1.0), "evaluate_every": 10}
    best = sj.Experiment(**text, **adam, epochs=max(1, 3 * epochs // 10))
    runs["gru with dropout"] = list(sj.sweep(best, {"seed": range(seeds)}).values())
    for name, arm in runs.items():
        found = [run.metric("heldout_perplexity")[-1] for run in arm], [run.evaluate(test)["perplexity"] for run in arm]
        table.append((name, *map(np.median, found)))
        by_heart = [np.median(run.metric("train_perplexity")[-20:]) for run in arm]
        report.row(f"training perplexity, {name}", by_heart, BY_HEART.get(name, ""))
        report.row(f"test perplexity, {name}", found[1], "<= 7.8" if name not in BY_HEART else "")
    rows = [(*row, np.log2(row[2])) for row in sorted(table, key=lambda row: row[1])]
    report.table("perplexity", sj.Table(("model", "held out", "test", "bits per character, test"), rows))
    return report


if __name__ == "__main__":
    sj.script(main)
