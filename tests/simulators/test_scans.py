"""Loops of other libraries with one line changed: the examples of docs/foreign.md, against their own `jax.lax.scan`."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqjax
from seqjax.gradients import Full


def own_scan(f, init, xs, *, gradient, length=None):
    """`jax.lax.scan`."""
    return jax.lax.scan(f, init, xs, length)


def cut_scan(f, init, xs, *, gradient, length=None):
    """`jax.lax.scan`, whose carry is a constant before positive multiples of the length of a segment."""
    num_steps = len(jax.tree.leaves(xs)[0]) if length is None else length

    def body(carry, inputs):
        t, x = inputs
        is_cut = (t > 0) & (t % gradient.steps == 0)
        cut = jax.tree.map(jax.lax.stop_gradient, carry)
        return f(jax.tree.map(lambda a, b: jnp.where(is_cut, a, b), cut, carry), x)

    return jax.lax.scan(body, init, (jnp.arange(num_steps), xs))


def full_scan(f, init, xs, *, gradient, length=None):
    return seqjax.scan(f, init, xs, length, gradient=Full())


@pytest.mark.parametrize(
    "library", [pytest.param("flax", marks=pytest.mark.slow), "equinox", "diffrax", "jaxley", "brax"]
)
def test_one_line_changes_the_gradient_of_a_loop(library, x64, run_example):
    names = run_example(f"{library} scan")
    floats, treedef = jax.tree.flatten(names["params"])
    is_float = [jnp.issubdtype(jnp.result_type(a), jnp.inexact) if hasattr(a, "dtype") else False for a in floats]

    def with_scan(scan):
        def loss(leaves):
            left = iter(leaves)
            merged = [next(left) if f else a for a, f in zip(floats, is_float, strict=True)]
            return names["loss"](jax.tree.unflatten(treedef, merged))

        names["sj"] = SimpleNamespace(scan=scan)
        leaves = [a for a, f in zip(floats, is_float, strict=True) if f]
        value, grads = jax.jit(jax.value_and_grad(loss))(leaves)
        return float(value), np.concatenate([np.ravel(a) for a in grads])

    (value, full), (_, cut) = with_scan(own_scan), with_scan(cut_scan)
    found = {scan: with_scan(scan) for scan in (full_scan, seqjax.scan)}
    # The parameters of Flax are float32, and brax computes in it, since the environment returns `done` as one.
    bound = 1e-4 if library in ("flax", "brax") else 1e-10
    assert abs(found[seqjax.scan][0] - value) <= bound * abs(value)
    assert np.linalg.norm(found[full_scan][1] - full) <= bound * np.linalg.norm(full)
    assert np.linalg.norm(found[seqjax.scan][1] - cut) <= bound * np.linalg.norm(cut)
    assert np.linalg.norm(cut - full) > 30 * bound * np.linalg.norm(full), "truncating makes a difference"
