"""The data in memory: `Text`, `Series` and `Pairs`."""

import hashlib
import itertools

import numpy as np
import pytest

from seqjax import Error, Experiment, Pairs, Series, Spec, Text, Tokens, Values, create

BOUNDS = [0, 3, 3, 8, 10]


def make(kind, n=10, bounds=None):
    if kind is Text:
        return Text("abcdefghijklmnop"[:n], "mine", bounds)
    values = np.arange(2.0 * n).reshape(n, 2)
    if kind is Series:
        return Series(values, ("a", "b"), "mine", bounds)
    return Pairs(np.arange(n), values, np.arange(n) % 3 > 0, None, bounds)


def content(data):
    """Its contents, entry by entry."""
    if isinstance(data, Text):
        return list(data.text)
    if isinstance(data, Series):
        return data.values.tolist()
    return list(zip(data.inputs.tolist(), data.targets.tolist(), data.mask.tolist(), strict=True))


KINDS = pytest.mark.parametrize("kind", [Text, Series, Pairs])


@KINDS
@pytest.mark.parametrize("bounds", [None, BOUNDS])
def test_a_part_has_the_parts_of_the_documents_inside(kind, bounds):
    data = make(kind, 10, bounds)
    for first, last in itertools.product((-12, -7, -1, 0, 1, 3, 5, 8, 9, 10, 12), repeat=2):
        part = data[first:last]
        assert content(part) == content(data)[first:last]
        assert len(part) == len(content(part)) == part.bounds[-1]
        a, b, _ = slice(first, last).indices(10)
        pieces = itertools.pairwise(bounds or [0, 10])
        expected = [content(data)[max(a, c) : min(b, d)] for c, d in pieces if max(a, c) < min(b, d)]
        found = [content(part)[c:d] for c, d in itertools.pairwise(part.bounds) if c < d]
        assert found == expected
        assert part.source == data.source


@KINDS
def test_open_ends_and_the_properties_that_a_part_keeps(kind):
    data = make(kind)
    assert content(data[:]) == content(data)
    assert content(data[4:]) == content(data)[4:]
    assert data.bounds.dtype == data[2:5].bounds.dtype == np.int64
    assert make(kind, 10, [0, 5, 10])[5:].bounds.tolist() == [0, 5], "no empty document before"
    assert make(kind, 10, [0, 5, 10])[:5].bounds.tolist() == [0, 5]
    if kind is Series:
        assert data[2:5].names == ("a", "b")
    if kind is Pairs:
        assert data[:2].spec == data.spec == Spec(Tokens(10), Values(2)), "not of the ids that are left"


@KINDS
@pytest.mark.parametrize("bounds", [[0, 2], [1, 10], [0, 7, 3, 10], [], [0], [[0, 10]], [0, 11], [-1, 0, 10]])
def test_bounds_that_do_not_rise_to_the_end_are_refused(kind, bounds):
    with pytest.raises(Error, match=f"{kind.__name__} bounds must rise from 0 to 10") as caught:
        make(kind, 10, bounds)
    assert ("characters" if kind is Text else "time steps") in str(caught.value)


@KINDS
def test_data_are_a_dataset_and_equal_contents_have_equal_hashes(kind):
    data = make(kind)
    assert data.load() is data
    assert make(kind).sha256 == data.sha256 == data[:].sha256
    assert len({make(kind, n, bounds).sha256 for n, bounds in [(10, None), (9, None), (10, BOUNDS)]}) == 3
    assert make(kind, 10, [0, 5, 10]).sha256 != make(kind, 10, [0, 6, 10]).sha256


def test_the_hash_of_a_text_is_that_of_its_file():
    text = "é 😀\r\n\0"
    assert Text(text).sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert Text("\ud800").sha256 != Text("\ufffd").sha256, "a lone surrogate has a hash too"


