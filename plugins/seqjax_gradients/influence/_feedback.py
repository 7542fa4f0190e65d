"""Learning signals: the error of the read-out, sent to the units by the weights of the read-out or by others.

In a `Cell` with the read-out o_t = h_t W_hq + b_q let δ_t = ∂l_t/∂o_t. Then

    L_t = δ_t Bᵀ

is the signal for h_t, and B = W_hq gives ∂l_t/∂h_t. With a fixed random B the rule stays local: no unit has to know the
weights by which it is read (Lillicrap et al. 2016, "Random synaptic feedback weights support error backpropagation for
deep learning"). With B = 0 the units learn nothing, and the read-out alone is trained, as a control.
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp

from seqjax import Cell, Error
from seqjax.gradients import mapped, ravel_float, replace_unscored, structure_of
from seqjax.gradients.contract.problem import zero_rows
from seqjax.gradients.influence.by_units import through
from seqjax.models import ModelProblem

Feedback = Literal["true", "random", "none"]
"""By which weights the error of the read-out comes back: the read-out's own weights, random ones, or zeros."""
READOUT = ("W_hq", "b_q")
"""The parameters of the read-out, which do not change the state."""


def check_reads_linearly(strategy: Any, problem: Any, params: Any) -> None:
    """Checks that a problem has a linear read-out of h, and parameters that feed one unit each.

    Raises:
        Error: it is no `Cell` of one layer without embedding and dropout.
    """
    model = problem.own.model if isinstance(problem.own, ModelProblem) else None
    if isinstance(model, Cell) and not model.is_random and structure_of(problem, params).units is not None:
        return
    raise Error(
        f"{strategy!r} takes a `Cell` of one layer, without embedding and dropout, such as "
        "seqjax.models.RNN: it needs the read-out's error, and parameters that feed one unit each; use rtrl or snap, "
        "which take any step"
    )


def signals(trajectory: Any, feedback: Feedback, seed: int) -> Any:
    """L_t for the state after each step, float[T, S].

    Args:
        trajectory: the steps.
        feedback: which B is taken.
        seed: of the random B, whose entries are drawn from N(0, 1 / hidden) and do not change.
    """
    params, steps = trajectory.params, trajectory.steps
    s_TS, others_T, xs = replace_unscored((steps.floats, steps.others, steps.xs), steps.weights != 0)

    def losses(b_T):
        def loss(b, s, others, x):
            return trajectory.step(params | {"b_q": b}, s, others, x)[1]

        return mapped(loss, (0, 0, 0, 0), len(b_T), trajectory.one_by_one)(b_T, s_TS, others_T, xs)

    # o_t = h_t W_hq + b_q, so the derivative by a bias of step t alone is δ_t.
    values, pull = jax.vjp(losses, jnp.broadcast_to(params["b_q"], (len(s_TS), *params["b_q"].shape)))
    (errors_TQ,) = pull(steps.weights.astype(values.dtype))

    W_hq = params["W_hq"]
    if feedback == "random":
        B = jax.random.normal(jax.random.key(seed), W_hq.shape, W_hq.dtype) / len(W_hq) ** 0.5
    else:
        B = W_hq if feedback == "true" else jnp.zeros_like(W_hq)
    model = trajectory.problem.model
    zeros = model.State(*[jnp.zeros(model.hidden, W_hq.dtype)] * len(model.State._fields))

    def of_state(signal):
        return ravel_float(zeros._replace(h=signal))[0]

    return jax.vmap(of_state)(errors_TQ @ B.T)


def follow(M: Any, J_T: Any, L_TS: Any, losses: Any, trajectory: Any, units: Any) -> tuple[Any, Any]:
    """M after the window, and the gradient Σ_t L_t M_t, with M_t = J_t M_{t-1} + I_t; exact for the read-out.

    Args:
        M: the matrix before the window, by units, see `by_units.through`.
        J_T: float[T, L, L, hidden]; it is taken as zero at the steps that begin anew.
        L_TS: the signals for the states after the steps, float[T, L hidden].
        losses: the derivatives of the losses.
        trajectory: the steps.
        units: how M is kept.
    """
    # `through` sums over the matrices before the steps: M_t is the matrix before step t + 1, and before its reset.
    before_TS = jnp.concatenate([jnp.zeros_like(L_TS[:1]), L_TS[:-1]])
    J_T = zero_rows(trajectory.steps.reset, J_T)
    M, grads = through(M, J_T, before_TS, trajectory, units, last=L_TS[-1])
    readout = {name: a if name in READOUT else jax.tree.map(jnp.zeros_like, a) for name, a in losses.direct.items()}
    return M, jax.tree.map(jnp.add, readout, grads)
