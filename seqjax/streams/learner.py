"""`Learner`: an update after every step of a stream, in a loop of the user's own."""

import dataclasses
import functools
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import PyTree

from seqjax.array_files.arrays import by_name, leaf_name, plain_forms, restore
from seqjax.array_files.saved_file import read
from seqjax.data.spec import Tokens
from seqjax.errors import Error, check_flags, check_type, check_whole, counted, dtype_shape
from seqjax.files import path_of, write
from seqjax.gradients.calls.check_scan import check_params, check_step
from seqjax.gradients.contract.gradient import Gradient, UnknownInputError, check_strategy
from seqjax.gradients.contract.problem import Params, Problem, check_problem
from seqjax.gradients.contract.rows import start_keys
from seqjax.gradients.contract.window import Batch
from seqjax.models.model import ForeignModel, ModelProblem
from seqjax.plugin.config import describe
from seqjax.streams.arguments import (
    check_extra,
    check_gradients,
    check_ids,
    check_not_donated,
    check_numbers,
    check_sample,
)
from seqjax.streams.learner_file import PARTS, MadeFor, decode, difference, encode, first_difference, there_for
from seqjax.streams.outputs import (
    by_rows,
    for_several,
    has_outputs,
    have_leading_axis,
    outputs_of,
    problem_of_outputs,
    problem_without_loss,
)
from seqjax.training.epoch import apply_gradient
from seqjax.training.initial import begin


