"""How well do counts of words predict the next word? (8.3)   python experiments/ngrams.py

The first results are probabilities with Laplace smoothing (8.3.5) on the words of a book, with every ε = 1: estimates
from pairs and triples are mixed with those from single words, so that unseen ones have some probability. Then each
smoothing is evaluated on words and on pieces of words (BPE), with the last tenth of the book held out. In this table,
words that occur once are replaced by `<unk>`, and a prediction of `<unk>` counts like any other, so that perplexities
of words can be compared only with each other. The last model, Kneser–Ney on three pieces of words, continues a prompt.
"""

import seqjax as sj
from seqjax.datasets import TimeMachine
from seqjax.models import NGram
from seqjax.report import Table
from seqjax.tokenizers import BPE, Word

# (context, next word) -> probability
PROBABILITIES = {
    ("", "the"): 0.0689834092,
    ("time", "machine"): 0.1940427531,
    ("the", "time"): 0.0450955358,
    ("the time", "traveller"): 0.5728336032,
    ("the time", "never"): 5.92436e-6,
}
SMOOTHINGS = ("additive", "laplace", "witten-bell", "kneser-ney")


def main(
    dataset: sj.Dataset | None = None, max_order: int = 3, vocab_size: int = 500, prompt: str = "the time "
) -> sj.Report:
    dataset = dataset or TimeMachine(form="lines")
    tokenizers = {"words": Word(min_freq=2), "BPE": BPE(vocab_size=vocab_size)}
    report = sj.Report(__file__)

    laplace = NGram(order=3, smoothing="laplace")
    run = sj.Experiment(dataset=dataset, train=1.0, heldout=0.0, tokenizer=Word(), model=laplace).run()
    for (context, word), expected in PROBABILITIES.items():
        probabilities = laplace.probabilities(run.params, run.codec[context.split()])
        event = f"{word} | {context}" if context else word
        report.row(
            f"P({event})", probabilities[run.codec[word]], expected, tolerance=5e-12 if expected < 1e-4 else 5e-11
        )
    # "man" is also the last word of the book: the sum is 1 only if that place, which no word follows, is not counted.
    after_man = laplace.probabilities(run.params, run.codec[["man"]])
    report.row("sum of P(x | man) over all words x", after_man.sum(), expected=1.0, tolerance=5e-13)

    rows = []
    for name, tokenizer in tokenizers.items():
        for smoothing in SMOOTHINGS:
            for order in range(1, max_order + 1):
                model = NGram(order=order, smoothing=smoothing)
                run = sj.Experiment(dataset=dataset, tokenizer=tokenizer, model=model).run()
                found = run.evaluate("heldout")
                # Only a tokenizer that gives back the text exactly has bits per character, and `Word` does not.
                rows.append((name, smoothing, order, found["perplexity"], found.get("bits_per_character")))
    report.table("held_out", Table(("tokens", "smoothing", "n", "perplexity", "bits per character"), rows))
    report.row("continued by 60 pieces of words", run.generate(prompt, 60, temperature=0.8))
    return report


if __name__ == "__main__":
    sj.script(main)
