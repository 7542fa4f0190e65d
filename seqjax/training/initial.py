"""`InitialState`: the state before the first update."""

import functools
import math
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp

from seqjax.errors import Error
from seqjax.gradients.calls.check_scan import check_params
from seqjax.gradients.contract.compiling import jit_of
from seqjax.gradients.contract.gradient import Gradient
from seqjax.gradients.contract.problem import Params, Problem
from seqjax.gradients.contract.rows import init_memory
from seqjax.memory import check_device_memory
from seqjax.models.model import ModelProblem
from seqjax.plugin.config import describe
from seqjax.training.epoch import TrainState
from seqjax.training.optimizer import Optimizer, build, check_update
from seqjax.training.setup import TrainingSetup

_COMPILER = ThreadPoolExecutor(1, "compiler")
"""The thread in which initial parameters are compiled."""


class InitialState:
    """The state before the first update.

    Args:
        problem: the problem to train.
        setup: how it is trained.
        num_updates: the number of updates of the whole training, on which schedules depend.
        params: the parameters; None: the initial ones of the model.
        x: what a step reads, as `Gradient.init` takes it; None: as the problem knows it.

    Attributes:
        shapes: its shapes and dtypes.
    """

    def __init__(
        self, problem: Problem, setup: TrainingSetup, num_updates: int, params: Params | None = None, x: Any = None
    ):
        if params is not None:
            check_params(params)
        elif not isinstance(problem, ModelProblem):
            raise Error("a problem without a model has no initial parameters: pass params=")
        self._problem, self._setup, self._arguments = problem, setup, (jax.random.key(setup.seed), params)
        # One program, which the cache can keep: a program for each operation would take a second of a short run.
        self._begin = jit_of(begin, problem, setup.gradient, setup.sampler.batch_size, x, brief=True)
        self._compiling: Future | None = None
        state = jax.eval_shape(self._begin, *self._arguments)
        self._tx: Any = setup.optimizer
        if isinstance(setup.optimizer, Optimizer):
            self._tx = build(setup.optimizer, num_updates)
            check_update(setup.optimizer, self._tx, state.params)
        self.shapes = state._replace(opt_state=jax.eval_shape(self._tx.init, state.params))

    def compile(self) -> None:
        """Begins to compile its program in a thread; an `Error` if this machine has too little memory for the state."""
        self._check_memory()
        self._compiling = _COMPILER.submit(self._begin.lower(*self._arguments).compile)

    def compute(self) -> TrainState:
        """The values of the initial state."""
        if self._compiling is None:
            self._check_memory()
        else:
            self._compiling.result()  # so that it is not compiled twice
        state = self._begin(*self._arguments)
        check_params(state.params)
        self._setup.gradient.check_values(state.memory, self._setup.sampler.num_steps)
        return state._replace(opt_state=self._tx.init(state.params))

    def _check_memory(self) -> None:
        """Raises an `Error` if a CPU has less memory than the state before update 0 takes, without the optimizer's."""
        problem, state = self._problem, self.shapes
        of = describe(problem.model) if isinstance(problem, ModelProblem) else type(problem).__name__
        parts = {"parameters": state.params, "state": state.carry, "memory of the strategy": state.memory}
        sizes = {
            name: sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(part))
            for name, part in parts.items()
        }
        largest = max(sizes, key=sizes.__getitem__)
        check_device_memory(
            f"parameters and state of {of} with gradient {describe(self._setup.gradient)}",
            sum(sizes.values()),
            f"Most of it is for the {largest}: make the model or the batch smaller, or choose another strategy",
        )


def begin(problem: Any, gradient: Gradient, num_rows: int, x: Any, key: jax.Array, params: Params | None) -> TrainState:
    """The state before the first update, without that of the optimizer.

    Args:
        problem: the problem to train.
        gradient: the gradient strategy.
        num_rows: B.
        x: as in `InitialState`.
        key: the root of all randomness.
        params: the parameters; None: the initial ones of the model.
    """
    init_key, carry_key, key = jax.random.split(key, 3)
    params = problem.init(init_key) if params is None else params
    row_keys = jax.vmap(functools.partial(jax.random.fold_in, carry_key))(jnp.arange(num_rows))
    carry = jax.vmap(problem.init_state, (None, 0))(params, row_keys)
    memory = init_memory(gradient, problem, params, carry, num_rows, x)
    return TrainState(params, None, carry, memory, key, jnp.zeros((), jnp.int32))
