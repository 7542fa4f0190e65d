"""`rtrl` and `layerwise` over windows with carried memory, against the gradient of the whole history."""

import itertools
from dataclasses import dataclass

import equinox.internal as eqxi
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import seqjax as sj
from seqjax.gradients import Batch, init_memory, reset_rows
from seqjax.testing.compare import Failed, assert_close
from seqjax.testing.quick_jit import quick_jit
from seqjax_gradients import RFLO, RTRL, UORO, Layerwise, SnAp, _carrying, _layers, _parts
from seqjax_models import GRU

pytestmark = pytest.mark.usefixtures("x64")

WINDOWS, T, B, V = 3, 5, 2, 4
TOKENS = sj.Spec(sj.Tokens(V))


@pytest.fixture(autouse=True)
def _several_blocks(monkeypatch):
    """Windows of five steps have blocks of two and one, or of three and two if the state has three numbers."""
    monkeypatch.setattr(_parts, "SHORTEST_BLOCK", 2)


@dataclass(frozen=True)
class Shared(sj.Elementwise):
    """Its parameter has the shape of one that feeds unit i by entry i, and all units read its sum."""

    shares = True

    def init_cell(self, key):
        return {"keep": jnp.full(self.hidden, 0.2)}

    def cell(self, u, state, keep):
        return self.State(jnp.tanh(keep.sum()) * state.h + jnp.sin(u - u.mean(-1, keepdims=True)))


@dataclass(frozen=True)
class Scalar(sj.Elementwise):
    """A parameter that all units read, and whose shape says so."""

    def init_cell(self, key):
        return {"keep": jnp.array(0.2)}

    def cell(self, u, state, keep):
        return self.State(jnp.tanh(keep) * state.h + jnp.sin(u))


@dataclass(frozen=True)
class Gain(GRU):
    """A parameter that feeds the state from outside of the layers."""

    def init(self, key, spec):
        return super().init(key, spec) | {"gain": jnp.array(1.5)}

    def enter(self, params, x, dtype):
        return params["gain"] * jax.nn.one_hot(x, V)


def of_model(model):
    """A problem of tokens, with all parameters away from special values."""
    problem = model.problem(TOKENS)
    params = jax.tree.map(lambda a: a.astype(float), problem.init(jax.random.key(0)))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda a: a + 0.3 * jnp.asarray(rng.normal(size=a.shape)), params)
    ids = rng.integers(0, V, (2, WINDOWS * T, B))
    return problem, params, problem.init_rows(params, B), tuple(map(jnp.asarray, ids))


def of_step(step, params, state):
    xs = jnp.asarray(np.random.default_rng(1).normal(size=(WINDOWS * T, B)))
    rows = jax.tree.map(lambda a: jnp.stack([a, a + 1]) if a.dtype == int else jnp.stack([a, 0.5 * a]), state)
    return sj.Problem(step), params, rows, xs


def pendulum():
    """A driven pendulum by the midpoint rule, with a counter in its state."""

    def step(params, state, x):
        def slope(angle, speed):
            return speed, -params["g"] * jnp.sin(angle) - params["friction"] * speed + params["gain"] @ jnp.array(
                [x, 1]
            )

        (angle, speed), count = state
        da, ds = slope(angle, speed)
        da, ds = slope(angle + 0.1 * da, speed + 0.1 * ds)
        state = (angle + 0.2 * da, speed + 0.2 * ds), count + 1
        return state, (1 + 0.1 * count) * (jnp.cos(state[0][0]) + params["readout"] * speed**2)

    params = {"g": jnp.array(2.0), "friction": jnp.array(0.3), "gain": jnp.array([0.5, 0.1]), "readout": jnp.array(0.7)}
    return of_step(step, params, ((jnp.array(0.4), jnp.array(-0.2)), jnp.array(0)))


def switching():
    """A step that sees `vmap`: mapped over time, all steps would take the branch of one."""

    def step(w, s, x):
        u, t = x
        s = jnp.where(eqxi.unvmap_any(t % 3 == 1), jnp.sin(w[0] * s + u), w[1] * s)
        return s, s**2

    problem, params, state, u = of_step(step, jnp.array([0.9, 0.7]), jnp.array(0.4))
    return problem, params, state, (u, jnp.broadcast_to(jnp.arange(WINDOWS * T)[:, None], u.shape))


