"""How well do counts of words predict the next word? (8.3)   python experiments/ngrams.py

Laplace smoothing (8.3.5) on the words of a book, with every ε = 1: pairs and triples fall back on single words, so that
unseen ones have some probability. Then each smoothing on words and on pieces of words, with the last tenth of the book
held out. Words that occur once are `<unk>`. To predict `<unk>` counts as well, so that perplexities of words can be
compared within this table only. The last model, Kneser–Ney on three pieces, continues a prompt.
"""

import seqjax as sj
from seqjax.report import Table, exactly
from seqjax_datasets import TimeMachine
from seqjax_models import NGram
from seqjax_tokenizers import BPE, Word

EXPECTED = {
    ("", "the"): 0.0689834092,
    ("time", "machine"): 0.1940427531,
    ("the", "time"): 0.0450955358,
    ("the time", "traveller"): 0.5728336032,
    ("the time", "never"): 5.92436e-6,
}
SMOOTHINGS = "additive", "laplace", "witten-bell", "kneser-ney"


def main(
    dataset: sj.Dataset | None = None, max_order: int = 3, vocab_size: int = 500, prompt: str = "the time "
) -> sj.Report:
    dataset, report, table = dataset or TimeMachine(form="lines"), sj.Report(__file__), []
    tokenizers = {"words": Word(min_freq=2), "BPE": BPE(vocab_size=vocab_size)}
    whole = {"train": 1.0, "heldout": 0.0}
    laplace = NGram(order=3, smoothing="laplace")
    run = sj.Experiment(dataset=dataset, **whole, tokenizer=Word(), model=laplace).run()
    for (context, word), expected in EXPECTED.items():
        p = laplace.probabilities(run.params, run.codec[context.split()])
        report.row(f"P({word}{' | ' * bool(context)}{context})", p[run.codec[word]], exactly(expected))
    p = laplace.probabilities(run.params, run.codec[["man"]])  # the last word of the book, which no word follows
    report.row("sum of P(x | man) over all words x", p.sum(), exactly("1.000000000000"))
    for name, tokenizer in tokenizers.items():
        for smoothing in SMOOTHINGS:
            for order in range(1, max_order + 1):
                model = NGram(order=order, smoothing=smoothing)
                run = sj.Experiment(dataset=dataset, tokenizer=tokenizer, model=model).run()
                found = run.evaluate("heldout")
                table.append((name, smoothing, order, found["perplexity"], found.get("bits_per_character")))
    report.table("held_out", Table(("tokens", "smoothing", "n", "perplexity", "bits per character"), table))
    report.row("continued by 60 pieces of words", run.generate(prompt, 60, temperature=0.8))
    return report


if __name__ == "__main__":
    sj.script(main)
