"""Linear recurrences: `linear_scan` for vectors, and `affine_scan` for units of several numbers."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Inexact

from seqjax.errors import Error, check_flags, check_type, dtype_shape
from seqjax.gradients.steps.unrolling import EdgeWeights, weigh_edge


def linear_scan(
    a: Inexact[Array, "*T_shape"],
    b: Inexact[Array, "T *shape"],
    h0: Inexact[Array, "*shape"] | None = None,
    reset: Bool[Array, "T ..."] | None = None,
    reverse: bool = False,
    parallel: bool | None = None,
) -> tuple[Inexact[Array, "T *shape"], Inexact[Array, "*shape"]]:
    """The linear recurrence h_t = a_t h_{t-1} + b_t over the first axis, elementwise.

    It can be differentiated any number of times, in reverse and in forward mode. The derivative is a linear recurrence
    as well,

        dh_t = a_t dh_{t-1} + da_t h_{t-1} + db_t

    so that only a and h are kept. In bfloat16 and float16 the recurrence is computed in float32.

    >>> import jax.numpy as jnp
    >>> import seqjax as sj
    >>> hs, last = sj.linear_scan(jnp.full(3, 0.5), jnp.ones(3))
    >>> hs.tolist(), last.item()
    ([1.0, 1.5, 1.75], 1.75)

    Args:
        a: [T, ...], or without the axis T for factors that are the same at all steps. Real or complex. Its further axes
            are the same as those of b; nothing is broadcast.
        b: [T, ...].
        h0: the value before the first step; None: zeros.
        reset: bool[T] or bool[T, B], the steps whose h_{t-1} (h_{t+1} if `reverse`) counts as zero. The further axes of
            b follow these.
        reverse: whether the recurrence runs from the last entry to the first.
        parallel: whether it is computed in about log T passes over all steps (`jax.lax.associative_scan`), or step by
            step. None: step by step on a CPU, where passes take about twice as long, and in parallel elsewhere.

    Returns:
        All h_t, [T, ...], in the widest dtype of a, b and h0, and the last of them, in float32 at least.

    Raises:
        Error: the shapes do not fit, the numbers are integers, `reverse` is no bool, or `parallel` is neither a
            bool nor None.
    """
    check_flags(reverse=reverse)
    check_type("parallel", parallel, bool | None, "True, False or None")
    a, b = jnp.asarray(a), jnp.asarray(b)
    if not b.ndim or a.shape not in (b.shape, b.shape[1:]):
        raise Error(f"linear_scan: a must have the shape of b, {list(b.shape)}, or without T, not {list(a.shape)}")
    h0 = jnp.zeros(b.shape[1:], b.dtype) if h0 is None else jnp.asarray(h0)
    if h0.shape != b.shape[1:]:
        raise Error(f"linear_scan: h0 must have the shape {list(b.shape[1:])}, not {list(h0.shape)}")
    for name, x in {"a": a, "b": b, "h0": h0}.items():
        if not jnp.issubdtype(x.dtype, jnp.inexact):
            wanted = "real or complex floating-point numbers"
            raise Error(f"linear_scan: {name} must be {wanted}, not {dtype_shape(x)}")
    if reset is not None:
        reset = jnp.asarray(reset)
        if reset.dtype != jnp.bool or reset.shape not in (b.shape[:1], b.shape[:2]):
            wanted = " or ".join(f"bool{list(b.shape[:n])}" for n in (1, 2)[: b.ndim])
            raise Error(f"linear_scan: reset must be {wanted}, not {dtype_shape(reset)}")
    (hs,), (last,) = affine_scan([[a]], [b], [h0], reset=reset, reverse=reverse, parallel=parallel)
    return hs, last


def affine_scan(
    A: Sequence[Sequence[Array]],
    b: Sequence[Array],
    start: Sequence[Array],
    edge_weights: EdgeWeights = None,
    reset: Any = None,
    reverse: bool = False,
    parallel: bool | None = None,
) -> tuple[list[Array], list[Array]]:
    """The recurrence s_t = A_t s_{t-1} + b_t of units that do not act on each other, each of L numbers.

    The numbers of all units are in L arrays, one for each number of a unit: the loops of a CPU are much slower over an
    array with small axes.

    Args:
        A: L rows of L arrays [T, ...], or [...] for entries that are the same at all steps.
        b: L arrays [T, ...].
        start: L arrays [...], the state before the first step.
        edge_weights: float[T] or float[T, B]; see `seqjax.gradients.unroll`.
        reset: as in `linear_scan`.
        reverse: as in `linear_scan`.
        parallel: as in `linear_scan`.

    Returns:
        The states after all steps, L arrays [T, ...], and after the last one, L arrays [...].
    """
    dtype = np.result_type(*[x.dtype for x in jax.tree.leaves((A, b, start))])
    wide = np.result_type(dtype, np.float32)
    as_dtype = lambda x: x.astype(wide if x.ndim < b[0].ndim else dtype)
    if reset is not None:
        reset = _with_axes(reset, b[0].ndim)
    if edge_weights is not None:
        edge_weights = _with_axes(edge_weights, b[0].ndim)
    rows, first = [list(map(as_dtype, row)) for row in A], list(map(as_dtype, start))
    recurrence = _Recurrence(rows, [x.astype(dtype) for x in b], first, edge_weights, reset)
    run = functools.partial(_affine_scan, reverse)
    if not len(b[0]):  # `associative_scan` needs a step
        parallel = False
    if parallel is None:
        one_by_one, together = functools.partial(run, False), functools.partial(run, True)
        return jax.lax.platform_dependent(recurrence, cpu=one_by_one, default=together)
    return run(parallel, recurrence)


def _with_axes(x, ndim):
    return x.reshape(x.shape + (1,) * (ndim - x.ndim))


class _Recurrence(NamedTuple):
    """The arguments of `affine_scan`; edge weights and resets have as many axes as b."""

    A: list[list[Any]]
    b: list[Any]
    start: list[Any]
    edge_weights: Any
    reset: Any


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _affine_scan(reverse, parallel, recurrence):
    return (_in_parallel if parallel else _step_by_step)(reverse, recurrence)


@_affine_scan.defjvp
def _affine_scan_tangent(reverse, parallel, primals, tangents):
    """The tangents follow the same recurrence: A is multiplied by the edge weight, and b replaced by dA s_{t-1} + db.

    The state s_{t-1} that dA multiplies has entered step t, so its own tangent, in a second derivative, is multiplied
    by the weight.
    """
    ((r,), (d,)) = primals, tangents
    states, last = _affine_scan(reverse, parallel, r)

    def before(first, states):
        first = first[None].astype(states.dtype)
        shifted = jnp.concatenate([states[1:], first] if reverse else [first, states[:-1]])
        return shifted if r.reset is None else jnp.where(r.reset, 0, shifted)

    entering = list(map(before, r.start, states))
    if r.edge_weights is not None:
        entering = weigh_edge(entering, r.edge_weights)
    wide = np.result_type(r.b[0].dtype, np.float32)
    db = [
        sum((a.astype(wide) * s.astype(wide) for a, s in zip(row, entering, strict=True)), x.astype(wide)).astype(
            x.dtype
        )
        for x, row in zip(d.b, d.A, strict=True)
    ]
    A, reset = r.A, r.reset
    if r.edge_weights is not None:
        A = [[a * r.edge_weights.astype(a.dtype) for a in row] for row in A]
        # A cut also stops a derivative that is not finite, as a product with 0 would not.
        cut = r.edge_weights == 0
        reset = cut if reset is None else reset | cut
    return (states, last), _affine_scan(reverse, parallel, _Recurrence(A, db, d.start, None, reset))


def _step_by_step(reverse, r):
    wide = np.result_type(r.b[0].dtype, np.float32)
    entries, treedef = jax.tree.flatten(r.A)
    varies = [x.ndim == r.b[0].ndim for x in entries]

    def step(state, inputs):
        at_step, b, reset = inputs
        at_step = iter(at_step)
        A = jax.tree.unflatten(treedef, [next(at_step) if v else x for x, v in zip(entries, varies, strict=True)])
        # Where there is a reset, not only the state counts as zero, but also its product with an infinite factor.
        keep = (lambda x: x) if reset is None else (lambda x: jnp.where(reset, 0, x))
        state = list(map(keep, state))
        new = [
            keep(sum(x.astype(wide) * s for x, s in zip(row, state, strict=True))) + d.astype(wide)
            for row, d in zip(A, b, strict=True)
        ]
        return new, [s.astype(d.dtype) for s, d in zip(new, b, strict=True)]

    varying = [x for x, v in zip(entries, varies, strict=True) if v]
    start = [s.astype(wide) for s in r.start]
    last, states = jax.lax.scan(step, start, (varying, r.b, r.reset), reverse=reverse)
    return states, last


class _Part(NamedTuple):
    """What several consecutive steps do together: s -> A s + b, or b alone if one of them is reset."""

    A: Any
    b: Any
    reset: Any


def _in_parallel(reverse, r):
    wide = np.result_type(r.b[0].dtype, np.float32)
    A, steps = jax.tree.map(lambda x: jnp.broadcast_to(x.astype(wide), r.b[0].shape), (r.A, r.b))
    first = -1 if reverse else 0
    # The start goes into the first step.
    start = [s.astype(wide) for s in r.start]
    keep = (lambda x: x) if r.reset is None else (lambda x: jnp.where(r.reset[first], 0, x))
    start = list(map(keep, start))
    steps = [
        d.at[first].add(keep(sum(x[first] * s for x, s in zip(row, start, strict=True))))
        for row, d in zip(A, steps, strict=True)
    ]
    flags = None if r.reset is None else jnp.broadcast_to(r.reset, r.b[0].shape)

    def join(one, two):
        if two.reset is None:
            A, b = _composed(one, two)
            return _Part(A, b, None)
        # Not by zeros in A alone, which would make a NaN of an infinite number before the reset. Both operands are
        # replaced, so that the same holds for the derivative.
        cleared = lambda tree: jax.tree.map(lambda x: jnp.where(two.reset, 0, x), tree)
        A, b = _composed(cleared(one._replace(reset=None)), two._replace(A=cleared(two.A)))
        A = jax.tree.map(lambda x, y: jnp.where(two.reset, x, y), two.A, A)
        return _Part(A, b, one.reset | two.reset)

    states = jax.lax.associative_scan(join, _Part(A, steps, flags), reverse=reverse).b
    return [s.astype(d.dtype) for s, d in zip(states, r.b, strict=True)], [s[0 if reverse else -1] for s in states]


def _composed(one, two):
    """A and b of `one`, followed by `two`."""
    A = [[sum(x * one.A[k][j] for k, x in enumerate(row)) for j in range(len(row))] for row in two.A]
    b = [d + sum(x * e for x, e in zip(row, one.b, strict=True)) for row, d in zip(two.A, two.b, strict=True)]
    return A, b
