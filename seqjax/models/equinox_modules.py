"""Equinox modules as models. No other file of the core imports equinox, which seqjax does not depend on."""

import inspect
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.data.spec import Values
from seqjax.errors import Error
from seqjax.gradients.contract.problem import Params
from seqjax.gradients.steps.floats import combine
from seqjax.models.model import ForeignModel, Shapes


def from_equinox(module: Any) -> tuple["EquinoxModule", Params]:
    """An Equinox module as a model.

    >>> import equinox as eqx
    >>> import jax
    >>> import numpy as np
    >>> import seqjax as sj
    >>> from seqjax.data import Stream
    >>> model, params = sj.from_equinox(eqx.nn.GRUCell(3, 3, key=jax.random.key(0)))
    >>> problem = sj.Problem.of(model, sj.Spec(sj.Values(3)))
    >>> zeros = np.zeros((5, 3))
    >>> sj.evaluate(problem, params, Stream(zeros, zeros, bounds=[0, 5]))["tokens"]
    5

    The model cannot make initial parameters. Pass on the returned parameters, as in `experiment.run(params=params)` or
    `train(problem, ..., params=params)`. `evaluate` and `generate` take the trained parameters, and
    `eqx.combine(state.params, module)` is the trained module.

    Args:
        module: an `eqx.nn.GRUCell` or `eqx.nn.LSTMCell`, for values; its output is h, float[hidden_size], and its state
            starts at zero. Or your own module with a read-out, which is called as `module(state, x) -> (state, output)`
            for one sequence and one step, and has `init_state()`, which returns the state before the first step. x is
            float[dim], or int32[] if the inputs are tokens. A module that draws random numbers, such as for dropout,
            has `init_state(key=None)`, and keeps the key in its state. The key is None in evaluation.

    Returns:
        The model, which is hashable, and its parameters: the module with None in place of all that is not a float
        array, as `eqx.filter(module, eqx.is_inexact_array)` returns it. The rest is a part of the model.

    Raises:
        Error: Equinox is not installed; `module` is not a module of Equinox; it has no `init_state`, and is neither of
            the two cells; it holds a random key, or an object that is not hashable.
    """
    eqx = _equinox()
    name = type(module).__name__
    if not isinstance(module, eqx.Module):
        raise Error(
            f"from_equinox takes a module, such as eqx.nn.GRUCell(3, 3, key=jax.random.key(0)), not {module!r:.80}"
        )
    if not hasattr(module, "init_state") and not _is_cell(module):
        raise Error(
            f"from_equinox: {name} has no init_state(): pass eqx.nn.GRUCell or eqx.nn.LSTMCell, or give your module one"
        )
    params, rest = eqx.partition(module, eqx.is_inexact_array)
    leaves, treedef = jax.tree.flatten(rest)
    if any(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in leaves if eqx.is_array(leaf)):
        raise Error(f"from_equinox: {name} holds a random key: keep it in the state, from init_state(key=None)")
    constants = tuple(Constant(leaf) if eqx.is_array(leaf) else leaf for leaf in leaves)
    params = jax.tree.map(jnp.asarray, params)
    model = EquinoxModule(name, Shapes.of(params), treedef, constants)
    try:
        hash(model)
    except TypeError as cause:
        raise Error(
            f"from_equinox: {name} holds an object that is not hashable ({cause}): declare it as eqx.field(static=True)"
        ) from cause
    return model, params


class Constant:
    """An array that is hashed and compared by its value.

    Args:
        array: a JAX or NumPy array.
    """

    def __init__(self, array: Any):
        self.array = array
        self.value = (type(array), array.dtype, array.shape, np.asarray(array).tobytes())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Constant) and self.value == other.value

    def __hash__(self) -> int:
        return hash(self.value)


@dataclass(frozen=True)
class EquinoxModule(ForeignModel):
    """An Equinox module as a model; made by `from_equinox`. It has the parameters of the module."""

    name: Any
    """The name of the module's class."""
    shapes: Any = field(repr=False)
    """The `Shapes` of the module's parameters."""
    treedef: Any = field(repr=False)
    """The tree structure of the module without its parameters."""
    leaves: Any = field(repr=False)
    """The leaves of that tree, with each array as a `Constant`."""

    reader = "from_equinox"

    def params_like(self):
        """The structure, shapes and dtypes of the module's parameters."""
        return self.shapes.tree()

    def init_state(self, params, spec, key=None):
        """What the module's `init_state` returns; for a cell without one, zeros.

        Raises:
            Error: a cell cannot read the inputs of `spec`.
        """
        module = self._module(params)
        if _is_cell(module) and spec.inputs != Values(module.input_size):
            raise Error(
                f"{type(module).__name__} reads Values({module.input_size}), but the inputs are {spec.inputs}: write a "
                "module that embeds or projects them, and then calls the cell"
            )
        if hasattr(module, "init_state"):
            takes_key = "key" in inspect.signature(module.init_state).parameters
            return module.init_state(key=key) if takes_key else module.init_state()
        zeros = jnp.zeros(module.hidden_size, module.weight_hh.dtype)
        return (zeros, zeros) if isinstance(module, _equinox().nn.LSTMCell) else zeros

    def step(self, params, state, x):
        """One call of the module.

        Raises:
            Error: your own module does not return (state, output).
        """
        module = self._module(params)
        if _is_cell(module):
            state = module(x, state)
            return state, state[0] if isinstance(state, tuple) else state
        result = module(state, x)
        if not isinstance(result, tuple) or len(result) != 2:
            raise Error(f"{type(module).__name__}(state, x) must return (state, output), not {result!r:.80}")
        return result

    def _module(self, params):
        leaves = [leaf.array if isinstance(leaf, Constant) else leaf for leaf in self.leaves]
        return combine(params, self.treedef.unflatten(leaves))


def _is_cell(module):
    """Whether a module is a cell of Equinox, which is called as `cell(x, state) -> state`."""
    nn = _equinox().nn
    return isinstance(module, nn.GRUCell | nn.LSTMCell)


def _equinox():
    """The package, which is imported only where it is used.

    Raises:
        Error: it is not installed.
    """
    try:
        import equinox
    except ImportError as cause:
        raise Error("from_equinox needs Equinox, which is not installed. Type: pip install equinox") from cause
    return equinox
