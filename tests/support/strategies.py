"""Strategies made for the tests: random cuts of every kind, and faults planted in strategies that are right."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from seqjax import Problem, RandomCuts
from seqjax.gradients import Estimate, Memory
from seqjax.gradients.base import init_memory
from seqjax.plugin import get
from seqjax.testing.cases import Learned

Randomized, Truncated, Full, RTRL, UORO = (
    get("gradient", name) for name in ("randomized", "truncated", "full", "rtrl", "uoro")
)


def ages(*ages):
    """Memories of a row that start at these ages."""
    return [Memory(rows=jnp.asarray(age, jnp.int32)) for age in ages]


@dataclass(frozen=True)
class Constant(RandomCuts):
    """A hazard that does not age."""

    def hazard(self, age, shared):
        return 0.3


@dataclass(frozen=True)
class Aging(RandomCuts):
    """ARTBP's hazard, mean length 3, tail 4."""

    def hazard(self, age, shared):
        return 3 / (6 + age)


@dataclass(frozen=True)
class Adapting(RandomCuts):
    """A hazard kept in shared memory, which follows the share of edges that was cut."""

    def init(self, problem, params, state):
        return super().init(problem, params, state)._replace(shared=jnp.asarray(0.4))

    def hazard(self, age, shared):
        return shared

    def edge_weights(self, noise, memory, num_steps):
        edge_weights, after = super().edge_weights(noise, memory, num_steps)
        return edge_weights, after._replace(
            shared=0.8 * memory.shared + 0.2 * jnp.mean(noise, dtype=memory.shared.dtype)
        )


class Unweighted(Randomized):
    """The 1/π left out."""

    def edge_weights(self, noise, memory, num_steps):
        return jnp.where(noise, 1.0, 0.0), memory


class UnweightedCuts(Aging):
    """The 1 / (1 - hazard) left out."""

    def edge_weights(self, noise, memory, num_steps):
        edge_weights, memory = super().edge_weights(noise, memory, num_steps)
        return jnp.where(edge_weights > 0, 1.0, 0.0), memory


class YoungWeights(Aging):
    """Weighs each edge as if the window's first had age 0."""

    def edge_weights(self, noise, memory, num_steps):
        return super().edge_weights(noise, memory._replace(rows=jnp.zeros_like(memory.rows)), num_steps)


class ForgetsAge(Constant):
    """Leaves age 0 to the next window."""

    def edge_weights(self, noise, memory, num_steps):
        edge_weights, after = super().edge_weights(noise, memory, num_steps)
        return edge_weights, after._replace(rows=jnp.zeros_like(after.rows))


class YoungDraw(Aging):
    """Draws as if the window's first edge had age 0."""

    def draw(self, key, memory, num_steps):
        return super().draw(key, memory._replace(rows=jnp.zeros_like(memory.rows)), num_steps)


class SmoothedDraw(Randomized):
    """Draws every step with the mean of the probabilities."""

    def draw(self, key, memory, num_steps):
        return jax.random.bernoulli(key, self._keep_prob(num_steps).mean(), (num_steps,))


class RepeatedDraw(Randomized):
    """Draws once for all steps."""

    def draw(self, key, memory, num_steps):
        return jax.random.uniform(key) < self._keep_prob(num_steps)


class Shifted(Truncated):
    """EdgeWeights one step late."""

    def edge_weights(self, noise, memory, num_steps):
        edge_weights, memory = super().edge_weights(noise, memory, num_steps)
        return jnp.roll(edge_weights, 1), memory


class CutsTheEdge(Truncated):
    """Cuts at step 0 as well."""

    def edge_weights(self, noise, memory, num_steps):
        edge_weights, memory = super().edge_weights(noise, memory, num_steps)
        return edge_weights.at[0].set(0.0), memory


def forgetful(name, **fields):
    """A strategy that starts every window with new memory."""

    class Forgetful(get("gradient", name)):
        def estimate(self, problem, params, start, memory, batch, noise):
            e = super().estimate(problem, params, start, memory, batch, noise)
            new = init_memory(self, problem, params, e.state, batch.weights.shape[1])
            return e._replace(memory=e.memory._replace(rows=new.rows))

    return Forgetful(**fields)


class WrongProduct(UORO):
    """Leaves twice the matrix of rank one to the next window."""

    def one(self, problem, params, start, memory, xs, weights, noise):
        *found, after = super().one(problem, params, start, memory, xs, weights, noise)
        s_tilde, theta_tilde = after.rows
        return *found, Memory(rows=(2 * s_tilde, theta_tilde))


class OneSign(UORO):
    """Draws one sign for all units."""

    def draw(self, key, memory, num_steps):
        signs = super().draw(key, memory, num_steps)
        return jnp.broadcast_to(signs[:, :1], signs.shape)


class Changed(Full):
    """Full, but for what `change` does with its estimate, given the problem and the state it starts in."""

    change = staticmethod(lambda e, problem, state: e)

    def estimate(self, problem, params, start, memory, batch, noise):
        e = super().estimate(problem, params, start, memory, batch, noise)
        return self.change(e, problem, start(params))


def changed(f):
    """`Full` whose estimate is what f(estimate, problem, state) makes of it."""
    return type("Changed", (Changed,), {"change": staticmethod(f)})()


