"""Readings of a wrong gradient that change the derivatives of the steps: J, by the state, and I, by the parameters."""

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import numpy as np

from seqjax.array_files.arrays import is_key
from seqjax.gradients.steps.precision import is_float
from seqjax.testing.estimators.chain import EXACT, Chain, Leaf
from seqjax.testing.estimators.known import Known, flat_states


def step_readings(known: Known) -> Iterator[tuple[str, Chain]]:
    """Readings that change the derivatives of the steps."""
    chain = known.chain
    J = chain.J
    yield "the Jacobian of the state is transposed", chain._replace(J=np.swapaxes(J, -1, -2))
    if any(leaf.shape and leaf.at.stop - leaf.at.start > 1 for leaf in known.state) or len(known.state) > 1:
        kept = J * np.eye(J.shape[-1])
        yield "of the Jacobian of the state only the diagonal is kept", chain._replace(J=kept)
        yield "the diagonal of the Jacobian of the state is missing", chain._replace(J=J - kept)
        yield "the identity is missing from the Jacobian of the state", chain._replace(J=J - np.eye(J.shape[-1]))
    yield from _of_the_parts_of_the_state(known)
    yield from _of_the_weights(known)
    yield from _of_the_function(known)
    yield from _of_the_place(known)
    yield from _of_the_resets(known)


def _of_the_parts_of_the_state(known):
    """Blocks of J, where the state has several leaves."""
    J = known.chain.J
    across = np.zeros(J.shape[-2:], bool)
    for old in known.state if len(known.state) > 1 else ():
        J_without, a_without = J.copy(), known.chain.a.copy()
        J_without[..., old.at], a_without[..., old.at] = 0, 0
        yield f"the state {old.name} is detached before each step", known.chain._replace(J=J_without, a=a_without)
    for new in known.state:
        for old in known.state:
            without = J.copy()
            without[..., new.at, old.at] = 0
            if len(known.state) > 1:
                effect = f"the effect of the state {old.name} on {'itself' if new == old else 'the state ' + new.name}"
                yield f"{effect} is missing from the Jacobian", known.chain._replace(J=without)
            if new != old:
                across[new.at, old.at] = True
    if len(known.state) > 1:
        text = "the effects of the parts of the state on each other are missing from the Jacobian"
        yield text, known.chain._replace(J=np.where(across, 0, J))


class Acting(NamedTuple):
    """Weights W that act on a leaf h of the state as W h.

    Args:
        leaf: the weights, in the parameters.
        of: the leaf of the state.
        V: the derivative of the new state by the product W h, [B, N, S, n].
        W: the weights as a matrix [n, m].
        times: values [B, N, m] -> the derivative of the new state by the weights, if h had these values.
    """

    leaf: Leaf
    of: Leaf
    V: np.ndarray
    W: np.ndarray
    times: Callable[[np.ndarray], np.ndarray]


def _acting(known: Known) -> Iterator[Acting]:
    """The weights that act on the state.

    The derivative by W is V times h, a matrix of rank one, so that V can be read from it. Where h is zero V cannot be
    read; without a bias it is taken for zero, since at a start and at a reset nothing is carried that it could act on.
    """
    states = flat_states(known.path)[:, :-1]  # [B, N, S]
    zero = jax.tree.map(lambda a: np.zeros_like(a) if is_float(a) else a, known.path.before)
    at_zero = known.at(zero, known.path.xs).I
    for leaf in known.params:
        if np.abs(at_zero[..., leaf.at]).max(initial=0) > 0:  # a bias, or weights that act on something else
            continue
        shape = tuple(n for n in leaf.shape if n > 1)  # [1, n] is a vector
        by_leaf = known.chain.I[..., leaf.at].reshape(*known.chain.I.shape[:3], *shape)
        weights = known.weights[leaf.at].reshape(shape)
        largest = np.abs(by_leaf).max()
        if largest == 0 or weights.size < 2:
            continue
        for of in known.state:
            h = states[..., of.at]
            for read, write, W in FORMS.get(len(shape), ()):
                W = W(weights)
                if W.shape[1] != h.shape[-1]:
                    continue
                times = lambda value, V, write=write: np.einsum(write, V, value)
                V = _quotient(np.einsum(read, by_leaf, h), h, len(shape))
                if np.abs(times(h, V) - by_leaf).max() <= EXACT * largest:
                    yield Acting(leaf, of, V, W, functools.partial(times, V=_with_bias(known, V)))
                    break


