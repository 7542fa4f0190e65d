"""A scan as a problem whose parameters are the arguments that are differentiated."""

from typing import Any, NamedTuple

from jaxtyping import PyTree

from seqjax.gradients.contract.problem import Problem, State
from seqjax.gradients.steps.floats import combine, partition_float


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


class Differentiated(NamedTuple):
    """A scan of which some arguments are differentiated, and the others are constants.

    A strategy differentiates parameters only. So `problem` takes the differentiated arguments as its parameters: the
    state in which the window starts is a function of them, like a learned initial state, and so is what the steps read.

    Args:
        of: the problem of the scan.
        params: all its parameters, float and other leaves.
        state: the state in which the window starts, leaves [B, ...].
        xs: what the steps read, leaves [T, B, ...].
        argnums: which of (params, state, xs) are differentiated.
        has_aux: whether the step returns (new state, (loss, outputs)).
    """

    of: Problem
    params: Any
    state: Any
    xs: Any
    argnums: tuple[int, ...]
    has_aux: bool = False

    @property
    def args(self) -> Any:
        """The float leaves of the differentiated arguments, which are the parameters of `problem`.

        If only the parameters are differentiated, they are not wrapped: values that a user passes to a strategy, such
        as the directions of `directional`, have the structure of the parameters.
        """
        floats = [partition_float(self._given(i))[0] if i in self.argnums else None for i in range(3)]
        return floats[0] if self.argnums == (0,) else Arguments(*floats)

    @property
    def problem(self) -> Problem:
        """The problem whose parameters are `args`."""
        of = self.of

        def with_outputs(args, state, x):
            result, loss = of.step_with_outputs(self._join(args, 0), state, x)
            if self.has_aux:
                loss, outputs = loss
                result = result[0], outputs
            return result, loss

        def init_state(args, key=None):
            assert of.init_state is not None
            return of.init_state(self._join(args, 0), key)

        def run(args, *others):
            assert of.run is not None
            return of.run(self._join(args, 0), *others)

        return of.changed(
            with_outputs=with_outputs,
            init_state=None if of.init_state is None else init_state,
            run=None if of.run is None else run,
            fused=of.fused,
            inputs=(lambda args, xs: self._join(args, 2)) if 2 in self.argnums else None,
        )

    def start(self, args: Any) -> State:
        """The state in which the window starts."""
        return self._join(args, 1)

    def by_argument(self, args: Any) -> Arguments:
        """Parameters of `problem`, or their gradients, as `Arguments`."""
        return Arguments(args) if self.argnums == (0,) else args

    def _given(self, i: int) -> PyTree:
        return (self.params, self.state, self.xs)[i]

    def _join(self, args: Any, i: int) -> Any:
        if i not in self.argnums:
            return self._given(i)
        return combine(self.by_argument(args)[i], partition_float(self._given(i))[1])