def scaled(factor_of):
    """`Full` with its gradient times factor_of(problem, state)."""
    times = lambda e, factor: e._replace(grads=jax.tree.map(lambda g: g * jnp.asarray(factor, g.dtype), e.grads))
    return changed(lambda e, problem, state: times(e, factor_of(problem, state)))


def has_float(dtype):
    """Whether a state has leaves of this dtype, or of any such as `jnp.inexact`."""
    return lambda problem, state: any(jnp.issubdtype(a.dtype, dtype) and a.size for a in jax.tree.leaves(state))


class FixedDraw(Randomized):
    """Draws the same at every call."""

    def __call__(self, problem, params, state, memory, batch, key=None):
        return super().__call__(problem, params, state, memory, batch, jax.random.key(0))


class TwiceInTraining(Full):
    """Another gradient in training than on a bare scan."""

    def __call__(self, problem, params, state, memory, batch, key=None):
        e = super().__call__(problem, params, state, memory, batch, key)
        return e._replace(grads=jax.tree.map(lambda g: 2 * g, e.grads))


class Unweighed(Full):
    """Ignores the weights."""

    def estimate(self, problem, params, start, memory, batch, noise):
        even = batch._replace(weights=jnp.full_like(batch.weights, 1 / batch.weights.size))
        return super().estimate(problem, params, start, memory, even, noise)


class Normalised(Full):
    """Divides by the weights that it sees: mean of shard means."""

    def estimate(self, problem, params, start, memory, batch, noise):
        local = batch._replace(weights=batch.weights / jnp.maximum(batch.weights.sum(), 1e-9))
        return super().estimate(problem, params, start, memory, local, noise)


class _LocalRows:
    """Draws by where a row lies, not by its global number."""

    def __call__(self, problem, params, state, memory, batch, key=None):
        local = batch._replace(rows=jnp.arange(batch.rows.size, dtype=batch.rows.dtype))
        return super().__call__(problem, params, state, memory, local, key)


class LocalRows(_LocalRows, Randomized):
    pass


class _StartsOutside:
    """Starts reset rows outside the differentiated function, and does not reset their memory."""

    def __call__(self, problem, params, state, memory, batch, key=None):
        initial = problem.init_state(params)
        state = jax.tree.map(lambda a, b: jnp.where(batch.reset.reshape(-1, *[1] * (b.ndim - 1)), a, b), initial, state)
        carried = batch._replace(reset=jnp.zeros_like(batch.reset))
        return super().__call__(problem, params, state, memory, carried, key)


class StartsOutside(_StartsOutside, Full):
    pass


class NeverResets(_StartsOutside, RTRL):
    pass


class SharedDraw(Randomized):
    """All rows draw the same."""

    def __call__(self, problem, params, state, memory, batch, key=None):
        return super().__call__(problem, params, state, memory, batch._replace(rows=jnp.zeros_like(batch.rows)), key)


class SumOfWeights(Full):
    """Gives the weights' sum as the loss, and checks the rest of what the trainer hands over."""

    def estimate(self, problem, params, start, memory, batch, noise):
        assert batch.weights.dtype == jnp.zeros(()).dtype
        assert (batch.reset.dtype, batch.rows.dtype) == (bool, jnp.int32)
        zero = jax.tree.map(jnp.zeros_like, params)
        return Estimate(batch.weights.sum(), zero, start(params), memory)


class NoiseAsLoss(Randomized):
    """Gives the kept edges of all rows, read as a number in binary, as the loss."""

    def estimate(self, problem, params, start, memory, batch, noise):
        powers = jnp.exp2(jnp.arange(noise.size, dtype=float))
        zero = jax.tree.map(jnp.zeros_like, params)
        return Estimate(powers @ noise.ravel().astype(float), zero, start(params), memory)


class KeyAsNoise(Full):
    """Remembers the key that it was given to draw from."""

    def init(self, problem, params, state):
        return Memory(rows=jax.random.key(0))

    def draw(self, key, memory, num_steps):
        return key

    def edge_weights(self, noise, memory, num_steps):
        return None, Memory(rows=noise)


class FaultyUnroll(Problem):
    """A problem whose unroll treats its edge_weights as the function says; equal to itself alone."""

    __eq__, __hash__ = object.__eq__, object.__hash__

    def __init__(self, inner, change):
        super().__init__(inner.step, inner.init_state)
        self.inner, self.change = inner, change

    def unroll(self, params, state, xs, edge_weights=None):
        return self.inner.unroll(params, state, xs, None if edge_weights is None else self.change(edge_weights))


@dataclass(frozen=True)
class Open(Randomized):
    """Made anew here: the suite's type checker would refuse a traced field in the package's own class."""


@dataclass(frozen=True)
class Noisy(Learned):
    """Keeps a key in its state if it is given one, and is deterministic if not."""

    def init_state(self, params, spec, key=None):
        state = super().init_state(params, spec)
        return state if key is None else state | {"key": key}

    def step(self, params, state, x):
        after, output = super().step(params, state, x)
        if "key" not in state:
            return after, output
        noise = jax.random.normal(jax.random.fold_in(state["key"], state["n"]), after["h"].shape, output.dtype)
        return after | {"h": after["h"] + 0.1 * noise, "key": state["key"]}, output