FORMS: dict[int, tuple] = {
    2: (
        ("bnsij,bnj->bnsi", "bnsi,bnj->bnsij", lambda a: a),  # W h, as in PyTorch
        ("bnsji,bnj->bnsi", "bnsi,bnj->bnsji", lambda a: a.T),  # h W
    ),
    1: (("bnsj,bnj->bnsj", "bnsj,bnj->bnsj", np.diag),),  # w h, unit by unit
}
"""For matrices and vectors: how V times |h|² is read from the derivative, how the derivative follows from V, and W."""


def _quotient(product, h, rank):
    """V from V times |h|², or unit by unit; zero where h is."""
    square = h[..., None, :] ** 2 if rank == 1 else np.sum(h**2, -1)[..., None, None]
    return np.where(square > 0, product / np.where(square > 0, square, 1), 0)


def _with_bias(known, V):
    """V, where it could not be read, from the derivative by a bias that is added to W h, if there is one."""
    seen = np.abs(V).max((-1, -2)) > 0
    for leaf in known.params:
        by_leaf = known.chain.I[..., leaf.at]
        if by_leaf.shape == V.shape and np.abs(by_leaf - V)[seen].max(initial=0) <= EXACT * np.abs(V).max():
            return by_leaf
    return V


def _of_the_weights(known):
    """Weights that act on the state: their transposes, and the paths through them."""
    chain, acting = known.chain, list(_acting(known))

    def through(each, W):
        J = np.zeros_like(chain.J)
        J[..., each.of.at] = each.V @ W
        return J

    later = flat_states(known.path)[:, 1:]
    for each in acting:
        name, without = each.leaf.name, chain.J - through(each, each.W)
        if np.abs(without).max() > EXACT:  # else nothing goes back, which is a reading of its own
            yield f"the path through {name} is missing from the Jacobian", chain._replace(J=without)
        if each.W.shape[0] == each.W.shape[1] and not np.allclose(each.W, each.W.T):
            yield f"{name} is transposed in the Jacobian", chain._replace(J=without + through(each, each.W.T))
        I = chain.I.copy()
        I[..., each.leaf.at] = each.times(later[..., each.of.at]).reshape(*I.shape[:3], -1)
        text = f"the derivative of the state by {name} has the state after the step in place of the one before it"
        yield text, chain._replace(I=I)
    if acting:
        paths = sum(through(each, each.W) for each in acting)
        if np.abs(chain.J - paths).max() > EXACT:
            text = "the Jacobian has the paths through the weights alone, without a leak or a gate that keeps the state"
            yield text, chain._replace(J=paths)
            yield "the paths through the weights are missing from the Jacobian", chain._replace(J=chain.J - paths)


def _of_the_function(known):
    """The derivative of a function that acts on each unit, such as 1 - tanh², where it is the last of a step."""
    D = _derivative_of_function(known)
    if D is None:
        return
    J, I = known.chain.J, known.chain.I
    plain_J, plain_I = J / D[..., None], I / D[..., None]
    name = "the derivative of the function of the units, such as 1 - tanh²,"
    yield f"{name} is missing from the Jacobian of the state", known.chain._replace(J=plain_J)
    yield f"{name} is missing from the derivative of the state by the parameters", known.chain._replace(I=plain_I)
    yield f"{name} is missing from the step", known.chain._replace(J=plain_J, I=plain_I)


