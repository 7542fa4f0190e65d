"""`Model`: a sequence model, written as one step; `ModelProblem` joins it with a loss."""

import functools
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from seqjax.data.spec import Spec, Tokens
from seqjax.data.stream import Stream
from seqjax.errors import Error, check_type
from seqjax.gradients.contract.problem import Params, Problem, State
from seqjax.gradients.steps.mapping import mapped, sees_vmap
from seqjax.gradients.steps.precision import Precision, cast_float, cast_like, check_precision, step_in_bfloat16
from seqjax.gradients.steps.scored import replace_unscored
from seqjax.gradients.steps.unrolling import EdgeWeights, unroll
from seqjax.plugin.base import Plugin


class Model(Plugin):
    """A sequence model: one step. The author writes `init`, `init_state` and `step`.

    The results of these methods must depend only on their arguments and on the fields of the model. A program that was
    compiled for a model is used for all equal models, so a global variable that a method reads must not change.

    >>> from dataclasses import dataclass
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import seqjax as sj
    >>> @dataclass(frozen=True)
    ... class Average(sj.Model):
    ...     def init(self, key, spec):
    ...         return {"keep": jnp.array(0.5)}
    ...     def init_state(self, params, spec, key=None):
    ...         return jnp.zeros(spec.inputs.dim)
    ...     def step(self, params, state, x):
    ...         state = params["keep"] * state + (1 - params["keep"]) * x
    ...         return state, state
    >>> model, spec = Average(), sj.Spec(sj.Values(1))
    >>> params = model.init(jax.random.key(0), spec)
    >>> state, output = model.step(params, model.init_state(params, spec), jnp.ones(1))
    >>> output.tolist()
    [0.5]
    """

    kind: ClassVar[str] = "model"
    warmup: Any = 0
    """The number of steps after a reset that are not scored; n - 1 for an MLP on the last n inputs.

    A class attribute or a property, not a hyper-parameter.
    """

    def init(self, key: jax.Array, spec: Spec) -> Params:
        """The initial parameters: a nested dict of float arrays, whose names the author documents."""
        raise NotImplementedError

    def init_state(self, params: Params, spec: Spec, key: jax.Array | None = None) -> State:
        """The state of ONE sequence before its first step. It may depend on the parameters, and so be learned.

        A stochastic model keeps the key and a counter in its state. Without a key it is deterministic.
        """
        raise NotImplementedError

    def step(self, params: Params, state: State, x: Any) -> tuple[State, Any]:
        """One sequence, one time step: (state, input) -> (state, output). Pure."""
        raise NotImplementedError

    unroll: ClassVar[Any] = None
    """unroll(params, state, xs, edge_weights=None) -> (state, outputs): a faster way than to scan `step`, with the same
    values and gradients, for B rows. None: the step is scanned.

    It is differentiated in reverse only. The state has leaves [B, ...], xs and the outputs have leaves [T, B, ...], and
    edge weights are float[T] or float[T, B], see `seqjax.gradients.unroll`."""
    structure: ClassVar[Any] = None
    """structure(params, spec) -> what is known of how the parameters act on the state, a `seqjax.gradients.Structure`
    whose `apart` is (params, state, x, dtype) -> (state, output), or None. None: nothing is known."""

    def step_in_bfloat16(self, params: Params, state: State, x: Any) -> tuple[State, Any]:
        """`step`, computed in bfloat16: the state keeps its dtypes, and the output has the dtype of the parameters.

        By default parameters, state and inputs are rounded. It has to round what `unroll_in_bfloat16` rounds.
        """
        return step_in_bfloat16(self.step)(params, state, x)

    def unroll_in_bfloat16(
        self, params: Params, state: State, xs: PyTree, edge_weights: EdgeWeights = None
    ) -> tuple[State, Any]:
        """`unroll`, computed in bfloat16: the state and the outputs have the dtypes that `unroll` would return.

        By default parameters, state and inputs are rounded. Override it if the model can round only the operands of
        products.
        """
        if self.unroll is None:
            return unroll(functools.partial(self.step_in_bfloat16, params), state, xs, edge_weights)
        first = jax.tree.map(lambda a: a[0, 0], xs)
        output = jax.eval_shape(self.step_in_bfloat16, params, jax.tree.map(lambda a: a[0], state), first)[1]
        params, low, xs = cast_float((params, state, xs), jnp.bfloat16)
        new, outputs = self.unroll(params, low, xs, edge_weights)
        return cast_like(new, state), cast_like(outputs, output)

    def problem(self, spec: Spec, loss: Callable | None = None, precision: Precision = "float32") -> "ModelProblem":
        """The model with a loss, as gradient strategies and `train` take it: x = (input, target).

        Args:
            spec: what goes in and what comes out.
            loss: (output, target) -> float[], one sequence, one step; None: the loss of `spec.targets`.
            precision: "bfloat16": the model is computed in bfloat16. The loss is computed, and gradients are summed
                over the steps, in the dtype of the parameters.
        """
        return ModelProblem(self, spec, loss, precision)


