"""Kernel RNN learning."""

from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
from annotated_types import Interval

from seqjax import SequenceGradient, register
from seqjax.gradients import (
    Memory,
    Trajectory,
    check_real,
    mapped,
    ravel_float,
    sign_patterns,
    units_of,
    weighted_sum,
    where_rows,
)
from seqjax.gradients.contract.problem import zero_rows
from seqjax.gradients.influence.by_units import through


class Kernel(NamedTuple):
    """What all rows share: means over rows and devices.

    Args:
        A: float[S, S], the effect of a perturbation of state number i on number k.
        gamma: float[S], the share of an effect that is lost in a step.
    """

    A: Any
    gamma: Any


class Traces(NamedTuple):
    """What each row carries.

    Args:
        B: the eligibility traces, leaves [L, n, hidden].
        perturbed: float[S], the state of the perturbed copy.
        omega: float[S], the trace of the perturbations, in units of sigma.
        slope: float[S], the derivative of omega by gamma.
    """

    B: Any
    perturbed: Any
    omega: Any
    slope: Any


@register("gradient", "kernl")
@dataclass(frozen=True)
class KeRNL(SequenceGradient):
    """RTRL with a learned kernel A (1 - γ)^k in the place of the product of k Jacobians.

        B_t[p] = (1 - γ_i) B_{t-1}[p] + ∂s_t[i]/∂θ_p        i = i(p), the state number that parameter p feeds
        dl_t/dθ_p ≈ Σ_k ∂l_t/∂s_{t-1}[k] A[k, i] B_{t-1}[p] + ∂l_t/∂θ_p

    (Roth, Kanitscheider & Fiete 2019, "Kernel RNN Learning (KeRNL)", ICLR). A and γ are learned from a copy s̃ of the
    network, which reads the same inputs and whose state is perturbed at each step by signs ζ_t ∈ {±1}^S times σ:

        s̃_t = f(θ, s̃_{t-1}, x_t) + σ ζ_t        Ω_t = (1 - γ) Ω_{t-1} + ζ_t        Γ_t = (1 - γ) Γ_{t-1} - Ω_{t-1}
        e_t = A Ω_t - (s̃_t - s_t) / σ
        A ← A - rate · mean of e_t Ω_tᵀ / (1 + |Ω_t|²)
        γ ← γ - rate · mean of Aᵀ e_t ∘ Γ_t / (1 + Σ_i |A_i|² Γ_t[i]²)

    Γ is dΩ/dγ, and A_i is column i of A. The means are over the steps of a window and over all rows, so that A and γ
    change once per window, and all rows share them. Steps after the last scored one of a row in the window count as
    padding: they add zero to these means. s̃, Ω, Γ and B belong to a row. Where a sequence begins anew, s̃ is the
    initial state, and the others are zero. At first A is the identity, and the gradient is the same as with `rflo` and
    a leak of γ. γ is kept within [0, 1] where it is used.

    There are five differences to the paper. It learns A and γ at every step, and by gradient descent without the
    divisors, which make the stable rates the same for networks of all sizes (normalised LMS). Its kernel is exp(-γ k),
    and its perturbations are normal; signs can be enumerated. The loss of a step is a function of the state before it,
    so that the last J on the way to a loss is whole, as in `rflo`. The code of Marschall, Cho & Savin 2020 ("A unified
    framework of online learning algorithms for training recurrent neural networks", JMLR 21:135) has the kernel of 1 -
    γ, too. It adds a perturbation to Ω one step before it perturbs the copy, so that A is fitted without the first
    effect, the effect of a perturbation on its own unit. Here both happen at the same step, like the ∂s_t/∂θ in B.

    The problem must have parameters that feed one unit each: a `Cell` or an `Elementwise` of one layer without
    embedding. A unit may have several numbers, such as h and c of an LSTM. Each of them has its own γ and its own
    column of A, and a trace of each parameter of the unit. Between resets only the dynamics of the network bring the
    copy back to it, so that its states must not be chaotic. A unit whose state changes its sign at each step has a
    kernel that no γ in [0, 1] gives.

    A window costs one further forward pass, S² multiplications per step, and the gradient of `rflo`. A row keeps 3 S
    numbers besides the traces. The claim is biased.
    """

    cites = ("roth2019kernel", "marschall2020unified")

    gamma: Annotated[float, Interval(ge=0, le=1)] = 0.2
    """The first value of every γ."""
    rate: Annotated[float, Interval(ge=0, lt=1)] = 0.5
    """The learning rate of A and γ: the share of the error of a step that one update removes, if there is only one
    step."""
    sigma: Annotated[float, Interval(gt=0)] = 0.001
    """σ, the size of the perturbations."""

    claim = "biased"
    of = "history"
    argnums = (0,)

    def init(self, problem, params, state, x=None):
        """A = 1, and the first γ; B, Ω and Γ are zero, and the copy is in the state of the network."""
        check_real(self, params, state)
        units = units_of(self, problem, params)
        s, _, _ = ravel_float(state)
        zeros, gamma = jnp.zeros(s.size, float), jnp.full(s.size, self.gamma, float)
        return Memory(Kernel(jnp.eye(s.size), gamma), Traces(units.zeros(params), s, zeros, zeros))

    def draw(self, key, problem, params, memory, num_steps):
        """Where ζ is 1, bool[T, S]."""
        return jax.random.bernoulli(key, shape=(num_steps, memory.rows.omega.size))

    def outcomes(self, problem, params, memory, num_steps):
        """All 2^(T S) patterns of signs."""
        return sign_patterns(num_steps, memory.rows.omega.size)

    def one(self, problem, params, start, memory, xs, weights, noise):
        """Runs the network and its copy, follows B along the window, then learns A and γ from all steps at once."""
        A, gamma = memory.shared
        # The kernel is averaged over devices before it is clipped, so that two devices give the same kernel as one.
        gamma = jnp.clip(gamma, 0, 1)
        first, trajectory = Trajectory.begin(problem, params, start, xs, weights)
        signs_TS = jnp.where(noise, 1, -1).astype(A.dtype)
        trajectory, (omega_TS, slope_TS, effect_TS), end, after = self._run(
            first, trajectory, memory.rows, 1 - gamma, signs_TS
        )
        losses, direct, q_TS = trajectory.of_losses()

        units = units_of(self, problem, params)
        decay_LLH = jnp.eye(units.count, dtype=A.dtype)[..., None] * (1 - gamma).reshape(-1, 1, units.hidden)
        decay_T = jnp.broadcast_to(decay_LLH, (len(weights), *decay_LLH.shape))
        decay_T, signal_TS = zero_rows(trajectory.steps.reset, (decay_T, q_TS.astype(A.dtype) @ A))
        B, grads = through(memory.rows.B, decay_T, signal_TS, trajectory, units)
        grads = jax.tree.map(jnp.add, direct, grads)

        # Steps after the last scored one are padding, or a row that is padding as a whole.
        counts_T = jax.lax.cummax((weights != 0).astype(jnp.int32), reverse=True) > 0
        e_TS, T = jnp.where(counts_T[:, None], omega_TS @ A.T - effect_TS, 0), len(weights)
        power_T1 = 1 + jnp.sum(omega_TS**2, 1, keepdims=True)
        power_of_slopes_T1 = 1 + slope_TS**2 @ jnp.sum(A**2, 0)[:, None]
        kernel = Kernel(
            A - self.rate / T * (e_TS / power_T1).T @ omega_TS,
            gamma - self.rate / T * jnp.sum(e_TS @ A * slope_TS / power_of_slopes_T1, 0),
        )
        return weighted_sum(weights, losses), grads, end, Memory(kernel, after._replace(B=B))

    def _run(self, first, trajectory, traces, decay, signs_TS):
        """Runs the network and its copy side by side.

        Returns:
            The trajectory with its states; Ω_t, Γ_t and (s̃_t - s_t) / σ after each step, [T, S]; the state after the
            window; the traces after it, but for B.
        """
        params, steps = trajectory.params, trajectory.steps
        both = mapped(trajectory.step, (None, 0, None, None), 2, trajectory.one_by_one)

        def body(carry, inputs):
            x, reset, signs = inputs
            if reset is not None:
                s, others, _ = ravel_float(trajectory.initial(params))
                carry = where_rows(reset, (jnp.stack([s, s]), others, *jax.tree.map(jnp.zeros_like, carry[2:])), carry)
            pair, others, omega, slope = carry
            (after, others_after), _ = both(params, pair, others, x)
            after = after.at[1].add((self.sigma * signs).astype(after.dtype))
            omega, slope = decay * omega + signs, decay * slope - omega
            effect = (after[1] - after[0]).astype(omega.dtype) / self.sigma
            carry = after, jax.tree.map(lambda a: a[0], others_after), omega, slope
            return carry, ((pair[0], others), (omega, slope, effect))

        s, others = first
        carry = jnp.stack([s, traces.perturbed]), others, traces.omega, traces.slope
        carry, (entering, learned_from) = jax.lax.scan(body, carry, (steps.xs, steps.reset, signs_TS))
        pair, others, omega, slope = carry
        end, after = trajectory.join(pair[0], others), Traces(None, pair[1], omega, slope)
        return trajectory.recorded(*entering), learned_from, end, after
