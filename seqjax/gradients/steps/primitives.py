"""Primitives that return their first argument, and have rules of their own for derivatives or rows."""

from jax.extend.core import Primitive
from jax.interpreters import mlir


def first_argument(name: str) -> Primitive:
    """A primitive whose value is its first argument. Its rules, other than that, are for the caller to set.

    It is used where the rules of `jax.custom_jvp` or `jax.custom_batching.custom_vmap` would be lost, such as in the
    reverse derivative of a scan.
    """
    primitive = Primitive(name)
    primitive.def_impl(lambda value, *others: value)
    primitive.def_abstract_eval(lambda value, *others: value)
    mlir.register_lowering(primitive, lambda context, value, *others: [value])
    return primitive
