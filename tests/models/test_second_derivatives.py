"""Second derivatives of the fused unrolls with edge weights, against those of a scan of the step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.accelerators import as_on_an_accelerator

import seqjax as sj
from seqjax.gradients import Batch, init_memory
from seqjax.testing.compare import assert_close
from seqjax.testing.quick_jit import quick_jit

T, B = 5, 2
SPEC = sj.Spec(sj.Values(2), sj.Values(1))
MODELS = {
    name: sj.create("model", name, hidden=3) for name in ("rnn", "gru", "lstm", "lru", "rtu", "min-lstm", "ind-rnn")
} | {
    "ssm": sj.create("model", "ssm", hidden=3, states=2),
    "min-gru": sj.create("model", "min-gru", hidden=3, parallel=False),
    "lru, parallel": sj.create("model", "lru", hidden=3, parallel=True),
}
FUSED = ("rnn", "ind-rnn", "min-gru")
"""One model of each fused unroll: that of `Cell`, of units, and of an affine recurrence."""
WEIGHTS = np.array([[0.5, 1, 0, 1.5, 2], [1, 0.5, 0, 1.25, 1]]).T
"""Edge weights of each row: cuts, ones, and others."""


def case(model):
    """A problem with its parameters, start, window, and a direction, all of them in float64 and none of them zero."""
    rng, problem = np.random.default_rng(1), model.problem(SPEC)

    def drawn(shapes):
        return jax.tree.map(lambda a: 0.5 * rng.normal(size=a.shape), shapes)

    params = drawn(jax.eval_shape(lambda: problem.init(jax.random.key(0))))
    start = drawn(jax.eval_shape(lambda: problem.init_rows(params, B)))
    xs = tuple(jnp.asarray(rng.normal(size=(T, B, width))) for width in (2, 1))
    return problem, params, start, xs, drawn(params)


def dot(one, other):
    return sum(jnp.vdot(a, b) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n not in FUSED)) for n in MODELS])
def test_weights_count_in_second_derivatives(name, x64):
    problem, params, start, xs, direction = case(MODELS[name])
    plain = sj.Problem(problem.step, problem.init_state)

    def products(unroll):
        def along(params, start):
            loss = lambda p, s: jnp.sum(jnp.sin(unroll(p, s, xs, jnp.asarray(WEIGHTS))[1]))
            by_params, by_start = jax.grad(loss, (0, 1))(params, start)
            return dot(by_params, direction) + dot(by_start, by_start)

        return jax.grad(along, (0, 1))(params, start)

    @quick_jit
    def all_ways():
        with as_on_an_accelerator():
            on_an_accelerator = products(problem.unroll)
        return products(problem.unroll), on_an_accelerator, products(plain.unroll)

    on_a_cpu, on_an_accelerator, want = all_ways()
    assert_close(on_a_cpu, want, "second derivatives")
    assert_close(on_an_accelerator, want, "second derivatives on an accelerator")


STRATEGIES = {
    "full": sj.create("gradient", "full"),
    "truncated": sj.create("gradient", "truncated", steps=2),
    "discounted": sj.create("gradient", "discounted", discount=0.5),
    "k1k2": sj.create("gradient", "k1k2", k1=2, k2=3),
    "randomized": sj.create("gradient", "randomized", keep_prob=0.6),
    "only": None,
}


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("name", MODELS)
def test_strategies_have_the_second_derivatives_of_a_scan_of_the_step(name, strategy, x64):
    problem, params, start, xs, direction = case(MODELS[name])
    leaf = MODELS[name].State._fields[0]
    strategy = STRATEGIES[strategy] or sj.create("gradient", "only", strategy=STRATEGIES["discounted"], leaves=(leaf,))
    batch = Batch(xs, jnp.full((T, B), 1 / (T * B)), jnp.zeros(B, bool), jnp.arange(B))

    def products(problem):
        def grads(params):
            memory = init_memory(strategy, problem, params, start, B)
            return strategy(problem, params, start, memory, batch, jax.random.key(3)).grads

        def along(params):
            found = grads(params)
            return dot(found, direction) + dot(found, found)

        return jax.grad(along)(params)

    plain = sj.Problem(problem.step, problem.init_state)
    got, want = quick_jit(lambda: (products(problem), products(plain)))()
    assert_close(got, want, f"{name} by {strategy}", bound=1e-10)
