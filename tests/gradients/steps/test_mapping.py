"""Steps that see `vmap`, against the same steps without it: no strategy may take one step's branch at all steps."""

import equinox.internal as eqxi
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.slow import slow

import seqjax as sj
from seqjax.gradients import Full, Truncated, sees_vmap
from seqjax.testing.compare import assert_close
from seqjax.testing.quick_jit import quick_jit

pytestmark = pytest.mark.usefixtures("x64")

T, B = 7, 2


@jax.custom_batching.custom_vmap
def any_of(flag):
    """The flag; one for the whole batch where one entry is true."""
    return flag


@any_of.def_vmap
def _(size, batched, flag):
    return any_of(jnp.any(flag)), False


def stateful(flag, gain):
    """Defect of first-same-as-last solvers: k is carried, and computed anew where the flag is true."""

    def step(p, s, x):
        k = jnp.where(flag(x["t"] == 3), -p["w"] * s["y"], s["k"])
        y = s["y"] + 0.1 * gain * k + p["b"] * x["u"]
        return {"y": y, "k": -p["w"] * y * gain}, (y - 0.2) ** 2

    return step


def in_the_loss(flag, gain):
    def step(p, s, x):
        y = jnp.tanh(gain * p["w"] * s["y"] + p["b"] * x["u"])
        return {"y": y, "k": s["k"]}, jnp.where(flag(x["t"] == 3), y**2, jnp.sin(y))

    return step


def in_a_rule(flag, gain):
    @jax.custom_vjp
    def f(y, t):
        return jnp.sin(y)

    def backward(residuals, dy):
        y, t = residuals
        return jnp.where(flag(t % 2 == 0), 0.5, gain) * jnp.cos(y) * dy, None

    f.defvjp(lambda y, t: (jnp.sin(y), (y, t)), backward)

    def step(p, s, x):
        y = f(p["w"] * s["y"] + p["b"] * x["u"], x["t"])
        return {"y": y, "k": s["k"]}, (y - 0.2) ** 2

    return step


def by_the_input(flag, gain):
    """A rule whose derivative by what the step reads depends on the batch."""

    @jax.custom_jvp
    def f(u):
        return jnp.sin(u)

    @f.defjvp
    def _(primals, tangents):
        return f(*primals), jnp.where(flag(primals[0] > 0.5), gain, 1.0) * tangents[0]

    def step(p, s, x):
        u = f(x["u"])
        return {"y": jnp.tanh(p["w"] * s["y"]) + p["b"] * u, "k": s["k"]}, (s["y"] + u) ** 2

    return step


def by_the_parameters(flag, gain):
    """A flag that differs between particles, as their parameters do. Rows are always mapped, so it takes one row."""

    def step(p, s, x):
        y = jnp.where(flag(p["w"] > 0.9), -gain * s["y"], p["w"] * s["y"])
        return {"y": s["y"] + 0.3 * y + p["b"] * x["u"], "k": s["k"]}, (y - 0.2) ** 2

    return step


def in_all_places(flag, gain):
    """In the state, in the loss and by the parameters: whatever a strategy maps, the batch would change it."""
    steps = [make(flag, gain) for make in (stateful, in_the_loss, by_the_parameters)]

    def step(p, s, x):
        found = [each(p, s, x) for each in steps]
        return jax.tree.map(lambda *a: sum(a) / 3, *(state for state, _ in found)), sum(loss for _, loss in found)

    return step


STEPS = {
    "custom_vmap": (stateful, any_of, 1.0),
    "doubled": (stateful, any_of, 2.0),
    "equinox": (stateful, eqxi.unvmap_any, 2.0),
    "jitted": (stateful, jax.jit(any_of), 2.0),
    "in the loss": (in_the_loss, any_of, 0.9),
    "in a rule": (in_a_rule, any_of, 1.5),
    "by the parameters": (by_the_parameters, any_of, 0.9),
    "in all places": (in_all_places, any_of, 2.0),
}
FORWARD = {"forward", "directional", "dodge", "uoro", "kf-rtrl", "ok"}
"""These take tangents, which a rule of `custom_vjp` does not have."""


def arguments(num_rows=B):
    xs = {"t": np.tile(np.arange(T)[:, None], B), "u": np.random.default_rng(0).normal(size=(T, B))}
    state = {"y": np.array([1.0, -0.5]), "k": np.array([0.1, 0.2])}
    params = {"w": np.array(0.9), "b": np.array(0.4)}
    return params, jax.tree.map(lambda a: a[:num_rows], state), jax.tree.map(lambda a: a[:, :num_rows], xs)


def check_is_that_without(flag, run, what):
    """Compares what `run`, which takes a flag, computes with the flag and without it, in one program."""
    assert_close(*quick_jit(lambda: (run(flag), run(lambda flag: flag)))(), what)


