"""`first_nonfinite`: the step and the variable at which a scan, or its gradient, stops being finite."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, PyTree

from seqjax.diagnostics.origin import Origin, find_origin
from seqjax.errors import Error, counted, few
from seqjax.gradients.calls.check_scan import Weights, read_scan
from seqjax.gradients.contract.compiling import jit_of
from seqjax.gradients.contract.gradient import weighted_sum
from seqjax.gradients.contract.problem import Params, Problem, State
from seqjax.gradients.steps.floats import leaf_names, norm, partition_float, split_float
from seqjax.gradients.steps.scored import replace_unscored
from seqjax.report.shown import Shown
from seqjax.report.table import Table

if TYPE_CHECKING:  # matplotlib takes long to import
    import seqjax.report.figure


MOST_SHOWN = 5
"""How many other variables a line names."""


class Place(NamedTuple):
    """Where something stops being finite.

    Args:
        step: the step, from 0 on.
        row: the row of the batch; None: there is one sequence, or a given parameter is not finite, or its gradient is
            finite for each row alone.
        of: "state", "params", "xs" or "loss": which of these the variable is, or is a part of.
        name: the name of the variable in this tree.
        entry: the index of its first entry that is not finite, without the axes of steps and rows; () for a number.
        operation: the JAX operation that first gives a number that is not finite from finite ones, also inside of a
            branch, a loop or a function with a derivative of its own; empty: the variable was not finite when it was
            given, or the operation is unknown. For a gradient it is an operation of the derivative.
        line: the line of the step that calls the operation, such as "model.py:12"; empty: it is unknown.
        others: the other variables that are not finite at this step.
    """

    step: int
    row: int | None
    of: str
    name: str
    entry: tuple[int, ...] = ()
    operation: str = ""
    line: str = ""
    others: tuple[str, ...] = ()

    @property
    def variable(self) -> str:
        """The variable in words, with the index of its entry, such as "state h[3]"."""
        return _variable(self.of, self.name) + (str(list(self.entry)) if self.entry else "")


@dataclass(frozen=True, eq=False, repr=False)
class Nonfinite(Shown):
    """Where a scan and its gradient stop being finite, with the largest norms on the way there.

    Norms are the largest of all rows, NaN or infinite where they are not finite.
    """

    value: Place | None
    """The first step at which a value is not finite; None: all are."""
    gradient: Place | None
    """Where the gradient first stops being finite on its way back from the last step, or from the last step before
    `value`: the step that makes it so, and the variable that enters this step; None: it is finite."""
    norms: dict[str, np.ndarray]
    """The norms of each state variable after each step, and of the loss, float64[T], by variable: "state h". A loss of
    weight 0 counts as 0."""
    gradient_norms: dict[str, np.ndarray]
    """The norms of the gradient of the loss by each state variable before each step, and of the share of each step in
    the gradient by each parameter, float64[T], by variable: "state h", "params W"."""

    def _parts(self) -> list[str | Table]:
        return [*self._lines(), self.table]

    __repr__ = Shown.__str__

    def _lines(self) -> list[str]:
        num_steps = len(next(iter(self.norms.values())))
        if self.value is None and self.gradient is None:
            return [f"the values and the gradients of each of {counted(num_steps, 'step')} are finite"]
        lines = [_line("value", self.value), _line("gradient", self.gradient)]
        if self.value is not None and self.gradient is None:
            lines[1] += f" up to step {self.value.step - 1}" if self.value.step else " (there is no step before)"
        return lines

    @property
    def table(self) -> Table:
        """The largest finite norm of each variable and of its gradient, with their steps."""
        names = list(dict.fromkeys([*self.norms, *self.gradient_norms]))
        rows = [(name, *_largest(self.norms, name), *_largest(self.gradient_norms, name)) for name in names]
        return Table(("variable", "largest norm", "at step", "largest gradient norm", "at step "), rows)

    def plot(
        self, of: Literal["value", "gradient"] = "value", *, figsize: tuple[float, float] | None = None
    ) -> "seqjax.report.figure.Figure":
        """A matplotlib figure of the norms by step, on a logarithmic scale.

        Args:
            of: whether the norms of the values or of the gradient are drawn.
            figsize: the width and the height in inches.

        Raises:
            Error: `of` is something else.
        """
        import matplotlib

        from seqjax.report import plot
        from seqjax.report.figure import STYLE

        if of not in ("value", "gradient"):
            raise Error(f'of = {of!r} must be "value" or "gradient"')
        norms = self.norms if of == "value" else self.gradient_norms
        positive = {name: np.where(np.isfinite(a) & (a > 0), a, np.nan) for name, a in norms.items()}
        label = "norm" if of == "value" else "norm of the gradient"
        figure = plot.lines(positive, x_label="step", y_label=label, y_scale="log", figsize=figsize)
        place = getattr(self, of)
        if place is not None:
            axes, is_left = figure.axes[0], 2 * place.step < len(next(iter(norms.values())))
            with matplotlib.rc_context(STYLE):
                axes.axvline(place.step, color="black", linestyle="--")
                axes.annotate(
                    f"not finite at step {place.step}",
                    xy=(place.step, 0.97),
                    xycoords=("data", "axes fraction"),
                    xytext=(5 if is_left else -5, 0),
                    textcoords="offset points",
                    ha="left" if is_left else "right",
                    va="top",
                )
        return figure


def first_nonfinite(
    step_or_problem: Callable | Problem,
    params: Params,
    state: State,
    xs: PyTree = None,
    *,
    length: int | None = None,
    weights: Weights = None,
    has_aux: bool = False,
    batched: bool = False,
    reset: Bool[Array, "T ..."] | None = None,
    initial: State | None = None,
) -> Nonfinite:
    """Finds the step and the variable at which a scan stops being finite, and the same for its gradient.

    Only losses before the first value that is not finite are differentiated. The gradient is followed from the last of
    these steps to the first one, one step at a time: the sum over all steps may still overflow. A loss of weight 0 is
    left out, value and gradient. In a loop of your own, 0 times its infinite derivative would be NaN.

    √T of the states are kept, and the others are computed again, so that a long scan fits into memory. It takes the
    time of about ten passes forwards, and before that, at each call, the time to compile the step and its derivative;
    for the problem of a model the compiled program is kept.

    >>> import jax.numpy as jnp
    >>> import seqjax as sj
    >>> def step(w, s, x):
    ...     v = jnp.sqrt(s["u"])  # its derivative at 0 is infinite
    ...     return {"u": s["u"] - w * x, "v": v}, v
    >>> state = {"u": jnp.array(1.0), "v": jnp.array(0.0)}
    >>> found = sj.first_nonfinite(step, jnp.array(0.25), state, jnp.ones(8))
    >>> found.value.step, found.value.name, found.value.operation
    (5, 'v', 'sqrt')
    >>> found.gradient.step, found.gradient.of, found.gradient.name
    (4, 'state', 'u')

    Args:
        step_or_problem: a scan body for one sequence, step(params, state, x) -> (new state, loss), or a Problem.
        params: the parameters.
        state: the state in which the window starts.
        xs: what the steps read, leaves [T, ...]; None: nothing.
        length: T, if `xs` has no arrays, as in `jax.lax.scan`.
        weights: float[T], the weights of the losses; None: 1 / T; "last": only the last loss counts.
        has_aux: whether the step returns (new state, (loss, outputs)).
        batched: whether there are rows: state has leaves [B, ...], xs [T, B, ...], and weights are float[T, B].
        reset: as in `estimate`.
        initial: as in `estimate`.

    Raises:
        Error: `length` is no number of steps, or not T, or it is missing; the arguments, or what the step returns, do
            not fit together.
    """
    options: dict[str, Any] = {"has_aux": has_aux, "batched": batched, "reset": reset, "initial": initial}
    scan = read_scan(step_or_problem, params, state, xs, weights, length=length, **options)
    if any(isinstance(a, jax.core.Tracer) for a in jax.tree.leaves(scan[1:])):
        raise Error("first_nonfinite looks at the values of its arguments: call it outside of jax.jit, grad and vmap")
    size = max(1, math.isqrt(len(scan.weights)))
    all_scored = bool(jnp.all(scan.weights != 0))
    forwards, backwards = jax.device_get(jit_of(_walk, scan.problem, size, all_scored)(*scan[1:]))
    names = _Names.of(scan.params, scan.state, scan.xs if reset is None else scan.xs[0])
    value = _place_of_value(scan, forwards.first, names)
    gradient = _place_of_gradient(scan, all_scored, backwards.first, names)
    if not batched:
        value, gradient = (place and place._replace(row=None) for place in (value, gradient))
    state, params = ([_variable(of, name) for name in getattr(names, of)] for of in ("state", "params"))
    norms = dict(zip([*state, "loss"], np.asarray(forwards.norms, np.float64).T, strict=True))
    back = dict(zip([*state, *params], np.asarray(backwards.norms, np.float64).T, strict=True))
    return Nonfinite(value, gradient, norms, back)


def _variable(of: str, name: str) -> str:
    # A tree that is a single leaf has no other name.
    return of if name == of else f"{of} {name}"


class _First(NamedTuple):
    """The first step, in the order of a walk, at which something is not finite, and what is needed to compute it again.

    Args:
        found: bool[], whether there is such a step.
        step: int32[].
        bad_LB: bool[L, B], which leaves are not finite, in which rows.
        state: the state that enters the step, leaves [B, ...].
        cotangents: the cotangents of the float leaves of the state after the step; on the way forwards ().
    """

    found: Any
    step: Any
    bad_LB: Any
    state: Any
    cotangents: Any = ()

    def update(self, step: Any, bad_LB: Any, state: State, cotangents: Any = ()) -> "_First":
        """Returns the given step if it is the first one at which a leaf is not finite, else itself."""
        here = _First(jnp.ones((), bool), step, bad_LB, state, cotangents)
        return jax.tree.map(functools.partial(jnp.where, bad_LB.any() & ~self.found), here, self)


class _Walk(NamedTuple):
    """The results of a walk along the steps: the first bad step, and the norms of the leaves, [T, L]."""

    first: Any
    norms: Any


def _walk(problem, size, all_scored, params, state, xs, weights):
    """Walks through the steps forwards and then backwards, in segments of `size` steps.

    The last segment may reach beyond the last step: `jax.lax.cond` skips these steps, so that the step is compiled once
    for each walk. The step of a simulator may take a minute to compile.
    """
    num_steps, num_rows = weights.shape
    # int32[N, size], where N size >= T.
    segments = jnp.arange(-(-num_steps // size) * size, dtype=jnp.int32).reshape(-1, size)
    rows = jax.vmap(problem.step, (None, 0, 0))
    read = lambda t: jax.tree.map(lambda a: a[t], (xs, weights))
    forwards, starts = _forwards(rows, params, state, read, segments, num_steps, num_rows)
    pull = functools.partial(_pull, rows, all_scored)
    backwards = _backwards(rows, pull, params, starts, read, segments, forwards.first.step, num_rows)
    by_step = lambda norms: norms.reshape(-1, norms.shape[-1])[:num_steps]
    return [walk._replace(norms=by_step(walk.norms)) for walk in (forwards, backwards)]


def _forwards(rows, params, state, read, segments, num_steps, num_rows):
    """The walk forwards, and the states that enter the segments, leaves [N, ...]."""
    num_leaves = len(split_float(state)[0]) + 1  # and the loss

    def forward(carry, t):
        state, first = carry
        x, weights_B = read(t)
        after, losses = rows(params, state, x)
        leaves = [*split_float(after)[0], jnp.where(weights_B != 0, losses, 0)]
        return (after, first.update(t, _bad(leaves, num_rows), state)), _norms(leaves)

    walk = _up_to(num_steps, forward)
    nowhere = _First(jnp.zeros((), bool), jnp.int32(num_steps), jnp.zeros((num_leaves, num_rows), bool), state)

    def segment(carry, steps):
        entering = carry[0]
        carry, norms = jax.lax.scan(walk, carry, steps)
        return carry, (entering, norms)

    (_, first), (starts, norms) = jax.lax.scan(segment, (state, nowhere), segments)
    return _Walk(first, norms), starts


def _backwards(rows, pull, params, starts, read, segments, stop, num_rows):
    """The walk backwards, which differentiates the losses of the steps before step `stop`.

    The steps from `stop` on are skipped, since their derivatives may not be finite.
    """
    start = jax.tree.map(lambda a: a[0], starts)
    zeros = [jnp.zeros_like(a) for a in split_float(start)[0]]
    num_leaves = len(zeros) + len(jax.tree.leaves(params))

    def backward(carry, inputs):
        cotangents, first = carry
        t, state = inputs
        x, weights_B = read(t)
        d_params, before = pull(params, state, x, weights_B, cotangents)
        of_params = [a[None] for a in jax.tree.leaves(d_params)]
        bad = jnp.concatenate([_bad(before, num_rows), _bad(of_params, num_rows)])
        norms = jnp.concatenate([_norms(before), _norms(of_params)])
        return (before, first.update(t, bad, state, cotangents)), norms

    def advance(state, t):
        step = lambda state: rows(params, state, read(t)[0])[0]
        return jax.lax.cond(t < stop, step, lambda state: state, state), state

    def segment(carry, inputs):
        start, steps = inputs
        _, entering = jax.lax.scan(advance, start, steps)
        return jax.lax.scan(walk, carry, (steps, entering), reverse=True)

    walk = _up_to(stop, backward)
    nowhere = _First(jnp.zeros((), bool), jnp.int32(-1), jnp.zeros((num_leaves, num_rows), bool), start, zeros)
    (_, first), norms = jax.lax.scan(segment, (zeros, nowhere), (starts, segments), reverse=True)
    return _Walk(first, norms)


def _up_to(stop, body):
    """The body of a scan over steps, or over a tuple that begins with them, without the steps from `stop` on.

    What it returns for these is zeros.
    """

    def stopped(carry, inputs):
        t = jax.tree.leaves(inputs)[0]
        results = jax.eval_shape(body, carry, inputs)[1]
        skip = lambda carry, _: (carry, jax.tree.map(jnp.zeros_like, results))
        return jax.lax.cond(t < stop, body, skip, carry, inputs)

    return stopped


def _pull(rows, all_scored, params, state, x, weights_B, cotangents):
    """The gradient by the parameters, and by the float leaves of the state before a step, through this step."""
    floats, others, join = split_float(state)

    def advance(params, floats):
        after, losses = rows(params, join(floats, others), x)
        return split_float(after)[0], losses

    if all_scored:
        (_, losses), pull = jax.vjp(advance, params, floats)
        return pull((cotangents, weights_B.astype(losses.dtype)))
    # A loss that does not count may have a derivative that is not finite, so it is differentiated apart from the state.
    _, pull = jax.vjp(lambda *args: advance(*args)[0], params, floats)
    used_floats, used_others, used_x = replace_unscored((floats, others, x), weights_B != 0)

    def loss(params, floats):
        return weighted_sum(weights_B, rows(params, join(floats, used_others), used_x)[1])

    scored = jnp.any(weights_B != 0)
    direct = jax.tree.map(lambda a: jnp.where(scored, a, 0), jax.grad(loss, (0, 1))(params, used_floats))
    return jax.tree.map(jnp.add, pull(cotangents), direct)


def _bad(leaves, num_rows):
    """Which leaves [B, ...] are not finite, and in which rows, bool[L, B]. A leaf [1, ...] counts for all rows."""
    bad = [jnp.broadcast_to(~jnp.isfinite(a).reshape(len(a), -1).all(1), (num_rows,)) for a in leaves]
    return jnp.stack(bad) if bad else jnp.zeros((0, num_rows), bool)


def _norms(leaves):
    """The largest norm of a row of each leaf [B, ...], float[L]."""
    return jnp.stack([jnp.max(jax.vmap(norm)(a)) for a in leaves]) if leaves else jnp.zeros(0)


def _place_of_value(scan: Any, first: _First, names: Any) -> Place | None:
    """The first step at which a value is not finite.

    The step is computed again, for the first row in which a result is not finite, to find what makes it so.
    """
    if not first.found:
        return None
    step, row = int(first.step), int(np.argmax(first.bad_LB.any(0)))
    state, x = jax.tree.map(lambda a: a[row], first.state), jax.tree.map(lambda a: a[step, row], scan.xs)

    def results_of(params, state, x):
        after, loss = scan.problem.step(params, state, x)
        return [*split_float(after)[0], loss]

    results = [*(("state", name) for name in names.state), ("loss", "loss")]
    bad = np.flatnonzero(first.bad_LB[:, row])
    origin = find_origin(results_of, bad, scan.params, state, x) or Origin(int(bad[0]), None)
    if origin.argument is not None:
        of, name = names.arguments[origin.argument]
        return Place(step, None if of == "params" else row, of, name, origin.entry)
    others = tuple(_variable(*results[n]) for n in bad if n != origin.result)
    return Place(step, row, *results[origin.result], origin.entry, origin.operation, origin.line, others)


def _place_of_gradient(scan: Any, all_scored: bool, first: _First, names: Any) -> Place | None:
    """The step through which the gradient stops being finite, on its way back."""
    if not first.found:
        return None
    step, bad_LB = int(first.step), np.asarray(first.bad_LB)
    rows = jax.vmap(scan.problem.step, (None, 0, 0))
    x, weights_B = jax.tree.map(lambda a: a[step], (scan.xs, scan.weights))

    def pull(params, state, x, weights_B, cotangents):
        d_params, before = _pull(rows, all_scored, params, state, x, weights_B, cotangents)
        return [*before, *jax.tree.leaves(d_params)]

    def origin_in(start, stop):
        """Finds the origin in these rows: of the gradient by the state if it is not finite, else by the parameters."""
        bad = np.flatnonzero(bad_LB[:, start:stop].any(1))
        bad = bad[bad < num_state] if bad[0] < num_state else bad
        some = jax.tree.map(lambda a: a[start:stop], (first.state, x, weights_B, first.cotangents))
        return find_origin(pull, bad, scan.params, *some)

    # Rows are told apart by their states. A gradient by the parameters is a sum over rows, which are tried one by one.
    num_state, num_rows = len(names.state), bad_LB.shape[1]
    bad_rows = np.flatnonzero(bad_LB[:num_state].any(0))
    candidates = map(int, bad_rows if len(bad_rows) else range(num_rows))
    row, origin = next(((row, o) for row in candidates if (o := origin_in(row, row + 1))), (None, None))
    bad = np.flatnonzero(bad_LB.any(1) if row is None else bad_LB[:, row])
    origin = origin or origin_in(0, num_rows) or Origin(int(bad[0]), None)
    results = [*(("state", name) for name in names.state), *(("params", name) for name in names.params)]
    of, name = results[origin.result]
    others = tuple(_variable(*results[n]) for n in bad if n != origin.result)
    # The state has an axis of rows.
    entry = origin.entry[1:] if of == "state" else origin.entry
    return Place(step, row, of, name, entry, origin.operation, origin.line, others)


class _Names(NamedTuple):
    """The names of the float leaves of the parameters and the state, and of all leaves of the arguments of a step."""

    params: list[str]
    state: list[str]
    arguments: list[tuple[str, str]]

    @classmethod
    def of(cls, params: Params, state: State, xs: PyTree) -> "_Names":
        trees = {"params": params, "state": state, "xs": xs}
        floats = {of: [name for name, _ in leaf_names(partition_float(tree)[0], of)] for of, tree in trees.items()}
        arguments = [(of, name) for of, tree in trees.items() for name, _ in leaf_names(tree, of)]
        return cls(floats["params"], floats["state"], arguments)


def _line(what: str, place: Place | None) -> str:
    if place is None:
        return f"{what}: finite"
    is_gradient = what == "gradient"
    line = f"{what}: {'by ' if is_gradient else ''}{place.variable} not finite at step {place.step}"
    if place.row is not None:
        line += f", row {place.row}"
    if place.operation:
        line += f", made by {place.operation}" + (" in the derivative" if is_gradient else "")
        line += f" at {place.line}" if place.line else ""
    if place.others:
        line += f"; also {few(place.others, MOST_SHOWN)}"
    return line


def _largest(norms: dict[str, np.ndarray], name: str) -> tuple[float | None, int | None]:
    """The largest finite norm of a variable, and its step."""
    values = norms.get(name)
    if values is None or not np.isfinite(values).any():
        return None, None
    step = int(np.nanargmax(np.where(np.isfinite(values), values, np.nan)))
    return float(values[step]), step
