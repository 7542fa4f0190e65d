"""How often n-grams occur in a text: counts by rank, Zipf's exponent, stop words.

The numbers of equations are those of Zhang et al., "Dive into Deep Learning", chapter 8.
"""

import functools
from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from seqjax.analysis.ngrams import number_ngrams
from seqjax.data.tokenizer import UNKNOWN
from seqjax.errors import Error, check_whole, is_whole
from seqjax.report.table import Table

if TYPE_CHECKING:  # matplotlib takes long to import
    import seqjax.report.figure

_FUNCTION_WORDS = """
    a an the this that these those each every all both any some no such what which whose
    i me my mine myself we us our ours you your yours he him his himself she her hers herself it its itself
    they them their theirs themselves who whom
    about above after against among at before behind below between by down during for from in into of off on onto out
    over through to toward towards under until up upon with within without
    and as because but if nor or since so than though unless while
    am is are was were be been being have has had having do does did can could may might must shall should will would
    again here how just more most not now only then there too very when where why
"""
STOP_WORDS = frozenset(_FUNCTION_WORDS.split())
"""English words of grammar alone: determiners, pronouns, prepositions, conjunctions, auxiliary verbs and a few adverbs,
in lower case."""


@dataclass(frozen=True, eq=False, repr=False)
class Frequencies:
    """The distinct n-grams of a sequence of tokens and how often each occurs, most frequent first.

    Rank 1 is the most frequent n-gram; ties are in order of first occurrence. Made by `frequencies`.
    """

    tokens: tuple[Hashable, ...]
    """The distinct tokens, in order of first occurrence."""
    ids: np.ndarray
    """int64[distinct, n], the indices in `tokens` of the n tokens of each n-gram."""
    counts: np.ndarray
    """int64[distinct], falling: how often each n-gram occurs."""

    @property
    def n(self) -> int:
        """The number of tokens of an n-gram."""
        return self.ids.shape[1]

    @functools.cached_property
    def grams(self) -> list[Any]:
        """The n-grams: tuples of n tokens; for n = 1 the tokens themselves."""
        return self._grams(len(self.ids))

    def _grams(self, k: int) -> list[Any]:
        grams = [tuple(self.tokens[i] for i in row) for row in self.ids[:k].tolist()]
        return grams if self.n > 1 else [token for (token,) in grams]

    @property
    def total(self) -> int:
        """The number of n-grams in the sequence."""
        return int(self.counts.sum())

    @property
    def distinct(self) -> int:
        """The number of different n-grams."""
        return len(self.counts)

    @property
    def singletons(self) -> int:
        """The number of n-grams that occur once."""
        return int((self.counts == 1).sum())

    def vocab_size(self, min_freq: int = 0) -> int:
        """The size of the vocabulary of the n-grams that occur at least `min_freq` times, `<unk>` included."""
        kept = int((self.counts >= min_freq).sum())
        return kept + (UNKNOWN not in self._grams(kept))

    def top(self, k: int = 10) -> Table:
        """The k most frequent n-grams: rank, tokens with spaces between them, count, share of all."""
        check_whole(k=(k, 0))
        rows = [
            (rank, gram if isinstance(gram, str) else " ".join(map(str, gram)) if self.n > 1 else str(gram), count)
            for rank, (gram, count) in enumerate(zip(self._grams(k), self.counts[:k].tolist(), strict=True), 1)
        ]
        return Table(("rank", f"{self.n}-gram", "count", "share"), [(*row, row[2] / self.total) for row in rows])

    def zipf(self, first: int = 1, last: int | None = None) -> float:
        """Zipf's exponent α, by least squares over a range of ranks.

            log n_i = -α log i + c

        where n_i is the count of rank i (8.3.8). Every rank has the same weight. Most ranks belong to rare n-grams, so
        these determine a fit over all ranks; a fit to the first ranks of a figure gives another exponent.

        Args:
            first: the first rank, at least 1.
            last: the last rank; None: the last of all.

        Returns:
            α, positive if counts fall.

        Raises:
            Error: fewer than two ranks; ranks out of range.
        """
        last = self.distinct if last is None else last
        if not (is_whole(first) and is_whole(last)) or not 1 <= first < last <= self.distinct:
            raise Error(
                f"ranks {first} to {last}: give two ranks or more, from 1 to {self.distinct:,}, the number of "
                f"different {self.n}-grams"
            )
        x = np.log(np.arange(first, last + 1))
        y = np.log(self.counts[first - 1 : last])
        return float(-np.dot(x - x.mean(), y) / np.sum((x - x.mean()) ** 2))

    def stop_word_share(self, words: Collection[Hashable] = STOP_WORDS) -> float:
        """The share of n-grams that consist of stop words alone.

        Args:
            words: the stop words.

        Raises:
            Error: a single string instead of a collection of words.
        """
        if isinstance(words, str):
            raise Error(f"stop words must be a collection, such as [{words!r}], not one string")
        known = frozenset(words)
        among = np.array([token in known for token in self.tokens], bool)[self.ids].all(1)
        return int(self.counts[among].sum()) / self.total

    def __repr__(self) -> str:
        return (
            f"Frequencies({self.total:,} {self.n}-grams, {self.distinct:,} distinct, "
            f"{self.singletons:,} of them singletons)"
        )


