"""Sketched real-time recurrent learning."""

from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
from annotated_types import Interval

from seqjax import Influence, register
from seqjax.gradients import Memory, check_real, ravel_float, units_of
from seqjax.gradients.contract.problem import zero_rows
from seqjax.gradients.influence.by_units import direct


class Sketch(NamedTuple):
    """The approximation of M that is carried: M ≈ own + L R.

    Args:
        own: the influence of parameters on their own unit, by units, leaves [numbers, n, hidden].
        L: float[S, r], with orthonormal columns.
        R: a tree like `own`, leaves [r, n, hidden].
        error: an upper bound of |M - own - L R|, float[].
    """

    own: Any
    L: Any
    R: Any
    error: Any


@register("gradient", "sk-rtrl")
@dataclass(frozen=True)
class SKRTRL(Influence):
    """The influence of parameters on their own unit, a sketch of rank r of the rest, and a bound of the error.

    With D_t the part of J_t within units, N_t is the influence on the own unit alone. The rest, the influence on other
    units and by way of these, is a matrix of rank r:

        M_t ≈ N_t + L_t R_t,   N_t = D_t N_{t-1} + I_t,   J_t = ∂s_t/∂s_{t-1},   I_t = ∂s_t/∂θ
        L_t R_t = the best approximation of rank r of   J_t L_{t-1} R_{t-1} + (J_t - D_t) N_{t-1}
        e_t = |J_t|₂ e_{t-1} + η_t,   |M_t - N_t - L_t R_t| ≤ e_t

    with η_t the Frobenius norm of what this approximation leaves out. This is the SK-RTRL of the repository
    sonaradarcn/sketched-rtrl, whose paper is under review. For r ≥ S it is `rtrl`, with e = 0. For r = 0 and units of
    one number, as in an RNN, it is SnAp-1 (Menick et al. 2021). If a unit has several numbers, as in an LSTM, SnAp-1
    also leaves out numbers of its own unit that a parameter reaches only in a later step, such as c from the output
    gate; N keeps them. The error of the gradient of a step is at most |q_t| e_{t-1}.

    There are three differences to the authors' code. There, the new part (J_t - D_t) N_{t-1} is reduced to max(4, r/4)
    directions before it is added; here the sum is approximated, which leaves out less. There, the bound of |J_t|₂ is
    the smaller one of |J_t| and √(|J_t|₁ |J_t|_∞); here it is (tr (J_t J_tᵀ)^16)^(1/32), which is at most S^(1/32)
    times |J_t|₂. And the loss of a step is a function of the state before it, so the last J on the way to a loss is
    whole.

    In exact arithmetic, e_t is a bound of what the sketches have left out. A part of η_t is the rounding error of the
    eigenvalues, of about √(S ε) times the largest singular value, so that in float32 no loss is taken as too small. The
    rounding errors of N, L and R are not counted, and come on top: where nothing is left out, e is 0, and M has the
    rounding errors of `rtrl`. e grows without limit where |J_t|₂ ≥ 1 at most steps.

    Each parameter has to feed one unit: it takes a `Cell` of one layer without embedding, or an `Elementwise`, where
    nothing is left out. L P + r (S + P) numbers are carried, for S state numbers, L of them for each unit, and P
    parameters. A step takes S reverse passes, the eigenvectors of an S × S matrix, and r² P multiplications. The metric
    `gradient_certificate` is the mean of e over the rows, and `gradient_certificate_relative` is the mean of e / |N + L
    R|.
    """

    cites = ("menick2021practical",)

    rank: Annotated[int, Interval(ge=0)] = 4
    """r, the rank of the sketch."""

    claim = "biased"
    argnums = (0,)
    metric_names = ("gradient_certificate", "gradient_certificate_relative")

    def init(self, problem, params, state, x=None):
        """N = 0, L = 0, R = 0 and e = 0."""
        check_real(self, params, state)
        units = units_of(self, problem, params)
        own = units.zeros(params)
        size = ravel_float(state)[0].size
        rank, dtype = min(self.rank, size), jnp.result_type(*own)
        R = [jnp.zeros((rank, *a.shape[1:]), a.dtype) for a in own]
        return Memory(rows=Sketch(own, jnp.zeros((size, rank), dtype), R, jnp.zeros((), _wide(dtype))))

    def follow(self, carried, losses, trajectory, start, noise):
        units = units_of(self, trajectory.problem, trajectory.params)

        def body(carry, inputs):
            sketch, grads = carry
            q, step = inputs
            sketch = zero_rows(step.reset, sketch)
            grads = jax.tree.map(jnp.add, grads, _gradient(q, sketch, units.hidden))
            J = trajectory.back(jnp.eye(q.size, dtype=step.floats.dtype), step)
            return (self._next(sketch, J, direct(trajectory, units, step), units.hidden), grads), None

        zeros = [jnp.zeros(a.shape[1:], a.dtype) for a in carried.own]
        (carried, grads), _ = jax.lax.scan(body, (carried, zeros), (losses.q, trajectory.steps))
        return carried, jax.tree.map(jnp.add, losses.direct, units.like_params(grads, trajectory.params))

    def metrics(self, memory):
        sketch = memory.rows

        def relative(sketch):
            own, L, R, error = jax.tree.map(lambda a: a.astype(sketch.error.dtype), sketch)
            numbers, _, hidden = jax.tree.leaves(own)[0].shape
            L_of_numbers = L.T.reshape(L.shape[1], numbers, 1, hidden)

            def square(N, R):
                """|N + L R|² = |N|² + |R|² + 2 ⟨N, L R⟩, since the columns of L are orthonormal."""
                crossed = sum(jnp.vdot(R, L_of_numbers[:, i] * row) for i, row in enumerate(N))
                return jnp.sum(N**2) + jnp.sum(R**2) + 2 * crossed

            squares = jax.tree.map(square, own, R)
            size = jnp.sqrt(jnp.maximum(sum(jax.tree.leaves(squares)), 0))
            return error / jnp.where(size > 0, size, 1)

        return {
            "gradient_certificate": sketch.error.mean(),
            "gradient_certificate_relative": jax.vmap(relative)(sketch).mean(),
        }

    def _next(self, sketch, J, I, hidden):
        """What is carried after a step."""
        kept = sketch
        sketch, J, I = jax.tree.map(lambda a: a.astype(kept.error.dtype), (sketch, J, I))
        own, L, R, error = sketch
        S, rank = L.shape
        numbers = S // hidden
        within = jnp.kron(jnp.ones((numbers, numbers), J.dtype), jnp.eye(hidden, dtype=J.dtype))
        D = jnp.diagonal(J.reshape(numbers, hidden, numbers, hidden), axis1=1, axis2=3)  # [numbers, numbers, hidden]
        # The new rest is X Y, with Y the rows of R and of N below each other.
        X = jnp.concatenate([J @ L, J * (1 - within)], axis=1)
        if rank == S:
            U, eta = jnp.eye(S, dtype=L.dtype), jnp.zeros((), L.dtype)
        else:
            values, vectors = jnp.linalg.eigh(X @ _gram(sketch) @ X.T)
            U = vectors[:, S - rank :]
            lost = jnp.sum(jnp.maximum(values[: S - rank], 0))
            eta = jnp.sqrt(lost + S * jnp.finfo(L.dtype).eps * jnp.maximum(values[-1], 0))
        mixed = X.T @ U  # [rank + S, rank]
        of_R, of_own = mixed[:rank].T, mixed[rank:].reshape(numbers, hidden, rank).transpose(2, 0, 1)

        def rows(R, own):
            """Uᵀ X Y for the parameters of one array."""
            from_R = (of_R @ R.reshape(rank, own[0].size)).reshape(R.shape)
            return from_R + sum(of_own[:, i, None] * own[i] for i in range(numbers))

        def within_units(own, I):
            """D N + I for the parameters of one array."""
            return jnp.stack([sum(D[i, j] * own[j] for j in range(numbers)) + I[i] for i in range(numbers)])

        grown = jnp.where(error > 0, _largest_stretch(J) * error, 0)
        new = Sketch(jax.tree.map(within_units, own, I), U, jax.tree.map(rows, R, own), grown + eta)
        return jax.tree.map(lambda a, old: a.astype(old.dtype), new, kept)


