"""`Problem`: a scan body that returns one loss per step. It is all that a gradient strategy knows of a model."""

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import KW_ONLY, InitVar, dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from seqjax.errors import Error, dtype_shape
from seqjax.gradients.steps.mapping import mapped, sees_vmap
from seqjax.gradients.steps.precision import Precision, step_in_bfloat16
from seqjax.gradients.steps.scored import replace_unscored, split_step
from seqjax.gradients.steps.unrolling import EdgeWeights, unroll
from seqjax.plugin.base import Plugin

Params = Any
"""A pytree of float arrays, such as a nested dict."""
State = Any
"""Any pytree of arrays; leaves may be integers or keys."""
Step = Callable[[Params, State, Any], tuple[State, Float[Array, ""]]]
InitState = Callable[..., State]
Losses = Float[Array, "T B"]


@dataclass(frozen=True)
class Problem:
    """A scan body for ONE sequence, as a value: functions and flags. `unroll` runs it for B rows, one sequence each.

    The first two fields make a problem. The others say how it differs from the plain scan of its step; they are for
    functions that take a problem and return one (`changed`), and None means that there is nothing to say.

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
        init_state: (params, key=None) -> the state in which a sequence starts. None: a row that is reset keeps the
            state that it is given.
        has_aux: whether `step` returns (new state, (loss, outputs)). It is kept as `with_outputs` then.
        with_outputs: (params, state, x) -> ((new state, outputs), loss), the same step with what it returns beside the
            loss. None: the outputs are None.
        run: (params, state, xs, edge_weights, scored) -> (state, losses, outputs), how `unroll_with_outputs` computes
            its results. None: by a scan of the step.
        inputs: (params, xs) -> what the steps read, leaves [T, B, ...], where it depends on the parameters. A strategy
            calls `read` inside of the differentiated function, so that the inputs are differentiated too.
        resets: how steps inside of a window are reset, see `seqjax.gradients.contract.resetting`.
        structure: which parameters act on which numbers of the state, see `seqjax.gradients.contract.structure`.
        x_like: what a step reads, as shapes and dtypes.
        warmup: the number of steps after a reset that are not scored.
        is_value: whether equal problems always compute the same, so that a program compiled for one may be used for the
            other. A function may close over a value that changes, so this is False by default.
        weighs_whole_state: whether an edge weight multiplies the tangents of all leaves of the state, so that a weight
            of 0 makes the state a constant.
        fused: whether `run` is something faster than a scan of the step.

    Raises:
        Error: `step` or `init_state` is no function.
    """

    step: Step
    init_state: InitState | None = None
    _: KW_ONLY
    has_aux: InitVar[bool] = False
    with_outputs: Callable | None = None
    run: Callable | None = None
    inputs: Callable[[Params, PyTree], PyTree] | None = None
    resets: Any = None
    structure: Any = None
    x_like: Any = dataclasses.field(default=None, hash=False)
    warmup: int = 0
    is_value: bool = False
    weighs_whole_state: bool = True
    fused: bool = False

    def __post_init__(self, has_aux: bool) -> None:
        if not _is_function(self.step):
            raise Error(f"a step is a function (params, state, x) -> (state, loss), not {self.step!r:.80}")
        if self.init_state is not None and not _is_function(self.init_state):
            raise Error(f"init_state is a function (params, key=None) -> state, not {self.init_state!r:.80}")
        if has_aux:
            with_outputs = functools.partial(_outputs_beside_state, self.step)
            object.__setattr__(self, "with_outputs", with_outputs)
            object.__setattr__(self, "step", functools.partial(_without_outputs, with_outputs))

    @staticmethod
    def of(model: Any, spec: Any, loss: Callable | None = None, precision: Precision = "float32") -> Any:
        """The problem of a model, in which x = (input, target). The same as `model.problem(spec, loss, precision)`.

        Raises:
            Error: `model` is no model, such as a class of models.
        """
        is_model = isinstance(model, Plugin) and model.kind == "model"
        if not is_model:
            raise Error(f"Problem.of takes a model, such as RNN(hidden=8), not {model!r:.80}")
        return model.problem(spec, loss, precision)

    @property
    def own(self) -> "Problem":
        """The problem without resets inside of a window."""
        return self if self.resets is None else self.resets.problem

    def changed(self, **fields: Any) -> "Problem":
        """The problem with other values of some fields.

        With another step, `with_outputs`, `run`, `resets` and `structure` are left out, which belong to the old one.
        `with_outputs` also gives the step.
        """
        if "with_outputs" in fields:
            fields = {"step": functools.partial(_without_outputs, fields["with_outputs"])} | fields
        if "step" in fields:
            fields = {"with_outputs": None, "run": None, "fused": False, "resets": None, "structure": None} | fields
        fields = {"is_value": False} | fields  # functions that are made anew are equal to no others
        # The result is no problem of a model, whose class has more fields than these.
        own = {field.name: getattr(self, field.name) for field in dataclasses.fields(Problem)}
        return Problem(**own | fields)

    def in_bfloat16(self) -> "Problem":
        """The same problem, whose step gets its float arguments in bfloat16; what it returns is cast back.

        Raises:
            Error: the problem is computed in a way of its own, which does not say how it is rounded.
        """
        if any(field is not None for field in (self.with_outputs, self.run, self.inputs, self.resets)):
            raise Error(
                "precision = 'bfloat16' takes a step, Problem(step, init_state) or the problem of a model, and not a "
                "problem with further fields: leave precision out"
            )
        return self.changed(step=step_in_bfloat16(self.step))

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
        return self.unroll_with_outputs(params, state, xs, edge_weights, scored)[:2]

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
        run = functools.partial(scan_rows, self.step_with_outputs) if self.run is None else self.run
        return run(params, state, xs, edge_weights, scored)

    def step_with_outputs(self, params: Params, state: State, x: Any) -> tuple[tuple[State, Any], Float[Array, ""]]:
        """One step with what it returns beside the loss: ((new state, outputs), loss)."""
        if self.with_outputs is not None:
            return self.with_outputs(params, state, x)
        new, loss = self.step(params, state, x)
        return (new, None), loss

    def read(self, params: Params, xs: PyTree) -> PyTree:
        """What the steps read, leaves [T, B, ...]: `xs`, unless `inputs` says otherwise."""
        return xs if self.inputs is None else self.inputs(params, xs)

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


