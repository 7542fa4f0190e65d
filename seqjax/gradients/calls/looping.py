"""`while_loop`: `jax.lax.while_loop` with a gradient strategy."""

from collections.abc import Callable

from jaxtyping import Array, Bool

from seqjax.errors import Error, check_whole
from seqjax.gradients.contract.gradient import Gradient
from seqjax.gradients.reverse.implicit import Implicit
from seqjax.gradients.reverse.while_call import WhileCall


def while_loop[T](
    cond: Callable[[T], Bool[Array, ""]], body: Callable[[T], T], init: T, max_steps: int, gradient: Gradient | Implicit
) -> T:
    """`jax.lax.while_loop`, of at most `max_steps` steps, whose result is differentiated by a strategy.

    Whether the loop ended by itself is `jnp.logical_not(cond(result))`. The initial state and what `body` closes over
    are differentiated. It composes with `jax.jit`, `jax.vmap`, `jax.checkpoint`, and other scans and loops. Steps after
    the stop are not executed. Under `jax.vmap` each row stops by itself and waits for the others; neither a value nor a
    derivative of a step that a row does not execute reaches its results. Call it inside of `jax.jit`: outside, it is
    compiled anew at each call. In `jax.shard_map` it needs `check_vma=False`.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> import seqjax as sj
    >>> from seqjax.gradients import Full, Last
    >>> def product(w, gradient):
    ...     return sj.while_loop(lambda s: s < 100, lambda s: w * s, 1.0, max_steps=50, gradient=gradient)
    >>> product(3.0, Full()).item(), jax.grad(product)(3.0, Full()).item()  # five steps: w^5 and 5 w^4
    (243.0, 405.0)
    >>> jax.grad(product)(3.0, Last(steps=2)).item()  # the state before is the constant 27: 2 * 27 w
    162.0

    `Full` keeps what the reverse pass needs for `max_steps` steps; with n levels, or a budget, for about
    (n + 1) max_steps^(1 / (n + 1)). `Truncated` cuts at every K-th executed step, counted from the first one, and
    `Last` keeps the last K executed steps. These have derivatives of all orders. `Implicit` keeps no steps, and is
    right at a fixed point of `body`.

    Args:
        cond: (state) -> bool[], whether a further step is executed. It is not differentiated.
        body: (state) -> state, one step.
        init: the state that enters the first step, any pytree.
        max_steps: the largest number of steps.
        gradient: `Full`, `Truncated`, `Last` or `Implicit`.

    Returns:
        The state for which `cond` is False, or the state after `max_steps` steps.

    Raises:
        Error: `gradient` is none of these, or `max_steps` is no whole number.
        TypeError: what `jax.lax.while_loop` raises, such as for a body that changes the shape of the state.
    """
    if not isinstance(gradient, Gradient | Implicit) or gradient.loop is None:
        raise Error(
            f"{gradient!r:.80} is not a gradient of a while_loop: use an instance of Full, Truncated, Last or Implicit"
        )
    check_whole(below_2_to=31, max_steps=(max_steps, 0))
    call = WhileCall.of(cond, body, init, max_steps)
    return call.init if max_steps == 0 else gradient.loop(call)
