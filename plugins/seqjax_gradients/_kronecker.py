"""What `kf-rtrl` and `ok` share: the influence of a weight matrix as a random sum of Kronecker products."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from seqjax import Problem, Tokens
from seqjax.gradients import Memory, ravel_float, sign_patterns, where_rows
from seqjax.models import ModelProblem

from ._influence import Influence, split_advance
from ._products import entries, factors
from ._real import check_real


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

    def init(self, problem, params, state):
        """For each matrix u = 0 and A = 0, for each vector M = 0; () for a parameter that does not change the state.

        How a parameter enters a step is only known with an input. The problem of a model says what its inputs are. For
        any other problem each parameter is taken to change the state, and u and A have room for either axis.
        """
        check_real(self, params, state)
        leaves = jax.tree.leaves(params)
        size, dtype = ravel_float(state)[0].size, jnp.result_type(*leaves)

        def zeros(leaf, entry):
            if entry == "unused":
                return ()
            if leaf.ndim < 2:
                return jnp.zeros((size, leaf.size), dtype)
            n, m = (max(leaf.shape),) * 2 if entry is None else entry.shape
            return Sum(jnp.zeros((self.length, n), dtype), jnp.zeros((self.length, size, m), dtype))

        found = _entries_of_model(self, problem, params) or [None] * len(leaves)
        return Memory(rows=[zeros(*each) for each in zip(leaves, found, strict=True)])

    def draw(self, key, problem, params, memory, num_steps):
        """Where a sign is 1, bool[T, num_signs]."""
        return jax.random.bernoulli(key, shape=(num_steps, self.num_signs))

    def outcomes(self, problem, params, memory, num_steps):
        """All patterns of signs."""
        return sign_patterns(num_steps, self.num_signs)

    def follow(self, carried, derivatives, window):
        params = window.params
        leaves, treedef = jax.tree.flatten(params)
        s_others, x = jax.tree.map(lambda a: a[0], (window.entering, window.xs))

        def initial(params):
            return window.problem.reset_of(params, x)[1]

        starts = lambda params: (window.start(params), initial(params))  # both may depend on the parameters
        found = entries(self, window.problem.advance, params, starts, window.join(*s_others), x)
        M = [_narrow(entry, m) for entry, m in zip(found, carried, strict=True)]
        M = _plus_start(found, M, window.start, params)
        anew = None
        if window.reset is not None:
            anew = _plus_start(found, jax.tree.map(jnp.zeros_like, M), initial, params)

        dtype = jnp.result_type(*leaves)
        vectors = [jnp.zeros(m.shape[1], dtype) if entry == "whole" else () for entry, m in zip(found, M, strict=True)]

        step = split_advance(window.problem, window.join)

        def after(params, s, others, x):
            return step(params, s, others, x)[0][0]

        def body(carry, inputs):
            M, vectors = carry
            (q, signs), (s, others), x, reset = inputs
            M = M if anew is None else where_rows(reset, anew, M)

            J, by_leaf = factors(found, after, params, window, (s, others, x))
            # q M of a vector is summed here. For a matrix the factors are kept, and their products are summed later.
            q, J = q.astype(dtype), J.astype(dtype)
            products = [(m.u, jnp.tensordot(m.A, q, ([1], [0]))) if isinstance(m, Sum) else () for m in M]
            vectors = [v + q @ m if entry == "whole" else () for entry, v, m in zip(found, vectors, M, strict=True)]
            M = [self._next(entry, m, J, each, signs) for entry, m, each in zip(found, M, by_leaf, strict=True)]
            return (M, vectors), products

        signs_T = jnp.where(window.noise, 1, -1).astype(dtype)
        inputs = (derivatives.q_TS, signs_T), window.entering, window.xs, window.reset
        (M, vectors), products = jax.lax.scan(body, (M, vectors), inputs)

        def gradient(entry, leaf, vector, product):
            if entry == "unused":
                return jnp.zeros_like(leaf)
            if entry == "whole":
                return vector.reshape(leaf.shape).astype(leaf.dtype)
            summed = jnp.moveaxis(jnp.einsum("tln,tlm->nm", *product), 0, entry.axis)
            if entry.scale is not None:
                summed = summed * entry.scale(params, *s_others, x).astype(dtype)
            return summed.astype(leaf.dtype)

        grads = [gradient(*each) for each in zip(found, leaves, vectors, products, strict=True)]
        carried = [_widen(m, wide) for m, wide in zip(M, carried, strict=True)]
        return carried, jax.tree.map(jnp.add, derivatives.direct, jax.tree.unflatten(treedef, grads))

    def _next(self, entry, M, J, derivative, signs):
        """M after a step, for one parameter."""
        if entry == "unused":
            return ()
        if entry == "whole":
            return J @ M + derivative.astype(M.dtype)
        a, D = (each.astype(M.u.dtype) for each in derivative)
        A = jnp.einsum("st,ltm->lsm", J, M.A)
        return self.shorten(Sum(jnp.concatenate([M.u, a[None]]), jnp.concatenate([A, D[None]])), signs)


def _entries_of_model(strategy, problem, params):
    """How the parameters enter the steps of a model; None: the problem has no model."""
    if type(problem).reset_of is not Problem.reset_of:
        problem = getattr(problem, "problem", None)
    if type(problem) is not ModelProblem:
        return None
    model, spec = problem.model, problem.spec
    x = jnp.zeros((), jnp.int32) if isinstance(spec.inputs, Tokens) else jnp.zeros(spec.inputs.width)

    def starts(params):
        # With a key, the initial state may be another function of the parameters than without one.
        return [model.init_state(params, spec, key) for key in (None, jax.random.key(0))]

    # In bfloat16 the state of the problem is rounded, and the model itself does not take it.
    return entries(strategy, model.step, params, starts, model.init_state(params, spec), x)


def _narrow(entry, wide):
    """The part of what is carried for a parameter that is used, see `Kronecker.init`."""
    if entry == "unused":
        return ()
    if entry == "whole":
        return wide
    n, m = entry.shape
    return Sum(wide.u[:, :n], wide.A[:, :, :m])


def _widen(narrow, wide):
    """What is carried, from the part that is used."""
    if isinstance(narrow, Sum):
        n, m = narrow.u.shape[1], narrow.A.shape[2]
        return Sum(wide.u.at[:, :n].set(narrow.u), wide.A.at[:, :, :m].set(narrow.A))
    return wide if isinstance(narrow, tuple) else narrow


def _plus_start(found, M, start, params):
    """M, and what the vectors among the parameters do to the state in which a sequence starts."""
    leaves, treedef = jax.tree.flatten(params)
    chosen = [index for index, entry in enumerate(found) if entry == "whole"]
    if not chosen:
        return M

    def state(vectors):
        changed = dict(enumerate(leaves)) | dict(zip(chosen, vectors, strict=True))
        return ravel_float(start(jax.tree.unflatten(treedef, changed.values())))[0]

    I = jax.jacrev(state)([leaves[i] for i in chosen])
    added = dict(zip(chosen, I, strict=True))
    return [m + added[i].reshape(m.shape).astype(m.dtype) if i in added else m for i, m in enumerate(M)]
