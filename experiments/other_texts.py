"""How well does a model of one text predict others? (8.5, exercises)   python experiments/other_texts.py --seeds 3

A GRU and a 4-gram model are trained on the first 10,000 characters of a book. With the same tokens, they are evaluated
on the rest of it and on the documentation of Python in the same letters (or with --other on a file, of which all other
characters become spaces). Both perplexities grow with the distance of a text from the first pages. Then the GRU
continues one prompt, with more variety at higher temperatures.
"""

import seqjax as sj
from seqjax_datasets import PythonDocs, TextFile, TimeMachine
from seqjax_models import GRU, NGram
from seqjax_optimizers import Adam

TEMPERATURES = 0.0, 0.3, 0.7, 1.0, 1.5


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
    base = sj.Experiment(
        dataset=dataset or TimeMachine(), train=10_000, heldout=5_000, epochs=epochs, evaluate_every=10,
        model=GRU(hidden=hidden, dropout=0.3, recurrent_dropout=0.7),
        optimizer=Adam(learning_rate=0.002, clip_norm=1.0),
    )  # fmt: skip
    gru = list(sj.sweep(base, {"seed": range(seeds)}).values())
    counts = sj.Experiment(dataset=base.dataset, train=10_000, heldout=5_000, model=NGram(order=4)).run()
    other_text = (TextFile(path=other) if other else PythonDocs()).load().text
    report = sj.Report(__file__)
    texts = {"the held-out part": "heldout", "the rest of the book": "rest", other or "Python's": plain(other_text)}
    for name, text in texts.items():
        report.row(f"perplexity of {name}, gru", [run.evaluate(text)["perplexity"] for run in gru])
        report.row(f"perplexity of {name}, 4-gram", counts.evaluate(text)["perplexity"])
    for temperature in TEMPERATURES:
        text = gru[0].generate(prompt, 60, temperature=temperature)
        report.row(f"continued at temperature {temperature}", text)
    return report


if __name__ == "__main__":
    sj.script(main)
