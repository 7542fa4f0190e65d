"""Checks of an `Elementwise`: its units read themselves alone, and what it declares about its recurrence holds."""

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.gradients.contract.problem import Params
from seqjax.models.elementwise import ComplexState, Elementwise, coefficients
from seqjax.testing.compare import Failed, Skipped, assert_close
from seqjax.testing.line import Found
from seqjax.testing.quick_jit import quick_jit

SIZES = (0.0, 0.3, 1.0, 3.0)
"""The sizes of what is added to the initial parameters."""
ROUNDING = 1e-9
"""How far an eigenvalue may lie above 1."""


def check_units(model: Elementwise) -> Found:
    """Checks that some units have the same new state when the states of the other units change.

    In round k the units change whose number has bit k. The numbers of two units differ in some bit, so that each pair
    of units is separated in some round.
    """
    if model.units == 1:
        raise Skipped("it has one unit")
    rng = np.random.default_rng(7)
    u, one, other = _draw(rng, model.width), _state(model, rng), _state(model, rng)
    own = varied(model, 0)

    @quick_jit
    def cell(state):
        return model.cell(u, state, **own)

    want = cell(one), cell(other)
    for bit in range((model.units - 1).bit_length()):
        is_other = (jnp.arange(model.units) >> bit & 1).astype(bool)
        choose = lambda a, b, at=is_other: jnp.where(at, b, a)
        got, expected = cell(jax.tree.map(choose, one, other)), jax.tree.map(choose, *want)
        assert_close(got, expected, "the new state of some units, when the states of other units change, ")
    return Found()


def check_feeds(model: Elementwise) -> Found:
    """Checks that entry i of u, and of the last axis of a parameter, feeds the units i mod hidden alone.

    In round k the entries change whose i has bit k.
    """
    if model.shares:
        raise Skipped("it declares shares = True")
    if model.hidden == 1:
        raise Skipped("all units may read each entry, since hidden = 1")
    if model.units % model.hidden or model.width % model.hidden:
        raise Failed(
            f"{model.units} units and {model.width} entries of u are no multiples of hidden = {model.hidden}: declare "
            "shares = True"
        )
    rng = np.random.default_rng(11)
    state = _state(model, rng)
    one, other = [(_draw(rng, model.width), varied(model, seed)) for seed in (3, 4)]

    @quick_jit
    def cell(u, own):
        return model.cell(u, state, **own)

    want = cell(*one), cell(*other)
    for bit in range((model.hidden - 1).bit_length()):

        def choose(a, b, bit=bit):
            return jnp.where((jnp.arange(a.shape[-1]) % model.hidden >> bit & 1).astype(bool), b, a)

        got, expected = cell(*jax.tree.map(choose, one, other)), jax.tree.map(choose, *want)
        assert_close(got, expected, "the new state of some units, when what other units read changes, ")
    return Found()


def check_affine(model: Elementwise) -> Found:
    """Checks that A s + b, with A and b from derivatives at zero, is what the cell computes for other states."""
    if not model.affine:
        raise Skipped("it does not declare affine = True")
    rng = np.random.default_rng(8)
    u, own, worst = _draw(rng, 3, model.width), varied(model, 1), 0.0
    A, b = quick_jit(lambda u, own: coefficients(model, u, own))(u, own)
    for size in (0.1, 1.0, 10.0):
        state = jax.tree.map(lambda a, size=size: size * jnp.broadcast_to(a, (3, model.units)), _state(model, rng))
        by_A = [sum(x * s for x, s in zip(row, state, strict=True)) + d for row, d in zip(A, b, strict=True)]
        got = list(quick_jit(lambda u, s, own: model.cell(u, s, **own))(u, state, own))
        worst = max(worst, assert_close(got, by_A, f"the new state, when the size of the old one is {size}, "))
    return Found(worst)


def check_complex(model: Elementwise) -> Found:
    """Checks that A of a complex state is the product with a complex number, [[re, -im], [im, re]]."""
    if not (issubclass(model.State, ComplexState) and model.affine):
        raise Skipped("its state is no ComplexState of an affine cell")
    u = _draw(np.random.default_rng(9), 3, model.width)
    ((re, minus_im), (im, also_re)), _ = coefficients(model, u, varied(model, 2))
    what = "the derivatives of the new state by the old one, which must be as for a product of complex numbers, "
    return Found(assert_close([also_re, -minus_im], [re, im], what))


def check_stable(model: Elementwise) -> Found:
    """Checks that no eigenvalue of A is larger than 1, for parameters and inputs of several sizes."""
    if not model.stable:
        raise Skipped("it does not declare stable = True")
    if not model.affine:
        raise Failed("stable = True is a claim about an affine recurrence: declare affine = True, too")
    rng, largest = np.random.default_rng(10), 0.0
    for size in SIZES:
        own = jax.tree.map(lambda a, size=size: a + size * rng.normal(size=a.shape), model.init_cell(jax.random.key(0)))
        A, _ = coefficients(model, _draw(rng, 5, model.width) * (1 + 3 * size), own)
        matrices = np.stack(
            [np.stack([np.broadcast_to(x, (5, model.units)) for x in row], -1) for row in A], -2
        )  # [5, units, L, L]
        largest = max(largest, float(np.abs(np.linalg.eigvals(matrices)).max()))
        if not largest <= 1 + ROUNDING:
            raise Failed(
                f"stable = True, and an eigenvalue of the recurrence has the size {largest:.6g}, when numbers from "
                f"N(0, {size}²) are added to the initial parameters"
            )
    return Found(note=f"largest eigenvalue {largest:.6g}")


def varied(model: Elementwise, seed: int) -> Params:
    """Parameters of a cell as `init_cell` draws them, changed, since constant ones may hide a fault."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda a: a + 0.1 * rng.normal(size=a.shape), model.init_cell(jax.random.key(seed)))


def _draw(rng: np.random.Generator, *shape: int) -> jax.Array:
    return jnp.asarray(rng.normal(size=shape))


def _state(model: Elementwise, rng: np.random.Generator) -> tuple:
    return model.State(*[_draw(rng, model.units) for _ in model.State._fields])
