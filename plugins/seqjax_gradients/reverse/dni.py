"""Synthetic gradients, by decoupled neural interfaces."""

from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
from annotated_types import Interval

from seqjax import Gradient, register
from seqjax.gradients import (
    Estimate,
    Memory,
    check_real,
    combine,
    over_rows,
    partition_float,
    ravel_float,
    scored_steps,
    weighted_sum,
)


class Synthetic(NamedTuple):
    """What all rows share. Each entry is a running mean over rows, devices and windows.

    Args:
        W: float[S, S + 1], with which c is predicted.
        squared_error: the mean of ‖c(s_0) - target‖².
        squared_target: the mean of ‖target‖².
    """

    W: Any
    squared_error: Any
    squared_target: Any


@register("gradient", "dni")
@dataclass(frozen=True)
class DNI(Gradient):
    """The gradient of a window, with a prediction of what the losses after the window add to it.

        c(s) = u W [s, 1]                           predicts the gradient of all later losses by the state s
        Σ_t dl_t/dθ ≈ ∂L/∂θ + c(s_T) ∂s_T/∂θ        L = Σ_t l_t, for a window from s_0 to s_T
        target = ∂L/∂s_0 + c(s_T) ∂s_T/∂s_0
        W ← W + rate · mean over rows of (target / u - W [s_0, 1]) [s_0, 1]ᵀ / ‖[s_0, 1]‖²

    (Jaderberg et al. 2017, "Decoupled neural interfaces using synthetic gradients", arXiv:1608.05343; Czarnecki et al.
    2017, "Understanding synthetic gradients and decoupled neural interfaces", arXiv:1703.00522). One reverse pass with
    the cotangent c(s_T) at the end of the window gives the gradient and the target. The target contains the prediction
    itself, as in temporal-difference learning, so that c learns to look beyond the next window. With windows of one
    step this is the DNI of Marschall, Cho & Savin 2020 ("A unified framework of online learning algorithms for training
    recurrent neural networks", JMLR 21:135). The loss of a step is a function of the state before it, so that c(s_T)
    includes the first loss that reads s_T. W is zero at first, and the gradient is then the same as with `full`.

    u is the mean weight of a row's scored losses. All weights are divided by the number of losses in the batch, so that
    cotangents are small. The target is divided by u, and the step by the squared norm of what W reads (normalised LMS).
    So the fixed point of W does not depend on the number of losses, and for a fixed target all rates below 2 are
    stable, for states of any size.

    - A row that is reset at the start of the window does not train W. Its s_0 is an initial state, and c is used at
      states in which a window ends. Where a sequence ends with a window, c predicts losses that do not follow.
    - A reset inside of a window ends what s_0 acts on, so that W is trained with the losses before it. If the first
      step is reset, the target is zero.
    - A row without a scored loss counts as padding: it adds nothing to the gradient, and does not train W. So each
      window needs a loss. If only the last of many windows has one, W does not learn.
    - Steps after the last scored one of a row count like all others: c(s_T) is taken after them. Their inputs have an
      effect, unless W is zero.

    There are three differences to the code of Marschall et al. Their c also reads the target of the step. They update W
    before the gradient uses it. And they bootstrap from a copy of W that is renewed at every fifth step.

    The gradients of the windows add up to the gradient of the whole sequence if c is right; the claim is biased, since
    c is linear and learned. It costs as much as `full`, and S (S + 1) numbers in all, for S state numbers.
    """

    cites = ("jaderberg2017decoupled", "czarnecki2017understanding", "marschall2020unified")

    rate: Annotated[float, Interval(ge=0, lt=2)] = 0.1
    """The learning rate of W: the share of the error at a state that one update removes, if all rows are in it."""
    forget: Annotated[float, Interval(gt=0, le=1)] = 0.1
    """The share of the running means in the metric that a window replaces."""

    claim = "biased"
    of = "history"
    argnums = (0, 1, 2)
    metric_names = ("gradient_synthetic_error",)

    def init(self, problem, params, state, x=None):
        """W = 0, and nothing measured."""
        check_real(self, (), state)
        size = ravel_float(state)[0].size
        return Memory(shared=Synthetic(jnp.zeros((size, size + 1), float), jnp.zeros((), float), jnp.zeros((), float)))

    def estimate(self, problem, params, start, memory, batch, noise):
        W, num_rows = memory.shared.W, batch.weights.shape[1]
        s_0, pull_start, others = jax.vjp(lambda params: partition_float(start(params)), params, has_aux=True)

        def read(tree):
            """[s, 1] of each row, from the float leaves of its state."""
            s_BS = over_rows(lambda row: ravel_float(row)[0], (0,), num_rows)(tree).astype(W.dtype)
            return jnp.concatenate([s_BS, jnp.ones((num_rows, 1), W.dtype)], 1)

        def run(params, s_0):
            xs, scored = problem.read(params, batch.xs), scored_steps(batch.weights)
            end, losses, outputs = problem.unroll_with_outputs(params, combine(s_0, others), xs, None, scored)
            return (weighted_sum(batch.weights, losses), read(end)[:, :-1]), (end, outputs)

        (loss, s_T), pull, (end, outputs) = jax.vjp(run, params, s_0, has_aux=True)
        u_B1 = _mean_weight(batch.weights, W.dtype)[:, None]
        c_T = u_B1 * (jnp.concatenate([s_T, jnp.ones_like(u_B1)], 1) @ W.T)
        grads, q = pull((jnp.ones_like(loss), c_T))
        grads = jax.tree.map(jnp.add, grads, pull_start(q)[0])

        trains_B1 = u_B1 != 0
        if batch.reset is not None:
            trains_B1 &= ~batch.reset[:, None]
        before, target = read(s_0), read(q)[:, :-1] / jnp.where(u_B1 == 0, 1, u_B1)
        error = jnp.where(trains_B1, target - before @ W.T, 0)
        step = (error / jnp.sum(before**2, 1, keepdims=True)).T @ before / num_rows

        def remember(old, new):
            return (1 - self.forget) * old + self.forget * jnp.sum(new**2) / num_rows

        _, squared_error, squared_target = memory.shared
        shared = Synthetic(
            W + self.rate * step,
            remember(squared_error, error),
            remember(squared_target, jnp.where(trains_B1, target, 0)),
        )
        return Estimate(loss, grads, end, memory._replace(shared=shared), outputs)

    def metrics(self, memory):
        """√(mean ‖c(s_0) - target‖² / mean ‖target‖²), which is 1 for c = 0.

        It is NaN until a target other than zero has been measured, such as before the first loss that depends on s_0.
        """
        _, squared_error, squared_target = memory.shared
        return {"gradient_synthetic_error": jnp.sqrt(squared_error / squared_target)}


def _mean_weight(weights, dtype):
    """u: the mean weight of each row's scored losses, float[B]; 0 in a row without a scored loss."""
    weights = jnp.asarray(weights, dtype)
    return weights.sum(0) / jnp.maximum(jnp.sum(weights != 0, 0, dtype=dtype), 1)