def _derivative_of_function(known):
    """D [B, N, S], where h = f(W h + ...) unit by unit: V of a matrix W, if it is diagonal and all of J is V W."""
    for each in _acting(known):
        V, n = each.V, each.V.shape[-1]
        J = np.zeros_like(known.chain.J)
        J[..., each.of.at] = V @ each.W
        seen = np.abs(V).max((-1, -2)) > 0  # V is zero where h is
        if len(each.leaf.shape) != 2 or n != V.shape[-2] or np.abs(J - known.chain.J)[seen].max(initial=0) > EXACT:
            continue
        diagonal = np.einsum("bnii->bni", V)
        is_diagonal = np.abs(V - diagonal[..., None] * np.eye(n)).max() <= EXACT
        if is_diagonal and (np.abs(diagonal[seen]) > EXACT).all() and np.abs(diagonal[seen] - 1).max(initial=0) > EXACT:
            filled = np.einsum("bnii->bni", _with_bias(known, V))
            return np.where(np.abs(filled) > EXACT, filled, 1)
    return None


def _of_the_place(known):
    """Derivatives that are taken at the state after the step."""
    path = known.path
    after = known.at(jax.tree.map(lambda a: a[1:], path.states), path.xs)
    chain = known.chain
    text = "is taken at the state after the step, and not at the one before it"
    yield f"the Jacobian of the state {text}", chain._replace(J=after.J)
    yield f"the derivative of the state by the parameters {text}", chain._replace(I=after.I)
    yield f"the derivative of the step {text}", chain._replace(J=after.J, I=after.I)
    # A rule that goes on with the input before cannot be tried at the first step, which has none.
    for by, name in ((1, "after"), (-1, "before")):
        order = np.roll(np.arange(path.num_steps), -by)
        xs = jax.tree.map(lambda a, order=order: a[order], path.xs)
        moved = known.at(path.before, xs)
        unknown = -1 if by > 0 else 0
        text = f"is taken with the input of the step {name}"
        for what, change in (
            ("the derivative of the state by the parameters", {"I": moved.I}),
            ("the derivative of the step", {"I": moved.I, "J": moved.J}),
        ):
            change = {key: value.copy() for key, value in change.items()}
            for value in change.values():
                value[:, unknown] = np.nan
            yield f"{what} {text}", chain._replace(**change)


def _of_the_resets(known):
    """What is carried across a step at which the state is reset."""
    J, I = known.chain.J, known.chain.I
    zero = np.abs(J).max((-1, -2)) == 0  # [B, N]
    if not zero.any() or zero.all():
        return
    lost = I.copy()
    lost[zero] = 0
    yield "the influence is set to zero after the step of a reset, not before it", known.chain._replace(I=lost)
    names, without = _without_flags(known.path, zero)
    if not names:
        return

    def reset(a):
        return np.where(zero.T.reshape(zero.T.shape + (1,) * (a.ndim - 2)), 0, a) if is_float(a) else a

    states = jax.tree.map(reset, known.path.before)
    plain = known.at(states, without)
    stale = known.chain._replace(J=plain.J)
    yield f"the influence is not set to zero where the state is reset ({', '.join(names)})", stale
    late = plain.J.copy()
    late[:, 1:][zero[:, :-1]] = 0
    yield "the influence is set to zero one step after the reset", known.chain._replace(J=late)
    early = plain.J.copy()
    early[:, :-1][zero[:, 1:]] = 0
    yield "the influence is set to zero one step before the reset", known.chain._replace(J=early)


def _without_flags(path, zero):
    """The flags that are set exactly where the state is reset, and the inputs without them."""
    names, leaves = [], []
    for where, leaf in jax.tree.leaves_with_path(path.xs):
        value = np.zeros(0) if is_key(leaf) else np.asarray(leaf)
        is_flag = value.shape == zero.T.shape and np.array_equal(value != 0, zero.T) and set(np.unique(value)) <= {0, 1}
        if is_flag:
            names.append("x" + jax.tree_util.keystr(where))
        leaves.append(np.zeros_like(leaf) if is_flag else leaf)
    return names, jax.tree.unflatten(jax.tree.structure(path.xs), leaves)