class ForeignModel(Model):
    """A model that is read from a module of another library, which comes with its parameters."""

    is_foreign: ClassVar[bool] = True
    """True: a config cannot hold it."""
    reader: ClassVar[str]
    """The function that makes it, such as `from_flax`."""
    name: Any
    """The name of the class of the module, by which the model is shown."""

    def params_like(self) -> Params | None:
        """The structure, shapes and dtypes of the parameters; None: they are not known."""
        raise NotImplementedError

    def init(self, key, spec):
        """Not possible: the reader returns the parameters.

        Raises:
            Error: always.
        """
        raise Error(
            f"the model that {self.reader} makes cannot make initial parameters\n{self.reader} returned its parameters "
            "with the model. Pass them on when you train it: Experiment(model=model, ...).run(params=params), "
            "seqjax.sweep(..., params=params) or seqjax.train(problem, ..., params=params)"
        )


class Shapes(NamedTuple):
    """The structure, shapes and dtypes of a tree of arrays, as a value that can be hashed.

    Args:
        treedef: the structure.
        leaves: shape and dtype of each leaf.
    """

    treedef: Any
    leaves: tuple[jax.ShapeDtypeStruct, ...]

    @classmethod
    def of(cls, tree: PyTree) -> "Shapes":
        """The structure, shapes and dtypes of a tree."""
        leaves, treedef = jax.tree.flatten(tree)
        return cls(treedef, tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves))

    def tree(self) -> PyTree:
        """The tree with a `jax.ShapeDtypeStruct` for each leaf."""
        return self.treedef.unflatten(self.leaves)


class CountBasedModel(Model):
    """A model that is counted and not trained, such as n-grams. The author writes `count`, `init_state` and `step`."""

    def count(self, stream: Stream, spec: Spec) -> Params:
        """The parameters, which may be integers.

        Args:
            stream: the training part of a dataset.
            spec: its inputs and outputs.

        Raises:
            Error: the model cannot count such a stream.
        """
        raise NotImplementedError


