"""`Optimizer`: a plugin that builds an optax transformation; `ScheduledOptimizer` adds clipping and a schedule."""

import functools
import math
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import optax
from annotated_types import Interval

from seqjax.errors import Error, dtype_shape
from seqjax.gradients.steps.dependence import depends_on
from seqjax.plugin.author import advising
from seqjax.plugin.base import Plugin, values_of
from seqjax.plugin.registry import name_of


class Optimizer(Plugin):
    """Turns gradients into updates of the parameters. The author writes `build`.

    If `build` also works for numbers that are traced, runs that differ in them share one compiled program.

    >>> from dataclasses import dataclass
    >>> import jax.numpy as jnp
    >>> import optax
    >>> import seqjax as sj
    >>> @dataclass(frozen=True)
    ... class Lion(sj.Optimizer):
    ...     learning_rate: float = 0.5
    ...     def build(self, num_updates):
    ...         return optax.inject_hyperparams(optax.lion)(self.learning_rate)
    >>> tx = Lion().build(num_updates=100)
    >>> updates, _ = tx.update(jnp.array([3.0, -2.0]), tx.init(jnp.zeros(2)), jnp.zeros(2))
    >>> updates.tolist()
    [-0.5, 0.5]
    """

    kind: ClassVar[str] = "optimizer"

    def build(self, num_updates: int) -> optax.GradientTransformation:
        """The optax transformation for a training of about `num_updates` updates.

        Pass numeric fields through `optax.inject_hyperparams`, so that metrics can show the learning rate, and so that
        runs with different learning rates can be trained side by side.
        """
        raise NotImplementedError


def build(optimizer: Optimizer, num_updates: int) -> optax.GradientTransformation:
    """The transformation of an optimizer, for a training of about `num_updates` updates.

    Raises:
        Error: `build` raises another exception, or returns something else.
    """
    tx = optimizer.build(num_updates)
    if not isinstance(tx, optax.GradientTransformation):
        raise Error(
            f"optimizer {name_of(optimizer)}: build returned {type(tx).__name__}, and must return an optax "
            "transformation, such as optax.adam(self.learning_rate)"
        )
    return tx


def check_update(optimizer: Optimizer, tx: optax.GradientTransformation, params: Any) -> None:
    """Checks the result of one update of an optimizer's transformation. It is traced, and nothing is computed.

    Raises:
        Error: `update` raises an exception, or does not return (updates, state) with updates like the parameters.
    """
    name = f"optimizer {name_of(optimizer)}: the update of its transformation"
    # Training calls optax under this promotion, since optax mixes dtypes.
    with jax.numpy_dtype_promotion("standard"), advising("It is called as update(grads, state, params)"):
        result = jax.eval_shape(lambda params: tx.update(params, tx.init(params), params), params)
    if not isinstance(result, tuple) or len(result) != 2:
        raise Error(f"{name} returned {dtype_shape(result)}, and must return (updates, state)")
    shapes, like = (jax.tree.map(dtype_shape, tree) for tree in (result[0], params))
    if shapes != like:
        raise Error(f"{name} returned updates {shapes}, and the parameters are {like}")


NUM_UPDATES = "number of updates"
"""Its name among the numbers on which a transformation depends. It has spaces, so that no field has the same name."""


@dataclass(frozen=True)
class Builder:
    """Builds the transformation of an optimizer in a compiled program, some of whose arguments are numbers of it.

    Programs whose builders are equal may differ in these numbers.
    """

    cls: type[Optimizer]
    constants: tuple[tuple[str, Any], ...]
    """(name, value) of the other fields, and of `NUM_UPDATES` if it is no argument."""

    @classmethod
    def of(cls, optimizer: Optimizer, num_updates: int, arguments: Container[str]) -> "Builder":
        """The builder of an optimizer, for a training of about `num_updates` updates.

        Args:
            optimizer: the optimizer.
            num_updates: the number of updates.
            arguments: the names of the numbers that are arguments: fields of the optimizer, and `NUM_UPDATES`.
        """
        values = {NUM_UPDATES: num_updates} | values_of(optimizer)
        return cls(type(optimizer), tuple((name, value) for name, value in values.items() if name not in arguments))

    def build(self, numbers: Mapping[str, Any]) -> optax.GradientTransformation:
        """The transformation with these numbers, name -> value, which may be traced."""
        fields = {**dict(self.constants), **numbers}
        num_updates = fields.pop(NUM_UPDATES)
        return build(self.cls(**fields), num_updates)


def _first_update(builder: Builder, params: Any, numbers: Mapping[str, Any]) -> Any:
    """The state of a transformation before the first update, and what this update returns."""
    with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
        tx = builder.build(numbers)
        state = tx.init(params)
        return state, tx.update(params, state, params)


_READS_IN_PYTHON = (TypeError, jax.errors.JAXTypeError, Error)
"""The exceptions of an optimizer that reads a traced number in Python; `Error`: in the check of its fields."""