def test_the_hash_tells_values_shapes_sides_and_masks_apart():
    different = [
        Series([1.0, 2.0]),
        Series([[1.0, 2.0]]),
        Series([1.0, np.nextafter(2.0, 3.0)]),
        Pairs([1, 2], [0, 1]),
        Pairs([0, 1], [1, 2]),
        Pairs([1, 2], [0, 1], [True, True]),
        Pairs([1, 2], [0, 1], [True, False]),
    ]
    assert len({data.sha256 for data in different}) == len(different)
    assert Series(np.array([[1, 2], [3, 4]], order="F")).sha256 == Series([[1, 2], [3, 4]]).sha256


def test_a_text_has_its_documents():
    assert Text("").bounds.tolist() == [0, 0]
    assert Text("abcd", "", [0, 1, 1, 4]).documents == ["a", "", "bcd"]


@pytest.mark.parametrize("values", [[1, 2], (1.0, 2.0), np.array([1, 2], np.int8), [[1], [2]], range(1, 3)])
def test_a_series_is_float64_by_column(values):
    series = Series(values)
    assert series.values.dtype == np.float64
    assert series.values.tolist() == [[1.0], [2.0]]


NOT_A_SERIES = [3.0, np.zeros((2, 2, 2)), np.zeros((3, 0)), "abc", ["a", "b"], [[1], [1, 2]], None]
NOT_REAL = [["1", "2"], np.array(["2020-01-01"], "datetime64[D]"), [1 + 2j], np.ma.masked_equal([1.0, -9.0], -9.0)]
RAGGED = [[1, 2], [3]]
RAGGED_WORDS = ", and its entries have different lengths"
TWO, THREE = np.ones((3, 2)), np.ones((3, 3))
REFUSED = [
    (lambda: Text(b"abc"), "takes a string, not bytes"),
    *((lambda values=values: Series(values), "Series values must be") for values in NOT_A_SERIES),
    *((lambda values=values: Series(values), "must be real numbers") for values in NOT_REAL),
    (lambda: Series(np.zeros((4, 2)), ("a", "b", "c")), "2 columns, but 3 names: a, b, c"),
    (lambda: Pairs([0, 5], [0, 1], spec=Spec(Tokens(5))), "inputs must be ids .* from 0 to 4; row 1 is 5"),
    (lambda: Pairs([0, 1, 2], [3, -7, -1]), "targets must be ids .* from 0 to 3; row 1 is -7"),
    (lambda: Pairs([[0, 1]], [[0, 1]]), r"inputs must be ids .*; they are int64\[1, 2\]"),
    (lambda: Pairs([0.0, 1.0], [0, 1], spec=Spec(Tokens(5))), r"inputs must be ids .*; they are float64\[2\]"),
    (lambda: Pairs([0.0, 1.0], [0.0, 1.0], spec=Spec(Values(2))), "inputs are of dim 1, but the spec says"),
    (lambda: Pairs([1, 2**40 + 5], [0, 1]), r"ids int\[n\] .*; row 1 is 1099511627781"),
    (lambda: Pairs([2**31 - 1, 1], [0, 1]), r"ids int\[n\] .*; row 0 is 2147483647"),
    (lambda: Pairs([0, 1, 2], [0, 1]), "3 inputs need as many targets, found 2"),
    (lambda: Pairs([0, 1, 2], [0, 1, 2], [True, False]), r"a mask bool\[3\], found bool\[2\]"),
    (lambda: Series(RAGGED), f"Series values must be one array{RAGGED_WORDS}"),
    (lambda: Pairs(RAGGED, [1, 2]), f"Pairs inputs must be one array{RAGGED_WORDS}"),
    (lambda: Pairs([1, 2], RAGGED, spec=Spec(Tokens(3), Values(1))), f"Pairs targets must be one array{RAGGED_WORDS}"),
    (lambda: Pairs.from_sequences([[1], RAGGED], [0, 1]), rf"inputs\[1\] must be one array{RAGGED_WORDS}"),
    (
        lambda: Pairs.from_sequences([TWO, TWO, THREE], [0, 1, 2]),
        r"a step of inputs\[2\] has the shape \[3\], and one of inputs\[0\] \[2\]",
    ),
    (
        lambda: Pairs.from_sequences([TWO, TWO], [TWO, [0, 1, 2]]),
        r"a step of targets\[1\] has the shape \[\], and one of targets\[0\] \[2\]",
    ),
    (lambda: Text("abc")[0], "without a step"),
    (lambda: Series([1, 2])[::-1], "without a step"),
    (lambda: Pairs([0, 1], [1, 0], spec=Tokens(2)), "spec must be"),
]


