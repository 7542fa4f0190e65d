"""`Problem`: a scan body that emits one loss a step. All that a gradient strategy knows."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from seqjax.contracts import Model, Params, Spec, State, Tokens
from seqjax.unroll import Gates, unroll

Step = Callable[[Params, State, Any], tuple[State, Float[Array, ""]]]
InitState = Callable[..., State]
Losses = Float[Array, "T B"]


class Problem:
    """Anybody's scan body for ONE sequence, batched by `unroll`.

    Args:
        step: (params, state, x) -> (state, loss), one sequence, one time step, pure.
        init_state: (params, key=None) -> the state of a sequence that starts. Without one, fresh rows keep the state
            that they are given.

    Two problems of equal step and init_state are equal, so that jit traces them once.
    """

    step: Step
    init_state: InitState | None
    model: Model | None = None
    spec: Spec | None = None

    def __init__(self, step: Step, init_state: InitState | None = None):
        self.step = step
        self.init_state = init_state

    @property
    def context(self) -> int:
        """How many outputs after a fresh state are not scored."""
        return self.model.context if self.model else 0

    @staticmethod
    def of(model: Model, spec: Spec, loss: Callable | None = None, dtype: Any = None) -> "ModelProblem":
        """The problem of a model: x = (input, target).

        Args:
            model: the model.
            spec: what goes in and comes out.
            loss: (output, target) -> float[], one sequence, one step; None: the loss of `spec.targets`.
            dtype: what is computed in, such as `jnp.bfloat16`; loss and gradients keep the parameters' dtype.
        """
        return ModelProblem(model, spec, loss, None if dtype is None else jnp.dtype(dtype))

    def unroll(self, params: Params, state: State, xs: PyTree, gates: Gates = None) -> tuple[State, Losses]:
        """The losses of T steps for B rows; xs leaves [T, B, ...], state leaves [B, ...]. For `gates` see `unroll`."""
        return unroll(functools.partial(self.step, params), state, xs, gates)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    def __hash__(self) -> int:
        return hash((self.step, self.init_state))


@dataclass(frozen=True)
class ModelProblem(Problem):
    """A model with a loss; made by `Problem.of`. Goes through the model's own `unroll`."""

    model: Model = field()
    spec: Spec = field()
    loss: Callable | None = None
    dtype: Any = None

    def step(self, params: Params, state: State, x: Any) -> tuple[State, Float[Array, ""]]:
        """One sequence, one time step."""
        inputs, target = self._inputs(x)
        new, output = self.model.step(self._cast(params), self._cast(state), inputs)
        return _like(state, new), self._loss(params, output, target)

    def init_state(self, params: Params, key: jax.Array | None = None) -> State:
        """The state of one sequence that starts."""
        return self.model.init_state(self._cast(params), self.spec, key)

    def unroll(self, params: Params, state: State, xs: PyTree, gates: Gates = None) -> tuple[State, Losses]:
        """The losses of T steps for B rows."""
        inputs, targets = self._inputs(xs)
        new, outputs = self.model.unroll(self._cast(params), self._cast(state), inputs, gates)
        losses = jax.vmap(jax.vmap(functools.partial(self._loss, params)))(outputs, targets)
        return _like(state, new), losses

    def _loss(self, params, output, target):
        loss = self.spec.targets.loss if self.loss is None else self.loss
        if self.dtype is not None:
            floats = [a.dtype for a in jax.tree.leaves(params) if jnp.issubdtype(a.dtype, jnp.inexact)]
            output = _cast(output, jnp.result_type(*(floats or [float])))
        return loss(output, target)

    def _inputs(self, xs):
        """Ids as int32, whatever integers they came as: a state may hold them, and a scan's carry keeps its type."""
        inputs, targets = xs
        if isinstance(self.spec.inputs, Tokens):
            inputs = inputs.astype(jnp.int32)
        elif self.dtype is not None:
            inputs = _cast(inputs, self.dtype)
        return inputs, targets

    def _cast(self, tree):
        return tree if self.dtype is None else _cast(tree, self.dtype)


def _cast(tree: PyTree, dtype: Any) -> PyTree:
    return jax.tree.map(lambda a: a.astype(dtype) if jnp.issubdtype(a.dtype, jnp.inexact) else a, tree)


def _like(state: State, new: State) -> State:
    """`new` in the dtypes of `state`, so that a state of any precision can be carried."""
    return jax.tree.map(lambda a, b: b.astype(a.dtype) if jnp.issubdtype(a.dtype, jnp.inexact) else b, state, new)
