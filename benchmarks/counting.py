"""The speed of counting n-grams, beside nltk.

    python benchmarks/counting.py

For n = 1, ..., 5: millions of tokens per second of `seqjax.analysis.count_ngrams` and of
`nltk.FreqDist(nltk.ngrams(ids, n))` on 10 million random ids below 28. Times are medians of three calls. If nltk is
installed (`pip install nltk`), it is called once, on the first `--nltk-tokens` ids, where the counts have to agree.
"""

import argparse
import importlib.util
import statistics
import time

import numpy as np

from seqjax.analysis import count_ngrams

TOKENS, SIZE = 10_000_000, 28


def main() -> None:
    """Prints one row for each n."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=TOKENS, help="the number of ids")
    parser.add_argument("--nltk-tokens", type=int, default=2_000_000, help="the number of ids that nltk counts")
    args = parser.parse_args()
    count = min(args.nltk_tokens, args.tokens)
    ids = np.random.default_rng(0).integers(0, SIZE, args.tokens).astype(np.int32)
    if importlib.util.find_spec("nltk") is None:
        print("nltk is not installed: pip install nltk\n")
        count = 0
    else:
        import nltk

        def nltk_counts(ids, order):
            return nltk.FreqDist(nltk.ngrams(ids, order))

    print("| n | count_ngrams, M tokens/s | nltk, M tokens/s | quotient |")
    print("|---|---|---|---|")
    for order in range(1, 6):
        ours = args.tokens / statistics.median(seconds(count_ngrams, ids, order, SIZE)[0] for _ in range(3)) / 1e6
        line = f"| {order} | {ours:.1f} |" + " – | – |" * (count == 0)
        if count:
            elapsed, frequencies = seconds(nltk_counts, ids[:count].tolist(), order)
            grams, counts = count_ngrams(ids[:count], order, SIZE)
            assert frequencies == dict(zip(map(tuple, grams.tolist()), counts.tolist(), strict=True))
            theirs = count / elapsed / 1e6
            line += f" {theirs:.2f} | {ours / theirs:.0f} |"
        print(line, flush=True)


def seconds(function, *args):
    """The seconds of one call, and its result."""
    start = time.perf_counter()
    result = function(*args)
    return time.perf_counter() - start, result


if __name__ == "__main__":
    main()