def flax_cell():
    model, params = sj.from_flax(nnx.GRUCell(in_features=1, hidden_features=2, rngs=nnx.Rngs(0)))
    problem = model.problem(sj.Spec(sj.Values(1), sj.Values(2)))
    params = jax.tree.map(lambda a: a.astype(float), params)
    rng = np.random.default_rng(2)
    xs = jnp.asarray(rng.normal(size=(WINDOWS * T, B, 1))), jnp.asarray(rng.normal(size=(WINDOWS * T, B, 2)))
    state = jax.tree.map(lambda a: a.astype(float), problem.init_rows(params, B))
    return problem, params, state, xs


def model_case(name, **fields):
    return pytest.param(lambda: of_model(sj.create("model", name, hidden=3, **fields)), id=f"{name} {fields}")


QUICK = [
    model_case("rnn"),
    model_case("lru"),
    model_case("min-gru", embedding=2, residual=True),
    pytest.param(lambda: of_model(Shared(hidden=3)), id="shared"),
    pytest.param(lambda: of_model(Scalar(hidden=3)), id="scalar"),
    pytest.param(lambda: of_model(Gain(hidden=3)), id="gain"),
    pytest.param(pendulum, id="pendulum"),
    pytest.param(switching, id="switching"),
]
SLOW = [
    *map(model_case, ("gru", "lstm", "rtu", "min-gru", "min-lstm", "ind-rnn", "ssm")),
    model_case("ssm", selective=True),
    model_case("lstm", embedding=2),
    model_case("lru", residual=True),
    model_case("gru", layers=2),
    pytest.param(flax_cell, id="flax"),
]


def window_of(xs, number):
    return jax.tree.map(lambda a: a[number * T : (number + 1) * T], xs)


def carried(case, strategy):
    """The sum of the gradients of consecutive windows, with state and memory carried."""
    problem, params, state, xs = case
    estimate = quick_jit(sj.value_and_grad(problem, strategy))
    memory, total = None, None
    for number in range(WINDOWS):
        weights = jnp.asarray(np.random.default_rng(number).uniform(size=(T, B)))
        found = estimate(params, state, window_of(xs, number), memory=memory, weights=weights)
        state, memory = found.state, found.memory
        total = found.grads if total is None else jax.tree.map(jnp.add, total, found.grads)
    return total


def whole(case):
    """The gradient through all windows, by a scan of the step of one row after the other."""
    problem, params, state, xs = case
    weights = np.concatenate([np.random.default_rng(n).uniform(size=(T, B)) for n in range(WINDOWS)])

    def loss(params, row):
        of_row = lambda tree, axis: jax.tree.map(lambda a: jnp.take(a, row, axis), tree)
        step = lambda s, x: problem.step(params, s, x)
        return jax.lax.scan(step, of_row(state, 0), of_row(xs, 1))[1] @ jnp.asarray(weights)[:, row]

    gradient = quick_jit(jax.grad(loss))
    return jax.tree.map(jnp.add, *[gradient(params, row) for row in range(B)])


@pytest.mark.parametrize("make", [*QUICK, *(pytest.param(*p.values, id=p.id, marks=pytest.mark.slow) for p in SLOW)])
def test_carried_windows_have_the_gradient_of_the_history(make):
    case = make()
    assert_close(carried(case, RTRL()), whole(case), "the gradient", bound=1e-12)
    if getattr(getattr(case[0], "model", None), "layers", 1) == 1:
        assert_close(carried(case, Layerwise()), whole(case), "the gradient of one layer", bound=1e-12)


def worst(case):
    """The largest error of `rtrl`, in units of the largest entry."""
    found, right = carried(case, RTRL()), whole(case)
    scale = max(float(jnp.abs(a).max()) for a in jax.tree.leaves(right))
    return max(float(jnp.abs(a - b).max()) for a, b in zip(*map(jax.tree.leaves, (found, right)), strict=True)) / scale


def without_jacobian(monkeypatch):
    monkeypatch.setattr(_parts.Part, "after", lambda self, M, J, I: self.plus(M, I))


def without_last_block(monkeypatch):
    """The blocks have two, two and one of the five steps, and the last one leaves its I out."""
    after = _parts.Part.after
    counter = itertools.count()

    def planted(self, M, J, I):
        # The scan over whole blocks is traced once, and then the rest.
        return after(self, M, J, jax.tree.map(jnp.zeros_like, I) if next(counter) % 2 else I)

    monkeypatch.setattr(_parts.Part, "after", planted)


def shared_by_units(monkeypatch):
    monkeypatch.setattr(Shared, "shares", False)


