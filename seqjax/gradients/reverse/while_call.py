"""A call of `seqjax.while_loop`, and the ways to run it, of which a strategy chooses one."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from seqjax.gradients.reverse.scan_call import ScanCall
from seqjax.gradients.steps.floats import combine, partition_float
from seqjax.gradients.steps.jaxprs import split_closure
from seqjax.gradients.steps.running import any_running, run_where_running
from seqjax.gradients.steps.tangents import with_tangent_of
from seqjax.gradients.steps.unrolling import weigh_edge


class WhileCall(NamedTuple):
    """A call of `seqjax.while_loop`. Each way to run it has the values of `jax.lax.while_loop`, and another derivative.

    Args:
        cond: (state) -> bool[], whether a further step is executed.
        body: (closed_over, state) -> state, one step.
        closed_over: the arrays that the steps read besides the state.
        init: the state that enters the first step, in the dtypes that a step returns.
        max_steps: the loop stops after so many steps.
    """

    cond: Callable[[Any], Bool[Array, ""]]
    body: Callable[[Any, Any], Any]
    closed_over: Any
    init: Any
    max_steps: int

    @classmethod
    def of(cls, cond: Callable, body: Callable[[Any], Any], init: Any, max_steps: int) -> "WhileCall":
        """The call of a body that closes over arrays.

        Raises:
            TypeError: what `jax.lax.while_loop` raises, such as for a body that changes the shape of the state.
        """
        # This traces the body as `jax.lax.while_loop` does, with its errors and its rules for Python numbers.
        like = jax.eval_shape(lambda init: jax.lax.while_loop(cond, body, init), init)
        # A number of Python keeps its weak type if a step keeps it.
        init = jax.tree.map(lambda a, like: jnp.asarray(a, None if like.weak_type else like.dtype), init, like)
        closed_over, body = split_closure(body, init)
        return cls(lambda state: cond(jax.lax.stop_gradient(state)), body, closed_over, init, max_steps)

    def masked(self, run: Callable[[ScanCall], tuple[Any, Any]]) -> Any:
        """The state after the loop, from a scan of `max_steps` steps that do nothing after the stop.

        Args:
            run: runs the scan, whose carry is (state, whether the loop is running).
        """
        scan = ScanCall(
            lambda carry, _: (self._step(carry), None),
            (self.init, self.cond(self.init)),
            None,
            self.max_steps,
            is_running=lambda carry: carry[1],
        )
        (state, _), _ = run(scan)
        return state

    def last(self, steps: int) -> Any:
        """The state after the loop. Everything before the last `steps` steps that are executed is a constant."""
        steps = min(steps, self.max_steps)
        num_executed, oldest = self._without_derivative()._before_last(steps)
        # The initial state is differentiated if no step lies before these.
        init, _ = partition_float(weigh_edge(self.init, jnp.where(num_executed <= steps, 1.0, 0.0)))
        floats, others = partition_float(oldest)
        start = combine(jax.tree.map(with_tangent_of, floats, init), others)
        return self._replace(init=start, max_steps=steps).masked(ScanCall.run)

    def as_constant(self) -> Any:
        """The state after the loop, without a derivative."""
        loop = self._without_derivative()

        def cond(carry):
            t, state = carry
            return loop.cond(state) & (t < self.max_steps)

        def body(carry):
            t, state = carry
            return t + 1, loop.body(loop.closed_over, state)

        return jax.lax.while_loop(cond, body, (jnp.int32(0), loop.init))[1]

    def _without_derivative(self):
        init, closed_over = jax.lax.stop_gradient((self.init, self.closed_over))
        return self._replace(init=init, closed_over=closed_over)

    def _before_last(self, steps):
        """The number of executed steps, and the state that enters the last `steps` of them; the first one if fewer."""
        ring = jax.tree.map(lambda a: jnp.broadcast_to(a, (steps, *a.shape)), self.init)

        # Under `jax.vmap` t is the same number for all rows, so that an entry of the ring is written in place.
        def cond(loop):
            t, _, (_, running), _ = loop
            return any_running(running) & (t < self.max_steps)

        def body(loop):
            t, num_executed, (state, running), ring = loop

            def write(ring, a):
                old = jax.lax.dynamic_index_in_dim(ring, t % steps, keepdims=False)
                return jax.lax.dynamic_update_index_in_dim(ring, jnp.where(running, a, old), t % steps, 0)

            ring = jax.tree.map(write, ring, state)
            return t + 1, num_executed + running.astype(jnp.int32), self._step((state, running)), ring

        start = jnp.int32(0), jnp.int32(0), (self.init, self.cond(self.init)), ring
        _, num_executed, _, ring = jax.lax.while_loop(cond, body, start)
        first = jnp.where(num_executed < steps, 0, num_executed % steps)
        return num_executed, jax.tree.map(lambda a: jax.lax.dynamic_index_in_dim(a, first, keepdims=False), ring)

    def _step(self, carry):
        """(state, whether the loop is running) after a step, which is executed if it is running."""

        def step(closed_over, carry):
            state = self.body(closed_over, carry[0])
            return state, self.cond(state)

        return run_where_running(step, self.closed_over, carry, carry[1])
