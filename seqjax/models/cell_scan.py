"""One layer of a `Cell` over time, with a reverse pass of its own, in the form that is fastest on each platform."""

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import jaxpr_as_fun
from jaxtyping import Array, Float

from seqjax.gradients.contract.problem import Params
from seqjax.gradients.steps.unrolling import EdgeWeights, weigh_cotangent, weigh_edge
from seqjax.models.cell_step import Layout, cell_step
from seqjax.models.packing import Packing
from seqjax.models.products import matmul, times, transposed


def scan_cell(
    model: Any,
    dtype: Any,
    W_hh: Float[Array, "hidden width"],
    b_hh: Float[Array, " width"] | None,
    own: Params,
    u_TB: Float[Array, "T B width"],
    start: Any,
    edge_weights: EdgeWeights,
    scale_B: Float[Array, "B hidden"] | None = None,
) -> tuple[Any, Float[Array, "T B hidden"]]:
    """One layer over time, with a faster reverse pass than `jax.lax.scan` has.

    The reverse pass of `jax.lax.scan` would add h_{t-1}ᵀ dv_t to the gradient of W_hh at every step. Here the reverse
    scan carries only the cotangent of the state, and emits the cotangents of u_t and v_t; one matrix product after the
    scan then gives the gradient of W_hh, Σ_t h_{t-1}ᵀ dv_t. The gradients of the cell's own parameters are summed over
    the rows at each step, and after the scan over the steps. It is differentiated in reverse only.

    Each array that is stacked over time for the reverse pass takes a kernel of its own in each step. The time of a
    small network on an accelerator grows with the number of its kernels, so there the arrays of a step are packed into
    one. A CPU has no kernels to launch, and the copies of packing would cost it 3 to 18 % of the time.

    Args:
        model: the `Cell` whose function `cell` is scanned.
        dtype: the dtype to which the operands of the products are rounded; None: the dtype of `W_hh`. The results, and
            the sums in the gradient of W_hh, are in float32 at least.
        W_hh: the recurrent weights.
        b_hh: a bias that is added to v, or None.
        own: the parameters of the cell, by name.
        u_TB: x_t W_xh + b_h of all steps.
        start: the layer's state before the first step, leaves [B, hidden].
        edge_weights: float[T] or float[T, B]; see `seqjax.gradients.unroll`.
        scale_B: constants that multiply h before W_hh (recurrent dropout), or None.

    Returns:
        The state after the last step, and h of every step.
    """
    u = jax.ShapeDtypeStruct(u_TB.shape[1:], u_TB.dtype)
    v = jax.eval_shape(lambda h: _recurrent(W_hh, b_hh, scale_B)(start._replace(h=h)), start.h)
    # Traced once, and not for each platform and each policy of `cell_step`.
    closed, new = jax.make_jaxpr(lambda u, v, old, own: model.cell(u, v, old, **own), return_shape=True)(
        u, v, start, own
    )

    def cell(*args):
        return jax.tree.unflatten(jax.tree.structure(new), jaxpr_as_fun(closed)(*jax.tree.leaves(args)))

    arguments = W_hh, b_hh, own, u_TB, start, edge_weights, scale_B
    way = functools.partial(_scan, cell, dtype)
    return jax.lax.platform_dependent(
        *arguments, cpu=functools.partial(way, False), default=functools.partial(way, True)
    )


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["W_hh", "b_hh", "start", "edge_weights", "scale_B", "fixed", "stacked_TB"],
    meta_fields=["layout", "fields", "packing"],
)
@dataclass(frozen=True)
class _Residuals:
    """What the backward pass of `_scan` reads.

    Args:
        W_hh: as in `scan_cell`, but in the dtype of the products.
        b_hh: as in `scan_cell`, as are `start`, `edge_weights` and `scale_B`.
        fixed: the residuals of the cell that are the same at all steps.
        stacked_TB: fields of the new state, and then what the cell keeps of a step, packed and stacked over time.
        layout: where the vjp of the cell finds its residuals.
        fields: the indices of these fields.
        packing: how they and what is kept are packed.
    """

    W_hh: Any
    b_hh: Any
    start: Any
    edge_weights: Any
    scale_B: Any
    fixed: Any
    stacked_TB: Any
    layout: Layout
    fields: tuple[int, ...]
    packing: Packing

    def states(self) -> dict[int, Array]:
        """The stacked fields of the state after each step, [T, B, hidden], by index."""
        return dict(zip(self.fields, self.packing.unpack(self.stacked_TB)[: len(self.fields)], strict=True))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _scan(cell, dtype, packs, W_hh, b_hh, own, u_TB, start, edge_weights, scale_B):
    # Without a derivative h alone is stacked: XLA could not take it apart from what is packed with it.
    recurrent = _recurrent(W_hh if dtype is None else W_hh.astype(dtype), b_hh, scale_B)

    def body(old, u):
        new = cell(u, recurrent(old), old, own)
        return new, new.h

    return jax.lax.scan(body, start, u_TB)


