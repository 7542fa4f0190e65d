"""The contract of a gradient strategy, for a batch of rows or for one sequence."""

from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from seqjax.errors import Error, dtype_shape
from seqjax.gradients.contract.problem import Params, Problem, State
from seqjax.gradients.contract.rows import average_shared, one_input, over_rows, reset_rows, row_keys, start_keys
from seqjax.gradients.contract.window import Batch, Estimate, Memory, Noise, Start
from seqjax.plugin.base import Plugin
from seqjax.plugin.registry import name_of


class Gradient(Plugin):
    """A gradient strategy, written for the whole batch: the author writes `estimate`.

    Most strategies derive from `WeightedEdges`, `RandomCuts` or `SequenceGradient` instead, whose authors write one
    function for one sequence. Random numbers are drawn outside of `estimate`, so that a claim can be proved by summing
    `estimate` over `outcomes`.

    >>> import jax.numpy as jnp
    >>> import seqjax as sj
    >>> from seqjax.gradients import RTRL
    >>> strategy = RTRL()
    >>> strategy.claim, strategy.of
    ('exact', 'history')
    >>> def step(w, s, x):
    ...     return s + w * x, s
    >>> loss, grads = sj.value_and_grad(step, strategy)(jnp.array(2.0), jnp.array(0.0), jnp.ones(3))
    >>> float(loss), float(grads)
    (2.0, 1.0)
    """

    kind: ClassVar[str] = "gradient"
    claim: ClassVar[Literal["exact", "unbiased", "biased"]] = None  # type: ignore[assignment]
    """How the expectation of `grads` relates to the gradient, at fixed parameters. A strategy has to declare it."""
    of: ClassVar[Literal["window", "history"]] = None  # type: ignore[assignment]
    """Which gradient is estimated: the gradient of the window, whose incoming state is a constant, or the gradient of
    the whole history since the row was reset. A strategy has to declare it."""
    argnums: ClassVar[tuple[int, ...]] = (0, 1)
    """Which arguments of a scan, step(params, state, x), it differentiates: 0, the parameters; 1, the state in which a
    window starts, as a function `start` of the parameters; 2, what the steps read, as `Problem.read` gives it."""

    learns_start: ClassVar[bool] = True
    """Whether an initial state that depends on the parameters gets its gradient. False: it is a constant."""

    drops_losses: ClassVar[bool] = False
    """Whether early losses of a window, and with them an initial state, may have no gradient, as in `last`."""

    rounds: ClassVar[bool] = True
    """Whether its steps may be computed in bfloat16. False: always in float32, because rounding errors would grow in
    what it carries from step to step, or exceed the small differences that it compares."""

    by_sequence: ClassVar[bool] = False
    """Whether it is written for one sequence. It then keeps numbers for each parameter and each row."""

    metric_names: ClassVar[tuple[str, ...]] = ()
    """The names of what `metrics` returns, such as `gradient_bias`; they start with `gradient_`."""

    @property
    def for_one_step(self) -> bool:
        """Whether it is meant for windows of one step, which a `Learner` reads.

        True for a strategy of the history. Most strategies of the window would differ only over several steps: in a
        window of one step all of them give its gradient. A strategy of the window that is meant to estimate this
        gradient sets `for_one_step = True`.
        """
        return self.of == "history"

    def init(self, problem: Problem, params: Params, state: State, x: Any = None) -> Memory:
        """The memory of ONE sequence that starts in `state`.

        Args:
            problem: the problem.
            params: the parameters.
            state: the state in which the sequence starts.
            x: what a step reads, as arrays or as shapes and dtypes; None: unknown, see `known_input`.
        """
        return Memory()

    draw: ClassVar[Any] = None
    """draw(key, problem, params, memory, num_steps) -> the random numbers of ONE sequence for a window of `num_steps`.
    None: the strategy is not random."""

    def outcomes(
        self, problem: Problem, params: Params, memory: Memory, num_steps: int
    ) -> tuple[Noise, Float[Array, " M"]]:
        """All M values that `draw` can return, stacked, and their probabilities. It is called for small `num_steps`.

        Raises:
            NotImplementedError: the strategy draws, but its outcomes have not been written or are continuous.
        """
        if self.draws:
            raise NotImplementedError(f"{type(self).__name__} draws, but does not list its outcomes")
        return (), jnp.ones(1)

    def estimate(
        self, problem: Problem, params: Params, start: Start, memory: Memory, batch: Batch, noise: Noise
    ) -> Estimate:
        """Loss and gradient of one window. All of its randomness is in `noise`.

        Args:
            problem: gives `step` and `unroll`.
            params: the parameters.
            start: params -> the state in which the window starts, leaves [B, ...].
            memory: `memory.rows` has leaves [B, ...]; rows that are reset have been initialised.
            batch: the window.
            noise: what `draw` returned for each row, leaves [B, ...].
        """
        raise NotImplementedError

    scan: ClassVar[Any] = None
    """scan(call, noise, memory) -> (carry, ys): runs a call of `seqjax.scan`, a `ScanCall`, so that its results are
    differentiated by this strategy. `noise` is what `draw` returned, and `memory` what `init` returned. None: the
    strategy needs the losses of the steps, which such a call does not give."""

    loop: ClassVar[Any] = None
    """loop(call) -> state: runs a call of `seqjax.while_loop`, a `WhileCall`, so that the state after it is
    differentiated by this strategy. None: the strategy is not for loops that stop early."""

    def check_values(self, memory: Memory, num_steps: int) -> None:
        """Checks numbers that have no values while the strategy is traced. Training calls it before the first window.

        Args:
            memory: what enters the first window.
            num_steps: the number of steps of a window.

        Raises:
            Error: a number is not allowed.
        """

    def metrics(self, memory: Memory) -> dict[str, Float[Array, ""]]:
        """Metrics that are computed from the memory at the end of an epoch, by the names in `metric_names`."""
        return {}

    @property
    def draws(self) -> bool:
        """Whether the strategy is random."""
        return self.draw is not None

    def __call__(
        self, problem: Problem, params: Params, state: State, memory: Memory, batch: Batch, key: jax.Array | None = None
    ) -> Estimate:
        """Resets rows, draws for each row, and estimates. Training calls this.

        Raises:
            Error: the strategy draws and `key` is None.
        """
        keys = None if key is None else start_keys(key, batch.rows)
        x = one_input(batch.xs)
        start, memory = reset_rows(self, problem, params, state, memory, batch.reset, keys, x)
        return self.draw_and_estimate(problem, params, start, memory, batch, key)

    def draw_and_estimate(
        self, problem: Problem, params: Params, start: Start, memory: Memory, batch: Batch, key: jax.Array | None = None
    ) -> Estimate:
        """`__call__` without the reset of rows."""
        if problem.inputs is not None and 2 not in self.argnums:
            raise Error(
                f"{name_of(self)} does not differentiate what the steps read, which in this problem depends on the "
                "parameters (`inputs`): compute it inside of the step, or use a strategy such as full"
            )
        num_steps, num_rows = batch.weights.shape
        noise: Noise = ()
        if self.draws:
            check_key(self, key)
            assert key is not None

            def draw(key, memory):
                return self.draw(key, problem, params, memory, num_steps)

            keys = row_keys(jax.random.fold_in(key, 1), batch.rows)
            noise = over_rows(draw, (0, Memory(None, 0)), num_rows)(keys, memory)
        try:
            estimate = self.estimate(problem, params, start, memory, batch, noise)
        except TypeError as fault:
            # JAX has no exception of its own for this. JAX 0.11 and 0.12 raise this text.
            if "(jvp) to a custom_vjp" not in str(fault):
                raise
            raise Error(
                f"{name_of(self)} differentiates steps in forward mode, and a function with jax.custom_vjp in this "
                "step has a derivative in reverse mode only: define it with jax.custom_jvp, or use a strategy that "
                "needs no forward mode, such as full, truncated, sliding, randomized, rtrl, snap, es or pes"
            ) from fault
        if not isinstance(estimate, Estimate) or not isinstance(estimate.memory, Memory):
            returned = dtype_shape(estimate.memory if isinstance(estimate, Estimate) else estimate)
            raise Error(
                f"gradient {name_of(self)}: estimate returned {returned}, and must return "
                "seqjax.gradients.Estimate(loss, grads, state, seqjax.gradients.Memory(shared, rows))"
            )
        return estimate


