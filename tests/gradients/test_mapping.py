"""Steps that see `vmap`, against the same steps without it: no strategy may take one step's branch at all steps."""

import equinox.internal as eqxi
import jax
import jax.numpy as jnp
import pytest

import seqjax as sj
from seqjax.gradients import sees_vmap
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


STEPS = {
    "custom_vmap": (stateful, any_of, 1.0),
    "doubled": (stateful, any_of, 2.0),
    "equinox": (stateful, eqxi.unvmap_any, 2.0),
    "jitted": (stateful, jax.jit(any_of), 2.0),
    "in the loss": (in_the_loss, any_of, 0.9),
    "in a rule": (in_a_rule, any_of, 1.5),
    "by the parameters": (by_the_parameters, any_of, 0.9),
}
QUICK = {"by the parameters", "doubled", "in the loss"}
FORWARD = {"forward", "directional", "dodge", "uoro", "kf-rtrl", "ok"}
"""These take tangents, which a rule of `custom_vjp` does not have."""


def arguments(num_rows=B):
    u = jax.random.normal(jax.random.key(0), (T, B))
    xs = {"t": jnp.broadcast_to(jnp.arange(T)[:, None], (T, B)), "u": u}
    params = {"w": jnp.asarray(0.9), "b": jnp.asarray(0.4)}
    state = {"y": jnp.array([1.0, -0.5]), "k": jnp.array([0.1, 0.2])}
    return params, jax.tree.map(lambda a: a[:num_rows], state), jax.tree.map(lambda a: a[:, :num_rows], xs)


OF_MODELS = {"e-prop", "kernl", "sk-rtrl"}
"""These take models alone."""
MAPPED = {"es", "full", "immediate", "pes", "rtrl", "sliding", "snap", "uoro"}
"""These map the step, or its loss, over time or over particles."""
PAIRS = [
    pytest.param(name, kind, marks=() if name in MAPPED and kind in QUICK else pytest.mark.slow)
    for name in sj.names("gradient")
    for kind in STEPS
    if name not in OF_MODELS
    if kind != "in a rule" or name not in FORWARD
]


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_a_strategy_differentiates_a_step_that_sees_vmap_like_one_that_does_not(name, kind):
    make, flag, gain = STEPS[kind]
    strategy = sj.create("gradient", name)
    key = jax.random.key(1) if strategy.draws else None
    num_rows = 1 if make is by_the_parameters else B
    # A loss that does not count is not evaluated.
    weights = jnp.linspace(0.1, 1, T * num_rows).reshape(T, num_rows).at[1:3].set(0)

    def run(flag):
        gradient = quick_jit(sj.value_and_grad(make(flag, gain), strategy))
        return gradient(*arguments(num_rows), weights=weights, key=key)[:2]

    assert_close(run(flag), run(lambda flag: flag), f"{name}, {kind}, ")


@pytest.mark.parametrize("kind", list(STEPS))
def test_diagnostics_of_a_step_that_sees_vmap_are_those_of_one_that_does_not(kind):
    make, flag, gain = STEPS[kind]

    def run(flag):
        step = make(flag, gain)
        lags = sj.lags(step, *arguments(), max_lag=T - 1)
        found = sj.jacobians(step, *arguments(), max_lag=3)
        return lags.gradients, lags.norms, found.mean_norm, found.lyapunov

    assert_close(run(flag), run(lambda flag: flag), f"{kind}, ")


@pytest.mark.parametrize("name", ["immediate", "full"])
def test_a_rule_of_what_a_step_reads_is_that_of_the_step_alone(name):
    def run(flag):
        gradient = sj.value_and_grad(by_the_input(flag, 2.0), sj.create("gradient", name), argnums=2)
        params, state, xs = arguments(1)
        return quick_jit(gradient)(params, state, {"u": xs["u"]}).grads

    assert_close(run(any_of), run(lambda flag: flag), name)


def keyed(p, s, x):
    """A step whose random numbers in a batch are not those of each key alone if the keys are of the kind `rbg`."""
    noise = jax.random.normal(jax.random.fold_in(s["key"], x))
    y = jnp.tanh(p * s["y"] + noise)
    return {"y": y, "key": s["key"]}, y**2


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_random_numbers_of_a_step_are_those_of_its_own_key(impl):
    state = {"y": jnp.asarray(0.5), "key": jax.random.key(3, impl=impl)}

    def total(p):
        s, loss = state, 0.0
        for t in range(T):
            s, each = keyed(p, s, jnp.asarray(t))
            loss += each / T
        return loss

    found = sj.lags(keyed, jnp.asarray(0.8), state, jnp.arange(T), max_lag=T - 1, batched=False)
    assert_close(found.gradients.sum(0), jax.grad(total)(0.8), impl)
    assert sees_vmap(keyed, jnp.asarray(0.8), state, jnp.asarray(0)) == (impl != "threefry2x32")


def test_a_loss_that_sees_vmap():
    """The loss of a model, which seqjax evaluates for all steps at once."""
    model = sj.create("model", "rnn", hidden=3)

    def loss_with(flag):
        return lambda output, target: jnp.where(flag(target[0] > 0), 1.0, 0.1) * jnp.sum((output - target) ** 2)

    x = jax.random.normal(jax.random.key(0), (T, 1, 1))
    scored = jnp.ones((T, 1), bool)
    losses = []
    for flag in (any_of, lambda flag: flag):
        problem = sj.Problem.of(model, sj.Spec(sj.Values(1)), loss_with(flag))
        params = problem.init(jax.random.key(1))
        state = problem.init_rows(params, 1)
        losses.append([problem.unroll(params, state, (x, x), None, some)[1] for some in (None, scored)])
    assert_close(losses[0], losses[1], "losses")


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
    p, s, x = jnp.eye(3) + 0.1, jnp.ones(3), jnp.asarray(0.5)
    assert not sees_vmap(plain_steps()[name], p, s, x)
    assert not any(
        sees_vmap(problem.step, problem.init(jax.random.key(0)), *first(problem))
        for problem in (sj.Problem.of(sj.create("model", model), sj.Spec(sj.Tokens(5))) for model in ("lstm", "gru"))
    )


def first(problem):
    params = problem.init(jax.random.key(0))
    return problem.init_state(params), (jnp.asarray(0), jnp.asarray(1))


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

    x = jnp.linspace(-1, 9, T)[:, None, None]
    for loss in (lambda y, t: halved(y[0]) + t[0], lambda y, t: own(halved(y[0])) + t[0]):
        problem = sj.Problem.of(sj.create("model", "rnn", hidden=2), sj.Spec(sj.Values(1)), loss)
        params = problem.init(jax.random.key(0))
        _, losses, _ = problem.unroll_with_outputs(params, problem.init_rows(params, 1), (x, x))
        outputs = problem.outputs(params, problem.init_rows(params, 1), x)[1]
        assert_close(losses[:, 0], jnp.stack([loss(y[0], t[0]) for y, t in zip(outputs, x, strict=True)]), "losses")
