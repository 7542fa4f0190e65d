"""Flax NNX modules as models. No other file of the core imports flax."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from seqjax.data.spec import Tokens
from seqjax.errors import Error
from seqjax.extras import needing
from seqjax.gradients.contract.problem import Params
from seqjax.models.model import ForeignModel, Shapes

if TYPE_CHECKING:  # this file can be imported without flax
    from flax import nnx


class FlaxState(NamedTuple):
    """The state of a Flax module between two steps.

    Args:
        carry: the module's carry, with float leaves in the parameters' dtype.
        rng: the keys and counters of the module's random streams; `()` without a key, or if it has no stream.
    """

    carry: Any
    rng: Any


def from_flax(module: "nnx.Module") -> tuple["FlaxModule", Params]:
    """A Flax NNX module as a model.

    >>> import numpy as np
    >>> import seqjax as sj
    >>> from flax import nnx
    >>> from seqjax.data import Stream
    >>> model, params = sj.from_flax(nnx.GRUCell(3, 3, rngs=nnx.Rngs(0)))
    >>> problem = sj.Problem.of(model, sj.Spec(sj.Values(3)))
    >>> zeros = np.zeros((5, 3))
    >>> sj.evaluate(problem, params, Stream(zeros, zeros, bounds=[0, 5]))["tokens"]
    5

    The model cannot make initial parameters. Pass on the returned parameters, as in `experiment.run(params=params)` or
    `train(problem, ..., params=params)`. `evaluate` and `generate` take the trained parameters, and `nnx.update(module,
    state.params)` stores them in the module.

    The model computes in the dtype of its parameters and ignores the `dtype` of the layers of the module;
    `Problem.of(model, spec, precision="bfloat16")` computes in bfloat16. Dropout draws from a key in each sequence's
    state. Without a key the module is in its evaluation mode.

    Args:
        module: a module that is called as `module(carry, x) -> (carry, y)`, for one sequence and one step, and has
            `initialize_carry(input_shape, rngs)`: a cell of Flax, or your own module with a read-out. x is float[dim],
            or int32[] if the inputs are tokens.

    Returns:
        The model, hashable, and its parameters: the nested dict of `nnx.to_pure_dict`.

    Raises:
        Error: the module has no `initialize_carry`; it has variables that are neither parameters nor random streams
            (such as running averages); an attribute is not hashable.
    """
    nnx = _nnx()
    name = type(module).__name__
    if not isinstance(module, nnx.Module):
        raise Error(f"from_flax takes a module, such as nnx.GRUCell(3, 3, rngs=nnx.Rngs(0)), not {module!r:.80}")
    if not hasattr(module, "initialize_carry"):
        raise Error(
            f"from_flax: {name} has no initialize_carry(input_shape, rngs): pass a recurrent cell, such as nnx.GRUCell,"
            " or give your module one"
        )
    graphdef, params, *states = nnx.split(module, nnx.Param, nnx.RngKey, nnx.RngCount, ...)
    keys, counts, rest = states
    others = [f"{'.'.join(map(str, path))}: {type(leaf).__name__}" for path, leaf in nnx.to_flat_state(rest)]
    if others:
        raise Error(f"from_flax: {name} has variables that are neither nnx.Param nor random streams:", problems=others)
    try:
        hash(graphdef)
    except TypeError as cause:
        raise Error(f"from_flax: an attribute of {name} is not hashable ({cause}); make lists tuples") from cause
    streams = tuple(jax.tree.structure(nnx.to_pure_dict(part)) for part in (keys, counts))
    tree = nnx.to_pure_dict(params)
    return FlaxModule(name, Shapes.of(tree), graphdef, streams), tree


@dataclass(frozen=True)
class FlaxModule(ForeignModel):
    """A Flax NNX module as a model; made by `from_flax`. It has the parameters of the module."""

    name: Any
    """The name of the module's class."""
    shapes: Any = field(repr=False)
    """The `Shapes` of the module's parameters."""
    graphdef: Any = field(repr=False)
    """The module without its variables."""
    streams: Any = field(repr=False)
    """The tree structures of its random keys and of their counters."""

    reader = "from_flax"

    def params_like(self):
        """The structure, shapes and dtypes of the module's parameters."""
        return self.shapes.tree()

    def init_state(self, params, spec, key=None):
        """The module's initial carry."""
        nnx = _nnx()
        seed = jax.random.key(0) if key is None else key
        shape = () if isinstance(spec.inputs, Tokens) else (spec.inputs.dim,)
        carry = self._module(params, ()).initialize_carry(shape, nnx.Rngs(jax.random.fold_in(seed, 0)))
        dtype = jnp.result_type(*jax.tree.leaves(params))
        carry = jax.tree.map(lambda a: a.astype(dtype) if jnp.issubdtype(a.dtype, jnp.inexact) else a, carry)
        is_random = key is not None and self.streams[0].num_leaves > 0
        return FlaxState(carry, self._rng(jax.random.fold_in(seed, 1)) if is_random else ())

    def step(self, params, state, x):
        """One call of the module."""
        nnx = _nnx()
        module = self._module(params, state.rng)
        carry, output = module(state.carry, x)
        rng = tuple(nnx.to_pure_dict(nnx.state(module, kind)) for kind in (nnx.RngKey, nnx.RngCount))
        return FlaxState(carry, rng if state.rng else ()), output

    def _rng(self, key):
        keys, counts = self.streams
        zeros = [jnp.zeros((), jnp.uint32)] * counts.num_leaves
        return keys.unflatten(list(jax.random.split(key, keys.num_leaves))), counts.unflatten(zeros)

    def _module(self, params, rng):
        """The module with its variables, in the dtype of its parameters; deterministic if rng is `()`."""
        module = _nnx().merge(self.graphdef, params, *(rng or self._rng(jax.random.key(0))))
        dtype = jnp.result_type(*jax.tree.leaves(params))
        module.set_attributes(dtype=dtype, param_dtype=dtype, raise_if_not_found=False)
        if not rng:
            module.eval()
        return module


def _nnx() -> Any:
    with needing("flax", "from_flax"):
        from flax import nnx

    return nnx
