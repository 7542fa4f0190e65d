import json

import numpy as np
import pytest

from seqjax import Error, Pairs, Series, Spec, Text, Values
from seqjax.data.preparing import prepare
from seqjax.data.tokenizer import Codec
from seqjax.tokenizers import Standardize

VALUES = np.random.default_rng(0).normal([3.0, -200.0, 1e-3], [0.5, 40.0, 1e-9], (50, 3))


def test_the_training_part_has_mean_0_and_std_1_and_the_others_the_same_units():
    data = prepare(Series(np.concatenate([VALUES, VALUES + 7])), 50, 50, Standardize())
    train = data.streams["train"].inputs
    mean, std = VALUES.mean(0), np.sqrt(((VALUES - VALUES.mean(0)) ** 2).mean(0))
    np.testing.assert_allclose(train, ((VALUES - mean) / std)[:-1], rtol=1e-12)
    np.testing.assert_allclose(data.streams["heldout"].targets, ((VALUES + 7 - mean) / std)[1:], rtol=1e-9)
    assert data.spec == Spec(Values(3))
    assert train.dtype == np.float64


def test_decoding_is_the_inverse():
    codec = Standardize().fit(Series(VALUES))
    for values in (VALUES, VALUES[:1] * 100, VALUES[:0]):
        np.testing.assert_allclose(codec.decode(codec.encode(values)), values, rtol=1e-12)
        assert codec.decode(codec.encode(values)).dtype == np.float64
    np.testing.assert_allclose(codec.decode(np.zeros((1, 3), np.float32)), VALUES.mean(0)[None], rtol=1e-12)


@pytest.mark.parametrize("constant", [0.0, 0.1, -1e100, 3e-200])
def test_a_constant_column_is_divided_by_1(constant):
    """The rounded mean of equal numbers may differ from them, so that the computed deviation is not 0."""
    values = np.stack([np.full(99, constant), np.arange(99.0)], 1)
    codec = Standardize().fit(Series(values))
    assert codec.std[0] == 1
    np.testing.assert_allclose(codec.encode(values)[:, 0], 0, atol=1e-15 * max(1, abs(constant)))
    np.testing.assert_allclose(codec.encode(values + 2)[:, 0], 2 if abs(constant) < 1 else 0, rtol=1e-12, atol=1e85)
    assert codec.encode(values)[:, 1].std() == pytest.approx(1)


def test_a_column_too_small_for_its_squares_stays_finite():
    codec = Standardize().fit(Series([1e-200, 3e-200]))
    assert np.isfinite(codec.encode([[1.0]])).all()


def test_values_too_large_for_their_squares_are_an_error():
    with pytest.raises(Error, match="too large"):
        Standardize().fit(Series([1e200, -1e200]))


def test_a_codec_is_loaded_from_its_dict():
    codec = Standardize().fit(Series(VALUES))
    assert Standardize().load(json.loads(json.dumps(codec.to_dict()))) == codec
    assert isinstance(codec, Codec)


def test_a_text_is_an_error_that_says_what_to_do():
    for data in (Text("abc"), Pairs([0, 1], [1, 0])):
        with pytest.raises(
            Error, match=r"standardize scales values, and the dataset is (Text|Pairs) without"
        ) as caught:
            Standardize().fit(data)
        assert "Leave the tokenizer out" in str(caught.value)


def test_inputs_and_targets_of_pairs_are_scaled_apart_by_what_is_trained_on():
    rng = np.random.default_rng(0)
    x, y, mask = rng.normal(5, 2, (60, 2)), rng.normal(-300, 7, (60, 1)), rng.random(60) < 0.5
    y[~mask] = 1e9  # it is not scored, so it does not count
    data = prepare(Pairs(x, y, mask), 40, 20, Standardize())
    train, heldout = data.streams["train"], data.streams["heldout"]
    np.testing.assert_allclose(train.inputs, (x[:40] - x[:40].mean(0)) / x[:40].std(0))
    seen = y[:40][mask[:40]]
    np.testing.assert_allclose(train.targets, (y[:40] - seen.mean(0)) / seen.std(0))
    np.testing.assert_allclose(heldout.targets, (y[40:] - seen.mean(0)) / seen.std(0))
    assert Standardize().load(json.loads(json.dumps(data.codec.to_dict()))) == data.codec


@pytest.mark.parametrize("side", ["inputs", "targets"])
def test_ids_of_pairs_stay_as_they_are(side):
    sides = {"inputs": VALUES[:, :1], "targets": VALUES[:, 1:]} | {side: np.arange(50) % 3}
    data = prepare(Pairs(**sides), 40, 10, Standardize())
    assert getattr(data.codec, side) is None
    np.testing.assert_array_equal(getattr(data.streams["train"], side), np.arange(40) % 3)
    assert Standardize().load(data.codec.to_dict()) == data.codec


def test_an_empty_training_part_is_an_error():
    with pytest.raises(Error, match="empty"):
        Standardize().fit(Series(np.zeros((0, 2))))


@pytest.mark.parametrize(
    "saved",
    [
        {"mean": [1.0], "std": [0.0]},
        {"mean": [1.0, 2.0], "std": [1.0]},
        {"mean": [], "std": []},
        {"mean": 1.0, "std": 1.0},
        {"mean": [float("nan")], "std": [1.0]},
    ],
    ids=str,
)
def test_a_damaged_scale_is_an_error_when_it_is_loaded(saved):
    with pytest.raises(Error, match="a scale has"):
        Standardize().load(saved)
