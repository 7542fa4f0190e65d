"""Unbiased online recurrent optimization."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import SequenceGradient, register
from seqjax.gradients import Memory, depends_on, ravel_float, sign_patterns, weighted_sum


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

    What the state of a reset row owes to the parameters is mixed in first, with J = 1 and signs of its own. Each norm
    has a small number added to it: any ρ > 0 leaves the mean as it is. Unbiased at fixed parameters, with a large
    variance: after an update the carried s̃ and θ̃ are those of the parameters before it. Costs a few forward and
    backward steps, and S + P numbers a row beside the states of the window, S state units and P parameters.
    """

    claim = "unbiased"
    of = "history"

    def init(self, problem, params, state):
        """s̃ = 0, float[S], and θ̃ = 0, like the parameters."""
        s, _, _ = ravel_float(state)
        dtype = np.result_type(*[a.dtype for a in jax.tree.leaves(params)])
        return Memory(rows=(jnp.zeros(s.size, dtype), jax.tree.map(jnp.zeros_like, params)))

    def draw(self, key, problem, params, memory, num_steps):
        """Where ν is 1, bool[1 + T, S]: of the start and of each step."""
        size = memory.rows[0].size
        bits = jax.random.bits(key, (1 + num_steps, -(-size // 8)), jnp.uint8)
        return jnp.unpackbits(bits, axis=1)[:, :size].astype(bool)

    def outcomes(self, problem, params, memory, num_steps):
        """All 2^((1 + T) S) patterns of signs."""
        return sign_patterns(1 + num_steps, memory.rows[0].size)

    def one(self, problem, params, start, memory, xs, weights, noise):
        """Carries s̃ and θ̃ along the window, then sums the gradient."""
        nu_TS = jnp.where(noise, 1, -1).astype(memory.rows[0].dtype)
        s, pull = jax.vjp(lambda params: ravel_float(start(params))[0], params)
        _, others, join = ravel_float(start(params))

        def step(params, s, others, x):
            state, loss = problem.step(params, join(s, others), x)
            s, others, _ = ravel_float(state)
            return (s, loss), others

        def states(params):
            x = jax.tree.map(lambda a: a[0], xs)
            return ravel_float(start(params))[0], step(params, s, others, x)[0][0]

        split, join_theta = _split(depends_on(states, params))

        def body(carry, inputs):
            s, others, s_tilde, theta_tilde = carry
            x, nu = inputs

            def along(s):
                (s, _), after = step(params, s, others, x)
                return s, after

            new, u, after = jax.jvp(along, (s,), (s_tilde.astype(s.dtype),), has_aux=True)
            _, pull = jax.vjp(lambda params: step(params, s, others, x)[0][0], params)
            tilde, rhos = mix(u.astype(nu.dtype), theta_tilde, nu, split(*pull(nu.astype(s.dtype))))
            return (new, after, *tilde), (s, others, s_tilde, rhos)

        s_tilde, theta_tilde = memory.rows
        (w,) = pull(nu_TS[0].astype(s.dtype))
        (s_tilde, theta_tilde), _ = mix(s_tilde, theta_tilde, nu_TS[0], w)
        end, entering = jax.lax.scan(body, (s, others, s_tilde, split(theta_tilde)), (xs, nu_TS[1:]))
        s_TS, others_T, s_tilde_TS, rhos_T = entering

        def steps(params, s_TS):
            return jax.vmap(step, (None, 0, 0, 0))(params, s_TS, others_T, xs)[0]

        (_, losses), (_, c_T) = jax.jvp(lambda s_TS: steps(params, s_TS), (s_TS,), (s_tilde_TS.astype(s_TS.dtype),))
        (_, _), pull = jax.vjp(lambda params: steps(params, s_TS), params)
        weights = weights.astype(losses.dtype)
        left, of_w_T = shares((weights * c_T).astype(nu_TS.dtype), *rhos_T)
        (grads,) = pull(((of_w_T[:, None] * nu_TS[1:]).astype(s.dtype), weights))
        grads = jax.tree.map(lambda g, t: g + left.astype(g.dtype) * t, grads, theta_tilde)
        memory = Memory(rows=(end[2], join_theta(end[3], theta_tilde)))
        return weighted_sum(weights, losses), grads, join(*end[:2]), memory


def mix(u, theta_tilde, nu, w):
    """((s̃, θ̃), (ρ0, ρ1)) of the sum u θ̃ᵀ + ν wᵀ, which is the mean of s̃ θ̃ᵀ."""
    norm_u, norm_theta, norm_nu, norm_w = (_norm(tree, nu.dtype) + 1e-7 for tree in (u, theta_tilde, nu, w))
    rho_0, rho_1 = jnp.sqrt(norm_theta / norm_u), jnp.sqrt(norm_w / norm_nu)
    theta_tilde = jax.tree.map(lambda t, w: t / rho_0.astype(t.dtype) + w / rho_1.astype(t.dtype), theta_tilde, w)
    return (rho_0 * u + rho_1 * nu, theta_tilde), (rho_0, rho_1)


def _split(is_used):
    """Takes apart the leaves of the parameters that feed no state: their θ̃ is zero, and stays so.

    Args:
        is_used: for each leaf, whether it feeds the state.

    Returns:
        `split(tree)`, the leaves that do of a tree like the parameters, and `join(leaves, tree)`, the tree with them put
        in.
    """

    def split(tree):
        return [leaf for leaf, use in zip(jax.tree.leaves(tree), is_used, strict=True) if use]

    def join(leaves, tree):
        new = iter(leaves)
        old, treedef = jax.tree.flatten(tree)
        return jax.tree.unflatten(treedef, [next(new) if use else leaf for leaf, use in zip(old, is_used, strict=True)])

    return split, join


def shares(c_T, rho_0_T, rho_1_T):
    """How Σ_t c_t θ̃_{t-1} is made up of the first θ̃ and of each w: c_t = q_t · s̃_{t-1}.

    All w of a window weighed and added are one product of all steps at once, which takes a fraction of the time that
    adding c_t θ̃_{t-1} to the gradient at each step does.
    """

    def back(of_theta, inputs):
        c, rho_0, rho_1 = inputs
        return c + of_theta / rho_0, of_theta / rho_1

    return jax.lax.scan(back, jnp.zeros_like(c_T[0]), (c_T, rho_0_T, rho_1_T), reverse=True)


def _norm(tree, dtype):
    squares = [jnp.sum(jnp.square(a)).astype(dtype) for a in jax.tree.leaves(tree)]
    return jnp.sqrt(sum(squares, start=jnp.zeros((), dtype)))
