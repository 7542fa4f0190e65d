"""How often do the words of a book occur? (8.2, 8.3)   python experiments/text_statistics.py

The frequencies of words, pairs and triples, the ten most frequent of each, and the exponent α of Zipf's law,
frequency ∝ rank^-α, by least squares on the logarithms. The most frequent are stop words and pairs of them; most pairs
and triples occur once.
"""

import seqjax as sj
from seqjax.analysis import frequencies, zipf_figure
from seqjax.report import exactly
from seqjax_datasets import TimeMachine
from seqjax_tokenizers import Char, Word

ALPHA = {1: (1.035291, 1.031523, 0.91386), 2: (0.463743, 0.676277, 0.591745), 3: (".164190", 0.460419, 0.407649), 4: ()}
COUNTS = {1: (32775, 4579, 2397), 2: (32774, 20234, 16625), 3: (32773, 29882, 28251), 4: (32772, 32180, 31740)}
TOP = {
    1: "the i and of a to was in that my",
    2: "of the, in the, i had, i was, and the, the time, it was, to the, as i, of a",
    3: "the time traveller, the time machine, the medical man, it seemed to, it was a, here and there, seemed to me, "
    "i did not, i saw the, i began to",
}


def main(characters: sj.Dataset | None = None, lines: sj.Dataset | None = None) -> sj.Report:
    text, lines = (characters or TimeMachine()).load(), (lines or TimeMachine(form="lines")).load()
    words = Word().split(lines.text)
    report = sj.Report(__file__)
    report.row("characters", len(text.text), exactly("170,580"))
    all_lines = lines.text.split("\n")
    report.row("lines", len(all_lines), exactly("3,221"))
    report.row("lines that are not blank", sum(map(bool, all_lines)), exactly("2,848"))
    report.row("vocabulary of characters, with <unk>", len(Char().fit(text)), exactly(28))
    report.row("vocabulary of words, with <unk>", len(Word().fit(lines)), exactly("4,580"))
    counted = {n: frequencies(words, n) for n in COUNTS}
    for min_freq, size in ((2, 2183), (3, 1420), (5, 825), (10, 400), (20, 219), (50, 85), (100, 41)):
        kept = counted[1].vocab_size(min_freq)
        report.row(f"the same of words that occur {min_freq} times or more", kept, exactly(size))
    for n, found in counted.items():
        counts = {"all": found.total, "different": found.distinct, "once": found.singletons}
        for (name, value), expected in zip(counts.items(), COUNTS[n], strict=True):
            report.row(f"{n}-grams, {name}", value, exactly(expected))
        for last, expected in zip((found.distinct, 1000, 100), ALPHA[n], strict=False):
            last = min(last, found.distinct)
            report.row(f"α of {n}-grams, ranks 1 to {last}", found.zipf(1, last), exactly(expected))
        grams = [gram if n == 1 else " ".join(gram) for gram in found.grams[:10]]
        report.table(f"commonest_{n}", found.top())
        report.row(f"commonest {n}-grams", (" " if n == 1 else ", ").join(grams), exactly(TOP[n]) if n in TOP else "")
    report.row("share of stop words among words", counted[1].stop_word_share())
    report.figure("zipf", zipf_figure({f"{n}-grams": found for n, found in counted.items()}))
    return report


if __name__ == "__main__":
    sj.script(main)
