"""Strategies for the tests: random cuts of every kind, and correct strategies with planted faults."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from seqjax import RandomCuts
from seqjax.gradients import Estimate, Memory, Problem, init_memory, weigh_edge, window_gradient
from seqjax.plugin import get
from seqjax.testing.proofs.cases import Learned

Randomized, Truncated, Full, RTRL, UORO = (
    get("gradient", name) for name in ("randomized", "truncated", "full", "rtrl", "uoro")
)


def ages(*ages):
    """Memories of one row, one for each of these ages."""
    return [Memory(rows=jnp.asarray(age, jnp.int32)) for age in ages]


@dataclass(frozen=True)
class Constant(RandomCuts):
    """A hazard that does not depend on the age."""

    def hazard(self, age, shared):
        return 0.3


@dataclass(frozen=True)
class Aging(RandomCuts):
    """The hazard of ARTBP, with mean length 3 and tail 4."""

    def hazard(self, age, shared):
        return 3 / (6 + age)


@dataclass(frozen=True)
class Adapting(RandomCuts):
    """A hazard in shared memory, which follows the share of edges that were cut."""

    def init(self, problem, params, state, x=None):
        return super().init(problem, params, state, x)._replace(shared=jnp.asarray(0.4))

    def hazard(self, age, shared):
        return shared

    def edge_weights(self, noise, memory, num_steps):
        edge_weights, after = super().edge_weights(noise, memory, num_steps)
        share = jnp.mean(noise, dtype=memory.shared.dtype)
        return edge_weights, after._replace(shared=0.8 * memory.shared + 0.2 * share)


class CutsAtRest(Full):
    """Takes the state of a row for a constant where all of it is zero."""

    def estimate(self, problem, params, start, memory, batch, noise):
        def step(params, state, x):
            zero = jnp.stack([jnp.all(a == 0) for a in jax.tree.leaves(state)]).all()
            return problem.step(params, weigh_edge(state, jnp.where(zero, 0.0, 1.0)), x)

        return super().estimate(Problem(step), params, start, memory, batch, noise)


class CutsOnce(Truncated):
    """Takes the states between segments for constants in the first derivative alone."""

    def gradient(self, problem, params, start, batch, edge_weights):
        firsts = range(0, len(batch.weights), self.steps)
        parts = [jax.tree.map(lambda a, t=t: a[t : t + self.steps], (batch.xs, batch.weights)) for t in firsts]
        states = [start(params)]
        for xs, _ in parts:
            states.append(problem.unroll(params, states[-1], xs)[0])

        def loss(params, states):
            entering = zip([start(params), *states], parts, strict=True)
            losses = [problem.unroll(params, state, xs)[1] for state, (xs, _) in entering]
            return sum(jnp.sum(weights * each) for each, (_, weights) in zip(losses, parts, strict=True))

        value, grads = jax.value_and_grad(loss)(params, states[1:-1])
        return Estimate(value, grads, states[-1], Memory())


class Unweighted(Randomized):
    """The weight 1/π is left out."""

    def edge_weights(self, noise, memory, num_steps):
        return jnp.where(noise, 1.0, 0.0), memory


class SmoothedDraw(Randomized):
    """Draws every step with the mean of the probabilities."""

    def draw(self, key, problem, params, memory, num_steps):
        return jax.random.bernoulli(key, self._keep_prob(num_steps).mean(), (num_steps,))


class RepeatedDraw(Randomized):
    """Draws once for all steps."""

    def draw(self, key, problem, params, memory, num_steps):
        return jax.random.uniform(key) < self._keep_prob(num_steps)


class OnePass(Truncated):
    """Truncated by the weights on its edges, as any other strategy of this kind."""

    def gradient(self, problem, params, start, batch, edge_weights):
        return window_gradient(problem, params, start, batch, edge_weights)


class Shifted(OnePass):
    """Edge weights one step late."""

    def edge_weights(self, noise, memory, num_steps):
        edge_weights, memory = super().edge_weights(noise, memory, num_steps)
        return jnp.roll(edge_weights, 1), memory


class CutsTheEdge(OnePass):
    """Cuts at step 0 as well."""

    def edge_weights(self, noise, memory, num_steps):
        edge_weights, memory = super().edge_weights(noise, memory, num_steps)
        return edge_weights.at[0].set(0.0), memory


class LateOutputs(Full):
    """Returns the outputs of each step one step late."""

    def estimate(self, *args):
        e = super().estimate(*args)
        return e._replace(outputs=jax.tree.map(lambda a: jnp.roll(a, 1, 0), e.outputs))


class LosesTheStart(Full):
    """Takes the state in which the window starts for a constant."""

    def estimate(self, problem, params, start, memory, batch, noise):
        state = start(params)
        return super().estimate(problem, params, lambda _: state, memory, batch, noise)


class LosesInputs(Full):
    """Takes what the steps read for a constant."""

    def gradient(self, problem, params, start, batch, edge_weights):
        e = super().gradient(problem, params, start, batch, edge_weights)
        return e._replace(grads=jax.tree.map(jnp.zeros_like, e.grads) if problem.inputs is not None else e.grads)


def forgetful(name, **fields):
    """A strategy that starts every window with new memory."""

    class Forgetful(get("gradient", name)):
        def estimate(self, problem, params, start, memory, batch, noise):
            e = super().estimate(problem, params, start, memory, batch, noise)
            new = init_memory(self, problem, params, e.state, batch.weights.shape[1])
            return e._replace(memory=e.memory._replace(rows=new.rows))

    return Forgetful(**fields)


def changed(f):
    """`Full`, whose estimate is replaced by f(estimate, problem, state), given the state in which the window starts."""

    class Changed(Full):
        def estimate(self, problem, params, start, memory, batch, noise):
            e = super().estimate(problem, params, start, memory, batch, noise)
            return f(e, problem, start(params))

    return Changed()


def scaled(factor_of):
    """`Full` with its gradient times factor_of(problem, state)."""
    times = lambda e, factor: e._replace(grads=jax.tree.map(lambda g: g * jnp.asarray(factor, g.dtype), e.grads))
    return changed(lambda e, problem, state: times(e, factor_of(problem, state)))


def has_float(dtype):
    """Whether a state has leaves of this dtype, or of a kind of dtypes such as `jnp.inexact`."""
    return lambda problem, state: any(jnp.issubdtype(a.dtype, dtype) and a.size for a in jax.tree.leaves(state))


class TwiceInTraining(Full):
    """A different gradient in training than on a bare scan."""

    def __call__(self, problem, params, state, memory, batch, key=None):
        e = super().__call__(problem, params, state, memory, batch, key)
        return e._replace(grads=jax.tree.map(lambda g: 2 * g, e.grads))


class Unweighed(Full):
    """Ignores the weights."""

    def estimate(self, problem, params, start, memory, batch, noise):
        even = batch._replace(weights=jnp.full_like(batch.weights, 1 / batch.weights.size))
        return super().estimate(problem, params, start, memory, even, noise)


class Multiplies(Full):
    """Multiplies each loss by its weight, and does nothing else about a loss of weight 0."""

    def estimate(self, problem, params, start, memory, batch, noise):
        def loss(params):
            state, losses = problem.unroll(params, start(params), batch.xs)
            return jnp.sum(batch.weights * losses), state

        (loss, state), grads = jax.value_and_grad(loss, has_aux=True)(params)
        return Estimate(loss, grads, state, memory)


class Normalised(Full):
    """Divides by the sum of the weights in the batch, which on several devices gives a mean of means."""

    def estimate(self, problem, params, start, memory, batch, noise):
        local = batch._replace(weights=batch.weights / jnp.maximum(batch.weights.sum(), 1e-9))
        return super().estimate(problem, params, start, memory, local, noise)


class LocalRows(Randomized):
    """Draws by the index of a row in the batch, not by its global number."""

    def __call__(self, problem, params, state, memory, batch, key=None):
        local = batch._replace(rows=jnp.arange(batch.rows.size, dtype=batch.rows.dtype))
        return super().__call__(problem, params, state, memory, local, key)


class _StartsOutside:
    """Starts reset rows outside the differentiated function, and does not reset their memory."""

    def __call__(self, problem, params, state, memory, batch, key=None):
        state = problem.start(params, state, batch.reset)
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


class NoiseAsLoss(Randomized):
    """Returns the kept edges of all rows as the loss, read as a binary number; a row has its digits by its number."""

    def estimate(self, problem, params, start, memory, batch, noise):
        steps = jnp.arange(noise.shape[1], dtype=jnp.int32)
        powers = jnp.exp2((steps + len(steps) * batch.rows[:, None]).astype(float))
        zero = jax.tree.map(jnp.zeros_like, params)
        return Estimate(jnp.sum(jnp.where(noise, powers, 0)), zero, start(params), memory)


class KeyAsNoise(Full):
    """Remembers the key from which it draws."""

    def init(self, problem, params, state, x=None):
        return Memory(rows=jax.random.key(0))

    def draw(self, key, problem, params, memory, num_steps):
        return key

    def edge_weights(self, noise, memory, num_steps):
        return None, Memory(rows=noise)


@dataclass(frozen=True)
class Noisy(Learned):
    """Keeps a key in its state if it is given one, and else is deterministic."""

    def init_state(self, params, spec, key=None):
        state = super().init_state(params, spec)
        return state if key is None else state | {"key": key}

    def step(self, params, state, x):
        after, output = super().step(params, state, x)
        if "key" not in state:
            return after, output
        noise = jax.random.normal(jax.random.fold_in(state["key"], state["n"]), after["h"].shape, output.dtype)
        return after | {"h": after["h"] + 0.1 * noise, "key": state["key"]}, output