def frequencies(tokens: Any, n: int = 1, *, bounds: Any = None) -> Frequencies:
    """Counts the n-grams of a sequence of tokens.

    Args:
        tokens: hashables, such as the result of a tokenizer's `split`, the characters of a string, or ids int[m].
        n: the number of tokens of an n-gram.
        bounds: int[D + 1], where documents begin and end among the tokens; no n-gram crosses a bound. None: one
            document.

    Returns:
        The n-grams by falling count.

    Raises:
        Error: the tokens are not hashable; there is no n-gram; the bounds do not rise from 0 to the number of tokens.
    """
    check_whole(n=(n, 1))
    distinct, ids = _number(tokens)
    starts, numbers = number_ngrams(ids, n, max(1, len(distinct)), bounds)
    if not len(starts):
        raise Error(f"there is no {n}-gram among {len(ids):,} tokens: take a smaller n, or more of the text")
    _, first, counts = np.unique(numbers, return_index=True, return_counts=True)
    order = np.lexsort((first, -counts))  # by falling count, and then by first occurrence
    at = starts[first[order]]
    return Frequencies(distinct, ids[at[:, None] + np.arange(n)], counts[order].astype(np.int64))


def zipf_figure(
    by_name: Mapping[str, Frequencies], title: str = "", *, figsize: tuple[float, float] | None = None
) -> "seqjax.report.figure.Figure":
    """A figure of counts by rank, both on logarithmic axes, where Zipf's law is a straight line.

    The dot at the end of each line shows the number of distinct n-grams, and the count of the rarest.

    Args:
        by_name: name -> frequencies, such as `{f"{n}-grams": frequencies(words, n) for n in (1, 2, 3)}`.
        title: the title of the figure.
        figsize: the width and the height in inches.

    Returns:
        A matplotlib figure.
    """
    from seqjax.report import plot

    lines = {}
    for name, grams in by_name.items():
        # In a run of equal counts the line is straight, so that its two ends suffice.
        ends = (np.diff(grams.counts, prepend=0) != 0) | (np.diff(grams.counts, append=0) != 0)
        lines[name] = (np.flatnonzero(ends) + 1, grams.counts[ends])
    logs: dict[str, Any] = {"x_scale": "log", "y_scale": "log"}
    figure = plot.lines(lines, x_label="rank", y_label="count", title=title, figsize=figsize, **logs)
    for line in figure.axes[0].lines:
        line.set(marker=".", markevery=[-1])
    return figure


def _number(tokens: Any) -> tuple[tuple[Hashable, ...], np.ndarray]:
    """The distinct tokens in order of first occurrence, and the index of each token among them, int64[m]."""
    try:
        tokens = np.asarray(tokens).tolist() if hasattr(tokens, "dtype") else list(tokens)
        numbers = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    except TypeError as fault:
        raise Error(f"tokens must be one sequence of hashables, such as words: {fault}") from fault
    return tuple(numbers), np.fromiter(map(numbers.__getitem__, tokens), np.int64, len(tokens))