def test_a_while_loop_in_a_step_does_not_count_as_one_that_sees_vmap():
    """Each time step stops by itself, in the derivative too."""

    def step(p, s, x):
        far = lambda c: c < x["u"] + 1
        y = sj.while_loop(far, lambda c: 1.5 * p["w"] * c, 0.3 + s["y"] ** 2, 20, Full())
        return {"y": jnp.sin(y), "k": s["k"]}, (y - p["b"]) ** 2

    params, state, xs = arguments(1)
    row = jax.tree.map(lambda a: a[0], state), jax.tree.map(lambda a: a[:, 0], xs)
    assert not sees_vmap(step, params, row[0], jax.tree.map(lambda a: a[0], row[1]))
    full, others = Full(), [sj.create("gradient", name) for name in ("rtrl", "immediate", "directional")]
    run = quick_jit(
        lambda: [sj.value_and_grad(step, each)(params, *row) for each in (full, *others, Truncated(steps=1))]
    )
    want, rtrl, immediate, directional, one = run()
    assert_close([rtrl, directional], [want, want], "exact")
    assert_close(immediate, one, "one step")


@pytest.mark.parametrize("kind", STEPS)
def test_a_step_that_sees_vmap_is_known(kind):
    make, flag, gain = STEPS[kind]
    params, state, xs = arguments()
    first = params, {name: a[0] for name, a in state.items()}, {name: a[0, 0] for name, a in xs.items()}
    assert sees_vmap(make(flag, gain), *first)
    assert not sees_vmap(make(lambda flag: flag, gain), *first)


OF_MODELS = {"e-prop", "kernl", "sk-rtrl"}
"""These take models alone."""
MAPPED = {"full", "pes", "rtrl", "uoro"}
"""These map the step, or its loss, over time or over particles in code of their own, as do `immediate` and `es`."""
PAIRS = [
    pytest.param(name, kind, marks=() if name in MAPPED and kind == "in all places" else pytest.mark.slow)
    for name in sj.names("gradient")
    for kind in STEPS
    if name not in OF_MODELS
    if kind != "in a rule" or name not in FORWARD
]


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_a_strategy_differentiates_a_step_that_sees_vmap_like_one_that_does_not(name, kind):
    make, flag, gain = STEPS[kind]
    strategy = sj.create("gradient", name)
    # Rows are always mapped, and would see the parameters of particles of other rows.
    num_rows = 1 if make in (by_the_parameters, in_all_places) else B
    # A loss that does not count is not evaluated.
    weights = np.linspace(0.1, 1, T * num_rows).reshape(T, num_rows)
    weights[1:3] = 0

    def run(flag):
        gradient = sj.estimate(make(flag, gain), strategy, batched=True)
        key = jax.random.key(1) if strategy.draws else None
        return gradient(*arguments(num_rows), weights=weights, key=key)[:2]

    check_is_that_without(flag, run, f"{name}, {kind}, ")


@pytest.mark.parametrize("kind", [pytest.param(k, marks=[pytest.mark.slow] * (k != "in all places")) for k in STEPS])
def test_lags_of_a_step_that_sees_vmap_are_those_of_one_that_does_not(kind):
    make, flag, gain = STEPS[kind]
    run = lambda flag: sj.lags(make(flag, gain), *arguments(), max_lag=T - 1, batched=True)[:2]
    check_is_that_without(flag, run, kind)


@pytest.mark.parametrize("kind", [pytest.param(k, marks=[pytest.mark.slow] * (k != "in all places")) for k in STEPS])
def test_jacobians_of_a_step_that_sees_vmap_are_those_of_one_that_does_not(kind):
    make, flag, gain = STEPS[kind]
    found, want = (
        sj.jacobians(make(f, gain), *jax.device_put(arguments()), max_lag=3, batched=True)
        for f in (flag, lambda flag: flag)
    )
    assert_close((found.mean_norm, found.lyapunov), (want.mean_norm, want.lyapunov), kind)


@pytest.mark.parametrize("name", ["immediate", "full"])
def test_a_rule_of_what_a_step_reads_is_that_of_the_step_alone(name):
    def run(flag):
        gradient = sj.estimate(by_the_input(flag, 2.0), sj.create("gradient", name), argnums=2, batched=True)
        params, state, xs = arguments(1)
        return gradient(params, state, {"u": xs["u"]}).grads

    check_is_that_without(any_of, run, name)


def keyed(p, s, x):
    """A step whose random numbers in a batch are not those of each key alone if the keys are of the kind `rbg`."""
    noise = jax.random.normal(jax.random.fold_in(s["key"], x))
    y = jnp.tanh(p * s["y"] + noise)
    return {"y": y, "key": s["key"]}, y**2


