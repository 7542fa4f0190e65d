"""What is known of a path: the derivatives of its steps, and what follows from them."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from seqjax.array_files.arrays import is_key
from seqjax.testing.estimators.chain import Chain, Leaf, Path, floats_of


class Known(NamedTuple):
    """What is known of a path.

    Args:
        path: the path.
        chain: its derivatives.
        at: (states, xs) -> the derivatives at other states or inputs.
        state: the leaves of the state.
        params: the leaves of the gradient.
        weights: the parameters by which it is the gradient, a vector.
        wrong: the leaves that are wrong.
        is_exact: whether the right gradient is the exact one.
    """

    path: Path
    chain: Chain
    at: Callable
    state: Sequence[Leaf]
    params: Sequence[Leaf]
    weights: np.ndarray
    wrong: Sequence[Leaf]
    is_exact: bool


class After(NamedTuple):
    """The derivatives of the losses at the new state of each step, where they read the old state through it alone.

    Args:
        q: by the new state, with a = q J.
        direct: by the parameters, beside what they do to the new state: d = q I + direct.
    """

    q: np.ndarray
    direct: np.ndarray


def by_new_state(chain: Chain) -> After | None:
    """q from a = q J, where J can be inverted; elsewhere, as at a reset, also from the leaves without direct effect."""
    J, I, a, d = chain
    if J.shape[-1] == 0:
        return None
    regular = np.linalg.cond(J) < 1e8
    if not regular.any():
        return None
    q = np.zeros_like(a)
    q[regular] = np.linalg.solve(np.swapaxes(J[regular], -1, -2), a[regular][..., None])[..., 0]
    direct = d - np.einsum("bns,bnsp->bnp", q, I)
    scale = np.abs(d).max() or 1.0
    indirect = np.abs(direct[regular]).max(0) <= 1e-8 * scale
    for b, t in zip(*np.nonzero(~regular), strict=True):
        system, values = np.concatenate([J[b, t], I[b, t][:, indirect]], 1), np.append(a[b, t], d[b, t][indirect])
        q[b, t], _, rank, _ = np.linalg.lstsq(system.T, values)
        if rank < J.shape[-1] or np.abs(q[b, t] @ system - values).max() > 1e-8 * scale:
            return None
    return After(q, d - np.einsum("bns,bnsp->bnp", q, I))


def flat_states(path):
    """The float leaves of the states before each step and after the last one [B, N + 1, S]."""
    floats = [np.moveaxis(a, 1, 0).reshape(a.shape[1], a.shape[0], -1) for a in floats_of(path.states)]
    return np.concatenate(floats, -1) if floats else np.zeros((path.scan.num_rows, path.num_steps + 1, 0))


def resting_inputs(path):
    """Whether all inputs of a step are zero [B, N]."""
    numbers = [np.asarray(a) for a in jax.tree.leaves(path.xs) if not is_key(a)]
    zero = [np.abs(a).reshape(*a.shape[:2], -1).max(-1, initial=0) == 0 for a in numbers]
    return np.stack(zero).all(0).T if zero else np.zeros((path.scan.num_rows, path.num_steps), bool)
