"""Windows that are differentiated segment after segment, against a loop of its own for each segment."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqjax
from seqjax import Problem, value_and_grad
from seqjax.gradients import Batch, segment_gradient
from seqjax.testing.compare import assert_close
from seqjax_gradients import ARTBP, K1K2, Truncated
from seqjax_models import GRU, RNN

pytestmark = pytest.mark.usefixtures("x64")

B = 2


def step(params, state, x):
    v = 0.7 * state["v"] + jnp.sin(params["A"] @ state["v"] + params["b"] * x["u"])
    return {"v": v, "n": state["n"] + 1}, jnp.sum((v - x["y"]) ** 2) * params["c"]


def arguments(num_steps):
    rng = np.random.default_rng(num_steps)
    params = {
        "A": jnp.asarray(0.5 * rng.normal(size=(3, 3))),
        "b": jnp.asarray(rng.normal(size=3)),
        "c": jnp.array(0.7),
    }
    state = {"v": jnp.asarray(rng.normal(size=(B, 3))), "n": jnp.arange(B)}
    xs = {"u": jnp.asarray(rng.normal(size=(num_steps, B))), "y": jnp.asarray(rng.normal(size=(num_steps, B, 3)))}
    weights = rng.uniform(0.5, 1, (num_steps, B)) * (rng.random((num_steps, B)) < 0.8)
    return params, state, xs, weights


def weighted(state, weight):
    """The state with its tangent multiplied by a weight."""
    v = state["v"]
    return state | {"v": jax.lax.stop_gradient(v) + weight * (v - jax.lax.stop_gradient(v))}


def segment_by_segment(params, state, xs, weights, size, lead, edges):
    """Each segment by a loop of its own, from a constant state `lead` steps before it, or from the start."""
    num_steps = len(weights)
    rows = jax.vmap(step, (None, 0, 0))
    at = [(state, None)]
    for t in range(num_steps):
        at.append(rows(params, at[-1][0], jax.tree.map(lambda a, t=t: a[t], xs)))
    states = [entry[0] for entry in at]

    def total(params, v, xs):
        loss = 0.0
        for first in range(0, num_steps, size):
            before = max(0, first - lead)
            s = state | {"v": v} if before == 0 else states[before]
            for t in range(before, min(first + size, num_steps)):
                if t > before:
                    s = jax.vmap(weighted)(s, edges[t])
                elif t == 0:
                    s = jax.vmap(weighted)(s, edges[0])
                s, losses = rows(params, s, jax.tree.map(lambda a, t=t: a[t], xs))
                loss += jnp.sum(weights[t] * losses) if t >= first else 0.0
        return loss

    loss, grads = jax.jit(jax.value_and_grad(total, (0, 1, 2)))(params, state["v"], xs)
    return loss, grads, states[-1]


SHAPES = [(1, 0, 4), (3, 0, 10), (3, 0, 9), (3, 2, 10), (2, 5, 11), (5, 1, 12), (4, 9, 7), (6, 0, 5)]


@pytest.mark.parametrize(("size", "lead", "num_steps"), SHAPES)
def test_every_segment_reaches_back_to_its_lead(size, lead, num_steps):
    params, state, xs, weights = arguments(num_steps)
    edges = jnp.asarray(np.random.default_rng(1).uniform(0, 2, (num_steps, B)))
    want = segment_by_segment(params, state, xs, weights, size, lead, edges)

    class Reads(Problem):
        """Parameters, initial state and inputs are all parameters here."""

        has_own_inputs = True

        def step(self, args, state, x):
            return step(args[0], state, x)

        def __init__(self):
            self.init_state = None

        def inputs(self, args, xs):
            return args[2]

    def run(args):
        batch = Batch(xs, jnp.asarray(weights), jnp.zeros(B, bool), jnp.arange(B))
        return segment_gradient(Reads(), args, lambda args: state | {"v": args[1]}, batch, size, lead, edges)

    found = jax.jit(run)((params, state["v"], xs))
    assert_close((found.loss, found.grads, found.state), want, f"size {size}, lead {lead}")


def test_a_cap_is_one_pass_with_the_same_weights():
    """ARTBP with a cap, segment after segment, equals one pass over its edge weights."""
    params, state, xs, weights = arguments(40)
    strategy = ARTBP(length=4, cap=3)

    class OnePass(ARTBP):
        def gradient(self, *args):
            return seqjax.WeightedEdges.gradient(self, *args)

    one, other = (
        jax.jit(value_and_grad(step, each, (0, 1, 2)))(params, state, xs, weights=weights, key=jax.random.key(3))
        for each in (strategy, OnePass(length=4, cap=3))
    )
    assert_close(one, other, "capped")


@pytest.mark.parametrize("model", [RNN(hidden=3), GRU(hidden=3, layers=2)], ids=repr)
@pytest.mark.parametrize("steps", [3, 64])
def test_truncated_on_a_fused_model_is_the_same_by_its_step(model, steps):
    """A `Cell`, whose unroll is fused, against a scan of its step; few rows and many take different ways."""
    spec = seqjax.Spec(seqjax.Tokens(5))
    problem = Problem.of(model, spec)
    params = jax.tree.map(lambda a: a + 0.3, model.init(jax.random.key(0), spec))
    ids = jax.random.randint(jax.random.key(1), (131, B), 0, 5)
    args = params, problem.init_rows(params, B), (ids[:-1], ids[1:])
    fused, scanned = (
        jax.jit(value_and_grad(each, Truncated(steps=steps), (0, 1)))(*args) for each in (problem, problem.step)
    )
    assert_close(fused[:3], scanned[:3], "fused")


def bytes_of(strategy, num_steps):
    params, state, xs, _ = arguments(num_steps)
    run = jax.jit(lambda *args: value_and_grad(step, strategy)(*args)[:2])
    return run.lower(params, state, xs).compile().memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("strategy", [Truncated(steps=10), K1K2(10, 20), ARTBP(cap=10)], ids=repr)
def test_bytes_do_not_grow_with_the_window(strategy):
    run = bytes_of if not strategy.draws else bytes_of_random
    short, long = run(strategy, 1_000), run(strategy, 4_000)
    # ARTBP keeps the weights of all edges, and their draws: a few numbers for each step and row.
    assert long <= short + (0 if not strategy.draws else 3_000 * B * 8 * 6)


def bytes_of_random(strategy, num_steps):
    params, state, xs, _ = arguments(num_steps)
    run = jax.jit(lambda key, *args: value_and_grad(step, strategy)(*args, key=key)[:2])
    return run.lower(jax.random.key(0), params, state, xs).compile().memory_analysis().temp_size_in_bytes