@pytest.mark.parametrize("impl", ["rbg", *slow("threefry2x32", "unsafe_rbg")])
def test_random_numbers_of_a_step_are_those_of_its_own_key(impl):
    @quick_jit
    def both(p):
        state = {"y": jnp.asarray(0.5), "key": jax.random.key(3, impl=impl)}

        def total(p):
            return jax.lax.scan(lambda s, t: keyed(p, s, t), state, jnp.arange(T))[1].mean()

        found = sj.lags(keyed, p, state, jnp.arange(T), max_lag=T - 1)
        return found.gradients.sum(0), jax.grad(total)(p)

    assert_close(*both(0.8), impl)


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_keys_that_draw_for_a_batch_from_its_first_key_are_known(impl):
    state = jax.eval_shape(lambda: {"y": jnp.asarray(0.5), "key": jax.random.key(3, impl=impl)})
    assert sees_vmap(keyed, 0.8, state, 0) == (impl != "threefry2x32")


def test_a_loss_that_sees_vmap():
    """The loss of a model, which seqjax evaluates for all steps at once."""
    model = sj.create("model", "rnn", hidden=3)
    numbers = np.random.default_rng(0).normal(size=(T, 1, 1))

    def run(flag):
        x, scored = jnp.asarray(numbers), jnp.ones((T, 1), bool)
        loss = lambda output, target: jnp.where(flag(target[0] > 0), 1.0, 0.1) * jnp.sum((output - target) ** 2)
        problem = sj.Problem.of(model, sj.Spec(sj.Values(1)), loss)
        params = problem.init(jax.random.key(1))
        state = problem.init_rows(params, 1)
        return [problem.unroll(params, state, (x, x), None, some)[1] for some in (None, scored)]

    check_is_that_without(any_of, run, "losses")


def plain_steps():
    """Steps of plain JAX, with control flow, calls and rules of their own."""

    def control(p, s, x):
        y = jax.lax.scan(lambda c, _: (jnp.tanh(p @ c + x), None), s, None, length=2)[0]
        y = jax.lax.cond(x > 0, jnp.sin, jnp.cos, y)
        return jax.checkpoint(lambda y: y * jax.nn.relu(y))(y), jnp.sum(jax.nn.softmax(y) * jnp.linalg.solve(p, y))

    def drawn(p, s, x):
        noise = jax.random.bernoulli(jax.random.key(0), 0.5, s.shape)
        return jnp.where(noise, p @ s, s), jnp.sum(jnp.linalg.cholesky(p @ p.T)) + jnp.sort(s)[0]

    def looked_up(p, s, x):
        knots = jnp.arange(4.0)
        jax.debug.print("{}", x)
        y = jnp.interp(s, knots, knots**2) + jnp.searchsorted(knots, x).astype(float)
        return y * jnp.linalg.det(p), jnp.sum(jax.random.choice(jax.random.key(0), knots, p=jnp.ones(4) / 4) * y)

    return {"control": control, "drawn": drawn, "looked up": looked_up}


@pytest.mark.parametrize("name", ["control", "drawn", "looked up"])
def test_plain_steps_stay_side_by_side(name):
    assert not sees_vmap(plain_steps()[name], np.eye(3) + 0.1, np.ones(3), np.asarray(0.5))


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_models_stay_side_by_side(name):
    problem = sj.Problem.of(sj.create("model", name), sj.Spec(sj.Tokens(5)))
    params = jax.eval_shape(lambda: problem.init(jax.random.key(0)))
    assert not sees_vmap(problem.step, params, jax.eval_shape(problem.init_state, params), (np.array(0), np.array(1)))


def test_an_unknown_primitive_counts_as_one_that_sees_vmap():
    unknown = jax.extend.core.Primitive("unknown")
    unknown.def_abstract_eval(lambda a: a)
    assert sees_vmap(lambda p, s, x: (s * p, (s, unknown.bind(x))), 1.0, 1.0, 1)


def test_what_has_no_reverse_mode_can_be_evaluated():
    """A loss with a while loop, next to a rule of its own, is evaluated for all steps at once."""

    @jax.custom_vjp
    def own(x):
        return x

    own.defvjp(lambda x: (x, None), lambda _, dy: (dy,))

    def halved(x):
        return jax.lax.while_loop(lambda y: y > 1, lambda y: y / 2, jax.nn.relu(x))

    x, model = np.linspace(-1, 9, T)[:, None, None], sj.create("model", "rnn", hidden=2)
    losses = (lambda y, t: halved(y[0]) + t[0]), (lambda y, t: own(halved(y[0])) + t[0])
    problems = [sj.Problem.of(model, sj.Spec(sj.Values(1)), loss) for loss in losses]

    @quick_jit
    def both():
        params = problems[0].init(jax.random.key(0))
        state = problems[0].init_rows(params, 1)
        outputs = problems[0].outputs(params, state, x)[1]
        one_by_one = [jax.lax.map(lambda each, f=f: f(each[0][0], each[1][0]), (outputs, x)) for f in losses]
        return [each.unroll_with_outputs(params, state, (x, x))[1][:, 0] for each in problems], one_by_one

    assert_close(*both(), "losses")
