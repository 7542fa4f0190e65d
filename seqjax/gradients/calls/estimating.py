"""`value_and_grad` and `estimate`: any strategy on any scan body."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from seqjax.errors import Error, check_flags, check_type, is_whole
from seqjax.gradients.calls.check_scan import Weights, add_row_axis, check_any_float, check_scan
from seqjax.gradients.calls.scan_problem import Arguments, Differentiated
from seqjax.gradients.contract.gradient import Gradient, check_key, check_strategy
from seqjax.gradients.contract.problem import Params, Problem, State, as_problem
from seqjax.gradients.contract.resetting import Resets, read_resets, with_resets
from seqjax.gradients.contract.rows import as_row, average_shared, init_memory, one_input
from seqjax.gradients.contract.window import Batch, Estimate, Memory, Start
from seqjax.gradients.steps.floats import partition_float
from seqjax.gradients.steps.precision import Precision, check_precision

ARGUMENTS = ("params", "state", "xs")
"""The arguments of a scan by their number."""


def value_and_grad(
    step_or_problem: Callable | Problem,
    gradient: Gradient,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    batched: bool = False,
    precision: Precision = "float32",
) -> Callable[..., tuple[Any, Any]]:
    """Like `jax.value_and_grad`, for a scan: returns a function that differentiates T steps by a strategy.

    The returned function takes `(params, state, xs=None, *, length=None, weights=None, key=None, reset=None,
    initial=None)`, which mean the same as in `estimate`. It returns `(loss, grads)`, or with has_aux
    `((loss, outputs), grads)`. `estimate` also returns the state after the last step and the memory of the strategy,
    with which the next window begins.

    >>> import jax.numpy as jnp
    >>> import seqjax as sj
    >>> from seqjax.gradients import Truncated
    >>> def step(w, s, x):
    ...     s = s + w * x
    ...     return s, (s, -s)  # the loss, and an output
    >>> gradient = sj.value_and_grad(step, Truncated(steps=2), argnums=(0, 1), has_aux=True)
    >>> (loss, outputs), (of_w, of_s) = gradient(jnp.array(1.0), jnp.array(0.0), jnp.ones(4), weights="last")
    >>> loss.item(), outputs.tolist()
    (4.0, [-1.0, -2.0, -3.0, -4.0])
    >>> of_w.item(), of_s.item()  # the edge into the last two steps is cut
    (2.0, 0.0)

    Args:
        step_or_problem: as in `estimate`, like all arguments.
        gradient: the gradient strategy, such as `Truncated(steps=50)`.
        argnums: what is differentiated: 0, the parameters; 1, the state in which the window starts; 2, what the steps
            read. With a sequence of them, `grads` is a tuple in their order.
        has_aux: whether the step returns (new state, (loss, outputs)).
        batched: whether state and xs have an axis B of rows.
        precision: "float32" or "bfloat16".

    Raises:
        Error: as `estimate`.
    """
    function = estimate(step_or_problem, gradient, argnums, has_aux, batched, precision)

    def value_and_gradient(
        params: Params,
        state: State,
        xs: PyTree = None,
        *,
        length: int | None = None,
        weights: Weights = None,
        key: jax.Array | None = None,
        reset: Bool[Array, "T ..."] | None = None,
        initial: State | None = None,
    ) -> tuple[Any, Any]:
        """(loss, grads), or with has_aux ((loss, outputs), grads); see `seqjax.value_and_grad`."""
        options: dict[str, Any] = {"weights": weights, "key": key, "reset": reset, "initial": initial}
        found = function(params, state, xs, length=length, **options)
        return (found.loss, found.outputs) if has_aux else found.loss, found.grads

    return value_and_gradient


def estimate(
    step_or_problem: Callable | Problem,
    gradient: Gradient,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    batched: bool = False,
    precision: Precision = "float32",
) -> Callable[..., Estimate]:
    """Returns a function that estimates the gradient of T steps by a strategy, and carries on from window to window.

    >>> import jax.numpy as jnp
    >>> import seqjax as sj
    >>> from seqjax.gradients import RTRL
    >>> def step(w, s, x):
    ...     s = s + w * x
    ...     return s, s**2
    >>> estimate = sj.estimate(step, RTRL())
    >>> first = estimate(jnp.array(1.0), jnp.array(0.0), jnp.ones(4))
    >>> second = estimate(jnp.array(1.0), first.state, jnp.ones(4), memory=first.memory)
    >>> ((first.grads + second.grads) / 2).item()  # the mean over the 8 steps, as `jax.grad` computes it
    51.0

    The returned function takes `(params, state, xs=None)`, and what follows them here by name, all None by default. It
    returns an `Estimate`: loss, grads, state, memory and outputs.

    - `params`: the parameters, any pytree. Its float leaves are differentiated. Its other leaves, such as integers,
      keys and functions, are constants, and their gradient is None.
    - `state`: the state in which the window starts.
    - `xs`: what the steps read, leaves [T, ...]; None: nothing.
    - `length`: T, if `xs` has no arrays, as in `jax.lax.scan`.
    - `memory`: what the strategy carries from window to window, the `memory` of the estimate before; None: its initial
      memory, which `seqjax.gradients.init_memory` makes.
    - `weights`: float[T], the weights of the losses; None: 1 / T; "last": 1 for the loss of the last step and 0 for all
      others. A loss of weight 0 may be NaN.
    - `key`: a JAX key; a strategy that draws needs it.
    - `reset`: bool[T], the steps that start from `initial` in place of the state that the step before left. No gradient
      crosses a reset. Cuts are still counted from the start of the scan. What a strategy carries from step to step,
      such as the influence of `RTRL`, is zero again after a reset.
    - `initial`: the state at a reset, a constant. None: the `init_state` of a problem that has one, else `state`. A
      state that is not given by `initial` is differentiated.

    With batched=True, B sequences are scanned side by side: `state` and `initial` have leaves [B, ...], `xs` leaves
    [T, B, ...], `weights` is float[T, B], by default 1 / (T B), with "last" 1 / B at the last step, and `reset` is
    bool[T] or bool[T, B].

    The gradient of the strategy is in `grads`. `jax.grad` of the returned loss is the full gradient.

    Args:
        step_or_problem: a scan body for one sequence, step(params, state, x) -> (new state, loss), or a Problem.
        gradient: the gradient strategy, such as `Truncated(steps=50)`.
        argnums: what is differentiated: 0, the parameters; 1, the state in which the window starts; 2, what the steps
            read. With a sequence of them, `grads` is a tuple in their order.
        has_aux: whether the step returns (new state, (loss, outputs)). `outputs` then has leaves [T, ...], or
            [T, B, ...].
        batched: whether state and xs have an axis B of rows. The memory always has one.
        precision: "bfloat16": the float arguments of the step are rounded to bfloat16. The state between steps, the
            losses and the gradients keep their dtypes, and gradients are summed over the steps in these. Weights of
            edges and losses, such as 1/π, are never rounded. Strategies with `rounds = False`, such as `rtrl` and
            `uoro`, compute in float32 all the same: rounding would grow in what they carry from step to step.

    Raises:
        Error: `gradient` is not an instance of a strategy, or cannot differentiate one of the arguments. The returned
            function raises an `Error` if its arguments and the results of the step do not fit together.
    """
    check_strategy("the argument gradient", gradient)
    problem = as_problem(step_or_problem)
    check_precision(precision)
    check_flags(has_aux=has_aux, batched=batched)
    if precision == "bfloat16" and gradient.rounds:
        problem = problem.in_bfloat16()
    numbers = _check_argnums(gradient, argnums)
    if has_aux and problem.run is not None:
        raise Error("has_aux=True takes a step that returns (new state, (loss, outputs)), not the problem of a model")

    def estimate_window(
        params: Params,
        state: State,
        xs: PyTree = None,
        *,
        length: int | None = None,
        memory: Memory | None = None,
        weights: Weights = None,
        key: jax.Array | None = None,
        reset: Bool[Array, "T ..."] | None = None,
        initial: State | None = None,
    ) -> Estimate:
        """The `Estimate` of a window; see `seqjax.estimate`."""
        if 0 in numbers:  # before the step is traced with them
            check_any_float(params)
        if memory is not None:
            check_type("memory", memory, Memory, "what the call before returned, `estimate.memory`, or leave it out")
        if key is not None:
            check_key(gradient, key)
        checked = check_scan(problem, params, state, xs, weights, has_aux, batched, length)
        params, state, weights_TB = checked.params, checked.state, checked.weights
        for i in {*numbers} - {0}:  # a state of Python numbers has the dtype of the step's state by now
            check_any_float((params, state, xs)[i], ARGUMENTS[i])
        resets = read_resets(reset, initial, state, len(weights_TB), weights_TB.shape[1] if batched else None)
        if numbers == (0,) and not has_aux and not jax.tree.leaves(partition_float(params)[1]):
            # Some strategies use the structure of the problem itself, such as the layers of a `Cell`.
            arrays = lambda _: state, checked.xs, weights_TB
            result = _estimate(gradient, checked.problem, params, *arrays, memory, key, resets)
            grads = (result.grads,)
        else:
            if memory is not None and gradient.of == "history" and numbers != (0,):
                raise Error(
                    f"{type(gradient).__name__} carries the influence of what it differentiates from window to window, "
                    "and the state that enters a window is no argument of the windows before it: leave memory out, or "
                    "differentiate the parameters only, argnums=0"
                )
            scan = Differentiated(checked.problem, params, state, checked.xs, numbers, has_aux)
            result = _estimate_arguments(gradient, scan, weights_TB, memory, key, resets)
            grads = tuple(scan.by_argument(result.grads)[i] for i in numbers)
        if not batched:
            result, grads = _drop_row_axis(result, grads, numbers)
        return result._replace(grads=grads if isinstance(argnums, Sequence) else grads[0])

    return estimate_window


def _check_argnums(strategy: Gradient, argnums: Any) -> tuple[int, ...]:
    """The arguments that are differentiated, as a tuple."""
    numbers = tuple(argnums) if isinstance(argnums, Sequence) else (argnums,)
    if not numbers or not all(is_whole(i) and 0 <= i < 3 for i in numbers) or len(set(numbers)) < len(numbers):
        raise Error(
            f"argnums = {argnums!r}: choose from 0 (params), 1 (state) and 2 (xs), such as argnums=0 or argnums=(0, 1)"
        )
    for i in numbers:
        if i not in strategy.argnums:
            raise Error(
                f"{type(strategy).__name__} cannot differentiate {ARGUMENTS[i]}, argnums={i}; take a strategy that "
                "can, such as full or truncated"
            )
    return numbers


def _estimate(
    strategy: Gradient,
    problem: Problem,
    params: Params,
    start: Start,
    xs: PyTree,
    weights: Float[Array, "T B"],
    memory: Memory | None,
    key: jax.Array | None,
    resets: Resets | None = None,
    first_row: Int[Array, ""] | int = 0,
) -> Estimate:
    """The estimate of one window in which no row is reset at the start, with rows numbered from `first_row` on."""
    num_rows = weights.shape[1]
    problem, xs = with_resets(problem, start, xs, resets)
    first_memory = lambda params: init_memory(strategy, problem, params, start(params), num_rows, one_input(xs))
    if memory is None:
        memory = first_memory(params)
    elif jax.tree.leaves(memory.rows) or not jax.tree.leaves(memory.shared):
        # A memory of shared numbers alone is not compared: a user may choose how many directions `directional` has.
        _check_rows(strategy, memory.rows, jax.eval_shape(first_memory, params).rows)
    rows = first_row + jnp.arange(num_rows, dtype=jnp.int32)
    batch = Batch(xs, weights, jnp.zeros(num_rows, bool), rows)
    return strategy.draw_and_estimate(problem, params, start, memory, batch, key)


def _check_rows(strategy: Gradient, rows: Any, first: Any) -> None:
    """Checks that the rows of a memory have the structure and the shapes of the rows of a first memory."""
    name, make = type(strategy).__name__, "seqjax.gradients.init_memory(strategy, problem, params, state, num_rows)"
    same_structure = str(jax.tree.structure(rows)) == str(jax.tree.structure(first))
    shapes, wanted = ([jnp.shape(a) for a in jax.tree.leaves(tree)] for tree in (rows, first))
    if same_structure and shapes == wanted:
        return
    if same_structure and shapes == [shape[1:] for shape in wanted]:
        raise Error(
            f"the memory is for a single sequence, as strategy.init makes it, and {name} takes the memory of all rows: "
            f"pass {make}, or leave it out"
        )
    raise Error(
        f"the memory does not fit: pass to {name} what a call has returned, for the same parameters and as many rows, "
        f"or the result of {make}, or leave it out"
    )


def _estimate_arguments(
    strategy: Gradient,
    scan: Differentiated,
    weights: Float[Array, "T B"],
    memory: Memory | None,
    key: jax.Array | None,
    resets: Resets | None,
) -> Estimate:
    """The estimate of one window, with its gradient as `Arguments`."""
    if 1 in scan.argnums and strategy.by_sequence:
        estimate = _row_by_row(strategy, scan, weights, memory, key, resets)
    else:
        estimate = _estimate(strategy, scan.problem, scan.args, scan.start, scan.xs, weights, memory, key, resets)
    if scan.has_aux and estimate.outputs is None:
        # The strategy returns no outputs, so that one more forward pass computes them.
        problem, xs = with_resets(scan.problem, scan.start, scan.xs, resets)
        estimate = estimate._replace(outputs=problem.unroll_with_outputs(scan.args, scan.state, xs)[2])
    return estimate


def _row_by_row(strategy, scan, weights, memory, key, resets):
    """`_estimate_arguments` for a strategy that is written for one sequence.

    Such a strategy stores numbers for each parameter and each row. The initial state of a row acts on this row alone,
    so each row is a problem of its own, with its initial state among the parameters.
    """

    def one(row, state, xs, weights, memory, resets):
        state, xs, weights = add_row_axis(state, xs, weights)
        if resets is not None:
            resets = Resets(as_row(resets.steps, axis=1), as_row(resets.initial))
        own = scan._replace(state=state, xs=xs)
        if memory is not None:
            memory = memory._replace(rows=as_row(memory.rows))
        estimate = _estimate(strategy, own.problem, own.args, own.start, xs, weights, memory, key, resets, row)
        estimate, grads = _drop_row_axis(estimate, estimate.grads, range(3))
        rows = jax.tree.map(lambda a: a[0], estimate.memory.rows)
        return estimate._replace(grads=Arguments(*grads), memory=estimate.memory._replace(rows=rows))

    num_rows = weights.shape[1]
    in_axes = (0, 0, 1, 1, None if memory is None else Memory(None, 0), None if resets is None else Resets(1, 0))
    rows = jnp.arange(num_rows, dtype=jnp.int32)
    estimates = jax.vmap(one, in_axes)(rows, scan.state, scan.xs, weights, memory, resets)
    loss, params = jax.tree.map(lambda a: a.sum(0), (estimates.loss, estimates.grads.params))
    return estimates._replace(
        loss=loss,
        grads=estimates.grads._replace(params=params),
        memory=average_shared(estimates.memory),
        outputs=jax.tree.map(lambda a: jnp.moveaxis(a, 0, 1), estimates.outputs),
    )


def _drop_row_axis(estimate: Estimate, grads: tuple, numbers: Sequence[int]) -> tuple[Estimate, tuple]:
    """Turns the results of a scan with one row into the results of a scan of one sequence."""
    state = jax.tree.map(lambda a: a[0], estimate.state)
    outputs = jax.tree.map(lambda a: a[:, 0], estimate.outputs)
    without = {0: lambda a: a, 1: lambda a: a[0], 2: lambda a: a[:, 0]}
    grads = tuple(jax.tree.map(without[i], tree) for i, tree in zip(numbers, grads, strict=True))
    return estimate._replace(state=state, outputs=outputs), grads
