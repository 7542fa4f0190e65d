"""Windows that are differentiated segment after segment, against one pass of JAX's own for each segment."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.passes import Passes, by_passes
from support.slow import slow

import seqjax
from seqjax import Problem, estimate
from seqjax.gradients import ARTBP, K1K2, Batch, Truncated, segment_gradient
from seqjax.models import GRU, RNN
from seqjax.testing.compare import assert_close
from seqjax.testing.quick_jit import quick_jit

pytestmark = pytest.mark.usefixtures("x64")

T, B = 11, 2


def step(params, state, x):
    v = jnp.sin(params["a"] * state["v"][::-1] + x["u"])
    return {"v": v, "n": state["n"] + 1}, params["c"] * jnp.sum((v - x["y"]) ** 2)


def arguments(num_steps=T, hidden=2):
    rng = np.random.default_rng(num_steps)
    params = {"a": rng.normal(size=hidden), "c": np.array(0.7)}
    state = {"v": rng.normal(size=(B, hidden)), "n": np.arange(B)}
    xs = {"u": rng.normal(size=(num_steps, B)), "y": rng.normal(size=(num_steps, B, hidden))}
    weights = rng.uniform(0.5, 1, (num_steps, B)) * (rng.random((num_steps, B)) < 0.8)
    return params, state, xs, weights


@quick_jit
def segment_by_segment(params, state, xs, weights, owner, edges_NTB):
    """Loss, gradients and state for N passes through the window, from one of which the loss of each step is taken."""

    def total(params, v, xs):
        def row(v, n, xs, edges_NT):
            passes, reset = Passes(edges_NT[..., None], owner), np.zeros(T, bool)
            return by_passes(functools.partial(step, params), {"v": v, "n": n}, xs, passes, reset)

        after, losses_BT = jax.vmap(row, (0, 0, 1, 2))(v, state["n"], xs, edges_NTB)
        return jnp.sum(weights.T * losses_BT), after

    (loss, after), grads = jax.value_and_grad(total, (0, 1, 2), has_aux=True)(params, state["v"], xs)
    return loss, grads, after


READS = Problem(lambda args, state, x: step(args[0], state, x), inputs=lambda args, xs: args[2])
"""Parameters, initial state and inputs are all parameters here."""


@pytest.mark.parametrize(("size", "lead"), [(2, 3), *slow((3, 2), (2, 5), (7, 9), (1, 0), (12, 0))])
def test_every_segment_reaches_back_to_its_lead(size, lead):
    params, state, xs, weights = arguments()
    edges = np.random.default_rng(1).uniform(0, 2, (T, B))
    # There are T passes, so that one compiled program serves all sizes.
    entered, steps = np.maximum(0, size * np.arange(T)[:, None] - lead), np.arange(T)
    reached = (steps != entered) | (entered == 0)
    want = segment_by_segment(params, state, xs, weights, steps // size, reached[..., None] * edges)

    @quick_jit
    def run(args):
        batch = Batch(*jax.tree.map(jnp.asarray, (xs, weights, np.zeros(B, bool), np.arange(B))))
        return segment_gradient(READS, args, lambda args: state | {"v": args[1]}, batch, size, lead, edges)

    found = run((params, state["v"], xs))
    assert_close((found.loss, found.grads, found.state), want, f"size {size}, lead {lead}")


def test_a_cap_is_one_pass_with_the_same_weights():
    """ARTBP with a cap, segment after segment, equals one pass over its edge weights."""
    *args, weights = arguments()

    class OnePass(ARTBP):
        def gradient(self, *args):
            return seqjax.WeightedEdges.gradient(self, *args)

    @quick_jit
    def both(key):
        strategies = ARTBP(length=4, cap=3), OnePass(length=4, cap=3)
        return [estimate(step, each, batched=True)(*args, weights=weights, key=key) for each in strategies]

    assert_close(*both(jax.random.key(3)), "capped")


@pytest.mark.parametrize("model", [RNN(hidden=2), *slow(GRU(hidden=3, layers=2))], ids=repr)
@pytest.mark.parametrize("steps", [*slow(3), 64])
def test_truncated_on_a_fused_model_is_the_same_by_its_step(model, steps):
    """A `Cell`, whose unroll is fused, against a scan of its step; few rows and many take different ways."""
    spec = seqjax.Spec(seqjax.Tokens(5))
    problem = Problem.of(model, spec)
    ids = np.random.default_rng(1).integers(0, 5, (67, B)).astype(np.int32)

    @quick_jit
    def both(key):
        params = jax.tree.map(lambda a: a + 0.3, model.init(key, spec))
        args = params, problem.init_rows(params, B), (ids[:-1], ids[1:])
        ways = problem, problem.step
        return [estimate(each, Truncated(steps=steps), (0, 1), batched=True)(*args)[:3] for each in ways]

    assert_close(*both(jax.random.key(0)), "fused")


@pytest.mark.parametrize(
    ("strategy", "numbers"), [(Truncated(steps=10), 1), *slow((K1K2(10, 20), 1), (ARTBP(cap=10), 6))], ids=repr
)
def test_the_states_of_the_window_are_not_kept(strategy, numbers):
    """ARTBP keeps a few numbers for each step and row: the weights of all edges, and their draws."""
    num_steps, hidden = 2_000, 16
    params, state, xs, _ = arguments(num_steps, hidden)
    run = jax.jit(lambda key, *args: estimate(step, strategy, batched=True)(*args, key=key)[:2])
    memory = run.lower(jax.random.key(0), params, state, xs).compile().memory_analysis()
    assert memory.temp_size_in_bytes <= numbers * 8 * num_steps * B
