"""`Learner`: an update after every step of a stream, in a loop of the user's own."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import PyTree

from seqjax.array_files.arrays import by_name, leaf_name, plain_forms, restore
from seqjax.array_files.saved_file import read
from seqjax.data.spec import Tokens, Values
from seqjax.errors import Error, check_type, check_whole, counted, dtype_shape
from seqjax.files import path_of, write
from seqjax.gradients.calls.check_scan import check_params
from seqjax.gradients.contract.gradient import Gradient, check_strategy
from seqjax.gradients.contract.problem import Params, Problem, check_problem
from seqjax.gradients.contract.window import Batch
from seqjax.models.model import ForeignModel, ModelProblem
from seqjax.plugin.config import describe
from seqjax.streams.learner_file import PARTS, MadeFor, decode, difference, encode, first_difference, there_for
from seqjax.training.epoch import TrainState, update_state
from seqjax.training.initial import begin


@dataclasses.dataclass(frozen=True, eq=False)
class Learner:
    """Learns from a stream, with an update of the parameters after every step.

    It is used like an optax transformation: `init` returns the state, and `update` the next one. The state holds the
    parameters, the optimizer's state, the recurrent state and what the gradient strategy carries. Its buffers are
    donated: after `update`, the old state cannot be read any more. JAX keeps a learner and its compiled functions in
    memory until `jax.clear_caches()`.

    The updates are those of `seqjax.train` with the sampler `InOrder(num_steps=1)`, one call each.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> import optax
    >>> import seqjax as sj
    >>> from seqjax.gradients import RTRL
    >>> from seqjax.models import LRU
    >>> problem = LRU(hidden=8).problem(sj.Spec(sj.Values(1)))
    >>> learner = sj.Learner(problem, RTRL(), optax.adam(0.01))
    >>> state = learner.init(jax.random.key(0))
    >>> wave = jnp.sin(0.3 * jnp.arange(301.0))[:, None]
    >>> for x, y in zip(wave[:-1], wave[1:]):
    ...     state, metrics = learner.update(state, x, y)
    >>> float(metrics["loss"]) < 0.01
    True

    Args:
        problem: what is learned: the problem of a model, or `Problem(step, init_state)`.
        gradient: the gradient strategy. A strategy of the history, such as `RTRL`, carries the influence of the
            parameters from step to step. Of the window, which is one step, those are taken that estimate the gradient
            of the one step (`Gradient.for_one_step`), such as `Truncated(steps=1)`.
        optimizer: an optax transformation.
        rows: B, the number of streams that are read side by side, whose losses are averaged. None: one stream, whose
            arrays have no axis B.

    Raises:
        Error: one of them is of another kind, or the strategy is meant for windows of several steps.
    """

    problem: Problem
    gradient: Gradient
    optimizer: optax.GradientTransformation
    rows: int | None = None

    def __post_init__(self):
        check_problem("Learner", self.problem)
        check_strategy("Learner", self.gradient)
        if not self.gradient.for_one_step:
            raise Error(
                f"Learner: the window of a learner is one step, and {describe(self.gradient)} is not meant for one: it "
                "would give the gradient of this step alone, as truncated steps=1 does\n"
                "Take Truncated(steps=1) for this gradient; a strategy of the history, such as RTRL(); or windows of L "
                "steps, by seqjax.train with the sampler InOrder(num_steps=L). A strategy of your own that estimates "
                "the gradient of one step says so: for_one_step = True"
            )
        wanted = "an optax transformation, such as optax.adam(1e-3); that of a plugin is optimizer.build(num_updates)"
        check_type("Learner: optimizer", self.optimizer, optax.GradientTransformation, wanted)
        if self.rows is not None:
            check_whole(rows=(self.rows, 1))
        if self.problem.warmup:
            raise Error(
                f"Learner: the first {self.problem.warmup} outputs of the model are a warm-up, and an update follows "
                "every step: train it by seqjax.train, or use a model without a warm-up"
            )

    def init(self, key: jax.Array, params: Params | None = None, x: Any = None) -> TrainState:
        """The state before the first step.

        Args:
            key: a JAX key, the root of all randomness.
            params: the parameters; None: the initial ones of the model. Required if the problem has no model.
            x: an example of what `update` reads, of a model (input, target); with `rows`, leaves [B, ...]. Its values
                are not used. Strategies that must know shapes, such as `kf-rtrl`, need it if the problem has no model.

        Raises:
            Error: there are no parameters, or they are not those of the model; the key is no single key; the strategy
                needs `x`.
        """
        self._check_arguments(key, params)
        return self._init(key, params, x)

    @functools.partial(jax.jit, static_argnums=0)
    def _init(self, key, params, x=None):
        leading = 0 if self.rows is None else 1
        x = None if x is None else jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[leading:], a.dtype), x)
        state = begin(self.problem, self.gradient, self.rows or 1, x, key, params)
        state = state._replace(opt_state=self.optimizer.init(state.params))
        # Weak types would become strong ones in the first update, and the second one would be compiled again.
        return jax.tree.map(lambda a: jax.lax.convert_element_type(a, a.dtype), state)

    def update(self, state: TrainState, *x: PyTree, reset: Any = None) -> tuple[TrainState, dict[str, jax.Array]]:
        """The state after one step and one update of the parameters.

        It is compiled at the first call. The shapes and dtypes of later calls should be the same.

        Args:
            state: the state before the step; it is donated.
            x: what the step reads: the input and the target of a model, as two arguments; with `rows`, leaves [B, ...].
                Ids are checked if they are numbers of Python or arrays of numpy. Those in an array of JAX are not read,
                since this would wait for the device: one that is out of range makes the loss and the gradient NaN.
            reset: whether a sequence starts with this step, bool[], or bool[B] with `rows`. The recurrent state and
                what the strategy carries then begin anew. The first step always starts one. None: no sequence starts.
                Pass it at all steps or at none, since the function is compiled for each of the two.

        Returns:
            The next state, and `loss`, the mean over the rows before the update, `grad_norm`, and what the strategy
            measures, such as `gradient_certificate`, by the names in its `metric_names`; float[] each.

        Raises:
            Error: the state was donated before, or is that of another learner; the problem cannot read the arguments,
                or an id is out of range.
        """
        check_type("Learner.update: state", state, TrainState, "the state that init or update returned")
        for name, ids, tokens in zip("xy", x, self._tokens, strict=False):
            if tokens is not None:
                _check_ids(name, ids, tokens.size)
        try:
            return self._update(state, *x, reset=reset)
        except (RuntimeError, ValueError) as fault:
            # JAX has no exception of its own for this, and each version another one. The text is compared after the
            # fact, which costs nothing before.
            if "has been deleted" in str(fault):
                _check_not_donated("Learner.update: this state", state)
            raise
        except TypeError:
            _check_numbers((x, reset))
            raise

    @functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
    def _update(self, state, *x, reset):
        """`update`. What is checked here is known from shapes, and is checked once for each compiled function."""
        self._check_state("Learner.update", state, x if len(x) > 1 else x[0] if x else None)
        _check_sample(self.problem, x, () if self.rows is None else (self.rows,))
        num_rows = self.rows or 1
        axes = 0 if self.rows else (0, 1)
        xs = jax.tree.map(lambda a: jnp.expand_dims(jnp.asarray(a), axes), x if len(x) > 1 else x[0])
        if reset is not None:
            reset = jnp.asarray(reset)
            if reset.dtype != jnp.bool or reset.shape not in ((), (self.rows,)):
                wanted = "bool[]" if self.rows is None else f"bool[] or bool[{self.rows}]"
                raise Error(f"Learner.update: reset must be {wanted}, not {dtype_shape(reset)}")
        # As in `train`, a sequence starts with the first step: the initial state may depend on the parameters.
        starts = jnp.broadcast_to(state.update == 0 if reset is None else (state.update == 0) | reset, (num_rows,))
        weights = jnp.full((1, num_rows), 1 / num_rows)
        for ids, tokens in zip(x, self._tokens, strict=False):
            if tokens is not None:  # JAX takes the nearest id in place of one that is out of range
                ids = ids.astype(jnp.int32)
                weights = jnp.where((ids >= 0) & (ids < tokens.size), weights, jnp.nan)
        batch = Batch(xs, weights, starts, jnp.arange(num_rows, dtype=jnp.int32))
        new, metrics = update_state(self.problem, self.gradient, self.optimizer, state, batch)
        return new, metrics | self.gradient.metrics(new.memory)

    @functools.cached_property
    def _tokens(self) -> tuple[Tokens | None, ...]:
        """For each argument of a model, which ids it may have; None: it is no id, or the user's loss reads it."""
        if not isinstance(self.problem, ModelProblem):
            return ()
        sides = self.problem.spec.inputs, self.problem.spec.targets if self.problem.loss is None else None
        return tuple(side if isinstance(side, Tokens) else None for side in sides)

    def save(self, path: str | Path, state: TrainState) -> None:
        """Writes a state to a file, whole or not at all. It replaces what such a learner has saved, and nothing else.

        Raises:
            Error: the state was donated before, or is that of another learner; the path is that of another file; the
                disk refuses.
        """
        check_type("Learner.save: state", state, TrainState, "the state that init or update returned")
        _check_not_donated("Learner.save: this state", state)
        self._check_state("Learner.save", state)
        path, arrays = path_of("path", path), by_name(state)
        made_for = self._made_for({name: dtype_shape(array) for name, array in arrays.items()})
        there = there_for(path)
        if there is not None and (found := there.unlike(made_for)):
            raise Error(f"{path} has the state of another learner, with {found}; delete it, or save elsewhere")
        write(path, encode(arrays, made_for, str(jax.random.key_impl(state.key))))

    def load(self, path: str | Path, params: Params | None = None, x: Any = None) -> TrainState:
        """The state that `save` wrote, with the same bits.

        A file has a hash of its bytes, and names the strategy, the number of rows, and the names, shapes and dtypes of
        the arrays, which have to be those of this learner. It does not hold the problem and the optimizer: a learner of
        another learning rate loads it.

        Args:
            path: the file.
            params: parameters of the same structure, needed if the problem has no model, or one that `from_flax` or
                `from_equinox` made; their values are not used.
            x: as in `init`.

        Raises:
            Error: there is no such file, a bit of it has changed, or its state is that of another learner.
        """
        arrays, made_for, key = read(path_of("path", path), decode)
        self._check_arguments(key, params)
        own = self._made_for(plain_forms(jax.eval_shape(self._init, key, params, x)))
        text = f"{path} has the state of another learner"
        if found := made_for.unlike(own):
            raise Error(f"{text}, with {found}; load it with a learner like the one that saved it", exit_code=4)
        return restore(arrays, self._init(key, params, x), f"{text}:")

    def _made_for(self, forms: dict[str, str]) -> MadeFor:
        """What a file says of this learner; `forms`: those of the arrays of its state."""
        return MadeFor(describe(self.gradient), self.rows or 1, forms)

    def _check_arguments(self, key: jax.Array, params: Params | None) -> None:
        """Checks what `init` takes."""
        check_type("Learner.init: key", key, jax.Array, "a key, such as jax.random.key(0)")
        if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key) or key.shape:
            raise Error(f"Learner.init: key must be one typed key, such as jax.random.key(0), not {dtype_shape(key)}")
        if params is not None:
            check_params(params)
            _check_not_donated("Learner.init: these parameters are of a state that", params)
            if wrong := self._misfit_of_params(params):
                raise Error(
                    f"Learner.init: the parameters are not those of the model: {wrong}; pass parameters "
                    "of this model, such as run.params of its run"
                )
        elif not hasattr(self.problem, "init"):
            raise Error("a problem without a model has no initial parameters: pass params=")
        elif isinstance(model := getattr(self.problem, "model", None), ForeignModel):
            raise Error(f"{model.reader} returned the parameters with the model: pass them, learner.init(key, params)")

    def _check_state(self, caller: str, state: TrainState, x: Any = None) -> None:
        """Checks that a state has the structure and the shapes of this learner's states. Nothing is computed.

        Raises:
            Error: it has not.
        """
        if found := self._misfit(state, x):
            raise Error(
                f"{caller}: the state is that of another learner, with {found}; pass a state that init, update or load "
                "of this learner returned"
            )

    def _misfit(self, state: TrainState, x: Any) -> str | None:
        """What a state of another learner has that the states of this one have not, in words; None: nothing.

        Dtypes are not compared: parameters that are given may have other ones than those of the model.
        """
        if wrong := self._misfit_of_params(state.params):
            return f"another problem: params/{wrong}"
        like = jax.eval_shape(self._init, state.key, state.params, x)
        rows = {size for leaf in jax.tree.leaves(state.carry) for size in np.shape(leaf)[:1]}
        if len(rows) == 1 and rows != {self.rows or 1}:
            return f"{counted(rows.pop(), 'row')}, and this one has {self.rows or 1}"
        if wrong := difference(_shapes(state), _shapes(like)):
            return wrong
        for field, part in PARTS.items():
            there, here = (jax.tree.structure(getattr(each, field)) for each in (state, like))
            if there != here:  # type: ignore[operator]
                return f"another {part}, whose {field} has another structure"
        return None

    def _misfit_of_params(self, params: Params) -> str | None:
        """Which parameter of the model is missing or of another shape, in words; None: all fit, or none are known.

        There may be others: those that `from_torch` returns have a bias that those of the model lack.
        """
        if isinstance(model := getattr(self.problem, "model", None), ForeignModel):
            own = model.params_like()
        else:
            own = jax.eval_shape(self.problem.init, jax.random.key(0)) if hasattr(self.problem, "init") else None
        given, needed = _shapes(params), _shapes(own)
        return first_difference({name: given[name] for name in needed if name in given}, needed)


