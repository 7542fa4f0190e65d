"""The datasets npy and npz."""

import functools
import io
import warnings
import zipfile

import numpy as np
import pytest
from support.tiny import refused

from seqjax import Error, Pairs, Series, Spec, Tokens, Values
from seqjax.datasets import NPY, NPZ

RNG = np.random.default_rng(0)
X, IDS, LENGTHS = RNG.normal(size=(3, 4, 2)), RNG.integers(0, 5, (3, 4)), np.array([4, 1, 3])


@pytest.mark.parametrize(
    ("array", "values", "bounds"),
    [
        (X[0, :, 0], X[0, :, :1], [0, 4]),
        (X[0], X[0], [0, 4]),
        (X, X.reshape(12, 2), [0, 4, 8, 12]),
        (IDS[0], IDS[0][:, None], [0, 4]),
    ],
    ids=["n", "n, dim", "sequences", "whole numbers"],
)
def test_an_array_is_a_series(tmp_path, array, values, bounds):
    np.save(tmp_path / "x.npy", array)
    data = NPY(path=str(tmp_path / "x.npy")).load()
    assert isinstance(data, Series)
    np.testing.assert_array_equal(data.values, values)
    assert data.bounds.tolist() == bounds


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([1, np.nan]), r"must be finite; row 1 is \[nan\]"),
        (np.array(["a"]), "must be real numbers"),
        (np.zeros((2, 3, 4, 5)), r"shape \[2, 3, 4, 5\], and must have float\[n\], .* float\[sequences, n, dim\]"),
        (np.array(1.0), r"shape \[\], and must have float\[n\]"),
        (np.zeros((0, 2, 0)), "float"),
    ],
    ids=["nan", "words", "four axes", "no axis", "no column"],
)
def test_an_array_that_is_no_series_is_an_error_with_the_file(tmp_path, array, message):
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(Error, match=rf"dataset npy: .*x\.npy.*{message}"):
        NPY(path=str(tmp_path / "x.npy")).load()


def load(tmp_path, arrays, **fields):
    np.savez(tmp_path / "x.npz", **arrays)
    return NPZ(path=str(tmp_path / "x.npz"), **fields).load()


@pytest.mark.parametrize(
    ("inputs", "targets", "spec"),
    [
        (X, X[..., :1], Spec(Values(2), Values(1))),
        (X, X[..., 0], Spec(Values(2), Values(1))),
        (IDS, IDS % 3, Spec(Tokens(5), Tokens(3))),
        (X, IDS, Spec(Values(2), Tokens(5))),
    ],
)
def test_targets_of_every_step(tmp_path, inputs, targets, spec):
    data = load(tmp_path, {"x": inputs, "y": targets}, inputs="x", targets="y")
    flat = [a.reshape(12, *a.shape[2:]) for a in (inputs, targets)]
    assert data == Pairs(*flat, None, spec, [0, 4, 8, 12])


@pytest.mark.parametrize("targets", [np.array([0.5, 1.5, 2.5]), X[:, 0], np.array([2, 0, 1])], ids=["n", "dim", "ids"])
def test_one_target_for_each_sequence_is_predicted_after_its_last_step(tmp_path, targets):
    data = load(tmp_path, {"inputs": X, "targets": targets})
    assert np.flatnonzero(data.mask).tolist() == [3, 7, 11]
    np.testing.assert_array_equal(data.targets[data.mask].squeeze(), targets)


def test_steps_after_the_length_of_a_sequence_are_left_out(tmp_path):
    data = load(tmp_path, {"inputs": X, "targets": IDS, "n": LENGTHS}, lengths="n")
    assert data.bounds.tolist() == [0, 4, 5, 8]
    np.testing.assert_array_equal(data.inputs, np.concatenate([X[0], X[1, :1], X[2, :3]]))
    np.testing.assert_array_equal(data.targets, np.concatenate([IDS[0], IDS[1, :1], IDS[2, :3]]))
    last = load(tmp_path, {"inputs": X, "targets": np.array([2, 0, 1]), "n": LENGTHS}, lengths="n")
    assert np.flatnonzero(last.mask).tolist() == [3, 4, 7]
    assert last.targets[last.mask].tolist() == [2, 0, 1]


def test_one_sequence(tmp_path):
    assert load(tmp_path, {"inputs": X[0], "targets": X[0, :, 0]}, sequences=False) == Pairs(X[0], X[0, :, 0])