class SequenceGradient(Gradient):
    """A strategy of any kind, written for ONE sequence: the author writes `one`. Rows are summed, not averaged.

    Such strategies carry derivatives forwards, or compare perturbed steps, so their steps are computed in float32.

    >>> from dataclasses import dataclass
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import seqjax as sj
    >>> @dataclass(frozen=True)
    ... class Forward(sj.SequenceGradient):
    ...     claim, of = "exact", "window"
    ...     def one(self, problem, params, start, memory, xs, weights, noise):
    ...         def loss(params):
    ...             state, losses = jax.lax.scan(lambda s, x: problem.step(params, s, x), start(params), xs)
    ...             return losses @ weights, (losses @ weights, state)
    ...         grads, (loss, state) = jax.jacfwd(loss, has_aux=True)(params)
    ...         return loss, grads, state, memory
    >>> def step(w, s, x):
    ...     s = s + w * x
    ...     return s, s
    >>> loss, grads = sj.value_and_grad(step, Forward())(jnp.array(1.0), jnp.array(0.0), jnp.ones(3))
    >>> float(grads)
    2.0
    """

    rounds = False
    by_sequence = True

    def one(
        self,
        problem: Problem,
        params: Params,
        start: Start,
        memory: Memory,
        xs: PyTree,
        weights: Float[Array, " T"],
        noise: Noise,
    ) -> tuple[Float[Array, ""], Params, State, Memory]:
        """Loss and gradient of one window of one sequence.

        Args:
            problem: gives `step`.
            params: the parameters.
            start: params -> the state in which the window starts.
            memory: the memory of this sequence.
            xs: what the steps read, leaves [T, ...].
            weights: float[T], the weights of the losses.
            noise: what `draw` returned.

        Returns:
            The weighted sum of the losses, its gradient, the state after the last step, and the memory for the next
            window.
        """
        raise NotImplementedError

    def estimate(self, problem, params, start, memory, batch, noise):
        def one(row, memory, xs, weights, noise):
            def start_row(params):
                return jax.tree.map(lambda a: a[row], start(params))

            result = self.one(problem, params, start_row, memory, xs, weights, noise)
            if not isinstance(result, tuple) or len(result) != 4:
                returned = f"a tuple of {len(result)}" if isinstance(result, tuple) else dtype_shape(result)
                raise Error(
                    f"gradient {name_of(self)}: one returned {returned}, and must return (loss, grads, state, memory)"
                )
            return result

        num_rows = batch.weights.shape[1]
        loss, grads, state, memory = jax.vmap(one, in_axes=(0, Memory(None, 0), 1, 1, 0))(
            jnp.arange(num_rows), memory, batch.xs, batch.weights, noise
        )
        loss, grads = jax.tree.map(lambda a: a.sum(0), (loss, grads))
        return Estimate(loss, grads, state, average_shared(memory))