def _check_not_donated(what: str, tree: PyTree) -> None:
    """Raises an `Error` that begins with `what` if an array of a tree was donated."""
    for leaf in jax.tree.leaves(tree):
        if isinstance(leaf, jax.Array) and not isinstance(leaf, jax.core.Tracer) and leaf.is_deleted():
            raise Error(
                f"{what} was passed to `update` before, which donates it, so that its arrays are no longer there; use "
                "the state that `update` returned: state, metrics = learner.update(state, x, y)"
            )


def _check_numbers(tree: PyTree) -> None:
    """Raises an `Error` if a leaf is a text or another object that is no number and no array of numbers."""
    for leaf in jax.tree.leaves(tree):
        if not isinstance(leaf, jax.Array) and np.asarray(leaf).dtype.kind in "OSTUMm":
            raise Error(f"Learner.update: {leaf!r:.80} is neither a number nor an array of numbers")


def _shapes(tree: PyTree) -> dict[str, str]:
    """The shapes of the leaves of a tree by name, in words."""
    return {leaf_name(keys): f"of shape {list(np.shape(leaf))}" for keys, leaf in jax.tree.leaves_with_path(tree)}


def _check_sample(problem: Problem, x: tuple, leading: tuple[int, ...]) -> None:
    """Checks what one step reads.

    Args:
        problem: the problem.
        x: the arguments.
        leading: (B,), or () without rows.
    """
    if not isinstance(problem, ModelProblem):
        if not x:
            raise Error("Learner.update: pass what the step reads after the state")
        if wrong := [leaf for leaf in jax.tree.leaves(x) if leaf.shape[: len(leading)] != leading]:
            raise Error(
                f"Learner.update: with rows={leading[0]}, all arrays that the step reads have a first axis of "
                f"{leading[0]}, but one is {dtype_shape(wrong[0])}"
            )
        return
    if len(x) != 2:
        raise Error(f"Learner.update: a model reads an input and a target, update(state, x, y), not {len(x)} arguments")
    spec = problem.spec
    _check_array("x", x[0], spec.inputs, leading)
    if problem.loss is None:  # a loss of the user's own may read any target
        _check_array("y", x[1], spec.targets, leading)


