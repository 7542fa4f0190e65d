"""Maps a function over an axis: all entries side by side, or one after the other where the function sees `vmap`.

A function sees `vmap` if it computes another result for an entry of a batch than for this entry alone. Equinox's
`unvmap_any` is one for the whole batch if it is one for a single entry, and a rule of `jax.custom_batching.custom_vmap`
may do anything. Mapped over time, such a step would take the branch of one step at all steps.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax.extend.core import JaxprEqn, Primitive, primitives
from jaxtyping import PyTree

from seqjax.gradients.steps.floats import combine, partition_float, split_float
from seqjax.gradients.steps.jaxprs import all_equations
from seqjax.gradients.steps.running import ANY_RUNNING, OF_RUNNING, ZERO_STOPPED
from seqjax.gradients.steps.tangents import WITH_TANGENT_OF

_PUBLIC = [v for module in (primitives, jax.lax, jax.lax.linalg) for v in vars(module).values()]
_OURS = {WITH_TANGENT_OF, ANY_RUNNING, OF_RUNNING, ZERO_STOPPED}
_MAPPED = {v for v in _PUBLIC if isinstance(v, Primitive)} - {primitives.rng_bit_generator_p} | _OURS
"""The primitives of JAX, and ours, that compute the same for each entry of a batch as for this entry alone."""
_MAPPED_BY_NAME = {
    "composite",
    "debug_callback",
    "debug_print",
    "pallas_call",
    "platform_index",
    "pvary",
    "ragged_dot_general",
    "random_clone",
    "random_unwrap",
    "random_wrap",
    "shard_map",
}
"""Further ones, which JAX does not export."""
_MAPPED_HIGH_LEVEL = {"Nonzero", "SearchSorted"}
"""The operations inside of JAX's primitive `call_hi_primitive` that compute the same, too."""
_KEYS_OF_ENTRIES = "key<fry>"
"""The type of keys that draw the same numbers in a batch as alone; `rbg` draws for a batch from its first key."""


def sees_vmap(step: Callable, params: PyTree, state: PyTree, x: PyTree) -> bool:
    """Whether a step, or its derivative, has a primitive that may see `vmap`. Traces it, and computes nothing.

    A primitive that is not on a list of JAX's own counts as one that may. The derivative is traced only if the step has
    rules of its own, of `jax.custom_jvp` or `jax.custom_vjp`, which its own trace does not show.

    Args:
        step: (params, state, x) -> any arrays, one sequence, one step.
        params: the parameters, floats.
        state: the state of one sequence. Like the other arguments, it may be given as shapes and dtypes.
        x: what one step reads.
    """

    def derivative(*args):
        floats, others = partition_float(args)

        def results(floats):
            return split_float(step(*combine(floats, others)))[0]

        if "custom_vjp_call" not in names:  # forward mode exists for more steps, such as those with a while loop
            return jax.jvp(results, (floats,), (jax.tree.map(jnp.ones_like, floats),))
        values, pull = jax.vjp(results, floats)
        return pull(jax.tree.map(jnp.ones_like, values))

    # New functions for each call: JAX caches traces by the function object, and a step may close over a value that has
    # changed since.
    equations = list(all_equations(jax.make_jaxpr(lambda *args: step(*args))(params, state, x).jaxpr))
    names = {equation.primitive.name for equation in equations}
    if any(map(_may_see, equations)):
        return True
    if not names & {"custom_jvp_call", "custom_vjp_call"}:
        return False
    if {"custom_vjp_call", "while"} <= names:
        return True  # such a step has neither mode, so that its rules cannot be traced
    return any(map(_may_see, all_equations(jax.make_jaxpr(derivative)(params, state, x).jaxpr)))


def mapped(f: Callable, in_axes: Sequence[int | None], size: int, one_by_one: bool) -> Callable:
    """`f`, written for one entry, mapped over `size` entries, such as time steps.

    Args:
        f: the function.
        in_axes: for each argument 0, if its leaves have a first axis [size], or None.
        size: the number of entries; the arguments may have no leaves.
        one_by_one: whether the entries are computed one after the other, not side by side.
    """
    if not one_by_one:
        return jax.vmap(f, tuple(in_axes), axis_size=size)

    def over_entries(*args):
        def one(_, mapped_args):
            each = iter(mapped_args)
            return None, f(*(a if axis is None else next(each) for a, axis in zip(args, in_axes, strict=True)))

        entries = [a for a, axis in zip(args, in_axes, strict=True) if axis is not None]
        return jax.lax.scan(one, None, entries, length=size)[1]

    return over_entries


def _may_see(equation: JaxprEqn) -> bool:
    primitive = equation.primitive
    if primitive.name == "call_hi_primitive":
        operation = type(equation.params["_prim"])
        return operation.__name__ not in _MAPPED_HIGH_LEVEL or not operation.__module__.startswith("jax.")
    if primitive not in _MAPPED and primitive.name not in _MAPPED_BY_NAME:
        return True
    dtypes = [getattr(v.aval, "dtype", None) for v in equation.invars]
    return any(jnp.issubdtype(d, jax.dtypes.prng_key) and str(d) != _KEYS_OF_ENTRIES for d in dtypes if d is not None)
