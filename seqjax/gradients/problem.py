"""`Problem`: a scan body that returns one loss per step. It is all that a gradient strategy knows of a model."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from seqjax.errors import Error
from seqjax.gradients.scored import replace_unscored, split_step
from seqjax.gradients.unroll import EdgeWeights, unroll

Params = Any
"""A pytree of float arrays, such as a nested dict."""
State = Any
"""Any pytree of arrays; leaves may be integers or keys."""
Step = Callable[[Params, State, Any], tuple[State, Float[Array, ""]]]
InitState = Callable[..., State]
Losses = Float[Array, "T B"]


class Problem:
    """A scan body for ONE sequence; `unroll` runs it for B rows, one sequence each.

    Two problems are equal if they are of one class and have the same `step` and `init_state`.

    Args:
        step: (params, state, x) -> (new state, loss), one sequence, one time step, pure; the loss is float[].
        init_state: (params, key=None) -> the state in which a sequence starts. Without it, a row that is reset keeps
            the state that it is given.

    Attributes:
        warmup: the number of steps after a reset that are not scored.
        is_value: whether equal problems always compute the same, so that a program compiled for one may be used for the
            other. A function may close over a value that changes, so this is False unless a subclass knows better.
    """

    warmup: int = 0
    is_value: bool = False

    def __init__(self, step: Step, init_state: InitState | None = None):
        self.step = step
        self.init_state = init_state

    @staticmethod
    def of(model: Any, spec: Any, loss: Callable | None = None, dtype: Any = None) -> Any:
        """The problem of a model, in which x = (input, target). The same as `model.problem(spec, loss, dtype)`."""
        return model.problem(spec, loss, dtype)

    def unroll(
        self,
        params: Params,
        state: State,
        xs: PyTree,
        edge_weights: EdgeWeights = None,
        scored: Bool[Array, "T B"] | None = None,
    ) -> tuple[State, Losses]:
        """The state after T steps, and the losses float[T, B] of B rows.

        Args:
            params: the parameters.
            state: leaves [B, ...].
            xs: what the steps read, leaves [T, B, ...].
            edge_weights: float[T] or float[T, B], see `seqjax.gradients.unroll`; None: all ones.
            scored: which losses the caller uses; None: all. An unscored loss may have any value, and it adds nothing to
                the gradient even where it is NaN. It has to be multiplied by a weight of 0.
        """
        if scored is None:
            return unroll(functools.partial(self.step, params), state, xs, edge_weights)

        def first_row(state, xs):
            return jax.tree.map(lambda a: a[0], state), jax.tree.map(lambda a: a[0, 0], xs)

        advance, loss = split_step(self.step, params, *jax.eval_shape(first_row, state, xs))
        state, between = unroll(functools.partial(advance, params), state, xs, edge_weights)
        num_steps, num_rows = scored.shape
        rows = jax.vmap(functools.partial(loss, params), axis_size=num_rows)
        return state, jax.vmap(rows, axis_size=num_steps)(replace_unscored(between, scored))

    @property
    def has_own_unroll(self) -> bool:
        """Whether a subclass has its own `unroll`, so that it is not known whether it reads the edge weights."""
        return type(self).unroll is not Problem.unroll

    def start(self, params: Params, state: State, reset: Any, keys: jax.Array | None = None) -> State:
        """The state in which a window starts: the initial state in rows that are reset, and `state` in the others.

        Args:
            params: the parameters, on which the initial state may depend.
            state: the state that the previous window left, leaves [B, ...].
            reset: bool[B].
            keys: one key per row, for initial states that are random; None: initial states are deterministic.
        """
        if self.init_state is None:
            return state
        initial = jax.vmap(self.init_state, (None, 0), axis_size=len(reset))(params, keys)
        return where_rows(reset, initial, state)

    def init_rows(self, params: Params, num_rows: int) -> State:
        """The state in which B rows start, leaves [B, ...], for a deterministic `init_state`."""
        assert self.init_state is not None
        return jax.vmap(self.init_state, (None, None), axis_size=num_rows)(params, None)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    def __hash__(self) -> int:
        return hash((self.step, self.init_state))


def check_problem(caller: str, problem: Any) -> None:
    """Checks that a caller was given a problem whose rows can be reset.

    Raises:
        Error: it is something else, such as a step; it has no `init_state`.
    """
    if not isinstance(problem, Problem):
        raise Error(f"{caller} takes a problem, such as Problem(step, init_state), not {problem!r:.80}")
    if problem.init_state is None:
        raise Error(f"{caller} resets rows: give the problem its init_state, Problem(step, init_state)")


def as_problem(step_or_problem: Step | Problem) -> Problem:
    """The problem itself, or the one of a step: a scan body for one sequence, (params, state, x) -> (state, loss)."""
    return step_or_problem if isinstance(step_or_problem, Problem) else Problem(step_or_problem)


def where_rows(reset: Any, new: Any, old: Any) -> Any:
    """Row by row: `new` where `reset` is True, else `old`; in the dtypes of `old`.

    Args:
        reset: bool[B].
        new: leaves [B, ...], which may be integers or keys.
        old: the same.
    """

    def leaf(a, b):
        a = a if a.dtype == b.dtype else a.astype(b.dtype)
        return jnp.where(reset.reshape(reset.shape + (1,) * (b.ndim - 1)), a, b)

    return jax.tree.map(leaf, new, old)
