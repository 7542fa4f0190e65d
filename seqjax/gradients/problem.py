"""`Problem`: a scan body that emits one loss a step. A gradient strategy knows nothing else."""

import functools
from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import Array, Float, PyTree

from seqjax.gradients.unroll import EdgeWeights, unroll

Params = Any
"""A pytree of float arrays, such as a nested dict."""
State = Any
"""Any pytree of arrays; leaves may be integers or keys."""
Step = Callable[[Params, State, Any], tuple[State, Float[Array, ""]]]
InitState = Callable[..., State]
Losses = Float[Array, "T B"]


class Problem:
    """A scan body for ONE sequence; `unroll` runs it for B rows.

    Args:
        step: (params, state, x) -> (state, loss), one sequence, one time step, pure.
        init_state: (params, key=None) -> the state in which a sequence starts. Without one, rows that are reset keep
            the state that they are given.

    Attributes:
        warmup: how many steps after a reset are not scored.

    Two problems of equal step and init_state are equal, so that jit traces them once.
    """

    warmup: int = 0

    def __init__(self, step: Step, init_state: InitState | None = None):
        self.step = step
        self.init_state = init_state

    @staticmethod
    def of(model: Any, spec: Any, loss: Callable | None = None, dtype: Any = None) -> Any:
        """The problem of a model: x = (input, target). The same as `model.problem(spec, loss, dtype)`."""
        return model.problem(spec, loss, dtype)

    def unroll(
        self, params: Params, state: State, xs: PyTree, edge_weights: EdgeWeights = None
    ) -> tuple[State, Losses]:
        """The state after T steps and the losses float[T, B] of B rows.

        Args:
            params: the parameters.
            state: leaves [B, ...].
            xs: leaves [T, B, ...].
            edge_weights: see `seqjax.gradients.unroll`.
        """
        return unroll(functools.partial(self.step, params), state, xs, edge_weights)

    def start(self, params: Params, state: State, reset: Any, keys: jax.Array | None = None) -> State:
        """The state in which a window starts: the initial one in rows that are reset, else `state`.

        Args:
            params: the parameters, on which an initial state may depend.
            state: what the window before has left, leaves [B, ...].
            reset: bool[B].
            keys: a key a row for initial states that are random; None: they are deterministic.
        """
        if self.init_state is None:
            return state
        initial = jax.vmap(self.init_state, (None, 0), axis_size=len(reset))(params, keys)
        return where_rows(reset, initial, state)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    def __hash__(self) -> int:
        return hash((self.step, self.init_state))


def where_rows(reset: Any, new: Any, old: Any) -> Any:
    """Row by row: `new` where `reset`, else `old`, in the dtype of `old`. Leaves [B, ...]; keys and integers too."""

    def leaf(a, b):
        a = a if a.dtype == b.dtype else a.astype(b.dtype)
        return jax.numpy.where(reset.reshape(reset.shape + (1,) * (b.ndim - 1)), a, b)

    return jax.tree.map(leaf, new, old)