def _wide(dtype):
    """The dtype in which a step is computed: there are no eigenvectors in half precision."""
    return jnp.float32 if jnp.finfo(dtype).bits < 32 else dtype


def _largest_stretch(J):
    """An upper bound of |J|₂, at most S^(1/32) times as large: (tr (J Jᵀ)^16)^(1/32), by products alone."""
    K = J @ J.T
    # The largest sum of a row is at most √S times the largest eigenvalue. The trace is S times as large where J is
    # orthogonal; divided by it, the 16th powers of the eigenvalues would underflow in float32.
    scale = jnp.max(jnp.sum(jnp.abs(K), 1))
    K = K / jnp.where(scale > 0, scale, 1)
    for _ in range(3):
        K = K @ K
    return jnp.sqrt(scale) * jnp.sum(K * K) ** (1 / 32)


def _gram(sketch):
    """The products of the rows of R and of N with each other, float[r + S, r + S]."""
    rank = sketch.L.shape[1]

    def of_array(R, own):
        # Products and sums over an axis: on a CPU, products of matrices with a batch axis of units take much longer.
        numbers = len(own)
        flat = R.reshape(rank, own[0].size)
        across = jnp.concatenate([jnp.sum(R * own[j], 1) for j in range(numbers)], axis=1)
        # Rows of different units have no parameter in common.
        inner = [[jnp.diag(jnp.sum(own[i] * own[j], 0)) for j in range(numbers)] for i in range(numbers)]
        return jnp.block([[flat @ flat.T, across], [across.T, jnp.block(inner)]])

    grams = [of_array(*each) for each in zip(jax.tree.leaves(sketch.R), jax.tree.leaves(sketch.own), strict=True)]
    return sum(grams[1:], grams[0])


def _gradient(q, sketch, hidden):
    """q (N + L R), a tree with leaves [n, hidden]."""
    q = q.astype(sketch.L.dtype)
    by_unit, by_row = q.reshape(-1, hidden), q @ sketch.L

    def leaf(own, R):
        from_R = (by_row @ R.reshape(len(R), own[0].size)).reshape(own.shape[1:])
        return sum(by_unit[i] * own[i] for i in range(len(own))) + from_R

    return jax.tree.map(leaf, sketch.own, sketch.R)
