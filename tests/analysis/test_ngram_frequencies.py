import collections
import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import Error
from seqjax.analysis import Frequencies, frequencies, zipf_figure
from seqjax.analysis.ngram_frequencies import STOP_WORDS
from seqjax.data import Vocab
from seqjax.datasets import TimeMachine
from seqjax.tokenizers import Word


@pytest.fixture(scope="module")
def by_n(time_machine_file):
    """The frequencies of the n-grams of The Time Machine's words, by n."""
    words = Word().split(TimeMachine(path=str(time_machine_file), form="lines").load().text)
    return {n: frequencies(words, n) for n in (1, 2, 3, 4)}


def test_the_ten_most_frequent(by_n):
    top = by_n[3].top(10)
    assert top.columns == ("rank", "3-gram", "count", "share")
    found = [f"{gram} {count}" for gram, count in zip(top["3-gram"], top["count"], strict=True)]
    assert ", ".join(found) == (
        "the time traveller 59, the time machine 30, the medical man 24, it seemed to 16, it was a 15, "
        "here and there 15, seemed to me 14, i did not 14, i saw the 13, i began to 13"
    )
    assert top["rank"] == list(range(1, 11))
    np.testing.assert_allclose(top["share"], np.array(top["count"]) / by_n[3].total, rtol=1e-15)


def test_totals(by_n):
    assert [(f.n, f.total, f.distinct, f.singletons) for f in by_n.values()] == [
        *((1, 32775, 4579, 2397), (2, 32774, 20234, 16625), (3, 32773, 29882, 28251), (4, 32772, 32180, 31740))
    ]


def test_zipfs_exponent(by_n):
    found = [by_n[n].zipf(1, last) for n in (1, 2, 3) for last in (None, 100)]
    np.testing.assert_allclose(found, (1.035291, 0.913860, 0.463743, 0.591745, 0.164190, 0.407649), atol=6e-7)


def test_size_of_the_vocabulary(by_n):
    sizes = {0: 4580, 1: 4580, 2: 2183, 3: 1420, 4: 1044, 5: 825, 10: 400, 20: 219, 50: 85, 100: 41}
    assert {min_freq: by_n[1].vocab_size(min_freq) for min_freq in sizes} == sizes


def test_stop_words(by_n):
    """Nine of the ten most frequent pairs consist of stop words; every second word is one."""
    both = [set(gram) <= STOP_WORDS for gram in by_n[2].grams[:10]]
    assert [gram for gram, stop in zip(by_n[2].grams, both, strict=False) if not stop] == [("the", "time")]
    assert 0.5 < by_n[1].stop_word_share() < 0.6
    assert by_n[1].stop_word_share(["the", "i"]) == (2261 + 1267) / 32775


def by_hand(tokens, n, bounds):
    """(n-gram, count) by falling count, ties in order of first occurrence."""
    counts = collections.Counter()
    for first, last in itertools.pairwise(bounds):
        document = tokens[first:last]
        counts.update(tuple(document[i : i + n]) for i in range(len(document) - n + 1))
    return counts.most_common()


@pytest.mark.parametrize("bounds", [None, [0, 40], [0, 1, 1, 3, 20, 21, 40]])
@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_counts_and_order(n, bounds):
    for seed in range(6):
        letters = np.random.default_rng(seed).integers(0, 2 if seed % 2 else 6, 40)
        for tokens in ("".join(map("abcdef".__getitem__, letters)), letters, letters.tolist(), jnp.asarray(letters)):
            found = frequencies(tokens, n, bounds=bounds)
            plain = tokens if isinstance(tokens, str) else letters.tolist()
            grams = found.grams if n > 1 else [(gram,) for gram in found.grams]
            assert list(zip(grams, found.counts.tolist(), strict=True)) == by_hand(plain, n, bounds or [0, 40])
            assert (found.n, found.counts.dtype) == (n, np.int64)


