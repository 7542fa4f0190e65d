"""How often do the words of a book occur? (8.2, 8.3)   python experiments/text_statistics.py

The script counts words, and pairs, triples and quadruples of words. It lists the ten most frequent of each, and fits
the exponent α of Zipf's law, frequency ∝ rank^-α, by least squares on the logarithms. The most frequent words are stop
words, and the most frequent pairs consist of them; most pairs and triples occur once.
"""

import seqjax as sj
from seqjax.analysis import frequencies, zipf_figure
from seqjax.datasets import TimeMachine
from seqjax.tokenizers import Char, Word

# The size of the vocabulary by the least number of times that a word occurs.
VOCABULARY = {2: 2183, 3: 1420, 5: 825, 10: 400, 20: 219, 50: 85, 100: 41}
# The number of n-grams, of different ones, and of those that occur once, by n.
COUNTS = {1: (32775, 4579, 2397), 2: (32774, 20234, 16625), 3: (32773, 29882, 28251), 4: (32772, 32180, 31740)}
# The exponent over all ranks, over the first 1,000 and over the first 100, by n.
ALPHA = {1: (1.035291, 1.031523, 0.91386), 2: (0.463743, 0.676277, 0.591745), 3: (0.164190, 0.460419, 0.407649)}
# The ten most frequent n-grams, by n.
TOP = {
    1: "the i and of a to was in that my",
    2: "of the, in the, i had, i was, and the, the time, it was, to the, as i, of a",
    3: "the time traveller, the time machine, the medical man, it seemed to, it was a, here and there, seemed to me, "
    "i did not, i saw the, i began to",
}


def top(found, n: int) -> str:
    """The ten most frequent n-grams as a text."""
    if n == 1:
        return " ".join(found.grams[:10])
    return ", ".join(" ".join(gram) for gram in found.grams[:10])


def main(characters: sj.Dataset | None = None, lines: sj.Dataset | None = None) -> sj.Report:
    text = (characters or TimeMachine()).load()
    text_of_lines = (lines or TimeMachine(form="lines")).load()
    all_lines = text_of_lines.text.split("\n")
    words = Word().split(text_of_lines.text)
    ngrams = {n: frequencies(words, n) for n in COUNTS}

    report = sj.Report(__file__)
    report.row("characters", len(text.text), expected=170_580)
    report.row("lines", len(all_lines), expected=3221)
    report.row("lines that are not blank", sum(1 for line in all_lines if line), expected=2848)
    report.row("vocabulary of characters, with <unk>", len(Char().fit(text)), expected=28)
    report.row("vocabulary of words, with <unk>", len(Word().fit(text_of_lines)), expected=4580)
    for min_freq, expected in VOCABULARY.items():
        size = ngrams[1].vocab_size(min_freq)
        report.row(f"the same of words that occur {min_freq} times or more", size, expected)
    for n, found in ngrams.items():
        total, distinct, singletons = COUNTS[n]
        report.row(f"{n}-grams, all", found.total, total)
        report.row(f"{n}-grams, different", found.distinct, distinct)
        report.row(f"{n}-grams, once", found.singletons, singletons)
        if n in ALPHA:
            for last, expected in zip((found.distinct, 1000, 100), ALPHA[n], strict=True):
                # A short text has fewer ranks.
                last_rank = min(last, found.distinct)
                report.row(
                    f"α of {n}-grams, ranks 1 to {last_rank}", found.zipf(1, last_rank), expected, tolerance=5e-7
                )
        report.table(f"commonest_{n}", found.top())
        report.row(f"commonest {n}-grams", top(found, n), TOP.get(n))
    report.row("share of stop words among words", ngrams[1].stop_word_share())

    report.figure("zipf", zipf_figure({f"{n}-grams": found for n, found in ngrams.items()}))
    return report


if __name__ == "__main__":
    sj.script(main)
