"""How well does a model of one text predict others? (8.5, exercises)   python experiments/other_texts.py --seeds 3

A GRU and a 4-gram model are trained on the first 10,000 characters of a book. They are evaluated on the next 5,000, on
the rest of the book and on the documentation of Python (with --other on a file), of which only the letters a to z and
single spaces are kept, so that all texts have the same tokens. Both perplexities are higher the further a text is from
the first pages. Then the GRU continues one prompt, and its continuations vary more at higher temperatures.
"""

import seqjax as sj
from seqjax.datasets import PythonDocs, TextFile, TimeMachine
from seqjax.models import GRU, NGram
from seqjax.optimizers import Adam

TEMPERATURES = (0.0, 0.3, 0.7, 1.0, 1.5)


def plain(text: str) -> sj.Text:
    """A text as the chapter makes it: words of the letters a to z, with single spaces."""
    letters = "".join(c if c.isascii() and c.isalpha() else " " for c in text.lower())
    return sj.Text(" ".join(letters.split()))


def main(
    dataset: sj.Dataset | None = None,
    other: str = "",
    epochs: int = 150,
    hidden: int = 256,
    seeds: int = 3,
    prompt: str = "the time traveller ",
) -> sj.Report:
    dataset = dataset or TimeMachine()
    gru = sj.Experiment(
        dataset=dataset,
        train=10_000,
        heldout=5_000,
        model=GRU(hidden=hidden, dropout=0.3, recurrent_dropout=0.7),
        optimizer=Adam(learning_rate=0.002, clip_norm=1.0),
        epochs=epochs,
        evaluate_every=10,
    )
    four_gram = sj.Experiment(dataset=dataset, train=10_000, heldout=5_000, model=NGram(order=4))
    other_dataset = TextFile(path=other) if other else PythonDocs()
    texts = {
        "the held-out part": "heldout",
        "the rest of the book": "rest",
        other or "Python's": plain(other_dataset.load().text),
    }

    gru_runs = list(sj.sweep(gru, {"seed": range(seeds)}).values())
    four_gram_run = four_gram.run()

    report = sj.Report(__file__)
    for name, text in texts.items():
        gru_perplexities = [run.evaluate(text)["perplexity"] for run in gru_runs]
        report.row(f"perplexity of {name}, gru", gru_perplexities)
        report.row(f"perplexity of {name}, 4-gram", four_gram_run.evaluate(text)["perplexity"])
    for temperature in TEMPERATURES:
        continued = gru_runs[0].generate(prompt, 60, temperature=temperature)
        report.row(f"continued at temperature {temperature}", continued)
    return report


if __name__ == "__main__":
    sj.script(main)