def test_a_rare_pair_that_comes_first_stands_before_one_of_earlier_tokens():
    """(b, a) occurs before (a, a), though b is the later token."""
    assert frequencies("abaac", 2).grams == [("a", "b"), ("b", "a"), ("a", "a"), ("a", "c")]


def test_vocab_size_is_the_size_of_the_vocabulary():
    for tokens in ("mississippi", ["<unk>", "a", "a", "<unk>", "b"]):
        for min_freq in range(6):
            expected = len(Vocab.from_tokens(tokens, min_freq))
            assert frequencies(tokens).vocab_size(min_freq) == expected


@pytest.mark.parametrize(("alpha", "first", "last"), [(0.5, 1, None), (1.2, 3, 40), (2.0, 1, 2)])
def test_counts_that_follow_zipfs_law_have_its_exponent(alpha, first, last):
    ranks = np.arange(1, 61)
    counts = np.round(1e15 * ranks**-alpha).astype(np.int64)
    counts[40:] = counts[40:] if last is None else 1
    found = Frequencies(tuple(ranks.tolist()), np.arange(60)[:, None], counts)
    assert found.zipf(first, last) == pytest.approx(alpha, abs=1e-10)


def test_an_n_gram_of_stop_words_has_no_other_words():
    words = ["we", "saw", "the", "end", "of", "the", "day"]
    assert frequencies(words).stop_word_share() == 4 / 7
    assert frequencies(words, 2).stop_word_share() == 1 / 6
    assert frequencies(words, 2).stop_word_share(words) == 1
    assert frequencies([3, 1, 3]).stop_word_share({3}) == 2 / 3


def test_the_top_of_few_is_all_and_shows_any_token():
    assert frequencies([7, (1, 2), 7]).top().rows == ((1, "7", 2, 2 / 3), (2, "(1, 2)", 1, 1 / 3))
    assert frequencies([7, 8], 2).top(1).rows == ((1, "7 8", 1, 1.0),)


def test_repr_has_the_totals():
    assert repr(frequencies("abracadabra")) == "Frequencies(11 1-grams, 5 distinct, 2 of them singletons)"


def test_the_figure_is_counts_by_rank():
    """Leaving out the inside of a run of equal counts does not change the line."""
    found = {"many": frequencies("abcadcaefgh"), "few": frequencies("aab")}
    axes = zipf_figure(found, "a title").axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    lines = {line.get_label(): line for line in axes.lines}
    assert lines.keys() == found.keys()
    for name, line in lines.items():
        x, y = line.get_data()
        assert (x[0], x[-1]) == (1, found[name].distinct)
        np.testing.assert_array_equal(np.interp(np.arange(1, x[-1] + 1), x, y), found[name].counts)
    assert lines["many"].get_xdata().tolist() == [1, 2, 3, 8]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: frequencies("ab", 3), "there is no 3-gram among 2 tokens"),
        (lambda: frequencies("abcd", 3, bounds=[0, 2, 4]), "there is no 3-gram among 4 tokens"),
        (lambda: frequencies("ab", 0), "n = 0 must be a whole number"),
        (lambda: frequencies("abc", bounds=[0, 2]), "bounds must rise from 0 to 3, the number of ids"),
        (lambda: frequencies([["the", "time"], ["machine"]]), "one sequence of hashables"),
        (lambda: frequencies(3), "one sequence of hashables"),
        (lambda: frequencies("aab").zipf(1, 3), "ranks 1 to 3: .* from 1 to 2, the number of different 1-grams"),
        (lambda: frequencies("aab").zipf(2), "ranks 2 to 2: give two ranks or more"),
        (lambda: frequencies("aab").zipf(0, 2), "ranks 0 to 2"),
        (lambda: frequencies("aab").top(-1), "k = -1 must be a whole number"),
        (lambda: frequencies(["the"]).stop_word_share("the"), r"must be a collection, such as \['the'\]"),
        (lambda: zipf_figure({}), "nothing to plot"),
    ],
)
def test_errors(call, message):
    with pytest.raises(Error, match=message):
        call()
