"""`Problem`: a scan body that returns one loss per step. It is all that a gradient strategy knows of a model."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from seqjax.errors import Error
from seqjax.gradients.mapping import mapped, sees_vmap
from seqjax.gradients.precision import Precision, step_in_bfloat16
from seqjax.gradients.scored import replace_unscored, split_step
from seqjax.gradients.unrolling import EdgeWeights, unroll
from seqjax.plugin.base import Plugin

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

    >>> import jax.numpy as jnp
    >>> import seqjax as sj
    >>> def step(w, s, x):
    ...     s = s + w * x
    ...     return s, s
    >>> problem = sj.Problem(step, init_state=lambda w, key=None: jnp.zeros(()))
    >>> w = jnp.array(2.0)
    >>> state, losses = problem.unroll(w, problem.init_rows(w, 1), jnp.ones((3, 1)))
    >>> losses.tolist()
    [[2.0], [4.0], [6.0]]

    Args:
        step: (params, state, x) -> (new state, loss), one sequence, one time step, pure; the loss is float[].
        init_state: (params, key=None) -> the state in which a sequence starts. Without it, a row that is reset keeps
            the state that it is given.

    Raises:
        Error: `step` or `init_state` is no function.

    Attributes:
        warmup: the number of steps after a reset that are not scored.
        is_value: whether equal problems always compute the same, so that a program compiled for one may be used for the
            other. A function may close over a value that changes, so this is False by default.
        weighs_whole_state: whether an edge weight multiplies the tangents of all leaves of the state, so that a weight
            of 0 makes the state a constant.
    """

    warmup: int = 0
    is_value: bool = False
    weighs_whole_state: bool = True

    def __init__(self, step: Step, init_state: InitState | None = None):
        if not _is_function(step):
            raise Error(f"a step is a function (params, state, x) -> (state, loss), not {step!r:.80}")
        if init_state is not None and not _is_function(init_state):
            raise Error(f"init_state is a function (params, key=None) -> state, not {init_state!r:.80}")
        self.step = step
        self.init_state = init_state

    @staticmethod
    def of(model: Any, spec: Any, loss: Callable | None = None, precision: Precision = "float32") -> Any:
        """The problem of a model, in which x = (input, target). The same as `model.problem(spec, loss, precision)`.

        Raises:
            Error: `model` is no model, such as a class of models.
        """
        if isinstance(model, type) or not hasattr(model, "problem"):
            raise Error(f"Problem.of takes a model, such as RNN(hidden=8), not {model!r:.80}")
        return model.problem(spec, loss, precision)

    def in_bfloat16(self) -> "Problem":
        """The same problem, whose step gets its float arguments in bfloat16; what it returns is cast back.

        Raises:
            Error: the class computes the problem in its own way, and does not say how to round it.
        """
        if type(self) is not Problem:
            raise Error(
                f"precision = 'bfloat16' takes a step, Problem(step, init_state) or the problem of a model, not a "
                f"{type(self).__name__}: give this class a method `in_bfloat16`, or leave precision out"
            )
        return Problem(step_in_bfloat16(self.step), self.init_state)

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
                the gradient even where it is NaN. The caller has to multiply it by a weight of 0.
        """
        return scan_rows(self.step_with_outputs, params, state, xs, edge_weights, scored)[:2]

    def step_with_outputs(self, params: Params, state: State, x: Any) -> tuple[tuple[State, Any], Float[Array, ""]]:
        """One step with what it returns beside the loss: ((new state, outputs), loss). The outputs are None here."""
        new, loss = self.step(params, state, x)
        return (new, None), loss

    def unroll_with_outputs(
        self,
        params: Params,
        state: State,
        xs: PyTree,
        edge_weights: EdgeWeights = None,
        scored: Bool[Array, "T B"] | None = None,
    ) -> tuple[State, Losses, PyTree]:
        """The results of `unroll`, and the outputs of the steps, leaves [T, B, ...]; None: there are no outputs.

        A strategy that calls it in place of `unroll` can return the outputs in its `Estimate`.
        """
        return *self.unroll(params, state, xs, edge_weights, scored), None

    def inputs(self, params: Params, xs: PyTree) -> PyTree:
        """What the steps read, leaves [T, B, ...]: by default `xs`. In a subclass it may depend on the parameters.

        A strategy calls it inside of the differentiated function, so that the inputs are differentiated too.
        """
        return xs

    @property
    def has_own_inputs(self) -> bool:
        """Whether what the steps read depends on the parameters."""
        return type(self).inputs is not Problem.inputs

    @property
    def has_own_unroll(self) -> bool:
        """Whether a subclass overrides `unroll`, which may then ignore the edge weights."""
        return type(self).unroll is not Problem.unroll

    @property
    def has_fused_unroll(self) -> bool:
        """Whether `unroll` is something else than the scan of the step, such as a faster function."""
        return self.has_own_unroll

    def sees_vmap(self, params: Params, state: State, xs: PyTree) -> bool:
        """Whether the step may compute something else for an entry of a batch than for this entry alone.

        A strategy that maps the step over time then takes the steps one after the other, see
        `seqjax.gradients.mapped`.

        Args:
            params: the parameters.
            state: leaves [B, ...].
            xs: leaves [T, B, ...].
        """
        return sees_vmap(self.step, params, *jax.eval_shape(_first_row, state, xs))

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

    def initial_rows(self, params: Params, num_rows: int) -> State | None:
        """The state at a reset inside of a window: `init_rows`, or None if there is no `init_state`."""
        return None if self.init_state is None else self.init_rows(params, num_rows)

    def advance(self, params: Params, state: State, x: Any) -> tuple[State, Float[Array, ""]]:
        """`step` without a reset. A strategy that handles resets itself calls it with the state of `reset_of`."""
        return self.step(params, state, x)

    def reset_of(self, params: Params, x: Any) -> tuple[Bool[Array, ""] | None, State | None]:
        """Whether the step that reads x is reset, and the state from which it then starts; None twice: no step is."""
        return None, None

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    def __hash__(self) -> int:
        return hash((self.step, self.init_state))


class UnrolledProblem(Problem):
    """Another problem with a different `unroll`. The author of a subclass writes `unroll_with_outputs`.

    Args:
        problem: the other problem.
    """

    def __init__(self, problem: Problem):
        super().__init__(problem.step, problem.init_state)
        self.problem, self.warmup = problem, problem.warmup

    def step_with_outputs(self, params, state, x):
        """One step of the other problem, with its outputs."""
        return self.problem.step_with_outputs(params, state, x)

    def inputs(self, params, xs):
        """What the steps read."""
        return self.problem.inputs(params, xs)

    @property
    def has_own_inputs(self) -> bool:
        """Whether what the steps of the other problem read depends on the parameters."""
        return self.problem.has_own_inputs

    @property
    def has_own_unroll(self) -> bool:
        """Whether the other problem has an `unroll` of its own, which may ignore the edge weights."""
        return self.problem.has_own_unroll

    @property
    def has_fused_unroll(self) -> bool:
        """Whether the other problem has an `unroll` that is not the scan of its step."""
        return self.problem.has_fused_unroll

    @property
    def weighs_whole_state(self) -> bool:  # type: ignore[override]
        """Whether edge weights apply to all leaves of the state in the other problem."""
        return self.problem.weighs_whole_state

    def unroll(self, params, state, xs, edge_weights=None, scored=None):
        """The state after T steps, and the losses float[T, B]."""
        return self.unroll_with_outputs(params, state, xs, edge_weights, scored)[:2]


def scan_rows(
    step: Callable,
    params: Params,
    state: State,
    xs: PyTree,
    edge_weights: EdgeWeights = None,
    scored: Bool[Array, "T B"] | None = None,
) -> tuple[State, Losses, PyTree]:
    """Scans a step that returns outputs over time, for B rows side by side.

    Args:
        step: (params, state, x) -> ((new state, outputs), loss), one sequence, one time step.
        params: the parameters.
        state: leaves [B, ...].
        xs: leaves [T, B, ...].
        edge_weights: as in `unroll`.
        scored: as in `Problem.unroll`.

    Returns:
        The state after the last step, the losses float[T, B], and the outputs, leaves [T, B, ...].
    """
    first = jax.eval_shape(_first_row, state, xs)
    # Without `scored`, "between" is the loss itself.
    advance, loss = (step, None) if scored is None else split_step(step, params, *first)

    def one(state, x):
        (new, outputs), between = advance(params, state, x)
        return new, (between, outputs)

    state, (between, outputs) = unroll(one, state, xs, edge_weights)
    if loss is None or scored is None:
        return state, between, outputs
    num_steps, num_rows = scored.shape
    one_by_one = sees_vmap(step, params, *first)

    def evaluate(params, between):
        rows = jax.vmap(functools.partial(loss, params), axis_size=num_rows)
        return mapped(rows, (0,), num_steps, one_by_one)(replace_unscored(between, scored))

    def nothing(params, between):
        return jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), jax.eval_shape(evaluate, params, between))

    # If no loss counts, there are no values at which the losses are sure to be finite.
    return state, jax.lax.cond(scored.any(), evaluate, nothing, params, between), outputs


def _first_row(state: State, xs: PyTree) -> tuple[State, Any]:
    """The state and the input of the first row at the first step."""
    return jax.tree.map(lambda a: a[0], state), jax.tree.map(lambda a: a[0, 0], xs)


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
    """A problem as it is, or the problem of a step (params, state, x) -> (state, loss)."""
    if isinstance(step_or_problem, Problem):
        return step_or_problem
    return Problem(step_or_problem)


def _is_function(value: Any) -> bool:
    """Whether a value can be a step. A class, such as a class of strategies, cannot: calling it makes an object."""
    return callable(value) and not isinstance(value, type | Plugin)


def where_rows[T](reset: Any, new: T, old: T) -> T:
    """Row by row: `new` where `reset` is True, else `old`; in the dtypes of `old`.

    Args:
        reset: bool[B], or bool[] for a single sequence.
        new: leaves [B, ...], which may be integers or keys.
        old: the same.
    """

    def leaf(a, b):
        a = a if a.dtype == b.dtype else a.astype(b.dtype)
        return jnp.where(reset.reshape(reset.shape + (1,) * (b.ndim - 1)), a, b)

    return jax.tree.map(leaf, new, old)
