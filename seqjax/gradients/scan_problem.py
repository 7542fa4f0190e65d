"""A scan as a problem whose parameters are the arguments that are differentiated."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from jaxtyping import PyTree

from seqjax.gradients.floats import combine, partition_float
from seqjax.gradients.problem import Problem, State, UnrolledProblem, scan_rows


class Arguments(NamedTuple):
    """The float leaves of the arguments that are differentiated. Other leaves and other arguments are None.

    Args:
        params: the float leaves of the parameters.
        state: the float leaves of the state in which the window starts, [B, ...].
        xs: the float leaves of what the steps read, [T, B, ...].
    """

    params: Any = None
    state: Any = None
    xs: Any = None


class ScanProblem(UnrolledProblem):
    """A problem whose parameters are the differentiated arguments of a scan; it holds the others as constants.

    A strategy then differentiates parameters only. The state in which the window starts is a function of the
    parameters, like a learned initial state, and so is what the steps read.

    Args:
        problem: the problem of the scan.
        params: all its parameters, float and other leaves.
        state: the state in which the window starts, leaves [B, ...].
        xs: what the steps read, leaves [T, B, ...].
        argnums: which of (params, state, xs) are differentiated.
        has_aux: whether the step returns (new state, (loss, outputs)).
    """

    def __init__(
        self, problem: Problem, params: PyTree, state: State, xs: PyTree, argnums: Sequence[int], has_aux: bool
    ):
        # `UnrolledProblem.__init__` stores the other problem's `step`. Here `step` is a method, so it is not called.
        self.problem, self.argnums, self.has_aux = problem, tuple(argnums), has_aux
        self.params, self.state, self.xs = params, state, xs
        parts = [partition_float(tree) if i in argnums else (None, tree) for i, tree in enumerate((params, state, xs))]
        # If only the parameters are differentiated, they are not wrapped: values that a user passes to a strategy, such
        # as the directions of `directional`, have the structure of the parameters.
        self.args = parts[0][0] if self.argnums == (0,) else Arguments(*(floats for floats, _ in parts))
        self.others = Arguments(*(others for _, others in parts))

    init_state = None
    __hash__ = object.__hash__
    __eq__ = object.__eq__

    @property
    def has_own_inputs(self) -> bool:
        """Whether what the steps read is differentiated."""
        return 2 in self.argnums

    def step(self, args: Arguments, state: State, x: Any) -> tuple[State, Any]:
        """One step of the scan, without its outputs."""
        new, loss = self.problem.step(self._join(args, 0), state, x)
        return new, loss[0] if self.has_aux else loss

    def step_with_outputs(self, args, state, x):
        """One step of the scan, with its outputs."""
        new, loss = self.problem.step(self._join(args, 0), state, x)
        loss, outputs = loss if self.has_aux else (loss, None)
        return (new, outputs), loss

    def start(self, params, state, reset, keys=None):
        """The state in which the window starts; resets are ignored."""
        return self.start_of(params)

    def start_of(self, args: Arguments) -> State:
        """The state in which the window starts."""
        return self._join(args, 1)

    def initial_rows(self, args, num_rows):
        """The problem's state at a reset inside of the window."""
        return self.problem.initial_rows(self._join(args, 0), num_rows)

    def inputs(self, args: Arguments, xs: PyTree) -> PyTree:
        """What the steps read."""
        return self._join(args, 2) if self.has_own_inputs else xs

    def unroll_with_outputs(self, args, state, xs, edge_weights=None, scored=None):
        """The state after T steps, the losses float[T, B], and the outputs, leaves [T, B, ...]; None: no outputs."""
        if type(self.problem).unroll is not Problem.unroll:
            return self.problem.unroll_with_outputs(self._join(args, 0), state, xs, edge_weights, scored)
        return scan_rows(self.step_with_outputs, args, state, xs, edge_weights, scored)

    def by_argument(self, args: Any) -> Arguments:
        """Parameters of this problem, or their gradients, as `Arguments`."""
        return Arguments(args) if self.argnums == (0,) else args

    def _join(self, args: Any, i: int) -> Any:
        return combine(self.by_argument(args)[i], self.others[i]) if i in self.argnums else self.others[i]