def _recurrent(W_hh, b_hh, scale_B):
    """A function of the old state: v."""
    # Transposed once, outside of the scan.
    W_hh_transposed = transposed(W_hh)

    def recurrent(old):
        v = times(scaled(old.h, scale_B), W_hh, W_hh_transposed, axis=0)
        return v if b_hh is None else v + b_hh

    return recurrent


def _forward(cell, dtype, packs, W_hh, b_hh, own, u_TB, start, edge_weights, scale_B):
    W_hh = W_hh if dtype is None else W_hh.astype(dtype)
    recurrent = _recurrent(W_hh, b_hh, scale_B)
    u = jax.ShapeDtypeStruct(u_TB.shape[1:], u_TB.dtype)
    step = cell_step(cell, u, jax.eval_shape(recurrent, start), start, own)
    h = start._fields.index("h")
    fields = tuple(sorted({h, *step.layout.fields("old", "new")}))
    packing = Packing.of([*(start[i] for i in fields), *step.kept], packs)

    def body(old, inputs):
        u, edge_weight = inputs
        # The weights change neither a value nor a residual. A second derivative differentiates the residuals, and their
        # tangents come through the same weighted edges.
        if edge_weight is not None:
            old = weigh_edge(old, edge_weight)
        new, kept = step.run(u, recurrent(old), old)
        return new, packing.pack([*(new[i] for i in fields), *kept])

    end, stacked_TB = jax.lax.scan(body, start, (u_TB, edge_weights))
    residuals = _Residuals(
        W_hh, b_hh, start, edge_weights, scale_B, step.fixed, stacked_TB, step.layout, fields, packing
    )
    return (end, residuals.states()[h]), residuals


def _backward(cell, dtype, packs, residuals, cotangents):
    dend, dh_TB = cotangents
    layout, scale_B, edge_weights = residuals.layout, residuals.scale_B, residuals.edge_weights
    W_hh_transposed = transposed(residuals.W_hh)
    states_TB, h = residuals.states(), dend._fields.index("h")

    def shifted(field):
        """A field of the state before each step."""
        # Shifted here, for all steps at once: a stacked field of the old state would be one more copy in each step.
        before_TB = jnp.concatenate([residuals.start[field][None], states_TB[field]])[:-1]
        return before_TB if edge_weights is None else weigh_edge(before_TB, edge_weights)

    h_before_TB = shifted(h)
    old_TB = {field: h_before_TB if field == h else shifted(field) for field in layout.fields("old")}
    # How the cotangents of a step are packed is known when the body has been traced.
    packing = Packing(())

    def body(dnew, inputs):
        nonlocal packing
        stacked, old, dh, edge_weight = inputs
        parts = residuals.packing.unpack(stacked)
        new, kept = dict(zip(residuals.fields, parts, strict=False)), parts[len(residuals.fields) :]
        # h_t reaches the loss through the next step (dnew.h) and through this step's output (dh).
        found = {"fixed": residuals.fixed, "old": old, "new": new, "kept": kept}
        du, dv, dold, d_own = layout.pull_back(found, dnew._replace(h=dnew.h + dh))
        # h_{t-1} enters the step in v as well as in the old state.
        dold = dold._replace(h=dold.h + scaled(times(dv, residuals.W_hh, W_hh_transposed, axis=1), scale_B))
        # A cell that reads the sum of u and v alone has one cotangent for both.
        emitted = [dv] if du is dv else [dv, du]
        packing = Packing.of(emitted, packs)
        dold = dold if edge_weight is None else weigh_cotangent(dold, edge_weight)
        return dold, (packing.pack(emitted), d_own)

    inputs = residuals.stacked_TB, old_TB, dh_TB, edge_weights
    dstart, (emitted_TB, d_own_T) = jax.lax.scan(body, dend, inputs, reverse=True)
    dv_TB, *others = packing.unpack(emitted_TB)
    (du_TB,) = others or (dv_TB,)
    # The input of W_hh at step t is h_{t-1}; sum over t and the rows in one product of [T B, hidden] matrices.
    before, dv = (a.reshape(-1, a.shape[-1]) for a in (scaled(h_before_TB, scale_B), dv_TB))
    low = residuals.W_hh.dtype
    # Without the copy, [560, 512]ᵀ [560, 2048] takes 28 ms on one core of an AMD EPYC, and with it 15 ms.
    dW_hh = matmul(transposed(before.astype(low)), dv.astype(low), dv.dtype)
    db_hh = None if residuals.b_hh is None else dv.sum(0)
    d_own = jax.tree.map(lambda a: a.sum(0), d_own_T)
    # One cotangent for each differentiable argument of `_scan`. Edge weights and dropout have none.
    return dW_hh, db_hh, d_own, du_TB, dstart, None, None


_scan.defvjp(_forward, _backward)


def scaled(h: Array, scale: Array | None) -> Array:
    """h times the factors of a recurrent dropout; None: there is none."""
    return h if scale is None else h * scale