def dropped(monkeypatch):
    zeros = lambda parts, M, start, params: [part.zeros(params) for part in parts]
    monkeypatch.setattr(_carrying, "plus_start", zeros)


PLANTED = {
    "M is not multiplied by J": (without_jacobian, lambda: of_model(sj.create("model", "lru", hidden=3))),
    "I of the last block is lost": (without_last_block, pendulum),
    "a shared parameter is kept by units": (shared_by_units, lambda: of_model(Shared(hidden=3))),
    "M is dropped": (dropped, lambda: of_model(sj.create("model", "rnn", hidden=3))),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_found(name, monkeypatch):
    plant, make = PLANTED[name]
    case = make()
    assert worst(case) < 1e-12
    plant(monkeypatch)
    assert worst(case) > 1e-3


@pytest.mark.parametrize("planted", [False, True], ids=["", "planted: M is kept at a reset"])
def test_a_row_that_is_reset_forgets(planted):
    """Where a sequence starts, M is that of its initial state, which here depends on the parameters."""

    def step(params, s, x):
        s = jnp.tanh(params["w"] * s + x)
        return s, s**2

    problem = sj.Problem(step, lambda params, key=None: jnp.sin(params["start"]))
    params = {"w": jnp.array(0.8), "start": jnp.array(0.3)}
    xs = jnp.asarray(np.random.default_rng(0).normal(size=(3, T, B)))
    resets = [[True, True], [False, True], [False, False]]
    state, memory = jnp.zeros(B), init_memory(RTRL(), problem, params, jnp.zeros(B), B)
    total = jax.tree.map(jnp.zeros_like, params)
    for x, reset in zip(xs, map(jnp.array, resets), strict=True):
        batch = Batch(x, jnp.ones((T, B)), reset, jnp.arange(B, dtype=jnp.int32))
        start, entering = reset_rows(RTRL(), problem, params, state, memory, reset)
        found = RTRL().draw_and_estimate(problem, params, start, memory if planted else entering, batch)
        state, memory, total = found.state, found.memory, jax.tree.map(jnp.add, total, found.grads)

    def loss(params):
        value = 0.0
        for row in range(B):
            s = 0.0
            for number, reset in enumerate(resets):
                s = problem.init_state(params) if reset[row] else s
                for t in range(T):
                    s, l = step(params, s, xs[number, t, row])
                    value += l
        return value

    want = jax.grad(loss)(params)
    if planted:
        with pytest.raises(Failed):
            assert_close(total, want, "the gradient", bound=1e-3)
    else:
        assert_close(total, want, "the gradient", bound=1e-12)


@pytest.mark.parametrize("reset_at", [0, 2, 4])
def test_resets_inside_of_a_window_by_units(reset_at):
    """A window with a reset is that of the pieces, and what is carried on is that of the last piece."""
    model = sj.create("model", "lru", hidden=3)
    problem, params, state, xs = of_model(model)
    estimate = quick_jit(sj.value_and_grad(problem, RTRL()))
    weights, first = jnp.ones((T, B)), window_of(xs, 0)
    reset = jnp.arange(T) == reset_at
    found = estimate(params, state, first, weights=weights, reset=reset)

    later = jax.tree.map(lambda a: a[reset_at:], first)
    before = jax.tree.map(lambda a: a[:reset_at], first)
    parts = [estimate(params, problem.init_rows(params, B), later, weights=weights[reset_at:])]
    if reset_at:
        parts.append(estimate(params, state, before, weights=weights[:reset_at]))
    grads = jax.tree.map(lambda *a: sum(a), *[part.grads for part in parts])
    assert_close(found.grads, grads, "the gradient", bound=1e-12)
    assert_close(found.memory, parts[0].memory, "the memory", bound=1e-12)


def test_a_stack_by_units_or_dense_has_the_right_number_of_numbers():
    """M of `lru`: two numbers of a unit for each parameter; with an embedding, 6 for each of its entries."""

    def shapes(model):
        problem, params, state, _ = of_model(model)
        one = jax.tree.map(lambda a: a[0], state)
        return sorted(a.shape for a in jax.tree.leaves(RTRL().init(problem, params, one).rows))

    H = 3
    own = [(2, 1, H)] * 3
    assert shapes(sj.create("model", "lru", hidden=H)) == sorted([*own, (2, 2, H), (2, 2 * V, H)])
    embedded = sj.create("model", "lru", hidden=H, embedding=2)
    assert shapes(embedded) == sorted([*own, (2, 2, H), (2, 4, H), (2 * H, V, 2)])
    rnn = sj.create("model", "rnn", hidden=H)
    assert shapes(rnn) == sorted([(H, H), (H, H, H), (H, V, H)])
    ssm = sj.create("model", "ssm", hidden=H, states=2)
    assert {shape[0] for shape in shapes(ssm)} == {4}


@pytest.mark.parametrize(
    "name", ["min-gru", *(pytest.param(name, marks=pytest.mark.slow) for name in ("rnn", "lstm", "lru"))]
)
@pytest.mark.parametrize("residual", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_layerwise_loses_what_a_layer_did_to_higher_states_before_the_window(name, residual):
    """With J_ji = ds_j/dθ_i by brute force, it is the gradient of the history without ∂L/∂s_j J_ji for j > i."""
    if residual and name in ("rnn", "lstm"):
        pytest.skip("a dense layer has no residual block")
    fields = {"residual": True} if residual else {}
    model = sj.create("model", name, hidden=3, layers=3, **fields)
    problem, params, state, xs = of_model(model)
    estimate = quick_jit(sj.value_and_grad(problem, Layerwise()))
    first = estimate(params, state, window_of(xs, 0))
    found = estimate(params, first.state, window_of(xs, 1), memory=first.memory).grads

    weight = 1 / (T * B)
    want = jax.tree.map(jnp.zeros_like, params)
    for row in range(B):
        one = lambda tree, row=row: jax.tree.map(lambda a: a[row : row + 1], tree)
        of_row = lambda number, row=row: jax.tree.map(lambda a: a[:, row : row + 1], window_of(xs, number))

        def after(params, one=one, of_row=of_row):
            return problem.unroll(params, one(state), of_row(0))[0]

        def loss(params, s, of_row=of_row):
            return weight * problem.unroll(params, s, of_row(1))[1].sum()

        grads, q = jax.grad(loss, (0, 1))(params, after(params))
        influence = quick_jit(jax.jacrev(after))(params)
        for layer in range(model.layers):
            # ∂L/∂s_layer M_layer, for the parameters that feed this layer's state from below or within.
            terms = jax.tree.map(
                lambda cotangent, tree: jax.tree.map(lambda J: jnp.tensordot(cotangent, J, cotangent.ndim), tree),
                q.layers[layer],
                influence.layers[layer],
                is_leaf=lambda leaf: isinstance(leaf, jax.Array),
            )
            total = jax.tree.map(lambda *a: sum(a), *terms)
            own = {f"layer_{layer}", *(("W_in", "b_in") if layer == 0 else ())} & params.keys()
            grads = {name: jax.tree.map(jnp.add, g, total[name]) if name in own else g for name, g in grads.items()}
        want = jax.tree.map(jnp.add, want, grads)
    assert_close(found, want, "the gradient", bound=1e-12)
    exact = carried_second(problem, params, state, xs)
    assert_close(found["layer_2"], exact["layer_2"], "the gradient of the highest layer", bound=1e-12)
    with pytest.raises(Failed):
        assert_close(found["layer_0"], exact["layer_0"], "the gradient of the lowest layer", bound=1e-4)


def carried_second(problem, params, state, xs):
    """The gradient of the second window by `rtrl`."""
    estimate = quick_jit(sj.value_and_grad(problem, RTRL()))
    first = estimate(params, state, window_of(xs, 0))
    return estimate(params, first.state, window_of(xs, 1), memory=first.memory).grads


@pytest.mark.parametrize("strategy", [RTRL(), Layerwise(), SnAp(), RFLO(), UORO()], ids=repr)
@pytest.mark.parametrize("what", ["parameter", "state"])
def test_complex_numbers_are_refused(strategy, what):
    """What is carried has one number for the two parts of a derivative by a complex number."""
    w, s = jnp.array(0.5), jnp.zeros(B)
    w, s = (w.astype(complex), s) if what == "parameter" else (w, s.astype(complex))
    step = lambda w, s, x: (jnp.abs(w).astype(s.dtype) * s + x.astype(s.dtype), jnp.abs(s) ** 2)
    estimate = sj.value_and_grad(step, strategy)
    with pytest.raises(sj.Error, match=rf"the {what} .*is complex: keep it as two floats"):
        estimate(w, s, jnp.ones((T, B)), key=jax.random.key(0))


class OfModel(sj.Problem):
    """A problem of an author's own with a model inside, and a parameter beside those of the model."""

    def __init__(self, model):
        self.model = model
        super().__init__(self.run)

    def run(self, params, state, x):
        state, output = self.model.step(params["net"], state, params["gain"] * jax.nn.one_hot(x[0], V))
        return state, output[x[1]] ** 2


def test_the_parameters_of_an_own_problem_with_a_model_are_all_carried():
    of_gru, params, state, xs = of_model(GRU(hidden=3))
    case = OfModel(of_gru.model), {"net": params, "gain": jnp.array(1.5)}, state, xs
    for strategy in (RTRL(), SnAp(n=3)):
        assert_close(carried(case, strategy), whole(case), "the gradient", bound=1e-12)


METHODS = ("step", "step_in", "step_with", "init_state", "through_layers", "enter", "join", "_read", "_write")


@pytest.mark.parametrize("name", METHODS)
def test_an_overridden_method_of_a_layer_makes_everything_dense(name):
    """Such a method may use the parameters in other ways."""
    model = sj.create("model", "min-gru", hidden=3)
    base = type(model)
    if not hasattr(base, name):
        base, model = GRU, GRU(hidden=3)
    own = type("Own", (base,), {name: lambda self, *args, **fields: getattr(base, name)(self, *args, **fields)})
    assert _layers.layered(model.problem(TOKENS)) is model
    assert _layers.layered(own(hidden=3).problem(TOKENS)) is None


@pytest.mark.parametrize("name", ["lru", "min-gru"])
def test_parameters_in_bfloat16(name):
    """The gradient is that of float32 to a few digits, though the unroll of these models returns a state in float32."""
    problem = sj.create("model", name, hidden=3).problem(TOKENS)
    narrow = jax.tree.map(lambda a: a.astype(jnp.bfloat16), problem.init(jax.random.key(0)))
    wide = jax.tree.map(lambda a: a.astype(jnp.float32), narrow)
    xs = tuple(jnp.asarray(np.random.default_rng(0).integers(0, V, (2, WINDOWS * T, B))))

    def second(params):
        """The gradient of the second window."""
        state = problem.init_rows(params, B)
        memory = init_memory(RTRL(), problem, params, state, B)
        for number in range(2):
            rows = jnp.arange(B, dtype=jnp.int32)
            batch = Batch(window_of(xs, number), jnp.ones((T, B), jnp.float32), None, rows)
            found = RTRL()(problem, params, state, memory, batch)
            state, memory = found.state, found.memory
        return found.grads

    with jax.numpy_dtype_promotion("standard"):
        found, want = second(narrow), second(wide)
    assert {a.dtype for a in jax.tree.leaves(found)} == {jnp.dtype(jnp.bfloat16)}
    assert_close(jax.tree.map(lambda a: a.astype(jnp.float32), found), want, "the gradient", bound=0.05)


@pytest.mark.parametrize("strategy", [SnAp(), RFLO()], ids=repr)
def test_resets_inside_of_a_window_are_followed_densely(strategy):
    """The gradient is that of the two pieces. By units, a strategy does not know the problem whose steps are reset."""
    problem, params, state, xs = of_model(sj.create("model", "rnn", hidden=3))
    estimate = quick_jit(sj.value_and_grad(problem, strategy))
    xs, weights, reset = window_of(xs, 0), jnp.ones((T, B)), jnp.arange(T) == 2
    found = estimate(params, state, xs, weights=weights, reset=reset).grads

    before, later = (jax.tree.map(lambda a, cut=cut: a[cut], xs) for cut in (slice(2), slice(2, None)))
    first = estimate(params, state, before, weights=weights[:2]).grads
    second = estimate(params, problem.init_rows(params, B), later, weights=weights[2:]).grads
    assert_close(found, jax.tree.map(jnp.add, first, second), "the gradient", bound=1e-12)


def test_inputs_that_depend_on_the_parameters_are_refused():
    class Weighted(sj.Problem):
        def inputs(self, params, xs):
            return params * xs

    problem = Weighted(lambda w, s, x: (0.5 * s + x, s**2))
    batch = Batch(jnp.ones((T, B)), jnp.ones((T, B)), None, jnp.arange(B, dtype=jnp.int32))
    state, params = jnp.zeros(B), jnp.array(2.0)
    memory = init_memory(RTRL(), problem, params, state, B)
    with pytest.raises(sj.Error, match="does not differentiate what the steps read"):
        RTRL()(problem, params, state, memory, batch)
