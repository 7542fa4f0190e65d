"""The parts of a dataset: their sizes, and that no document is cut."""

import itertools
import re

import numpy as np
import pytest

from seqjax import Error, Pairs, Text
from seqjax.data.split import split


@pytest.mark.parametrize(
    ("train", "heldout", "sizes"),
    [
        (60, 30, (60, 30, 10)),
        (0.6, 0.3, (60, 30, 10)),
        (60, 0.4, (60, 40, 0)),
        (2, 0, (2, 0, 98)),
        (1.0, 0, (100, 0, 0)),
    ],
)
def test_split_takes_counts_and_shares(train, heldout, sizes):
    text = Text("0123456789" * 10, "digits")
    parts = split(text, train, heldout)
    assert tuple(map(len, parts.values())) == sizes
    assert "".join(part.text for part in parts.values()) == text.text
    assert {part.source for part in parts.values()} == {"digits"}


def test_shares_that_sum_to_one_take_the_whole_dataset():
    """If each share were rounded by itself, they would take 16 of 15 characters."""
    for total in range(2, 80):
        for train, heldout in [(0.9, 0.1), (0.5, 0.5), (0.7, 0.3)]:
            if round(train * total) < 2:
                continue
            sizes = [len(part) for part in split(Text("x" * total), train, heldout).values()]
            assert sum(sizes) == total
            assert abs(sizes[0] - train * total) <= 1, (total, train, sizes)
            assert abs(sizes[1] - heldout * total) <= 1, (total, train, sizes)


@pytest.mark.parametrize(
    ("text", "train", "heldout", "say"),
    [
        ("", 0.9, 0.1, "has 0 characters"),
        ("x", 1.0, 0, "has 1 characters"),
        ("x" * 100, 90, 20, "has 100 characters"),
        ("x" * 10, 0.1, 0.1, "take 1 and 1"),
    ],
)
def test_too_little_text_is_an_error_with_both_numbers(text, train, heldout, say):
    with pytest.raises(Error, match=say) as caught:
        split(Text(text, "mine"), train, heldout)
    assert "mine" in str(caught.value)
    assert caught.value.exit_code == 2


def edges_of(parts):
    """The ends of the parts, as positions in the dataset."""
    return np.cumsum([len(part) for part in parts.values()]).tolist()


def check_advice(data, error, heldout):
    """With the sizes that the error names, the parts that were asked for have a document."""
    found = dict(re.findall(r"--(train|heldout) ([\d.]+\d|\d)", str(error)))
    sizes = {name: float(size) if "." in size else int(size) for name, size in found.items()}
    assert set(sizes) == ({"train", "heldout"} if heldout else {"train"})
    parts = split(data, **{"heldout": 0} | sizes)
    assert all(len(parts[name]) for name in sizes)


def test_six_documents_of_similar_length_have_sizes_that_work():
    data = Text("x" * 606, "mine", [0, 100, 201, 303, 403, 504, 606])
    for train, heldout in [(0.92, 0.08), (0.95, 0.05)]:
        with pytest.raises(Error, match=r"such as --train 0\.8 --heldout 0\.2, or") as caught:
            split(data, train, heldout)
        check_advice(data, caught.value, heldout)


@pytest.mark.parametrize("lengths", [[7] * 9, [5, 0, 1, 7, 0, 0, 2, 9, 3], [1, 30], [4, 0, 4]])
def test_each_edge_is_the_bound_of_a_document_nearest_to_the_given_size(lengths):
    bounds, total, count = np.cumsum([0, *lengths]), sum(lengths), 0
    data = Pairs(np.arange(total), np.arange(total), bounds=bounds)
    for train in range(2, total + 1, 3):
        for heldout in range(0, total - train + 1, 4):
            asked = (train, train + heldout, total)
            nearest = [min(bounds.tolist(), key=lambda bound, edge=edge: (abs(bound - edge), bound)) for edge in asked]
            if nearest[0] == 0 or (heldout and nearest[0] == nearest[1]):
                with pytest.raises(Error, match="no document is left for") as caught:
                    split(data, train, heldout)
                check_advice(data, caught.value, heldout)
                continue
            parts = split(data, train, heldout)
            assert edges_of(parts) == nearest
            found = [part.inputs[a:b].tolist() for part in parts.values() for a, b in itertools.pairwise(part.bounds)]
            whole = [list(range(a, b)) for a, b in itertools.pairwise(bounds) if a < b]
            assert [document for document in found if document] == whole, "every document is whole, in one part"
            count += 1
    assert count > 1


@pytest.mark.parametrize("bounds", [None, [0, 0, 300], [0, 300, 300, 300]])
def test_a_single_document_is_cut_exactly_at_the_given_sizes(bounds):
    """Empty documents beside it do not count."""
    assert edges_of(split(Text("x" * 300, "", bounds), 17, 0.31)) == [17, 110, 300]


def test_a_part_without_documents_is_an_error_with_the_sizes_and_the_bounds():
    text = Text("x" * 300, "mine", [0, 280, 300])
    with pytest.raises(Error, match=r"mine: no document is left for heldout.* 260 and 280 of 300.* 280 and 280"):
        split(text, 260, 20)
    assert edges_of(split(text, 270, 0)) == [280, 280, 300], "an empty held-out part was asked for"
