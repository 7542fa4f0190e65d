"""Converts pytrees to arrays by name, and these to the bytes of a safetensors file."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import safetensors.numpy

from seqjax.errors import Error, dtype_shape
from seqjax.gradients.contract.problem import Params
from seqjax.parse import from_json

_DTYPES = {
    "BF16": np.dtype(jax.dtypes.bfloat16),  # the numpy loader of safetensors lacks it
    "BOOL": np.dtype(bool),
    "C64": np.dtype("complex64"),
    **{f"{kind.upper()}{8 * size}": np.dtype(f"{kind}{size}") for kind in "iu" for size in (1, 2, 4, 8)},
    **{f"F{8 * size}": np.dtype(f"f{size}") for size in (2, 4, 8)},
}


def save_arrays(arrays: dict[str, np.ndarray], header: dict[str, Any]) -> bytes:
    """The bytes of a safetensors file with a JSON header; equal content gives equal bytes."""
    metadata = {"seqjax": json.dumps(header, sort_keys=True)}  # one entry: the library does not keep their order
    for name, array in arrays.items():
        if array.dtype not in _DTYPES.values():
            raise Error(f"{name}: an array of {array.dtype} cannot be saved in a file")
    return safetensors.numpy.save({name: np.asarray(a, order="C") for name, a in arrays.items()}, metadata)


def load_arrays(data: bytes) -> tuple[dict[str, np.ndarray], str]:
    """Arrays and the JSON text of the header of a file that `save_arrays` made."""
    metadata = from_json(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    arrays = {
        name: np.frombuffer(entry["data"], _DTYPES[entry["dtype"]]).reshape(entry["shape"])
        for name, entry in safetensors.deserialize(data)
    }
    return arrays, metadata["seqjax"]


def forms_in(header: dict[str, Any]) -> dict[str, str]:
    """The dtype and shape of each array by name, such as `float32[3, 4]`, from the header of a safetensors file."""
    return {
        name: f"{_DTYPES[entry['dtype']]}{entry['shape']}" for name, entry in header.items() if name != "__metadata__"
    }


def sha256_of(arrays: dict[str, np.ndarray]) -> str:
    """A hash of names, dtypes, shapes and values."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def leaf_name(keys: tuple) -> str:
    """The name of a leaf of a pytree in a file, such as `params/W_hh`."""
    return jax.tree_util.keystr(keys, simple=True, separator="/")


def by_name(tree: Any) -> dict[str, np.ndarray]:
    """The leaves of a tree by name; keys as their data."""
    leaves = {leaf_name(keys): leaf for keys, leaf in jax.tree_util.tree_leaves_with_path(tree)}
    return {name: np.asarray(jax.random.key_data(leaf) if is_key(leaf) else leaf) for name, leaf in leaves.items()}


def is_key(leaf: Any) -> bool:
    """Whether a leaf has keys of JAX, or is their shape and dtype."""
    has_dtype = isinstance(leaf, jax.Array | jax.ShapeDtypeStruct)
    return has_dtype and jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def as_tree(arrays: dict[str, np.ndarray], like: Params | None) -> Params:
    """Arrays by name in the structure of `like`; None: as a nested dict.

    Raises:
        ValueError: the arrays do not fit.
    """
    if like is None:
        return _nested(arrays)
    needed = {leaf_name(keys): leaf for keys, leaf in jax.tree_util.tree_leaves_with_path(like)}
    if _forms(arrays) != _forms(needed):
        there, here = ({name: dtype_shape(array) for name, array in each.items()} for each in (arrays, needed))
        raise ValueError(f"it has the arrays {there}, but the model has {here}")
    return jax.tree_util.tree_map_with_path(lambda keys, _: jax.numpy.asarray(arrays[leaf_name(keys)]), like)


def _forms(arrays: Mapping[str, Any]) -> dict[str, tuple[tuple[int, ...], bool]]:
    """Shape of each array, and whether it has floats, of which another size is converted: float64 may be off or on."""
    is_float = lambda array: bool(jax.numpy.issubdtype(array.dtype, jax.numpy.floating))
    return {name: (tuple(array.shape), is_float(array)) for name, array in arrays.items()}


def _nested(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Arrays by names such as `outer/inner` as a nested dict."""
    nested: dict[str, Any] = {}
    for name, array in arrays.items():
        table, (*outer, inner) = nested, name.split("/")
        for key in outer:
            table = table.setdefault(key, {})
        table[inner] = jax.numpy.asarray(array)
    return nested


def plain_forms(state: Any) -> dict[str, str]:
    """The dtype and shape of each array that `by_name` returns, from arrays or from their shapes and dtypes."""
    leaves = {leaf_name(keys): leaf for keys, leaf in jax.tree_util.tree_leaves_with_path(state)}
    plain = {name: jax.eval_shape(jax.random.key_data, a) if is_key(a) else a for name, a in leaves.items()}
    return {name: dtype_shape(a) for name, a in plain.items()}


def restore(
    arrays: dict[str, np.ndarray],
    like: Any,
    text: str = "the checkpoint does not fit this experiment; train in another folder:",
) -> Any:
    """The train state whose leaves `by_name` returned.

    Args:
        arrays: the leaves by name.
        like: a train state of the same structure, or its shapes and dtypes.
        text: the first line of the error.

    Raises:
        Error: exit code 4: there are other leaves, or leaves of other shapes or dtypes.
    """
    expected = plain_forms(like)
    there = {name: dtype_shape(array) for name, array in arrays.items()}
    problems = [
        f"{name}: it has {there.get(name, 'nothing')}, and needs {expected.get(name, 'nothing')}"
        for name in {**expected, **there}
        if there.get(name) != expected.get(name)
    ]
    if problems:
        raise Error(text, problems=problems, exit_code=4)

    def leaf(keys, like):
        value = jax.numpy.asarray(arrays[leaf_name(keys)])
        if not is_key(like):
            return value
        return jax.random.wrap_key_data(value, impl=jax.random.key_impl(jax.numpy.empty((), like.dtype)))

    return jax.tree_util.tree_map_with_path(leaf, like)
