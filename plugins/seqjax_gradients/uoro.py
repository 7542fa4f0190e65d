"""Unbiased online recurrent optimization."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import SequenceGradient, register
from seqjax.gradients import Memory, depends_on, ravel_float, replace_unscored, sign_patterns, split_step, weighted_sum

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

    The influence of the parameters on the state of a reset row is mixed in first, with J = 1 and signs of its own. Each
    norm has a small number added to it: any ρ > 0 leaves the mean as it is. The gradient is unbiased at fixed
    parameters, with a large variance; after an update the carried s̃ and θ̃ still belong to the parameters before it.
    It costs a few forward and backward steps, and S + P numbers per row besides the states of the window, for S state
    units and P parameters.
    """

    claim = "unbiased"
    of = "history"

    def init(self, problem, params, state):
        """s̃ = 0, float[S], and θ̃ = 0, like the parameters."""
        s, _, _ = ravel_float(state)
        dtype = np.result_type(*[a.dtype for a in jax.tree.leaves(params)])
        return Memory(rows=(jnp.zeros(s.size, dtype), jax.tree.map(jnp.zeros_like, params)))

    def draw(self, key, problem, params, memory, num_steps):
        """Where ν is 1, bool[1 + T, S]: for the start and for each step."""
        size = memory.rows[0].size
        bits = jax.random.bits(key, (1 + num_steps, -(-size // 8)), jnp.uint8)
        return jnp.unpackbits(bits, axis=1)[:, :size].astype(bool)

    def outcomes(self, problem, params, memory, num_steps):
        """All 2^((1 + T) S) patterns of signs."""
        return sign_patterns(1 + num_steps, memory.rows[0].size)

    def one(self, problem, params, start, memory, xs, weights, noise):
        """Carries s̃ and θ̃ along the window, then sums the gradient over all steps at once.

        θ̃ is as large as the parameters. Adding c_t θ̃_{t-1}, c_t = w_t q_t · s̃_{t-1}, to the gradient at each step
        would read and write it T times. Instead the scalars c_t, ρ0 and ρ1 are recorded, from which `shares` finds how
        much the sum holds of the first θ̃ and of each step's w.
        """
        nu_TS = jnp.where(noise, 1, -1).astype(memory.rows[0].dtype)
        s, pull_start = jax.vjp(lambda params: ravel_float(start(params))[0], params)
        _, others, join = ravel_float(start(params))

        def step(params, state, x):
            """A step on a state that is split into its float vector and its other leaves."""
            after, loss = problem.step(params, join(*state), x)
            return ravel_float(after)[:2], loss

        def states(params):
            x = jax.tree.map(lambda a: a[0], xs)
            return ravel_float(start(params))[0], step(params, (s, others), x)[0][0]

        split, join_theta = _split(depends_on(states, params))

        def body(carry, inputs):
            (s, others), s_tilde, theta_tilde = carry
            x, nu = inputs
            # u = J s̃ by forward mode, w = νᵀ I by reverse mode; neither J nor I is formed.
            new, u, others_after = jax.jvp(
                lambda s: step(params, (s, others), x)[0], (s,), (s_tilde.astype(s.dtype),), has_aux=True
            )
            _, pull = jax.vjp(lambda params: step(params, (s, others), x)[0][0], params)
            tilde, rhos = mix(u.astype(nu.dtype), theta_tilde, nu, split(*pull(nu.astype(s.dtype))))
            return ((new, others_after), *tilde), ((s, others), s_tilde, rhos)

        s_tilde, theta_tilde = memory.rows
        (w,) = pull_start(nu_TS[0].astype(s.dtype))
        (s_tilde, theta_tilde), _ = mix(s_tilde, theta_tilde, nu_TS[0], w)
        carry = (s, others), s_tilde, split(theta_tilde)
        (end, s_tilde, theta_end), (entering, s_tilde_TS, rhos_T) = jax.lax.scan(body, carry, (xs, nu_TS[1:]))

        s_TS, others_T = entering
        advance, loss = split_step(step, params, (s, others), jax.tree.map(lambda a: a[0], xs))

        def steps(params, s_TS):
            """The float vectors of the states after all steps, and the losses."""
            (after_TS, _), between = jax.vmap(advance, (None, 0, 0))(params, (s_TS, others_T), xs)
            between = replace_unscored(between, weights != 0)
            return after_TS, jax.vmap(lambda between: loss(params, between), axis_size=len(weights))(between)

        (_, losses), (_, c_T) = jax.jvp(lambda s_TS: steps(params, s_TS), (s_TS,), (s_tilde_TS.astype(s_TS.dtype),))
        _, pull = jax.vjp(lambda params: steps(params, s_TS), params)
        weights = weights.astype(losses.dtype)
        of_theta, of_w_T = shares((weights * c_T).astype(nu_TS.dtype), *rhos_T)
        # Since w_t = ν_tᵀ I_t, the sum of all w is the pull-back of their shares times ν. The direct part ∂l_t/∂θ is
        # the pull-back of the weights. Both are one product.
        (grads,) = pull(((of_w_T[:, None] * nu_TS[1:]).astype(s.dtype), weights))
        grads = jax.tree.map(lambda g, t: g + of_theta.astype(g.dtype) * t, grads, theta_tilde)
        memory = Memory(rows=(s_tilde, join_theta(theta_end, theta_tilde)))
        return weighted_sum(weights, losses), grads, join(*end), memory


def mix(u, theta_tilde, nu, w):
    """The random vectors s̃ and θ̃ with E s̃ θ̃ᵀ = u θ̃ᵀ + ν wᵀ, and (ρ0, ρ1).

    (ρ0 u + ρ1 ν)(θ̃ / ρ0 + w / ρ1)ᵀ is this sum plus two products that change their sign with ν, so that their mean is
    zero. ρ0 and ρ1 give the two factors of each product equal norms, for which the variance is smallest.

    Args:
        u: float[S].
        theta_tilde: θ̃, like the parameters or some of them.
        nu: ν, float[S].
        w: like θ̃.
    """
    norm_u, norm_theta, norm_nu, norm_w = (_norm(tree, nu.dtype) + SMALL for tree in (u, theta_tilde, nu, w))
    rho_0, rho_1 = jnp.sqrt(norm_theta / norm_u), jnp.sqrt(norm_w / norm_nu)
    theta_tilde = jax.tree.map(lambda t, w: t / rho_0.astype(t.dtype) + w / rho_1.astype(t.dtype), theta_tilde, w)
    return (rho_0 * u + rho_1 * nu, theta_tilde), (rho_0, rho_1)


def _split(is_used):
    """Separates the parameters that feed the state from the others, whose θ̃ is zero at all steps.

    Args:
        is_used: for each leaf of the parameters, whether it feeds the state.

    Returns:
        `split(tree)`, the leaves of a tree like the parameters that feed the state; and `join(leaves, tree)`, the tree
        with these leaves replaced.
    """

    def split(tree):
        return [leaf for leaf, use in zip(jax.tree.leaves(tree), is_used, strict=True) if use]

    def join(leaves, tree):
        new = iter(leaves)
        old, treedef = jax.tree.flatten(tree)
        return jax.tree.unflatten(treedef, [next(new) if use else leaf for leaf, use in zip(old, is_used, strict=True)])

    return split, join


def shares(c_T, rho_0_T, rho_1_T):
    """How much Σ_t c_t θ̃_{t-1} holds of the first θ̃, float[], and of each step's w, float[T].

    θ̃_t = θ̃_{t-1} / ρ0_t + w_t / ρ1_t. Let a_t be the share of θ̃_t in the terms that follow step t, a_T = 0. Then
    a_{t-1} = c_t + a_t / ρ0_t, and the share of w_t is a_t / ρ1_t.
    """

    def back(a, inputs):
        c, rho_0, rho_1 = inputs
        return c + a / rho_0, a / rho_1

    return jax.lax.scan(back, jnp.zeros_like(c_T[0]), (c_T, rho_0_T, rho_1_T), reverse=True)


def _norm(tree, dtype):
    squares = [jnp.sum(jnp.square(a)).astype(dtype) for a in jax.tree.leaves(tree)]
    return jnp.sqrt(sum(squares, start=jnp.zeros((), dtype)))
