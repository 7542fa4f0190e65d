"""The smallest case on which an estimator fails, as code that runs."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from seqjax.array_files.arrays import is_key
from seqjax.testing.estimators.calling import Estimator
from seqjax.testing.estimators.chain import Leaf, Path

MOST_NUMBERS = 400
"""The most numbers that are written out."""


def example(estimator: Estimator, path: Path, where: tuple, leaves: Sequence[Leaf], pair: Any, step: str) -> str:
    """Code that calls the estimator on a part of a path, with what it returns and what it must return as comments.

    Args:
        estimator: the estimator.
        path: the path.
        where: the steps and the rows.
        leaves: the leaves of the gradient.
        pair: the gradient of the estimator and the right one, two vectors.
        step: code for the step.

    Returns:
        The code; "" if its arrays have more than `MOST_NUMBERS` numbers.
    """
    part, rows = where
    state, xs = path.given(part, rows)
    given = {"params": path.scan.params, "state": state, "xs": xs}
    if sum(np.size(leaf) for leaf in jax.tree.leaves(given)) > MOST_NUMBERS:
        return ""
    array = {"jax": "jnp.array", "numpy": "np.array", "torch": "torch.tensor"}[estimator.arrays]
    try:
        values = [f"{name} = {_code(tree, array)}" for name, tree in given.items()]
    except TypeError:
        return ""
    library = {"jax": "import jax.numpy as jnp", "numpy": "import numpy as np", "torch": "import torch"}
    memory = ", None" if estimator.of == "history" else ""
    key = "jax.random.key(0)" if estimator.arrays == "jax" else "0"
    lines = [
        "import jax",
        library[estimator.arrays],
        "import seqjax as sj",
        'jax.config.update("jax_enable_x64", True)',
        *([f"step = {step}"] if step else []),
        *values,
        f"loss, grads{', memory' if memory else ''} = {estimator.name}(step, params, state, xs, {key}{memory})",
    ]
    got, wanted = pair
    for leaf in leaves:
        if not np.allclose(got[leaf.at], wanted[leaf.at], 1e-9, 0):
            lines.append(f"# grads{leaf.name} is {_short(got, leaf)}, and must be {_short(wanted, leaf)}")
    return "\n".join(lines)


def _short(vector, leaf):
    values = vector[leaf.at].reshape(leaf.shape)
    return np.array2string(values, precision=4, separator=", ", threshold=12, max_line_width=10**6).replace("\n", "")


def _code(tree: Any, array: str) -> str:
    """Python code for a tree of dicts, lists, tuples and arrays.

    Raises:
        TypeError: it holds something else.
    """
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{name!r}: {_code(value, array)}" for name, value in tree.items()) + "}"
    if type(tree) is tuple:
        return "(" + "".join(_code(value, array) + ", " for value in tree).removesuffix(" ") + ")"
    if type(tree) is list:
        return "[" + ", ".join(_code(value, array) for value in tree) + "]"
    if not hasattr(tree, "dtype") or is_key(tree):
        raise TypeError(f"no code for {type(tree).__name__}")
    values = np.asarray(tree)
    dtype = ", dtype=torch.float64" if array == "torch.tensor" and values.dtype == np.float64 else ""
    return f"{array}({values.tolist()!r}{dtype})"