def depends_on_num_updates(optimizer: Optimizer, params: Any) -> bool:
    """Whether the updates depend on the number of updates for which the transformation is built, as with a schedule.

    Args:
        optimizer: the optimizer.
        params: the parameters, or their shapes and dtypes.
    """
    params = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), params)
    builder = Builder.of(optimizer, 1000, {NUM_UPDATES})
    try:
        return any(depends_on(functools.partial(_first_update, builder, params), {NUM_UPDATES: jnp.asarray(1000)}))
    except _READS_IN_PYTHON:  # so its result may depend on it
        return True


def numbers_of(optimizer: Optimizer, num_updates: int, params: Any) -> dict[str, float | int]:
    """The numbers of a transformation that may be traced, so that compiled programs do not depend on them.

    These are the number of updates and the float fields, unless the author's code reads them in Python. A field that is
    0 is left out: it often switches off a computation, which a traced number could not.

    Args:
        optimizer: the optimizer.
        num_updates: the number of updates.
        params: the parameters, or their shapes and dtypes.

    Returns:
        name -> value, with `NUM_UPDATES` for the number of updates; empty if none may be traced.
    """
    count: dict[str, float | int] = {NUM_UPDATES: num_updates}
    floats = {name: value for name, value in values_of(optimizer).items() if isinstance(value, float) and value}
    choices = (count | floats, count, floats)
    return next((numbers for numbers in choices if _may_be_traced(optimizer, numbers, num_updates, params)), {})


def _may_be_traced(optimizer: Optimizer, numbers: Mapping[str, float | int], num_updates: int, params: Any) -> bool:
    """Whether the transformation can be built of these numbers as tracers, with a state like that of known numbers."""
    builder = Builder.of(optimizer, num_updates, numbers)
    try:
        traced = jax.eval_shape(functools.partial(_first_update, builder), params, numbers)
    except _READS_IN_PYTHON:
        return False
    known = jax.eval_shape(functools.partial(_first_update, builder, numbers=numbers), params)
    shapes, like = (jax.tree.map(dtype_shape, tree) for tree in (traced, known))
    return bool(shapes == like)


def learning_rate(opt_state: Any) -> float:
    """The learning rate that `optax.inject_hyperparams` keeps; NaN if there is none."""
    rates = [
        rate for _, rate in optax.tree.get_all_with_path(opt_state, "learning_rate") if isinstance(rate, jax.Array)
    ]  # a schedule keeps its state under this name too; it is not an array
    return float(rates[0]) if rates else math.nan


@dataclass(frozen=True)
class ScheduledOptimizer(Optimizer):
    """An optimizer with clipping and a learning rate that may change from update to update.

    The author gives `learning_rate` a default, adds fields, and writes `build` as one call of `chain`:

        def build(self, num_updates):
            return self.chain(optax.rmsprop, num_updates, decay=self.decay)

    With W = warmup · N, the learning rate of update n = 0, ..., N - 1 is

        η (n + 1) / (W + 1)                      if n < W
        η                                        after that, if the schedule is `constant`
        η (1 + cos(π (n - W) / (N - W))) / 2     after that, if it is `cosine` (Loshchilov & Hutter 2017,
                                                 arXiv:1608.03983)
    """

    learning_rate: Annotated[float, Interval(gt=0)]
    """η, the step size; if it changes, its largest value."""
    clip_norm: Annotated[float, Interval(gt=0)] | None = None
    """Largest global norm of the gradient; a longer gradient is scaled down to it. None: no clipping."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Whether the learning rate stays constant, or falls along half a cosine to 0 at the end of the training."""
    warmup: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    """Share of the updates over which the learning rate first rises linearly to η."""

    def chain(self, make: Callable, num_updates: int, **fields: Any) -> optax.GradientTransformation:
        """The transformation that clips the gradient, and then applies `make(learning_rate, **fields)`.

        Args:
            make: a function of optax, such as `optax.adam`.
            num_updates: N.
            fields: numeric arguments of `make`, which may be traced.
        """
        # If runs that differ in `warmup` are trained side by side, it is traced, and cannot be compared with 0.
        steady = self.schedule == "constant" and isinstance(self.warmup, float) and self.warmup == 0
        rate = self.learning_rate if steady else functools.partial(self._rate, num_updates)
        tx = optax.inject_hyperparams(make)(learning_rate=rate, **fields)
        return tx if self.clip_norm is None else optax.chain(optax.clip_by_global_norm(self.clip_norm), tx)

    def _rate(self, num_updates: int, count: jax.Array) -> jax.Array:
        """The learning rate of update n = `count`."""
        n, W = jnp.asarray(count, float), self.warmup * num_updates
        past = jnp.clip((n - W) / (num_updates - W), 0, 1)
        after = (1 + jnp.cos(jnp.pi * past)) / 2 if self.schedule == "cosine" else 1.0
        return self.learning_rate * jnp.where(n < W, (n + 1) / (W + 1), after)
