"""The bytes of a checkpoint: all leaves of a state, bit for bit, and what does not fit."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support.tiny import refused

from seqjax.array_files.arrays import as_tree, by_name, leaf_name, load_arrays, restore, save_arrays, sha256_of
from seqjax.array_files.saved_file import reading
from seqjax.gradients.contract.window import Memory
from seqjax.runs.files import checkpoint
from seqjax.runs.files.rows import Counted
from seqjax.testing.quick_jit import quick_jit
from seqjax.training.epoch import TrainState
from seqjax.training.progress import Progress

PROGRESS = Progress(3, False, {name: np.array([0.1, np.nan]) for name in ("loss", "tokens", "grad_norm")}, 0.1, 0.2, 7)
ROWS = Counted(3, "0" * 64)


def hand_made():
    """A train state with every kind of leaf, also with those that JAX has in float64 alone."""
    params = {
        "float64": np.array([0.1, 1e300]),
        "float32": np.array([[1.5, np.nan, -0.0], [np.inf, 1e-45, 3.0]], np.float32).T,
        "bfloat16": np.array([1.5, -np.inf], jnp.bfloat16),
        "none": np.zeros((0, 3)),
        "scalar": np.float32(0.1),
        "outer": {"inner": {"deep": np.arange(3, dtype=np.float32)}},
    }
    schedule = optax.cosine_decay_schedule(0.1, 10)
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.inject_hyperparams(optax.adam)(learning_rate=schedule))
    carry = (
        {"empty": (), "ids": np.arange(4, dtype=np.int32), "bools": np.array([True, False])},
        [
            np.array([65504, 6e-8], np.float16),
            np.array([255, 0], np.uint8),
            np.int8(-128),
            np.complex64(1 - 2j),
            jax.random.split(jax.random.key(3), 2),
        ],
    )
    memory = Memory(shared=(), rows=jax.random.key(7, impl="rbg"))
    with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
        opt_state = quick_jit(tx.init)(params)
    return jax.device_put(TrainState(params, opt_state, carry, memory, jax.random.key(1), np.int32(12)))


ZEROS = {size: np.zeros(size, np.float32) for size in (1, 2, 3)}
STATE = TrainState({"w": ZEROS[2]}, (ZEROS[3],), (), (), np.zeros(2, np.uint32), np.int32(5))


def bits(leaf):
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return str(leaf.dtype), leaf.shape, np.asarray(jax.random.key_data(leaf) if is_key else leaf).tobytes()


def blank(leaf):
    """A leaf of zeros with the same shape and dtype."""
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return leaf if is_key else np.zeros(leaf.shape, leaf.dtype)


def test_every_leaf_comes_back_bit_for_bit(x64):
    state, best = hand_made(), {"outer": {"w": np.arange(3.0)}}
    found = checkpoint.decode(checkpoint.encode(state, PROGRESS, ROWS, best))
    restored = restore(found.arrays, jax.tree.map(blank, state))
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    assert jax.tree.map(bits, restored) == jax.tree.map(bits, state)
    assert {name: bits(leaf) for name, leaf in found.params.items()} == {
        leaf_name(keys): bits(leaf) for keys, leaf in jax.tree_util.tree_leaves_with_path(state.params)
    }
    assert found.best.keys() == {"outer/w"}
    np.testing.assert_array_equal(found.best["outer/w"], np.arange(3.0))
    assert found.rows == ROWS
    np.testing.assert_equal(found.progress._asdict(), PROGRESS._asdict())


def test_progress_before_the_first_update_comes_back():
    found = checkpoint.decode(checkpoint.encode(STATE, Progress(), Counted(0, "")))
    assert found.progress == Progress()
    assert found.best == {}


def test_the_same_content_is_the_same_file():
    """Twenty times, since an unordered map may have another order each time."""
    assert len({checkpoint.encode(STATE, PROGRESS, ROWS) for _ in range(20)}) == 1


def test_names_sort_by_update():
    names = [checkpoint.checkpoint_name(update) for update in (7, 10, 2**31 - 1)]
    assert names == sorted(names)
    assert names[0] == "checkpoints/0000000007.safetensors"
    assert all(checkpoint.NAME.fullmatch(name.partition("/")[2]) for name in names)


def test_a_leaf_that_a_file_cannot_hold_is_an_error():
    state = STATE._replace(memory=Memory(rows=np.zeros(2, jnp.float8_e5m2)))
    with refused("memory/rows: an array of float8_e5m2 cannot be saved", 2):
        checkpoint.encode(state, PROGRESS, ROWS)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (STATE._replace(params={"w": ZEROS[2][:, None]}), "params/w: it has float32[2], and needs float32[2, 1]"),
        (STATE._replace(update=np.uint32(0)), "update: it has int32[], and needs uint32[]"),
        (STATE._replace(opt_state=()), "opt_state/0: it has float32[3], and needs nothing"),
        (STATE._replace(memory=ZEROS[1]), "memory: it has nothing, and needs float32[1]"),
    ],
)
def test_a_checkpoint_of_another_structure_is_exit_4(other, words):
    found = checkpoint.decode(checkpoint.encode(STATE, PROGRESS, ROWS))
    with refused("the checkpoint does not fit this experiment") as caught:
        restore(found.arrays, other)
    assert caught.value.problems == (words,)


HEADER = {"rows": [3, "0" * 64], "epoch": 1, "done": True, "compile_seconds": 0.1, "epoch_seconds": 1.0, "tokens": 9}
ODD = {
    "text": b"not safetensors",
    "a missing entry": save_arrays({}, HEADER),
    "another type": save_arrays({}, HEADER | {"seconds": "long"}),
    "no whole number": save_arrays({}, HEADER | {"seconds": 1.0, "tokens": 0.5}),
    "no rows": save_arrays({}, HEADER | {"seconds": 1.0, "rows": [3]}),
}


@pytest.mark.parametrize("name", ODD)
def test_other_content_is_damage(name, tmp_path):
    with refused(re.escape(f"{tmp_path} is damaged")), reading(tmp_path):
        checkpoint.decode(ODD[name])
    checkpoint.decode(save_arrays({}, HEADER | {"seconds": 1.0}))


def test_each_cut_of_a_file_is_damage(tmp_path):
    data = checkpoint.encode(STATE, PROGRESS, ROWS)
    for cut in (*(data[:size] for size in range(len(data))), data + b"\x00"):
        with refused("is damaged"), reading(tmp_path):
            checkpoint.decode(cut)


def test_arrays_are_kept_whatever_their_layout():
    """The library writes the buffer of an array without regard to its strides."""
    for array in (np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.arange(10)[::3], np.arange(4)[::-1]):
        found = load_arrays(save_arrays({"a": array}, {}))[0]["a"]
        np.testing.assert_array_equal(found, array)
        assert found.dtype == array.dtype


def test_parameters_come_back_as_the_tree_that_they_were():
    params = {"scale": np.float32(2.0), "inner": {"w": np.arange(6, dtype=np.float32).reshape(2, 3).T}}
    arrays = by_name(params)
    assert arrays.keys() == {"scale", "inner/w"}
    for like in (params, None):
        assert jax.tree.map(bits, as_tree(arrays, like)) == jax.tree.map(bits, params)
    for other in ({"scale": params["scale"]}, {**params, "scale": ZEROS[1]}, {**params, "scale": np.int32(2)}):
        with pytest.raises(ValueError, match=r"it has the arrays .*, but the model has"):
            as_tree(arrays, other)
    with jax.enable_x64(True):  # floats of another size are converted
        assert as_tree(arrays, {**params, "scale": np.float64(0.0)})["scale"] == 2.0


def test_the_hash_of_arrays_depends_on_names_dtypes_shapes_and_values_and_not_on_their_order():
    w, b = np.arange(4, dtype=np.float32), np.zeros(2, np.float32)
    same = [{"w": w, "b": b}, {"b": b, "w": w}]
    others = [{"w": w, "c": b}, {"w": w, "b": b.astype(np.int32)}, {"w": w.reshape(2, 2), "b": b}, {"w": w + 1, "b": b}]
    assert len({sha256_of(arrays) for arrays in same}) == 1
    assert len({sha256_of(arrays) for arrays in same + others}) == 5