def _check_ids(name: str, ids: Any, size: int) -> None:
    """Checks ids that are on the host: they are from 0 to `size` - 1. The shape and the dtype are checked elsewhere."""
    if isinstance(ids, np.ndarray) and ids.dtype.kind in "iu" and ids.size:
        # As unsigned numbers, negative ones are the largest, so that one pass over the array finds all.
        at = ids.view(f"u{ids.itemsize}").argmax()
        ids = ids.item(at)
    if isinstance(ids, (int, np.integer)) and not 0 <= ids < size:
        raise Error(f"Learner.update: {name} has the id {ids}, and the ids are from 0 to {size - 1}")


def _check_array(name: str, value: Any, kind: Tokens | Values, leading: tuple[int, ...]) -> None:
    """Checks the input or the target of one step.

    Raises:
        Error: it is no array, or of another dtype or shape than `kind` says.
    """
    is_token = isinstance(kind, Tokens)
    shape = leading if isinstance(kind, Tokens) else (*leading, kind.dim)
    dtype = getattr(value, "dtype", None)
    fits = dtype is not None and jnp.issubdtype(dtype, jnp.integer if is_token else jnp.floating)
    if not fits or value.shape != shape:
        wanted = f"{'int' if is_token else 'float'}{list(shape)}"
        raise Error(f"Learner.update: {name} must be {wanted} for {kind}, not {dtype_shape(value)}")
