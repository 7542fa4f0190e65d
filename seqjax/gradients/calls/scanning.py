"""`scan`: `jax.lax.scan` with a gradient strategy."""

import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, PyTree

from seqjax.errors import Error, check_flags, check_whole
from seqjax.gradients.contract.gradient import Gradient, check_key, check_strategy
from seqjax.gradients.contract.problem import Problem
from seqjax.gradients.contract.resetting import check_initial, check_reset
from seqjax.gradients.contract.window import Memory
from seqjax.gradients.reverse.scan_call import ScanCall


def scan(
    f: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    xs: PyTree = None,
    length: int | None = None,
    reverse: bool = False,
    unroll: int | bool = 1,
    *,
    gradient: Gradient,
    key: jax.Array | None = None,
    reset: Bool[Array, " T"] | None = None,
    initial: Any = None,
) -> tuple[Any, PyTree]:
    """`jax.lax.scan` whose results are differentiated by a strategy.

    The values are those of `jax.lax.scan`. The loss may be any function of the results, and everything that
    `jax.lax.scan` differentiates is differentiated: `init`, `xs`, and what `f` closes over. It composes with `jax.jit`,
    `jax.vmap`, `jax.shard_map`, `jax.checkpoint`, other scans and higher derivatives. Call it inside of `jax.jit`:
    outside, it is compiled anew at each call. Where a strategy runs steps again, side effects such as `jax.debug.print`
    happen again, too, and `io_callback` cannot be used.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> import seqjax as sj
    >>> from seqjax.gradients import Truncated
    >>> def loss(w):
    ...     def f(s, x):
    ...         s = s + w * x
    ...         return s, s
    ...     s, ys = sj.scan(f, jnp.zeros(()), jnp.ones(4), gradient=Truncated(steps=2))
    ...     return jnp.max(ys)
    >>> loss(1.0).item(), jax.grad(loss)(1.0).item()  # the last two of four steps are differentiated
    (4.0, 2.0)

    Strategies that weigh the edges between steps, or compute steps again, can be used: `full`, `truncated`, `last`,
    `k1k2`, `discounted`, `only`, `randomized`, `artbp`. Cuts are counted in the order of execution. `truncated` keeps
    the carries at the starts of its segments and computes one segment again at a time: T / K · S + K · R numbers for a
    carry of S and residuals of R numbers a step. `last` keeps K · R numbers, and drops the cotangents of earlier y.

    A random strategy draws once for the scan. The mean of its gradients is exact for a loss that depends on one scan.
    If a gradient flows through two scans, give them two keys, `jax.random.split(key)`.

    Args:
        f: (carry, x) -> (carry, y), as in `jax.lax.scan`.
        init: the carry that enters the first step, any pytree.
        xs: what the steps read, leaves [T, ...]; None: nothing.
        length: T, if `xs` has no arrays.
        reverse: whether the steps are executed from the last one to the first.
        unroll: how many steps a compiled iteration has.
        gradient: a strategy, such as `Truncated(steps=100)`.
        key: a JAX key; a strategy that draws needs it.
        reset: bool[T], the steps that start from `initial` in place of the carry. No gradient crosses a reset, and cuts
            are still counted from the start of the scan.
        initial: the carry at a reset; None: `init`. It is differentiated, too.

    Returns:
        The carry after the last step, and all y, leaves [T, ...].

    Raises:
        Error: `gradient` is not an instance of a strategy, or one that `value_and_grad` serves; it draws, and there is
            no key; `reset` or `initial` do not fit; `length` is no number of steps. What `jax.lax.scan` raises is
            raised too.
    """
    _check_scans(gradient)
    check_flags(reverse=reverse)
    if gradient.draws or key is not None:
        check_key(gradient, key)
    if length is not None:
        length = operator.index(length) if isinstance(length, jax.Array) else length
        check_whole(below_2_to=31, length=(length, 0))
    lengths: set[Any] = {len(a) if jnp.ndim(a) else None for a in jax.tree.leaves(xs)}
    lengths |= set() if length is None else {length}
    if len(lengths) != 1 or None in lengths:
        return jax.lax.scan(f, init, xs, length, reverse, unroll)  # it says what does not fit
    (num_steps,) = lengths
    resets = _resets(reset, initial, init, num_steps)
    if num_steps == 0:
        return jax.lax.scan(f, init, xs, length, reverse, unroll)
    call = ScanCall(f, init, xs, num_steps, reverse, unroll, *resets)
    return gradient.scan(call, *_drawn(gradient, call, key))


def _check_scans(strategy: Any) -> None:
    check_strategy("scan", strategy)
    if strategy.scan is None:
        name = type(strategy).__name__
        raise Error(
            f"{strategy!r:.80} needs the losses of the steps, which scan does not know. Use "
            f"seqjax.value_and_grad(step, {name}(...)), where step(params, state, x) returns (state, loss), or a "
            "strategy that weighs the edges between steps or computes steps again: Full, Truncated, Last, K1K2, "
            "Discounted, Only, Randomized, ARTBP"
        )


def _resets(reset: Any, initial: Any, init: Any, num_steps: int) -> tuple[Any, Any]:
    """`reset` and `initial` as arrays, checked."""
    reset = check_reset(reset, initial, [(num_steps,)], "carry")
    if reset is None:
        return None, None
    initial = init if initial is None else initial
    check_initial(initial, init, "init")
    return reset, jax.tree.map(jnp.asarray, initial)


def _drawn(strategy: Gradient, call: ScanCall, key: jax.Array | None) -> tuple[Any, Memory]:
    """The random numbers of the strategy for this scan, and its initial memory."""

    def step(params, carry, x):
        return call.f(carry, x)[0], jnp.zeros(())

    problem = Problem(step)
    x = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), call.xs)
    memory = strategy.init(problem, (), call.init, x)
    if not strategy.draws:
        return (), memory
    assert key is not None
    return strategy.draw(key, problem, (), memory, call.num_steps), memory
