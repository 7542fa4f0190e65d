"""The gradient of a loop at its fixed point, by the implicit function theorem."""

import functools
from dataclasses import dataclass
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Gt, Interval
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jax.scipy.sparse.linalg import gmres

from seqjax.errors import Error
from seqjax.gradients.reverse.while_call import WhileCall
from seqjax.gradients.steps.floats import combine, norm, partition_float, ravel_float
from seqjax.plugin.base import Plugin


@dataclass(frozen=True)
class Implicit(Plugin):
    """The gradient of `seqjax.while_loop` where the loop has reached a fixed point s = f(s, w) of its body.

    The gradient does not depend on the path to the fixed point, so that no step is kept:

        λ = ∂l/∂s + λ ∂f/∂s,   dl/dw = λ ∂f/∂w

    (Bai et al. 2019, "Deep equilibrium models", arXiv:1909.01377). The linear equation is solved by GMRES (Saad &
    Schultz 1986) over the float leaves of the state; other leaves are constants. The initial state has the gradient
    zero. The gradient is NaN where the state is no fixed point, and where the equation is not solved to the tolerance.
    Only first derivatives exist, in reverse mode.

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

    residual: Annotated[float, Gt(0)] = 1e-3
    """The gradient is NaN where |f(s) - s| is larger than `residual` |s|."""
    tolerance: Annotated[float, Interval(gt=0, lt=1)] | None = None
    """The relative error of the linear equation, |∂l/∂s + λ ∂f/∂s - λ| / |∂l/∂s|; None: 1e-10 in float64, 1e-5 in
    float32, 1e-2 in 16 bits."""
    max_restarts: Annotated[int, Interval(ge=1)] = 20
    """GMRES begins anew after 20 iterations, at most so many times."""

    def loop(self, call: WhileCall) -> Any:
        """Runs the loop without a derivative, and attaches the gradient to the state after it."""
        state = call.as_constant()
        floats, others = partition_float(call.closed_over)
        return _with_gradient(self, call.body, floats, others, state)

    def _tolerance(self, dtype: Any) -> float:
        if self.tolerance is not None:
            return self.tolerance
        return {8: 1e-10, 4: 1e-5}.get(jnp.finfo(dtype).dtype.itemsize, 1e-2)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _with_gradient(implicit, body, floats, others, state):
    """The state, with the gradient of the fixed point by `floats`, the float arrays that the body reads."""
    return state


def _forward(implicit, body, floats, others, state):
    return state, (floats, others, state)


def _backward(implicit, body, residuals, cotangent):
    floats, others, state = residuals
    floats = jax.tree.map(FIRST_ORDER.bind, floats)
    s, fixed, join = ravel_float(state)
    after, pull = jax.vjp(lambda floats, s: ravel_float(body(combine(floats, others), join(s, fixed)))[0], floats, s)
    is_fixed = norm(after - s) <= implicit.residual * norm(s)

    # GMRES has no 16 bits.
    d_state = ravel_float(cotangent)[0].astype(np.result_type(np.float32, s.dtype))
    tolerance = implicit._tolerance(s.dtype)
    equation = lambda v: v - pull(v.astype(s.dtype))[1].astype(v.dtype)
    # GMRES estimates its residual; half of the tolerance leaves room for the difference, which is measured below.
    v, _ = gmres(equation, d_state, tol=tolerance / 2, atol=0.0, maxiter=implicit.max_restarts)
    is_solved = norm(equation(v) - d_state) <= tolerance * norm(d_state)

    d_floats = jax.tree.map(lambda a: jnp.where(is_fixed & is_solved, a, jnp.nan), pull(v.astype(s.dtype))[0])
    return d_floats, None, None


_with_gradient.defvjp(_forward, _backward)

# A second derivative would miss that the state depends on the arrays: the rule above reads it as a constant.
FIRST_ORDER = Primitive("first_order")
FIRST_ORDER.def_impl(lambda a: a)
FIRST_ORDER.def_abstract_eval(lambda a: a)
mlir.register_lowering(FIRST_ORDER, lambda context, a: [a])
batching.primitive_batchers[FIRST_ORDER] = lambda arguments, axes: (FIRST_ORDER.bind(*arguments), axes[0])


def _refuse(primals, tangents):
    raise Error(
        "Implicit has first derivatives only: for a second derivative of while_loop, such as a Hessian-vector product, "
        "use Full, Truncated or Last"
    )


ad.primitive_jvps[FIRST_ORDER] = _refuse
