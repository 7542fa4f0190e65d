import json

import numpy as np
import pytest

from seqjax import Error, Series, Spec, Text, Values
from seqjax.data.prepare import prepare
from seqjax.data.tokenizer import Codec
from seqjax_tokenizers import Standardize

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
    with pytest.raises(Error, match="standardize scales a series, and the dataset is a Text") as caught:
        Standardize().fit(Text("abc"))
    assert "Leave the tokenizer out" in str(caught.value)


def test_an_empty_training_part_is_an_error():
    with pytest.raises(Error, match="empty"):
        Standardize().fit(Series(np.zeros((0, 2))))