class LearnerState(NamedTuple):
    """What a `Learner` carries from step to step.

    Args:
        params: the parameters.
        opt_state: the optimizer's state.
        carry: the recurrent state, leaves [B, ...].
        memory: the gradient strategy's memory.
        key: the root of all randomness; step n draws from `fold_in(key, n)`.
        step: int32[], the number of steps of the stream so far.
    """

    params: Any
    opt_state: Any
    carry: Any
    memory: Any
    key: Any
    step: Any


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
                "Take Truncated(steps=1) for this gradient; a strategy of the history, such as RTRL(), or "
                "Rolling(steps=K) for each loss through its last K steps; or windows of L steps, by seqjax.train with "
                "the sampler InOrder(num_steps=L). A strategy of your own that estimates the gradient of one step says "
                "so: for_one_step = True"
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

    def init(self, key: jax.Array, params: Params | None = None, x: Any = None) -> LearnerState:
        """The state before the first step.

        Args:
            key: a JAX key, the root of all randomness.
            params: the parameters; None: the initial ones of the model. Required if the problem has no model.
            x: an example of what `update` reads; with `rows`, leaves [B, ...]. Its values are not used, but its shapes
                and dtypes. A strategy that must know them, such as `rolling` or `kf-rtrl`, needs it if the problem has
                no model. With a model it is not read.

        Raises:
            Error: there are no parameters, or they are not those of the model; the key is no single key; the strategy
                needs `x`.
        """
        self._check_arguments(key, params)
        check_numbers("Learner.init", x)
        return self._init(key, params, x)

    @functools.partial(jax.jit, static_argnums=0)
    def _init(self, key, params, x=None):
        problem, axes = self.problem, 0 if self.rows is None else 1
        if isinstance(problem, ModelProblem):
            # What a loss of the user's own reads is not known, and no memory depends on it.
            problem, x = problem_without_loss(problem), (problem.spec.inputs.like, ())
        elif x is not None:
            x = jax.tree.map(lambda a: jax.ShapeDtypeStruct(jnp.shape(a)[axes:], jnp.result_type(a)), x)
        begun = begin(problem, self.gradient, self.rows or 1, x, key, params)
        opt_state = self.optimizer.init(begun.params)
        # Here every step counts, and not only those that an update follows.
        state = LearnerState(begun.params, opt_state, begun.carry, begun.memory, begun.key, step=begun.update)
        # Weak types would become strong ones in the first update, and the second one would be compiled again.
        return jax.tree.map(lambda a: jax.lax.convert_element_type(a, a.dtype), state)

    def output(self, state: LearnerState, *x: PyTree, reset: Any = None) -> PyTree:
        """What the next step returns beside its loss, such as the output of a model, before any update.

        Nothing is donated, and the stream does not advance.

        Args:
            state: the state before the step.
            x: what the step reads; of a model the input alone. An id in an array of JAX that is out of range makes the
                output NaN.
            reset: as in `update`.

        Raises:
            Error: the steps of the problem have no outputs; else as in `update`.
        """
        self._check_outputs("Learner.output")
        self._check_host_ids("Learner.output", x)
        return self._call("Learner.output", self._output, state, x, reset)

    @functools.partial(jax.jit, static_argnums=0)
    def _output(self, state, x, reset):
        return self._outputs(state, self._read("Learner.output", state, x, reset, has_target=False))

    def gradients(
        self, state: LearnerState, *x: PyTree, cotangents: PyTree, reset: Any = None, by_row: bool = False
    ) -> tuple[Params, LearnerState]:
        """The gradient of <c, output> of the next step through the history, and the state after this step.

        The gradient is estimated by the strategy, as it would estimate the gradient of a loss with this value.
        Strategies that compare perturbed steps, such as `es` and `pes`, compare <c, output>. `dni` learns from
        <c, output> to predict later gradients of it, so that c must mean the same at all steps. `kernl` learns from
        states alone. The parameters do not change: `apply` changes them. Several calls before an `apply` are several
        steps of the stream.

        Args:
            state: the state before the step; it is donated.
            x: what the step reads; of a model the input alone.
            cotangents: c, like `output`; or several of them, with one leading axis [C] more, for several gradients.
                `dni` and `e-prop` take one.
            reset: as in `update`.
            by_row: False: the sum of the gradients of all rows. True: a gradient for each row.

        Returns:
            The gradient, like the parameters, with leading axes [C] for several cotangents and [B] by row; and the
            state after the step.

        Raises:
            Error: the cotangents are not like the output; there are several, and what the strategy carries depends on
                them; `by_row` without rows; else as in `output`.
        """
        self._check_outputs("Learner.gradients")
        self._check_host_ids("Learner.gradients", x)
        check_flags(by_row=by_row)
        if by_row and self.rows is None:
            raise Error("Learner.gradients: by_row=True is for a learner of several rows, Learner(..., rows=B)")
        return self._call("Learner.gradients", self._gradients, state, x, reset, cotangents, by_row)

    @functools.partial(jax.jit, static_argnums=(0, 5), donate_argnums=1)
    def _gradients(self, state, x, reset, cotangents, by_row):
        batch = self._read("Learner.gradients", state, x, reset, has_target=False)
        problem = problem_of_outputs(self.problem)

        def estimate(cotangents):
            read = batch._replace(xs=(batch.xs, self._with_rows(cotangents)))
            found = by_rows(together, state, read) if by_row else together(state, read)
            return found.grads, (found.state, found.memory)

        def together(state, batch):
            return self._estimate(problem, state, batch)

        cotangents = jax.tree.map(jnp.asarray, cotangents)
        if have_leading_axis(cotangents, jax.eval_shape(self._outputs, state, batch)):
            grads, (carry, memory) = for_several(estimate, cotangents)
        else:
            grads, (carry, memory) = estimate(cotangents)
        return grads, state._replace(carry=carry, memory=memory, step=state.step + 1)

    def apply(self, state: LearnerState, grads: Params, **extra: Any) -> LearnerState:
        """The state after an update of the parameters by the optimizer. The stream does not advance.

        Args:
            state: the state; it is donated.
            grads: what the optimizer takes: gradients like the parameters, or by row, if it takes those, such as
                `seqjax.eligibility(decay, rows=B)`.
                Most optimizers descend: give them the gradient of a loss, such as -delta times that of a value.
                `seqjax.eligibility` and `seqjax.obgd` move the parameters along delta times the gradient.
            extra: further arguments of the optimizer, such as `delta` and `reset`. Optax leaves out those that an
                optimizer does not know.

        Raises:
            Error: the gradients, or the updates of the optimizer, are not like the parameters; the state was donated
                before, or is that of another learner.
        """
        check_extra("Learner.apply", extra)
        return self._call("Learner.apply", self._apply, state, grads, extra)

    @functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
    def _apply(self, state, grads, extra):
        if found := self._misfit_of_params(state.params):
            raise _of_another("Learner.apply", f"another problem: params/{found}")
        like = jax.eval_shape(self.optimizer.init, state.params)
        if jax.tree.structure(state.opt_state) != jax.tree.structure(like):  # type: ignore[operator]
            raise _of_another("Learner.apply", f"another {PARTS['opt_state']}")
        check_gradients("Learner.apply", grads, state.params)
        return self._applied("Learner.apply", state, grads, extra)

    def update(
        self, state: LearnerState, *x: PyTree, reset: Any = None, **extra: Any
    ) -> tuple[LearnerState, dict[str, Any]]:
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
            extra: further arguments of the optimizer, as in `apply`. It also gets `reset`, if that is not None. The
                gradient here is that of the loss, which `eligibility` and `obgd` would ascend: they belong to `apply`.

        Returns:
            The next state, and `loss`, the mean over the rows before the update, `grad_norm`, and what the strategy
            measures, such as `gradient_certificate`, by the names in its `metric_names`; float[] each. `outputs` is
            what the step returned beside its loss, if it returns something.

        Raises:
            Error: the state was donated before, or is that of another learner; the problem cannot read the arguments,
                or an id is out of range.
        """
        self._check_host_ids("Learner.update", x)
        check_extra("Learner.update", extra)
        return self._call("Learner.update", self._update, state, x, reset, extra)

    @functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
    def _update(self, state, x, reset, extra):
        batch = self._read("Learner.update", state, x, reset, has_target=True)
        found = self._estimate(self.problem, state, batch._replace(weights=batch.weights / (self.rows or 1)))
        metrics = {"loss": found.loss, "grad_norm": optax.tree.norm(found.grads), **self.gradient.metrics(found.memory)}
        if has_outputs(self.problem):
            read = batch.xs[0] if isinstance(self.problem, ModelProblem) else batch.xs
            metrics["outputs"] = self._outputs(state, batch._replace(xs=read))
        state = state._replace(carry=found.state, memory=found.memory, step=state.step + 1)
        extra = extra if reset is None else extra | {"reset": reset}
        return self._applied("Learner.update", state, found.grads, extra), metrics

    def _call(self, caller, compiled, state, *others):
        """Calls one of the compiled functions, with errors that say what to pass."""
        if not isinstance(state, LearnerState) and any(isinstance(other, LearnerState) for other in others):
            raise Error(f"{caller}: pass the state first; gradients returns (grads, state)")
        check_type(f"{caller}: state", state, LearnerState, "the state that init or update returned")
        try:
            return compiled(state, *others)
        except (RuntimeError, ValueError) as fault:
            # JAX has no exception of its own for this, and each version another one. The text is compared after the
            # fact, which costs nothing before.
            if "has been deleted" in str(fault):
                check_not_donated(f"{caller}: this state", state)
                check_not_donated(f"{caller}: an argument", others)
            raise
        except TypeError:
            check_numbers(caller, others)
            raise

    def _check_host_ids(self, caller, x):
        """Checks the ids that a step reads, if they are on the host."""
        for name, ids, tokens in zip("xy", x, self._tokens, strict=False):
            if tokens is not None:
                check_ids(caller, name, ids, tokens.size)

    def _read(self, caller, state, x, reset, has_target):
        """What one step reads, as a window in which each loss weighs 1.

        What is checked here is known from shapes, and is checked once for each compiled function.
        """
        leading = () if self.rows is None else (self.rows,)
        check_sample(caller, self.problem, x, leading, has_target)
        if isinstance(self.problem, ModelProblem):
            self._check_state(caller, state)
        else:
            self._check_state(caller, state, _only(x))
            check_step(self.problem, state.params, state.carry, self._with_rows(_only(x)))
        num_rows = self.rows or 1
        if reset is not None:
            reset = jnp.asarray(reset)
            if reset.dtype != jnp.bool or reset.shape not in ((), (self.rows,)):
                wanted = "bool[]" if self.rows is None else f"bool[] or bool[{self.rows}]"
                raise Error(f"{caller}: reset must be {wanted}, not {dtype_shape(reset)}")
        # As in `train`, a sequence starts with the first step: the initial state may depend on the parameters.
        starts = jnp.broadcast_to(state.step == 0 if reset is None else (state.step == 0) | reset, (num_rows,))
        weights = jnp.ones((1, num_rows))
        for ids, tokens in zip(x, self._tokens, strict=False):
            if tokens is not None:  # JAX takes the nearest id in place of one that is out of range
                ids = ids.astype(jnp.int32)
                weights = jnp.where((ids >= 0) & (ids < tokens.size), weights, jnp.nan)
        return Batch(self._with_rows(_only(x)), weights, starts, jnp.arange(num_rows, dtype=jnp.int32))

    def _with_rows(self, tree):
        """What one step reads, leaves [...] or [B, ...], as a window [1, B, ...]."""
        axes = (0, 1) if self.rows is None else 0
        return jax.tree.map(lambda a: jnp.expand_dims(jnp.asarray(a), axes), tree)

    def _outputs(self, state, batch):
        """What the step returns beside its loss, leaves [...] or [B, ...]; a target in `batch` is not read."""
        start = self.problem.start(state.params, state.carry, batch.reset, start_keys(self._key(state), batch.rows))
        outputs = outputs_of(self.problem, state.params, start, batch.xs)
        if any(self._tokens):  # as in `_read`: an id that is out of range is no other id
            (valid,) = ~jnp.isnan(batch.weights)
            outputs = jax.tree.map(lambda a: jnp.where(valid.reshape(-1, *(1,) * (a.ndim - 1)), a, jnp.nan), outputs)
        return jax.tree.map(lambda a: a[0], outputs) if self.rows is None else outputs

    def _estimate(self, problem, state, batch):
        """The estimate of the strategy, as in an update of `train`."""
        return self.gradient(problem, state.params, state.carry, state.memory, batch, self._key(state))

    def _key(self, state):
        """The key of a step."""
        return jax.random.fold_in(state.key, state.step)

    def _applied(self, caller, state, grads, extra):
        """The state after the update of the parameters."""
        params, opt_state = apply_gradient(self.optimizer, grads, state.opt_state, state.params, **extra)
        if wrong := first_difference(_shapes(params), _shapes(state.params)):
            raise Error(
                f"{caller}: the updates of the optimizer are not like the parameters: {wrong}; of the gradients of "
                "several cotangents pass one, such as g[0] of each leaf, or their sum; gradients by row need an "
                "optimizer that takes them, such as one that begins with seqjax.eligibility(decay, rows=B)"
            )
        return state._replace(params=params, opt_state=opt_state)

    @functools.cached_property
    def _tokens(self) -> tuple[Tokens | None, ...]:
        """For each argument of a model, which ids it may have; None: it is no id, or the user's loss reads it."""
        if not isinstance(self.problem, ModelProblem):
            return ()
        sides = self.problem.spec.inputs, self.problem.spec.targets if self.problem.loss is None else None
        return tuple(side if isinstance(side, Tokens) else None for side in sides)

    def save(self, path: str | Path, state: LearnerState) -> None:
        """Writes a state to a file, whole or not at all. It replaces what such a learner has saved, and nothing else.

        Raises:
            Error: the state was donated before, or is that of another learner; the path is that of another file; the
                disk refuses.
        """
        check_type("Learner.save: state", state, LearnerState, "the state that init or update returned")
        check_not_donated("Learner.save: this state", state)
        self._check_state("Learner.save", state)
        path, arrays = path_of("path", path), by_name(state)
        made_for = self._made_for({name: dtype_shape(array) for name, array in arrays.items()})
        there = there_for(path)
        if there is not None and (found := there.unlike(made_for)):
            raise Error(f"{path} has the state of another learner, with {found}; delete it, or save elsewhere")
        write(path, encode(arrays, made_for, str(jax.random.key_impl(state.key))))

    def load(self, path: str | Path, params: Params | None = None, x: Any = None) -> LearnerState:
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
            check_not_donated("Learner.init: these parameters are of a state that", params)
            if wrong := self._misfit_of_params(params):
                raise Error(
                    f"Learner.init: the parameters are not those of the model: {wrong}; pass parameters "
                    "of this model, such as run.params of its run"
                )
        elif not hasattr(self.problem, "init"):
            raise Error("a problem without a model has no initial parameters: pass params=")
        elif isinstance(model := getattr(self.problem, "model", None), ForeignModel):
            raise Error(f"{model.reader} returned the parameters with the model: pass them, learner.init(key, params)")

    def _check_state(self, caller: str, state: LearnerState, x: Any = None) -> None:
        """Checks that a state has the structure and the shapes of this learner's states. Nothing is computed.

        Raises:
            Error: it has not.
        """
        if found := self._misfit(state, x):
            raise _of_another(caller, found)

    def _check_outputs(self, caller: str) -> None:
        if not has_outputs(self.problem):
            raise Error(
                f"{caller}: the steps of this problem return nothing beside their losses; return (state, (loss, "
                "output)), and pass Problem(step, init_state, has_aux=True)"
            )

    def _misfit(self, state: LearnerState, x: Any) -> str | None:
        """What a state of another learner has that the states of this one have not, in words; None: nothing.

        Dtypes are not compared: parameters that are given may have other ones than those of the model.
        """
        if wrong := self._misfit_of_params(state.params):
            return f"another problem: params/{wrong}"
        rows = {size for leaf in jax.tree.leaves(state.carry) for size in np.shape(leaf)[:1]}
        if len(rows) == 1 and rows != {self.rows or 1}:
            return f"{counted(rows.pop(), 'row')}, and this one has {self.rows or 1}"
        try:
            like = jax.eval_shape(self._init, state.key, state.params, x)
        except UnknownInputError:  # `save` has no example of what a step reads, on which the memory depends
            return None
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


def _of_another(caller: str, found: str) -> Error:
    return Error(
        f"{caller}: the state is that of another learner, with {found}; pass a state that init, update or load of this "
        "learner returned"
    )


def _only(x: tuple) -> PyTree:
    """What a step reads: one argument as it is, several as a tuple."""
    return x if len(x) > 1 else x[0]


def _shapes(tree: PyTree) -> dict[str, str]:
    """The shapes of the leaves of a tree by name, in words."""
    return {leaf_name(keys): f"of shape {list(np.shape(leaf))}" for keys, leaf in jax.tree.leaves_with_path(tree)}
