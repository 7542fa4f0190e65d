"""Unbiased online recurrent optimization."""

from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Interval

from seqjax import SequenceGradient, register
from seqjax.gradients import Memory, Trajectory, check_real, mapped, ravel_float, sign_patterns, weighted_sum
from seqjax.gradients.contract.problem import zero_rows

SMALL = 1e-7
"""What is added to a norm, so that no ρ is zero or infinite."""


@register("gradient", "uoro")
@dataclass(frozen=True)
class UORO(SequenceGradient):
    """Forward-mode gradient through the whole history, from a random matrix of rank one with the right mean.

    RTRL's influence matrix M_t = ds_t/dθ is replaced by s̃_t θ̃_tᵀ, whose expectation it is (Tallec & Ollivier 2018,
    "Unbiased online recurrent optimization", arXiv:1702.05043). With signs ν ∈ {±1}^S drawn anew at each step,

        u = J_t s̃,   w = νᵀ I_t,   J_t = ∂s_t/∂s_{t-1},   I_t = ∂s_t/∂θ
        ρ0 = √(|θ̃| / |u|),   ρ1 = √(|w| / |ν|)
        s̃ ← ρ0 u + ρ1 ν,   θ̃ ← θ̃ / ρ0 + w / ρ1
        dl_t/dθ ≈ (q_t · s̃_{t-1}) θ̃_{t-1} + ∂l_t/∂θ,   q_t = ∂l_t/∂s_{t-1}

    The influence of the parameters on the state of a reset row is mixed in first, with J = 1 and signs of its own. Any
    ρ > 0 that does not change with the sign of ν leaves the mean as it is. So each norm has a small number added to it,
    and within a window |θ̃|² is replaced by its mean over ν and -ν, which follows |θ̃|² ← |θ̃|²/ρ0² + |w|²/ρ1²: then θ̃ is
    not formed at each step.

    With a rank r > 1 the gradient is the mean of the gradients of r such products with signs of their own. The variance
    is 1/r of the variance of one. For the same r, `ok` has a smaller variance where it can be used.

    The gradient is unbiased at fixed parameters, with a large variance; after an update the carried s̃ and θ̃ still
    belong to the parameters before it. It costs a few forward and backward steps, and S + P numbers per row besides the
    states of the window, for S state units and P parameters; and r times as much for a rank of r.
    """

    cites = ("tallec2018unbiased",)

    rank: Annotated[int, Interval(ge=1)] = 1
    """r, the number of products whose mean is taken."""

    claim = "unbiased"
    of = "history"

    def init(self, problem, params, state, x=None):
        """s̃ = 0, float[r, S], and θ̃ = 0, like the parameters with a leading axis [r]."""
        check_real(self, params, state)
        s, _, _ = ravel_float(state)
        dtype = np.result_type(*[a.dtype for a in jax.tree.leaves(params)])
        theta_tilde = jax.tree.map(lambda a: jnp.zeros((self.rank, *a.shape), a.dtype), params)
        return Memory(rows=(jnp.zeros((self.rank, s.size), dtype), theta_tilde))

    def draw(self, key, problem, params, memory, num_steps):
        """Where ν is 1, bool[r, 1 + T, S]: for the start and for each step."""
        rank, size = memory.rows[0].shape
        bits = jax.random.bits(key, (rank, 1 + num_steps, -(-size // 8)), jnp.uint8)
        return jnp.unpackbits(bits, axis=2)[:, :, :size].astype(bool)

    def outcomes(self, problem, params, memory, num_steps):
        """All 2^(r (1 + T) S) patterns of signs."""
        rank, size = memory.rows[0].shape
        return sign_patterns(rank, 1 + num_steps, size)

    def one(self, problem, params, start, memory, xs, weights, noise):
        first, apart = Trajectory.begin(problem, params, start, xs, weights)
        # Resets stay a part of the steps: J is zero there, and I has the influence on the state after the reset.
        trajectory = apart._replace(problem=problem, steps=apart.steps._replace(xs=xs), initial=None)

        def of_product(rows, noise):
            return self._of_product(first, trajectory, start, rows, noise)

        loss, grads, state, rows = mapped(of_product, (0, 0), self.rank, apart.one_by_one)(memory.rows, noise)
        loss, state = jax.tree.map(lambda a: a[0], (loss, state))
        return loss, jax.tree.map(lambda a: a.mean(0), grads), state, Memory(rows=rows)

    def _of_product(self, first, trajectory, start, rows, noise):
        """Loss, gradient, state and what is carried, for one product.

        θ̃ is as large as the parameters, so it is not formed at each step. It is linear in the first θ̃ and in the w of
        all steps, and so is the gradient: `_mixed` records ρ0 and ρ1, and `shares` finds the coefficients. Since
        w_t = ν_tᵀ I_t, a sum of all w is the pull-back of their coefficients times ν.
        """
        nu_TS = jnp.where(noise, 1, -1).astype(rows[0].dtype)
        mixed = _mixed(first, trajectory, start, rows, nu_TS)
        losses, direct, q_TS = mixed.trajectory.of_losses()
        to_params = mixed.trajectory.to_params()

        def combined(of_theta, of_w_T):
            """A multiple of the first θ̃, plus multiples of all w."""
            tree = to_params((of_w_T[:, None] * nu_TS[1:]).astype(q_TS.dtype))
            return jax.tree.map(lambda a, t: a + of_theta.astype(a.dtype) * t, tree, mixed.theta_tilde)

        # The gradient is Σ_t c_t θ̃_{t-1} + w_t ∂l_t/∂θ, with c_t = q_t · s̃_{t-1}.
        c_T = jnp.sum(q_TS.astype(nu_TS.dtype) * mixed.s_tilde_TS, axis=1)
        zero, one = jnp.zeros((), c_T.dtype), jnp.ones((), c_T.dtype)
        grads = jax.tree.map(jnp.add, direct, combined(*shares(zero, c_T, *mixed.rhos_T)))
        theta_tilde = combined(*shares(one, jnp.zeros_like(c_T), *mixed.rhos_T))
        loss = weighted_sum(trajectory.steps.weights, losses)
        return loss, grads, mixed.end, (mixed.s_tilde, theta_tilde)


class Mixed(NamedTuple):
    """A window along which s̃ was carried.

    Args:
        trajectory: the steps, with the states that enter them.
        end: the state after the window.
        theta_tilde: θ̃ before the first step, in which the influence on the start is mixed in.
        s_tilde: s̃ after the window.
        s_tilde_TS: s̃ before each step, [T, S].
        rhos_T: (ρ0, ρ1) of each step, [T] each.
    """

    trajectory: Trajectory
    end: Any
    theta_tilde: Any
    s_tilde: Any
    s_tilde_TS: Any
    rhos_T: Any


def _mixed(first, trajectory, start, rows, nu_TS):
    """Carries s̃ along the window."""
    params, steps = trajectory.params, trajectory.steps
    s_tilde, theta_tilde = rows

    def body(carry, inputs):
        (s, others), s_tilde, theta_norm = carry
        x, reset, nu = inputs
        s_tilde, theta_norm = zero_rows(reset, (s_tilde, theta_norm))  # θ̃ begins anew, too
        # u = J s̃ by forward mode, w = νᵀ I by reverse mode; neither J nor I is formed, and of w only the norm.
        after, u, others_after = jax.jvp(
            lambda s: trajectory.step(params, s, others, x)[0], (s,), (s_tilde.astype(s.dtype),), has_aux=True
        )
        _, pull = jax.vjp(lambda params: trajectory.after(params, s, others, x), params)
        w_norm = _norm(pull(nu.astype(s.dtype)), nu.dtype)
        next_s_tilde, theta_norm, rhos = mix(u.astype(nu.dtype), theta_norm, nu, w_norm)
        if reset is not None:  # the new θ̃ has no share of the old one, see `shares`
            rhos = jnp.where(reset, jnp.inf, rhos[0]), rhos[1]
        return ((after, others_after), next_s_tilde, theta_norm), ((s, others), s_tilde, rhos)

    s, pull_start = jax.vjp(lambda params: ravel_float(start(params))[0], params)
    (w,) = pull_start(nu_TS[0].astype(s.dtype))
    s_tilde, _, rhos = mix(s_tilde, _norm(theta_tilde, nu_TS.dtype), nu_TS[0], _norm(w, nu_TS.dtype))
    theta_tilde = jax.tree.map(lambda t, w: _over(t, rhos[0]) + _over(w, rhos[1]), theta_tilde, w)
    carry = first, s_tilde, _norm(theta_tilde, nu_TS.dtype)
    (end, s_tilde, _), (entering, s_tilde_TS, rhos_T) = jax.lax.scan(body, carry, (steps.xs, steps.reset, nu_TS[1:]))
    return Mixed(trajectory.recorded(*entering), trajectory.join(*end), theta_tilde, s_tilde, s_tilde_TS, rhos_T)


def mix(u, theta_norm, nu, w_norm):
    """The random vector s̃ after a step, the norm that is expected of θ̃ then, and (ρ0, ρ1).

    (ρ0 u + ρ1 ν)(θ̃ / ρ0 + w / ρ1)ᵀ is u θ̃ᵀ + ν wᵀ plus two products that change their sign with ν, so that their mean
    is zero. ρ0 and ρ1 give the two factors of each product equal norms, for which the variance is smallest.

    Args:
        u: float[S].
        theta_norm: |θ̃|, float[].
        nu: ν, float[S].
        w_norm: |w|, float[].
    """
    norm_u, norm_nu = _norm(u, nu.dtype) + SMALL, _norm(nu, nu.dtype) + SMALL
    rho_0, rho_1 = jnp.sqrt((theta_norm + SMALL) / norm_u), jnp.sqrt((w_norm + SMALL) / norm_nu)
    return rho_0 * u + rho_1 * nu, jnp.hypot(theta_norm / rho_0, w_norm / rho_1), (rho_0, rho_1)


def shares(last, c_T, rho_0_T, rho_1_T):
    """The coefficients of the first θ̃, float[], and of each step's w, float[T], in Σ_t c_t θ̃_{t-1} + last θ̃_T.

    θ̃_t = θ̃_{t-1} / ρ0_t + w_t / ρ1_t. Let a_t be the share of θ̃_t in the terms that follow step t, a_T = last. Then
    a_{t-1} = c_t + a_t / ρ0_t, and the share of w_t is a_t / ρ1_t. At a reset ρ0_t is infinite, so that a finite a_t
    counts nothing before it.
    """

    def back(a, inputs):
        c, rho_0, rho_1 = inputs
        return c + a / rho_0, a / rho_1

    return jax.lax.scan(back, last, (c_T, rho_0_T, rho_1_T), reverse=True)


def _over(a, rho):
    return a / rho.astype(a.dtype)


def _norm(tree, dtype):
    squares = [_sum(jnp.square(a)).astype(dtype) for a in jax.tree.leaves(tree)]
    return jnp.sqrt(sum(squares, start=jnp.zeros((), dtype)))


def _sum(a):
    # On a CPU, a sum to one number adds the numbers one after the other. A sum over the first axis adds many columns at
    # once. The barrier keeps XLA from merging the two sums: .85 of the time of a step with 8 or 32 rows.
    return a.sum() if a.ndim < 2 else jax.lax.optimization_barrier(a.sum(0)).sum()