@pytest.mark.parametrize(
    ("arrays", "fields", "message"),
    [
        ({"inputs": X}, {}, r"has no array 'targets' \(arrays: inputs\)"),
        ({"input": X, "targets": X}, {}, r"has no array 'inputs'; did you mean 'input'\?"),
        (
            {"inputs": X, "targets": X[:, :3]},
            {},
            r"sequence 0 has inputs of shape \(4, 2\) and targets of shape \(3, 2\)",
        ),
        ({"inputs": X[0], "targets": [1.0, 2.0, 3.0]}, {}, r"4 sequences and targets has 3\n.*int\[N\] .*: lengths = "),
        ({"inputs": X, "targets": X, "n": LENGTHS / 1}, {"lengths": "n"}, r"n must be int\[3\]"),
        ({"inputs": X, "targets": X, "n": LENGTHS - 1}, {"lengths": "n"}, "are from 0 to 3, and the"),
        ({"inputs": X, "targets": X, "n": LENGTHS + 9}, {"lengths": "n"}, "the sequences have 1 to 4 steps"),
        ({"inputs": IDS, "targets": -1 - IDS}, {}, r"targets must be ids"),
    ],
)
def test_a_wrong_file_of_arrays_is_an_error(tmp_path, arrays, fields, message):
    with pytest.raises(Error, match=rf"dataset npz: .*x\.npz.*{message}"):
        load(tmp_path, arrays, **fields)


def test_a_file_of_the_other_kind_is_named(tmp_path):
    np.save(tmp_path / "one.npy", X)
    np.savez(tmp_path / "many.npz", X)
    with pytest.raises(Error, match="read it with the dataset npz"):
        NPY(path=str(tmp_path / "many.npz")).load()
    with pytest.raises(Error, match="read it with the dataset npy"):
        NPZ(path=str(tmp_path / "one.npy")).load()
    for dataset in (NPY, NPZ):
        with pytest.raises(Error, match="cannot be read from the folder"):
            dataset(path=str(tmp_path / "missing")).load()


@pytest.mark.parametrize("dataset", [NPY, NPZ])
def test_a_table_is_no_file_of_numpy_and_nobody_is_advised_to_unpickle_it(tmp_path, dataset):
    (tmp_path / "x").write_text("PK,b\n1,2\n")
    with pytest.raises(Error, match=rf"x is no {dataset.__name__.lower()} file\n.*--dataset csv") as caught:
        dataset(path=str(tmp_path / "x")).load()
    assert "pickle" not in str(caught.value)


def test_pickled_objects_are_not_loaded(tmp_path):
    np.save(tmp_path / "x.npy", np.array([print], object), allow_pickle=True)
    with pytest.raises(Error, match=r"holds no numbers.*\nWrite it again with numpy\.save\(path, array\)"):
        NPY(path=str(tmp_path / "x.npy")).load()


def written(save, *arrays, **by_name):
    file = io.BytesIO()
    save(file, *arrays, **by_name)
    return file.getvalue()


FILES = {
    "npy": (NPY, written(np.save, X[0])),
    "npz": (functools.partial(NPZ, inputs="x", targets="x"), written(np.savez_compressed, x=X[:1])),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_of_which_any_byte_was_changed_is_read_or_is_an_error_with_its_name(tmp_path, kind):
    """numpy passes on what zipfile, zlib and tokenize raise: NotImplementedError, RuntimeError, TokenError, ..."""
    dataset, data = FILES[kind]
    file, messages = tmp_path / "x", []
    for at, byte in enumerate(data):
        for other in {0, byte ^ 1} - {byte}:
            file.write_bytes(data[:at] + bytes([other]) + data[at + 1 :])
            with warnings.catch_warnings(action="ignore"):  # of Python, about the text of a header
                try:
                    dataset(path=str(file)).load()
                except Error as fault:
                    messages.append(str(fault))
    assert len(messages) > len(data) / 2
    assert all(str(file) in message for message in messages)


def declaring(shape):
    """The file of an array of 8 numbers whose header says that it has this shape."""
    _, data = FILES["npy"]
    header = data[10:128].replace(b"(4, 2)", f"({shape},)".encode()).rstrip().ljust(117)[:117] + b"\n"
    return data[:10] + header + data[128:]


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ("9" * 30, f"has {8 * (10**30 - 1):,} bytes, and the file has 64"),
        ("-1", ""),
        ("1" + "0" * 12, "has 8,000,000,000,000 bytes, and the file has 64"),
        ("9", "has 72 bytes, and the file has 64"),
    ],
)
@pytest.mark.parametrize("kind", FILES)
def test_a_header_with_a_shape_that_cannot_be_is_an_error_with_the_file(tmp_path, kind, shape, message):
    dataset, array = FILES[kind][0], declaring(shape)
    if kind == "npy":
        (tmp_path / "x").write_bytes(array)
    else:
        with zipfile.ZipFile(tmp_path / "x", "w") as file:
            file.writestr("x.npy", array)
    with pytest.raises(Error, match=rf"{tmp_path / 'x'} is damaged.*{message}"):
        dataset(path=str(tmp_path / "x")).load()


def test_an_array_that_is_larger_than_the_memory_is_an_error(tmp_path):
    """Here the list of the archive is wrong too. A compressed array may be as large as it says."""
    with zipfile.ZipFile(tmp_path / "x", "w") as file:
        file.writestr("x.npy", declaring("1" + "0" * 12))
        file.getinfo("x.npy").file_size = 9 * 10**12
    with refused("x has an array that is larger than the memory", exit_code=6):
        FILES["npz"][0](path=str(tmp_path / "x")).load()
