"""A call of `seqjax.scan`, and the ways to run it, of which a strategy chooses one."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from seqjax.gradients.contract.problem import where_rows
from seqjax.gradients.reverse.budget import Window, num_bytes
from seqjax.gradients.steps.floats import combine, partition_float
from seqjax.gradients.steps.jaxprs import split_closure
from seqjax.gradients.steps.running import any_running
from seqjax.gradients.steps.segmented import Order, Steps, run_checkpointed, run_overlapping, run_segments
from seqjax.gradients.steps.unrolling import weigh_edge


class ScanCall(NamedTuple):
    """A call of `seqjax.scan`. Each way to run it has the values of `jax.lax.scan`, and another derivative.

    Args:
        f: (carry, x) -> (carry, y).
        init: the carry that enters the first step.
        xs: what the steps read, leaves [T, ...].
        num_steps: T.
        reverse: whether the steps are executed from the last one to the first.
        unroll: as in `jax.lax.scan`.
        reset: bool[T], the steps that start from `initial`; None: no step.
        initial: a carry; None: no step is reset.
        chosen: for each leaf of the carry, whether edge weights and cuts apply to it; None: to all.
        is_running: (carry) -> bool[], whether the steps that follow change this carry, in a call without y. Segments of
            a loop that has stopped are left out, and what is carried through them is not cut; None: always.
    """

    f: Callable[[Any, Any], tuple[Any, Any]]
    init: Any
    xs: Any
    num_steps: int
    reverse: bool = False
    unroll: int | bool = 1
    reset: Any = None
    initial: Any = None
    chosen: tuple[bool, ...] | None = None
    is_running: Callable[[Any], Bool[Array, ""]] | None = None

    def run(self, edge_weights: Float[Array, " T"] | None = None) -> tuple[Any, PyTree]:
        """One `jax.lax.scan`.

        Args:
            edge_weights: entry t multiplies the tangent of the carry that enters the t-th executed step; None: all
                ones.
        """
        return self._run(self.init, self._steps(edge_weights))

    def in_segments(
        self, size: int, lead: int = 0, edge_weights: Float[Array, " T"] | None = None
    ) -> tuple[Any, PyTree]:
        """Runs segment after segment. The results of a segment reach back to `lead` steps before it and no further.

        Args:
            size: the number of steps of a segment.
            lead: the number of steps before a segment.
            edge_weights: the weights of the edges inside; None: all ones.
        """
        arguments = self._run, self.init, self._steps(edge_weights), size
        if lead:
            cut = lambda carry: weigh_edge(carry, jnp.zeros(()), self.chosen)
            return run_overlapping(*arguments, lead, cut, self.reverse)

        def enter(carry, is_first):
            uncut = is_first if self.is_running is None else is_first | ~self.is_running(carry)
            return weigh_edge(carry, jnp.where(uncut, 1.0, 0.0), self.chosen)

        return run_segments(*arguments, enter, self.reverse)

    def checkpointed(self, levels: int) -> tuple[Any, PyTree]:
        """Runs as `run` does; the reverse pass keeps few carries, and computes the steps between them again.

        Args:
            levels: the number of levels, see `run_checkpointed`.
        """
        return run_checkpointed(self._run, self.init, self._steps(), levels, self.reverse)

    def last(self, steps: int) -> tuple[Any, PyTree]:
        """Runs all steps. Everything before the last `steps` executed ones is a constant, the earlier y too."""
        all_steps, order = self._steps(), Order(self.reverse, self.num_steps)
        early = self.num_steps - steps
        if early <= 0:
            return self._run(self.init, all_steps)
        first, last = order.part(all_steps, 0, early), order.part(all_steps, early, self.num_steps)
        carry, early_ys = self._without_derivative()._run(jax.lax.stop_gradient(self.init), first)
        carry, ys = self._run(carry, last)
        return carry, order.join([jax.lax.stop_gradient(early_ys), ys])

    def _without_derivative(self) -> "ScanCall":
        """The call without the derivatives of what `f` closes over, of xs and of the carry at a reset."""
        closed_over, f = split_closure(self.f, self.init, jax.tree.map(lambda a: a[0], self.xs))
        closed_over, initial = jax.lax.stop_gradient((closed_over, self.initial))
        return self._replace(f=lambda carry, x: f(closed_over, carry, jax.lax.stop_gradient(x)), initial=initial)

    def window(self) -> Window:
        """All steps as a window, differentiated by the float arrays that `f` closes over and the state at a reset.

        Whether `xs` is differentiated is unknown here, so the copy of its gradient that joins the segments to a shorter
        rest is not counted.
        """
        init = jax.tree.map(jnp.asarray, self.init)
        closed_over, f = split_closure(self.f, init, jax.tree.map(lambda a: a[0], self.xs))
        # An array that is no tracer cannot be differentiated.
        traced, constant = (
            [c if isinstance(c, jax.core.Tracer) == is_traced else None for c in closed_over]
            for is_traced in (True, False)
        )
        floats, others = partition_float(traced)

        def run(floats, carry, steps, num_steps):
            floats, initial = floats
            closed_over = combine(combine(floats, others), constant)

            def body(carry, inputs):
                x, reset = inputs
                return f(closed_over, where_rows(reset, combine(initial, initial_others), carry), x)

            return jax.lax.scan(body, carry, steps, num_steps)

        initial, initial_others = partition_float(self.initial)
        floats = floats, initial
        return Window(run, floats, init, (self.xs, self.reset), self.num_steps, num_bytes(floats), 0)

    def _steps(self, edge_weights=None):
        if edge_weights is not None and self.reverse:
            edge_weights = edge_weights[::-1]
        return Steps.of((self.xs, edge_weights, self.reset), self.num_steps)

    def _run(self, carry, steps):
        """Runs consecutive steps; none if the loop has stopped."""
        if self.is_running is None:
            return self._scan(carry, steps)
        running = any_running(self.is_running(carry))
        return jax.lax.cond(running, lambda carry: self._scan(carry, steps), lambda carry: (carry, None), carry)

    def _scan(self, carry, steps):
        xs, *others = steps.read()
        if others == [None, None]:
            return jax.lax.scan(self.f, carry, xs, steps.length, self.reverse, self.unroll)
        return jax.lax.scan(self._step, carry, (xs, *others), steps.length, self.reverse, self.unroll)

    def _step(self, carry, inputs):
        x, weight, reset = inputs
        carry = carry if weight is None else weigh_edge(carry, weight, self.chosen)
        return self.f(where_rows(reset, self.initial, carry), x)