@pytest.mark.parametrize(("attempt", "words"), REFUSED)
def test_what_is_no_data_is_refused(attempt, words):
    with pytest.raises(Error, match=words):
        attempt()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_refused_with_its_row(bad):
    values = np.ones((5, 2))
    values[3, 1] = values[4, 0] = bad
    for make in (Series, lambda v: Pairs(v, np.zeros(5, int)), lambda v: Pairs(np.zeros(5, int), v)):
        with pytest.raises(Error, match=r"must be finite; row 3 is \[1.0, "):
            make(values)


def test_pairs_infer_their_spec():
    assert Pairs([0, 4, 2], [1.0, 2.0, 3.0]).spec == Spec(Tokens(5), Values(1))
    assert Pairs(np.zeros((3, 2)), np.zeros((3, 4))).spec == Spec(Values(2), Values(4))
    assert Pairs(np.array([0, 1], np.uint8), [1, 1]).spec == Spec(Tokens(2), Tokens(2))
    assert Pairs([True, False], [1, 1]).inputs.tolist() == [1, 0]
    assert Pairs([2**31 - 2, 1], [1, 1]).spec.inputs == Tokens(2**31 - 1)
    assert Pairs([0, 1], [1, 1]).inputs.dtype == np.int32
    spec = Spec(Tokens(9), Values(1))
    pairs = Pairs([0, 1], [3, 4], spec=spec)
    assert pairs.spec == spec
    assert pairs.targets.tolist() == [[3.0], [4.0]], "integers may be values"


def test_hashed_arrays_cannot_change():
    """Neither through the caller's arrays nor through those of the data."""
    x, ids, mask = np.arange(6.0), np.array([0, 1, 2]), np.array([True, False, True])
    series, pairs = Series(x), Pairs(ids, [0.5, 1.0, 2.0], mask)
    before = series.sha256, pairs.sha256
    x[:], ids[:], mask[:] = 7, 1, False
    assert (Series(series.values).sha256, Pairs(pairs.inputs, pairs.targets, pairs.mask, pairs.spec).sha256) == before
    for array in (series.values, pairs.inputs, pairs.targets, pairs.mask, series.bounds):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_equal_contents_are_equal_and_a_repr_is_short():
    assert Text("ab") == Text("ab") != Text("ba")
    assert len({Text("ab"), Text("ab"), Series([1.0])}) == 2
    assert len(repr(Text("a" * 10_000))) < 100


@pytest.mark.parametrize("steps", [20, 37, 54, 71, 105, 190, 377, 600, 4_481, 11_199, 11_200, 50_000])
def test_the_default_sampler_of_a_series_gives_about_ten_batches(steps):
    """Of its training part, 0.9 of it, in which each step but the last has a target."""
    values = np.zeros(steps)
    for data in (Series(values), Pairs(values, values)):
        sampler = Experiment(dataset=data, model=create("model", "rnn", hidden=2)).sampler
        count = round(0.9 * steps) - isinstance(data, Series)
        batches = len(sampler.plan(np.array([0, count]), np.random.default_rng(0)).starts)
        assert batches >= 7
        assert batches <= 25 or (sampler.batch_size, sampler.num_steps) == (32, 35)