class UnknownInputError(Error):
    """It is not known what a step reads."""


def known_input(strategy: Gradient, problem: Problem, x: Any) -> PyTree:
    """What a step reads, apart from resets: as it was given to `init`, or as the problem knows it.

    Raises:
        UnknownInputError: neither says it.
    """
    if x is not None:
        return x if problem.resets is None else x[0]
    if problem.own.x_like is None:
        raise UnknownInputError(
            f"{name_of(strategy)} must know what a step reads: pass x, an input of one step of one sequence, such as "
            "init_memory(strategy, problem, params, state, num_rows, x=x), or learner.init(key, params, x=x)"
        )
    return problem.own.x_like


def check_strategy(caller: str, strategy: Any) -> None:
    """Checks that a caller was given an instance of a gradient strategy that declares its claim.

    Raises:
        Error: `strategy` is no instance of a strategy, such as its class; its class does not declare `claim` and `of`.
    """
    if not isinstance(strategy, Gradient):
        raise Error(f"{caller} takes an instance of a strategy, such as Full(), not {strategy!r:.80}")
    declared = {"claim": (strategy.claim, ("exact", "unbiased", "biased")), "of": (strategy.of, ("window", "history"))}
    for attribute, (value, choices) in declared.items():
        if value not in choices:
            says = "does not declare it" if value is None else f"says {value!r}"
            name = f"gradient {name_of(strategy)}: {attribute}"
            raise Error(f"{name}: the class {says}; write {attribute} = one of {choices}")


def check_key(strategy: Gradient, key: Any) -> None:
    """Checks the key of a strategy that draws.

    Raises:
        Error: `key` is None, no key, or a batch of keys.
    """
    if key is None:
        raise Error(f"{type(strategy).__name__} draws at random: pass a key, such as key=jax.random.key(0)")
    dtype: Any = getattr(key, "dtype", None)
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    if jnp.shape(key) != () if typed else dtype != jnp.uint32 or jnp.ndim(key) != 1:
        many = "; to draw with several keys, map a function of one key by jax.vmap" if typed else ""
        raise Error(f"key must be one key, such as jax.random.key(0), not {dtype_shape(key)}{many}")


def weighted_sum(weights: Float[Array, "*T"], losses: Float[Array, "*L"]) -> Float[Array, ""]:
    """The sum of the losses times their weights, in the losses' dtype. A loss of weight 0 may be NaN.

    Args:
        weights: of any shape, such as float[T] or float[T, B].
        losses: of the same shape.

    Raises:
        Error: the shapes differ, so that a step's loss is not one number.
    """
    if losses.shape != weights.shape:
        raise Error(f"a step's loss must be one number, float[]: {losses.shape} is not {weights.shape}")
    weights = weights.astype(losses.dtype)
    return jnp.sum(weights * jnp.where(weights != 0, losses, 0))
