"""`Learner.output`, `gradients` and `apply`: against estimates of the loss <c, output>, and the whole history."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import seqjax as sj
from seqjax.gradients import DNI, KFRTRL, PES, RFLO, RTRL, UORO, KeRNL, Layerwise, Rolling, SnAp, Truncated, init_memory
from seqjax.models import GRU, LRU, RNN
from seqjax.testing.compare import assert_close

T, B, C = 7, 2, 2
SPEC = sj.Spec(sj.Values(2), sj.Values(3))
RESETS = np.zeros((T, B), bool)
RESETS[[3, 4, 5], [0, 1, 1]] = True
OPTIMIZER = optax.sgd(0.1)


def drawn(*shapes, seed=0):
    return [np.random.default_rng([seed, n]).normal(size=shape) for n, shape in enumerate(shapes)]


def learner_of(gradient, model, rows=B):
    return sj.Learner(model.problem(SPEC), gradient, OPTIMIZER, rows)


def product(output, c):
    return jnp.sum(output * c)


def by_learner(learner, state, xs, cs, **options):
    """The gradients of T steps without an `apply`, leaves [T, ...], and the outputs before each step."""

    def step(state, inputs):
        x, c, reset = inputs
        output = learner.output(state, x, reset=reset)
        grads, state = learner.gradients(state, x, cotangents=c, reset=reset, **options)
        return state, (grads, output)

    return jax.lax.scan(step, state, (xs, cs, RESETS))


def by_estimate(learner, state, xs, cs):
    """The same by `estimate`, for each cotangent and each row alone: leaves [T, C, B, ...]."""
    problem = learner.problem.model.problem(SPEC, product)
    estimate = sj.estimate(problem, learner.gradient, batched=True)

    def step(carried, inputs):
        t, x, c, reset = inputs
        # The first step always starts a sequence. A reset inside of `estimate` does not reach the memory's first state.
        initial = problem.init_rows(state.params, B)
        reset = reset | (t == 0)
        first = init_memory(learner.gradient, problem, state.params, initial, B, (x[0], c[0, 0]))
        carry, rows = (
            jax.tree.map(lambda new, old: jnp.where(reset.reshape(B, *(1,) * (new.ndim - 1)), new, old), *pair)
            for pair in ((initial, carried[0]), (first.rows, carried[1].rows))
        )
        memory = carried[1]._replace(rows=rows)

        def one(c, row):
            weights = (jnp.arange(B) == row)[None].astype(float)
            key = jax.random.fold_in(state.key, t)
            return estimate(state.params, carry, (x[None], c[None]), weights=weights, key=key, memory=memory)

        found = jax.vmap(jax.vmap(one, (None, 0)), (0, None))(c, jnp.arange(B))
        first = jax.tree.map(lambda a: a[0, 0], (found.state, found.memory))
        return first, found.grads

    return jax.lax.scan(step, (state.carry, state.memory), (jnp.arange(T), xs, cs, RESETS))[1]


def by_history(learner, state, xs, cs):
    """The gradients of each <c_t, output_t> by reverse mode through all steps since the last reset."""
    model = learner.problem.model

    def of_row(row):
        def loss(params, t, c):
            start = model.init_state(params, SPEC)

            def step(s, inputs):
                x, reset = inputs
                s = jax.tree.map(lambda a, b: jnp.where(reset, a, b), start, s)
                return model.step(params, s, x)

            return jnp.sum(jax.lax.scan(step, start, (xs[:, row], RESETS[:, row]))[1][t] * c)

        each = jax.vmap(jax.grad(loss), (None, None, 0))
        return jax.vmap(each, (None, 0, 0))(state.params, jnp.arange(T), cs[:, :, row])

    return jax.tree.map(lambda *rows: jnp.stack(rows, 2), *map(of_row, range(B)))


ESTIMATORS = [
    (RTRL(), GRU(hidden=3)),
    (KFRTRL(), RNN(hidden=3)),
    *(
        pytest.param(each, RNN(hidden=3), marks=pytest.mark.slow)
        for each in (SnAp(), SnAp(n=2), RFLO(), UORO(), Rolling(steps=3))
    ),
    pytest.param(Layerwise(), LRU(hidden=3, layers=2), marks=pytest.mark.slow),
    pytest.param(RTRL(), LRU(hidden=3), marks=pytest.mark.slow),
    pytest.param(RTRL(), RNN(hidden=3, layers=2), marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("gradient", "model"), ESTIMATORS, ids=lambda part: type(part).__name__)
def test_gradients_are_those_of_the_loss_that_the_cotangents_make(gradient, model, x64):
    """For two cotangents and by row; the steps between two updates draw other noise, and know the steps before."""
    learner = learner_of(gradient, model)
    xs, cs = drawn((T, B, 2), (T, C, B, 3))
    state = learner.init(jax.random.key(1))

    @jax.jit
    def run(state):
        new, (grads, outputs) = by_learner(learner, state, xs, cs, by_row=True)
        return new, grads, outputs, by_estimate(learner, state, xs, cs), by_history(learner, state, xs, cs)

    new, grads, _, estimates, history = run(state)
    assert int(new.step) == T
    assert_close(new.params, state.params, "the parameters", bound=0)
    assert_close(grads, estimates, "the gradients")
    if isinstance(gradient, RTRL):
        assert_close(grads, history, "the gradients of the history")


def test_one_cotangent_is_the_sum_over_rows_and_an_update_a_step_and_apply(x64):
    """With the cotangent of a squared error, which is the mean over rows; NumPy makes the step of the optimizer."""
    learner = learner_of(RTRL(), LRU(hidden=3))
    xs, ys = drawn((T, B, 2), (T, B, 3))

    @jax.jit
    def run(first):
        def step(states, inputs):
            updated, applied = states
            x, y, reset = inputs
            output = learner.output(applied, x, reset=reset)
            c = jax.grad(lambda o: jnp.mean((o - y) ** 2))(output)
            grads, after = learner.gradients(applied, x, cotangents=c, reset=reset)
            several, _ = learner.gradients(applied, x, cotangents=c[None], reset=reset, by_row=True)
            updated, metrics = learner.update(updated, x, y, reset=reset)
            applied = learner.apply(after, grads)
            return (updated, applied), (output, metrics["outputs"], grads, several, applied.params, applied.step)

        return jax.lax.scan(step, (first, first), (xs, ys, RESETS))

    first = learner.init(jax.random.key(1))
    (updated, applied), (outputs, same, grads, several, params, steps) = jax.device_get(run(first))
    assert_close(updated, applied, "the states")
    assert_close(same, outputs, "the outputs of update")
    assert_close(jax.tree.map(lambda a: a[:, 0].sum(1), several), grads, "the sum over the rows")
    before = jax.tree.map(lambda a, b: np.concatenate([a[None], b[:-1]]), jax.device_get(first.params), params)
    assert_close(params, jax.tree.map(lambda p, g: p - 0.1 * g, before, grads), "the parameters after apply")
    assert steps.tolist() == list(range(1, T + 1))


def traced(learner, state, shape, **options):
    """Traces `gradients` with cotangents of a shape; nothing is compiled."""
    x = jnp.zeros((2,) if learner.rows is None else (learner.rows, 2))
    return jax.eval_shape(lambda s: learner.gradients(s, x, cotangents=jnp.zeros(shape), **options), state)


def test_a_strategy_that_carries_what_it_learned_from_losses_takes_one_cotangent():
    """The others take several: what they carry does not depend on the losses."""
    for each, refused in ((DNI(), True), (PES(), False), (KeRNL(), False)):
        learner = learner_of(each, RNN(hidden=3), rows=None)
        state = jax.eval_shape(learner.init, jax.random.key(0))
        traced(learner, state, 3)
        if refused:
            with pytest.raises(sj.Error, match="what this strategy carries depends on the losses"):
                traced(learner, state, (2, 3))
        else:
            assert {leaf.shape[0] for leaf in jax.tree.leaves(traced(learner, state, (2, 3))[0])} == {2}


def test_wrong_cotangents_are_refused():
    learner = learner_of(RTRL(), RNN(hidden=3), rows=None)
    state = jax.eval_shape(learner.init, jax.random.key(0))
    for shape in [(), 2, (2, 2, 3)]:
        with pytest.raises(sj.Error, match=r"cotangents must be like the output, float32\[3\], or have one leading"):
            traced(learner, state, shape)
    with pytest.raises(sj.Error, match="by_row=True is for a learner of several rows"):
        traced(learner, state, 3, by_row=True)
    problem = sj.Problem(lambda w, s, x: (s, w * x), lambda w, key=None: jnp.zeros(()))
    no_outputs = sj.Learner(problem, RTRL(), OPTIMIZER)
    with pytest.raises(sj.Error, match=r"return nothing beside their losses; return \(state, \(loss, output\)\)"):
        no_outputs.output(no_outputs.init(jax.random.key(0), params=jnp.ones(())), 1.0)


def test_outputs_of_a_step_of_ones_own_may_be_a_tree(x64):
    """d(c · s_t²)/dw of a leaky sum, in closed form; without an update between them, two calls are two steps."""

    def step(w, s, x):
        s = w * s + x
        return s, (jnp.zeros(()), {"square": s**2, "state": s})

    problem = sj.Problem(step, lambda w, key=None: jnp.zeros(()), has_aux=True)
    learner = sj.Learner(problem, RTRL(), OPTIMIZER)
    state = learner.init(jax.random.key(0), params=jnp.asarray(0.5))
    s = ds = 0.0
    for x in (1.0, 2.0, -1.0):
        s, ds = 0.5 * s + x, s + 0.5 * ds
        output = learner.output(state, x)
        assert_close(output, {"square": np.float64(s**2), "state": np.float64(s)}, "the outputs")
        grads, state = learner.gradients(state, x, cotangents={"square": jnp.asarray(3.0), "state": jnp.asarray(1.0)})
        assert_close(grads, np.float64((6 * s + 1) * ds), "the gradient")


def test_what_apply_cannot_take_is_refused():
    """Traced alone; each was taken without a word, or raised an error of JAX."""
    learner = learner_of(RTRL(), RNN(hidden=3), rows=None)
    state = jax.eval_shape(learner.init, jax.random.key(0))
    grads = state.params

    def apply(grads, of=learner, **extra):
        jax.eval_shape(lambda state, grads: of.apply(state, grads, **extra), state, grads)

    apply(grads)
    several = jax.tree.map(lambda a: jax.ShapeDtypeStruct((3, *a.shape), a.dtype), grads)
    first = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), grads)
    adam = sj.Learner(learner.problem, learner.gradient, optax.adam(0.1))
    for call, message in [
        (lambda: apply(first), r"the gradient of params.* is float32\[.*\], and the parameter is"),
        (lambda: apply(several), "of the gradients of several cotangents pass one"),
        (lambda: apply((grads, state)), "pass what gradients returned, a tree like the parameters"),
        (lambda: apply(grads, resets=True), "there is no argument resets; do you mean reset"),
        (lambda: apply(grads, of=adam), "another optimizer"),
        (lambda: learner.apply(grads, state), r"pass the state first; gradients returns \(grads, state\)"),
    ]:
        with pytest.raises(sj.Error, match=message):
            call()


def test_a_step_of_ones_own_that_returns_something_else_is_refused():
    def step(w, s, x):
        return w * s + x, (s, s)

    for has_aux, result, message in [
        (False, step, "loss"),
        (True, lambda w, s, x: step(w, s, x)[1], r"must return \(new state, \(loss, outputs\)\)"),
    ]:
        problem = sj.Problem(result, lambda w, key=None: jnp.zeros(()), has_aux=has_aux)
        learner = sj.Learner(problem, RTRL(), OPTIMIZER)
        state = learner.init(jax.random.key(0), jnp.ones(()))
        with pytest.raises(sj.Error, match=message):
            learner.update(state, 1.0)


def test_what_the_inputs_of_a_problem_say_is_read(x64):
    def step(w, s, x):
        s = jnp.tanh(w * s + x)
        return s, (s**2, s)

    whole = sj.Problem(lambda w, s, x: step(w, s, 10 * x), lambda w, key=None: jnp.zeros(()), has_aux=True)
    read = sj.Problem(step, whole.init_state, has_aux=True).changed(inputs=lambda w, x: 10 * x)
    results = []
    for problem in (whole, read):
        learner = sj.Learner(problem, Truncated(steps=1), OPTIMIZER)
        state = learner.init(jax.random.key(0), jnp.ones(()))
        output = learner.output(state, 0.1)
        results.append((output, learner.gradients(state, 0.1, cotangents=jnp.ones(()))[1].carry))
    assert_close(*results, "the output, and the state after the step")
