"""Does what was learned of one text hold for another? (8.5, exercises)   python experiments/elsewhere.py --seeds 3

A GRU and a 4-gram of the first 10,000 characters of a book, with its symbols, read the rest of it, and documentation of
Python in the same letters (or with --other a file, of which other characters become spaces): the further from those
pages, the harder for both. Then the GRU goes on from one prompt, more boldly the higher the temperature.
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