class ModelProblem(Problem):
    """The problem of a model with a loss; made by `Model.problem`. It uses the model's own `unroll`.

    Two such problems are equal if their models, specs, losses and precisions are.

    Args:
        model: the model.
        spec: what goes in and what comes out.
        loss: (output, target) -> float[]; None: the loss of `spec.targets`.
        precision: "float32" or "bfloat16".
        is_fixed: whether the loss is known not to change, so that compiled programs may be kept.
    """

    def __init__(
        self,
        model: Model,
        spec: Spec,
        loss: Callable | None = None,
        precision: Precision = "float32",
        is_fixed: bool = False,
    ):
        check_precision(precision)
        check_type("spec", spec, Spec, "what goes in and what comes out, such as Spec(Values(1))")
        if loss is not None and not callable(loss):
            raise Error(f"loss = {loss!r:.80}: pass a function (output, target) -> float[], or None")
        self.model, self.spec, self.loss, self.precision = model, spec, loss, precision
        super().__init__(
            self._step,
            self._init_state,
            run=self._run,
            structure=None if model.structure is None else self._structure,
            # A loss of the user's own may read other targets.
            x_like=(spec.inputs.like, spec.targets.like) if loss is None else None,
            warmup=model.warmup,
            # A user's loss is a function, which may read a changing value.
            is_value=loss is None or is_fixed,
            fused=model.unroll is not None,
        )

    def __repr__(self) -> str:
        return f"ModelProblem({self.model!r}, {self.spec!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ModelProblem) and self._made_of == other._made_of

    def __hash__(self) -> int:
        return hash(self._made_of)

    @property
    def _made_of(self) -> tuple:
        return (self.model, self.spec), (self.loss, self.precision, self.is_value)

    def init(self, key: jax.Array) -> Params:
        """The model's initial parameters."""
        return self.model.init(key, self.spec)

    def fixed(self) -> "ModelProblem":
        """The same problem, marked as unchanging: programs compiled for it may be cached."""
        if self.loss is None:
            return self
        # Two partial functions of one function are unequal, so their problems are unequal too.
        return ModelProblem(self.model, self.spec, functools.partial(self.loss), self.precision, is_fixed=True)

    def in_bfloat16(self) -> "ModelProblem":
        """The same problem, with the model computed in bfloat16."""
        return self.model.problem(self.spec, self.loss, "bfloat16")

    def outputs(self, params: Params, state: State, inputs: Any) -> tuple[State, Any]:
        """The state after T steps and the outputs [T, B, width] of B rows."""
        return self._outputs(params, state, self._inputs(inputs))

    def _init_state(self, params, key=None):
        return self.model.init_state(params, self.spec, key)

    def _step(self, params, state, x):
        inputs, target = x
        step = self.model.step if self.precision == "float32" else self.model.step_in_bfloat16
        new, output = step(params, state, self._inputs(inputs))
        return new, self._loss(output, target)

    def _run(self, params, state, xs, edge_weights=None, scored=None):
        """How the problem is unrolled: the losses of all steps are computed after the recurrence."""
        inputs, targets = xs
        new, outputs = self._outputs(params, state, self._inputs(inputs), edge_weights)
        if scored is not None:
            outputs, targets = replace_unscored((outputs, targets), scored)
        of_one = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[2:], a.dtype), (outputs, targets))
        one_by_one = sees_vmap(lambda _, output, target: self._loss(output, target), (), *of_one)
        num_steps = len(jax.tree.leaves(outputs)[0])
        return new, mapped(jax.vmap(self._loss), (0, 0), num_steps, one_by_one)(outputs, targets), None

    def _outputs(self, params, state, inputs, edge_weights=None):
        model, is_rounded = self.model, self.precision == "bfloat16"
        run = model.unroll_in_bfloat16 if is_rounded else functools.partial(unroll_model, model)
        return run(params, state, inputs, edge_weights)

    def _structure(self, params):
        known, dtype = self.model.structure(params, self.spec), None if self.precision == "float32" else jnp.bfloat16
        if known is None or known.apart is None:
            return known

        def apart(params, state, x, **options):
            return known.apart(params, state, self._inputs(x[0]), dtype, **options)[0]

        return known._replace(apart=apart)

    def _loss(self, output, target):
        return (self.spec.targets.loss if self.loss is None else self.loss)(output, target)

    def _inputs(self, inputs):
        """The inputs, with ids as int32: a state may hold ids, and must keep its dtype in a scan."""
        return inputs.astype(jnp.int32) if isinstance(self.spec.inputs, Tokens) else inputs


def unroll_model(
    model: Model, params: Params, state: State, xs: PyTree, edge_weights: EdgeWeights = None
) -> tuple[State, Any]:
    """The state after T steps of B rows and the outputs, by the model's own `unroll`, or by a scan of its step."""
    if model.unroll is not None:
        return model.unroll(params, state, xs, edge_weights)
    return unroll(functools.partial(model.step, params), state, xs, edge_weights)
