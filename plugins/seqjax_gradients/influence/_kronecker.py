"""What `kf-rtrl` and `ok` share: the influence of a weight matrix as a random sum of Kronecker products."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from seqjax import Influence
from seqjax.gradients import Memory, check_real, combine, known_input, ravel_float, sign_patterns, where_rows

from ._products import entries, factors


class Sum(NamedTuple):
    """Σ_i u_i ⊗ A_i, the influence of a matrix [n, m] whose first axis is summed over in its product.

    Args:
        u: float[length, n].
        A: float[length, S, m].
    """

    u: Any
    A: Any


class Kronecker(Influence):
    """The author writes `shorten`: a sum of Kronecker products as a shorter one that has the same mean.

    A matrix that enters the step through one product with a vector a_t [n] has I_t = a_t ⊗ D_t, see `_products`. If its
    part of M_{t-1} is a sum of products u_i ⊗ A_i, with u_i [n] and A_i [S, m], then

        M_t = Σ_i u_i ⊗ J_t A_i + a_t ⊗ D_t

    is a sum with one product more. `shorten` replaces it by a sum of the old length. Each weight matrix has a sum of
    its own; a matrix with a constant mask has the sum of the masked matrix. The parts of vectors and scalars have S
    numbers for each entry, like A, and are exact.
    """

    claim = "unbiased"
    argnums = (0,)  # the state that is given has an axis of rows, and enters no product

    @property
    def length(self) -> int:
        """The number of products of a sum."""
        raise NotImplementedError

    @property
    def num_signs(self) -> int:
        """The number of random signs of a step."""
        raise NotImplementedError

    def shorten(self, products: Sum, signs: Any) -> Sum:
        """A sum of Kronecker products with the same mean and one product less.

        Args:
            products: `length` + 1 of them; the last one is a_t ⊗ D_t.
            signs: float[num_signs], 1 or -1 with equal probability.
        """
        raise NotImplementedError

    def init(self, problem, params, state, x=None):
        """For each matrix u = 0 and A = 0, for each vector M = 0; () for a parameter that does not change the state."""
        check_real(self, params, state)
        x = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), known_input(self, problem, x))
        leaves = jax.tree.leaves(params)
        size, dtype = ravel_float(state)[0].size, jnp.result_type(*leaves)

        def zeros(leaf, entry):
            if entry == "unused":
                return ()
            if entry == "whole":
                return jnp.zeros((size, leaf.size), dtype)
            n, m = entry.shape
            return Sum(jnp.zeros((self.length, n), dtype), jnp.zeros((self.length, size, m), dtype))

        found = entries(self, problem.own.step, params, functools.partial(_initial_states, problem), state, x)
        return Memory(rows=[zeros(*each) for each in zip(leaves, found, strict=True)])

    def draw(self, key, problem, params, memory, num_steps):
        """Where a sign is 1, bool[T, num_signs]."""
        return jax.random.bernoulli(key, shape=(num_steps, self.num_signs))

    def outcomes(self, problem, params, memory, num_steps):
        """All patterns of signs."""
        return sign_patterns(num_steps, self.num_signs)

    def follow(self, carried, losses, trajectory, start, noise):
        params, initial = trajectory.params, trajectory.initial
        leaves, treedef = jax.tree.flatten(params)
        first = jax.tree.map(lambda a: a[0], trajectory.steps)
        at = first.floats, first.others, first.xs

        def starts(params):
            # All of them may depend on the parameters. Those of `init` give a parameter its place in what is carried,
            # although the start of this window may be a constant.
            states = _initial_states(trajectory.problem, params)
            return start(params), None if initial is None else initial(params), states

        found = entries(self, trajectory.problem.step, params, starts, trajectory.join(*at[:2]), first.xs)
        M = _plus_start(found, carried, start, params)
        anew = None
        if initial is not None:
            anew = _plus_start(found, jax.tree.map(jnp.zeros_like, M), initial, params)

        dtype = jnp.result_type(*leaves)
        vectors = [jnp.zeros(m.shape[1], dtype) if entry == "whole" else () for entry, m in zip(found, M, strict=True)]

        def body(carry, inputs):
            M, vectors = carry
            q, signs, step = inputs
            M = where_rows(step.reset, anew, M)
            J, by_leaf = factors(found, trajectory, (step.floats, step.others, step.xs))
            # q M of a vector is summed here. For a matrix the factors are kept, and their products are summed later.
            q, J = q.astype(dtype), J.astype(dtype)
            products = [(m.u, jnp.tensordot(m.A, q, ([1], [0]))) if isinstance(m, Sum) else () for m in M]
            vectors = [v + q @ m if entry == "whole" else () for entry, v, m in zip(found, vectors, M, strict=True)]
            M = [self._next(entry, m, J, each, signs) for entry, m, each in zip(found, M, by_leaf, strict=True)]
            return (M, vectors), products

        signs_T = jnp.where(noise, 1, -1).astype(dtype)
        (M, vectors), products = jax.lax.scan(body, (M, vectors), (losses.q, signs_T, trajectory.steps))

        def gradient(entry, leaf, vector, product):
            if entry == "unused":
                return jnp.zeros_like(leaf)
            if entry == "whole":
                return vector.reshape(leaf.shape).astype(leaf.dtype)
            summed = jnp.moveaxis(jnp.einsum("tln,tlm->nm", *product), 0, entry.axis)
            if entry.scale is not None:
                summed = summed * entry.scale(params, *at).astype(dtype)
            return summed.astype(leaf.dtype)

        grads = [gradient(*each) for each in zip(found, leaves, vectors, products, strict=True)]
        return M, jax.tree.map(jnp.add, losses.direct, jax.tree.unflatten(treedef, grads))

    def _next(self, entry, M, J, derivative, signs):
        """M after a step, for one parameter."""
        if entry == "unused":
            return ()
        if entry == "whole":
            return J @ M + derivative.astype(M.dtype)
        a, D = (each.astype(M.u.dtype) for each in derivative)
        A = jnp.einsum("st,ltm->lsm", J, M.A)
        return self.shorten(Sum(jnp.concatenate([M.u, a[None]]), jnp.concatenate([A, D[None]])), signs)


def _initial_states(problem, params):
    """The states in which a sequence may start; with a key they may depend on the parameters in another way."""
    init_state = problem.own.init_state
    return [] if init_state is None else [init_state(params, key) for key in (None, jax.random.key(0))]


def _plus_start(found, M, start, params):
    """M, and what the vectors among the parameters do to the state in which a sequence starts."""
    leaves, treedef = jax.tree.flatten(params)
    vectors = [leaf if entry == "whole" else None for entry, leaf in zip(found, leaves, strict=True)]
    if not jax.tree.leaves(vectors):
        return M
    state = lambda vectors: ravel_float(start(jax.tree.unflatten(treedef, combine(vectors, leaves))))[0]
    I = jax.jacrev(state)(vectors)
    return [m if i is None else m + i.reshape(m.shape).astype(m.dtype) for m, i in zip(M, I, strict=True)]
