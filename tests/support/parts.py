"""The parts of gradients through time, in numpy: from them the gradient of most strategies is a short sum."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from seqjax.gradients import ravel_float
from seqjax.testing.compare import assert_close
from seqjax.testing.proofs.calls import estimates
from seqjax.testing.proofs.cases import Case, T, case
from seqjax.testing.quick_jit import quick_jit


class Derivatives(NamedTuple):
    """The derivatives of each step of a window of B rows, for S state numbers and P parameters.

    Args:
        I: ∂s_t/∂θ, [B, T, S, P].
        J: ∂s_t/∂s_{t-1}, [B, T, S, S].
        direct: ∂l_t/∂θ, [B, T, P].
        q: ∂l_t/∂s_{t-1}, [B, T, S].
        start: the influence of θ on the state in which the window starts, [B, S, P]; 0 for rows that are not reset.
        losses: l_t, [B, T].
        state: the state after the window, leaves [B, ...].
    """

    I: Any
    J: Any
    direct: Any
    q: Any
    start: Any
    losses: Any
    state: Any


def derivatives(c: Case) -> list[Derivatives]:
    """Those of each window of a case."""
    theta, unravel = ravel_pytree(c.params)

    def row(state, xs, reset):
        def initial(theta):
            new = state if c.initial is None else c.initial(unravel(theta))
            return jax.tree.map(lambda new, old: jnp.where(reset, new, old), new, state)

        s, others, join = ravel_float(initial(theta))

        def step(theta, s, others, x):
            after, loss = c.step(unravel(theta), join(s, others), x)
            s, others, _ = ravel_float(after)
            return (s, loss), others

        def body(carry, x):
            (s, loss), others = step(theta, *carry, x)
            return (s, others), (carry, loss)

        end, (entering, losses) = jax.lax.scan(body, (s, others), xs)
        (of_s, of_loss), _ = jax.vmap(jax.jacrev(step, (0, 1), has_aux=True), (None, 0, 0, 0))(theta, *entering, xs)
        start = jax.jacrev(lambda theta: ravel_float(initial(theta))[0])(theta)
        return Derivatives(*of_s, *of_loss, start, losses, join(*end))

    rows, state, found = quick_jit(jax.vmap(row, (0, 1, 0))), c.state, []
    for window in c.windows:
        d = rows(state, window.xs, window.reset)
        found.append(Derivatives(*map(np.array, d[:-1]), d.state))
        state = found[-1].state
    return found


@functools.cache
def derivatives_of(name: str) -> list[Derivatives]:
    return derivatives(case(name))


def parts_by_step(d: Derivatives) -> np.ndarray:
    """The gradient of the loss of step t by the parameters that step u uses, [B, T, 1 + T, P].

    Entry 1 + u is that of step u. Entry 0 is that of the state in which the window starts.
    """
    rows, num_steps, _, num_params = d.I.shape
    found = np.zeros((rows, num_steps, 1 + num_steps, num_params))
    for t in range(num_steps):
        found[:, t, 1 + t], v = d.direct[:, t], d.q[:, t]
        for u in reversed(range(t)):
            found[:, t, 1 + u] = np.einsum("bs,bsp->bp", v, d.I[:, u])
            v = np.einsum("bs,bsr->br", v, d.J[:, u])
        found[:, t, 0] = np.einsum("bs,bsp->bp", v, d.start)
    return found


def shared_gradients(share, name: str = "small", rows=slice(None)) -> list[np.ndarray]:
    """The gradient [P] of each window in which the loss of step t keeps share(t, u) of what step u adds to it.

    u is -1 for the state in which the window starts.
    """
    shares = np.array([[share(t, u) if u <= t else 0 for u in range(-1, T)] for t in range(T)], float)
    windows = zip(case(name).windows, derivatives_of(name), strict=True)
    return [
        np.einsum("tb,tu,btup->p", np.asarray(w.weights)[:, rows], shares, parts_by_step(d)[rows]) for w, d in windows
    ]


def check_shares(strategy, share, name: str = "small") -> None:
    """Compares loss, gradient and state of each window of a case with those for such shares."""
    c = case(name)
    found = estimates(strategy, c)
    wanted = zip(c.windows, derivatives_of(name), shared_gradients(share, name), strict=True)
    for e, (window, d, gradient) in zip(found, wanted, strict=True):
        want = np.sum(np.asarray(window.weights) * d.losses.T), gradient, d.state
        assert_close((e.loss, ravel(e.grads), e.state), want, repr(strategy))


def ravel(tree) -> np.ndarray:
    """All numbers of a tree."""
    return np.concatenate([np.ravel(a) for a in jax.tree.leaves(tree)])