def _outputs_beside_state(step: Callable, params: Params, state: State, x: Any) -> tuple[tuple[State, Any], Any]:
    result = step(params, state, x)
    if not (_is_pair(result) and _is_pair(result[1])):
        returns = dtype_shape(result)
        raise Error(
            f"with has_aux=True a step must return (new state, (loss, outputs)), but this one returns {returns}"
        )
    new, (loss, outputs) = result
    return (new, outputs), loss


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2


def _without_outputs(step: Callable, params: Params, state: State, x: Any) -> tuple[State, Float[Array, ""]]:
    (new, _), loss = step(params, state, x)
    return new, loss


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
        reset: bool[B], or bool[] for a single sequence; None: no row is reset, so that `new` is not read.
        new: leaves [B, ...], which may be integers or keys.
        old: the same.
    """

    def leaf(a, b):
        a = a if a.dtype == b.dtype else a.astype(b.dtype)
        return jnp.where(reset.reshape(reset.shape + (1,) * (b.ndim - 1)), a, b)

    return old if reset is None else jax.tree.map(leaf, new, old)


def zero_rows[T](reset: Any, tree: T) -> T:
    """Row by row: zeros where `reset` is True, see `where_rows`. What is carried along a sequence ends with it."""
    return where_rows(reset, jax.tree.map(jnp.zeros_like, tree), tree)
