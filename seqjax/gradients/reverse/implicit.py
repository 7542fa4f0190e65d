"""The gradient of a loop at its fixed point, by the implicit function theorem."""

import functools
from dataclasses import dataclass
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Gt, Interval
from jax.interpreters import ad, batching
from jax.scipy.sparse.linalg import gmres

from seqjax.errors import Error
from seqjax.gradients.reverse.while_call import WhileCall
from seqjax.gradients.steps.floats import combine, norm, partition_float, ravel_float, split_float
from seqjax.gradients.steps.jaxprs import all_equations
from seqjax.gradients.steps.primitives import first_argument
from seqjax.plugin.base import Plugin


@dataclass(frozen=True)
class Implicit(Plugin):
    """The gradient of `seqjax.while_loop` where the loop has reached a fixed point s = f(s, w) of its body.

    The gradient does not depend on the path to the fixed point, so that no step is kept:

        λ = ∂l/∂s + λ ∂f/∂s,   dl/dw = λ ∂f/∂w

    (Bai et al. 2019, "Deep equilibrium models", arXiv:1909.01377). The linear equation is solved by GMRES (Saad &
    Schultz 1986) over the float leaves of the state; other leaves are constants. The initial state has the gradient
    zero, so close over the data, and carry only what the iteration changes. All gradients are NaN where the state is no
    fixed point, and where the equation is not solved to the tolerance. With a contraction by ρ, a residual r of the
    fixed point means an error of about r / (1 - ρ). Only first derivatives exist, in reverse mode. The body must not
    contain another loop with `Implicit`. GMRES keeps about 20 states.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> import seqjax as sj
    >>> from seqjax.gradients import Implicit
    >>> def root(a):  # Newton's method
    ...     is_far = lambda x: jnp.abs(x * x - a) > 1e-5 * a
    ...     return sj.while_loop(is_far, lambda x: (x + a / x) / 2, jnp.float32(1), max_steps=30, gradient=Implicit())
    >>> root(4.0).item(), jax.grad(root)(4.0).item()  # 1 / (2 sqrt(4))
    (2.0, 0.25)
    """

    residual: Annotated[float, Gt(0)] | None = None
    """The gradient is NaN where |f(s) - s| is larger than `residual` |s|, for one of the float leaves s; None: 1e-3, or
    2e-2 in 16 bits."""
    tolerance: Annotated[float, Interval(gt=0, lt=1)] | None = None
    """The relative error of the linear equation, |∂l/∂s + λ ∂f/∂s - λ| / |∂l/∂s|; None: 1e-10 in float64, 1e-5 in
    float32, 2e-2 in 16 bits."""
    max_restarts: Annotated[int, Interval(ge=1)] = 20
    """GMRES begins anew after 20 iterations, at most so many times."""

    def loop(self, call: WhileCall) -> Any:
        """Runs the loop without a derivative, and attaches the gradient to the state after it.

        Raises:
            Error: the body contains a loop with `Implicit`.
        """
        # GMRES transposes its equation, in which the checks of an inner loop depend on the cotangent.
        body = jax.make_jaxpr(call.body)(call.closed_over, call.init).jaxpr
        if any(equation.primitive is FIRST_ORDER for equation in all_equations(body)):
            raise Error(
                "the body of a while_loop with Implicit contains another one: use Full or Last for the inner loop"
            )
        floats, others = partition_float(call.closed_over)
        start, _ = partition_float(call.init)
        state = jax.tree.map(FIRST_ORDER.bind, call.as_constant())
        return _with_gradient(self, call.body, floats, start, others, state)

    def _bounds(self, dtype: Any) -> tuple[float, float]:
        """The largest relative residual of the fixed point, and of the linear equation, in a dtype."""
        by_size = {8: (1e-3, 1e-10), 4: (1e-3, 1e-5)}
        residual, tolerance = by_size.get(jnp.finfo(dtype).dtype.itemsize, (2e-2, 2e-2))
        return self.residual or residual, self.tolerance or tolerance


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _with_gradient(implicit, body, floats, start, others, state):
    """The state, with the gradient of the fixed point by `floats`, the float arrays that the body reads.

    That by `start`, the float leaves of the initial state, is zero.
    """
    return state


def _forward(implicit, body, floats, start, others, state):
    return state, (floats, start, others, state)


def _backward(implicit, body, residuals, cotangent):
    floats, start, others, state = residuals
    floats = jax.tree.map(FIRST_ORDER.bind, floats)
    s, fixed, join = ravel_float(state)
    after, pull = jax.vjp(lambda floats, s: ravel_float(body(combine(floats, others), join(s, fixed)))[0], floats, s)
    dtypes = [a.dtype for a in split_float(state)[0]] or [s.dtype]
    residual, tolerance = map(max, zip(*map(implicit._bounds, dtypes), strict=True))  # of the coarsest leaf
    # Leaf by leaf: a large one would hide another one that still changes.
    leaves = zip(split_float(join(after, fixed))[0], split_float(state)[0], strict=True)
    is_fixed = jnp.array([norm(a - b) <= residual * norm(b) for a, b in leaves], bool).all()

    # GMRES takes what is below the precision of 1 for zero, and has no 16 bits.
    d_state = ravel_float(cotangent)[0].astype(np.result_type(np.float32, s.dtype))
    scale = jnp.max(jnp.abs(d_state), initial=0)
    scale = jnp.where((scale > 0) & jnp.isfinite(scale), scale, 1)
    d_state = d_state / scale
    equation = lambda v: v - pull(v.astype(s.dtype))[1].astype(v.dtype)
    # GMRES estimates its residual; half of the tolerance leaves room for the difference, which is measured below.
    v, _ = gmres(equation, d_state, tol=tolerance / 2, atol=0.0, maxiter=implicit.max_restarts)
    is_solved = norm(equation(v) - d_state) <= tolerance * norm(d_state)

    factor = jnp.where(is_fixed & is_solved, scale, jnp.nan)
    of_start = jax.tree.map(jnp.zeros_like, start)
    d_floats, d_start = jax.tree.map(lambda a: a * factor.astype(a.dtype), (pull(v.astype(s.dtype))[0], of_start))
    return d_floats, d_start, None, None


_with_gradient.defvjp(_forward, _backward)

# A second derivative would miss that the state depends on the arrays: the rule above reads it as a constant. The mark
# on the state, which has no tangent, tells an outer loop of this one.
FIRST_ORDER = first_argument("first_order")
batching.primitive_batchers[FIRST_ORDER] = lambda arguments, axes: (FIRST_ORDER.bind(*arguments), axes[0])


def _refuse(primals, tangents):
    raise Error(
        "Implicit has first derivatives only: for a second derivative of while_loop, such as a Hessian-vector product, "
        "use Full, Truncated or Last"
    )


ad.primitive_jvps[FIRST_ORDER] = _refuse
