"""`rtrl` and `layerwise` over windows with carried memory, against the gradient of the whole history."""

import functools
import itertools
from dataclasses import dataclass

import equinox.internal as eqxi
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.flatten_util import ravel_pytree
from support.influence import RESET, B, Rtrl, V, by_hand, follow, of_model, run, summary, windows, with_a_reset
from support.parts import derivatives

import seqjax as sj
from seqjax.gradients import (
    RFLO,
    RTRL,
    UORO,
    Batch,
    Layerwise,
    Part,
    SnAp,
    Structure,
    init_memory,
    leaf_names,
    structure_of,
)
from seqjax.gradients.contract.rows import reset_rows
from seqjax.models import RNN, MinGRU
from seqjax.testing.compare import assert_close, assert_far
from seqjax.testing.proofs.cases import Case
from seqjax.testing.quick_jit import quick_jit
from seqjax_gradients.influence import _carrying, _parts

pytestmark = pytest.mark.usefixtures("x64")

T = 5
"""The number of steps in a window, where the step is written here."""
TOKENS = sj.Spec(sj.Tokens(V))


@pytest.fixture(autouse=True)
def _several_blocks(monkeypatch):
    """Windows of four or five steps have blocks of two, or of three if the state has three numbers, and a rest of one.

    Where there is no rest, a window is two blocks.
    """
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
class Gain(RNN):
    """A parameter that feeds the state from outside of the layers."""

    def init(self, key, spec):
        return super().init(key, spec) | {"gain": jnp.array(1.5)}

    def enter(self, params, x, dtype):
        return params["gain"] * jax.nn.one_hot(x, V)


def of_step(step, params, state, oracle=None, xs=None):
    """A case of three windows of the same row, of which the second one starts in another state.

    Args:
        step: the step.
        params: its parameters.
        state: the state of the first row.
        oracle: the same step for the derivatives; None: the step itself.
        xs: what the steps read, leaves [3, T, B, ...]; None: random numbers.
    """
    rng = np.random.default_rng(1)
    xs = rng.normal(size=(3, T, B)) if xs is None else xs
    rows = jax.tree.map(lambda a: np.stack([a, a + 1 if np.asarray(a).dtype == int else 0.5 * a]), state)
    batches = windows(rng, [jax.tree.map(lambda a, w=w: a[w], xs) for w in range(3)], np.zeros((3, B), bool))
    c = Case(sj.Problem(step), params, rows, batches, oracle or step, None)
    return c, derivatives(c)


@functools.cache
def pendulum():
    """A driven pendulum by the midpoint rule, with a counter in its state."""

    def step(params, state, x):
        def slope(angle, speed):
            force = params["gain"] @ jnp.stack([x, jnp.ones_like(x)])
            return speed, -params["g"] * jnp.sin(angle) - params["friction"] * speed + force

        (angle, speed), count = state
        da, ds = slope(angle, speed)
        da, ds = slope(angle + 0.1 * da, speed + 0.1 * ds)
        state = (angle + 0.2 * da, speed + 0.2 * ds), count + 1
        return state, (1 + 0.1 * count.astype(x.dtype)) * (jnp.cos(state[0][0]) + params["readout"] * speed**2)

    params = {"g": np.array(2.0), "friction": np.array(0.3), "gain": np.array([0.5, 0.1]), "readout": np.array(0.7)}
    return of_step(step, params, ((0.4, -0.2), 0))


def switching():
    """A step that sees `vmap`: mapped over time, all steps would take the branch of one."""

    def step_with(decide, w, s, x):
        u, t = x
        s = jnp.where(decide(t % 3 == 1), jnp.sin(w[0] * s + u), w[1] * s)
        return s, s**2

    step, oracle = (functools.partial(step_with, decide) for decide in (eqxi.unvmap_any, lambda flag: flag))
    u = np.random.default_rng(1).normal(size=(3, T, B))
    t = np.broadcast_to(np.arange(3 * T).reshape(3, T, 1), u.shape)
    return of_step(step, np.array([0.9, 0.7]), 0.4, oracle, (u, t))


def flax_cell():
    model, params = sj.from_flax(nnx.GRUCell(in_features=1, hidden_features=2, rngs=nnx.Rngs(0)))
    problem, rng = model.problem(sj.Spec(sj.Values(1), sj.Values(2))), np.random.default_rng(2)
    params = jax.tree.map(lambda a: np.asarray(a, float), params)
    xs = [(rng.normal(size=(T, B, 1)), rng.normal(size=(T, B, 2))) for _ in range(3)]
    state = jax.tree.map(lambda a: np.asarray(a, float), problem.init_rows(params, B))
    c = Case(problem, params, state, windows(rng, xs, RESET), problem.step, problem.init_state)
    return c, derivatives(c)


def model_case(name, **fields):
    return pytest.param(lambda: of_model(sj.create("model", name, hidden=3, **fields), TOKENS), id=f"{name} {fields}")


QUICK = [model_case("rnn"), model_case("lru", embedding=2), pytest.param(switching, id="switching")]
SLOW = [
    *map(model_case, ("gru", "lstm", "lru", "rtu", "min-gru", "min-lstm", "ind-rnn", "ssm")),
    model_case("ssm", selective=True),
    model_case("lstm", embedding=2),
    model_case("min-gru", embedding=2, residual=True),
    model_case("lru", residual=True),
    model_case("ind-rnn", embedding=2, residual=True),
    *(model_case(name, layers=2) for name in ("ind-rnn", "gru")),
    *(pytest.param(lambda m=m: of_model(m(hidden=3), TOKENS), id=m.__name__) for m in (Shared, Scalar, Gain)),
    *(pytest.param(make, id=make.__name__) for make in (pendulum, flax_cell)),
]


@pytest.mark.parametrize("make", [*QUICK, *(pytest.param(*p.values, id=p.id, marks=pytest.mark.slow) for p in SLOW)])
def test_carried_windows_have_the_gradient_of_the_history(make):
    c, steps = make()
    assert_close(run(RTRL(), c), by_hand(c, steps, Rtrl), "rtrl", bound=1e-12)
    if getattr(getattr(c.problem, "model", None), "layers", 1) == 1:
        # The two strategies differ in their parts alone.
        known = structure_of(c.problem, c.params)
        assert Layerwise().parts(known) == RTRL().parts(known)


FAULTS = ("none", "M is not multiplied by J", "I of the last block is lost", "M is dropped")


def test_planted_faults_are_found(monkeypatch):
    """One program serves all faults, of which the argument chooses one."""
    c, steps = pendulum()
    after, plus_start, counter = Part.after, _carrying.plus_start, itertools.count()
    either = lambda flag, one, other: jax.tree.map(lambda a, b: jnp.where(flag, a, b), one, other)

    def planted(fault):
        def faulty_after(self, M, J, I):
            # The scan over whole blocks is traced once, and then the rest.
            lost = (fault == 2) & (next(counter) % 2 == 1)
            I = jax.tree.map(lambda a: jnp.where(lost, 0, a), I)
            return either(fault == 1, self.plus(M, I), after(self, M, J, I))

        def faulty_start(parts, M, start, params):
            return either(fault == 3, [part.zeros(params) for part in parts], plus_start(parts, M, start, params))

        monkeypatch.setattr(Part, "after", faulty_after)
        monkeypatch.setattr(_carrying, "plus_start", faulty_start)
        return follow(RTRL(), c.problem, c.params, c.state, c.windows)

    planted, want = quick_jit(planted), by_hand(c, steps, Rtrl)
    assert_close(summary(planted(0)), want, "no fault", bound=1e-12)
    for number, name in enumerate(FAULTS[1:], 1):
        assert_far(summary(planted(number)), want, name)


@pytest.mark.slow
def test_a_shared_parameter_that_is_kept_by_units_is_found(monkeypatch):
    monkeypatch.setattr(Shared, "shares", False)
    c, steps = of_model(Shared(hidden=3), TOKENS)
    # Compiled apart from the right one.
    found = quick_jit(lambda: follow(RTRL(), c.problem, c.params, c.state, c.windows))()
    assert_far(summary(found), by_hand(c, steps, Rtrl), "by units")


def test_a_row_that_is_reset_forgets():
    """Where a sequence starts, M is that of its initial state, which here depends on the parameters.

    A planted fault is found: a row that is reset keeps M.
    """

    def step(params, s, x):
        s = jnp.tanh(params["w"] * s + x)
        return s, s**2

    problem = sj.Problem(step, lambda params, key=None: jnp.sin(params["start"]))
    params = {"w": np.array(0.8), "start": np.array(0.3)}
    xs, rows = np.random.default_rng(0).normal(size=(3, T, B)), {}
    resets = np.array([[True, True], [False, True], [False, False]])

    @quick_jit
    def gradient(params, planted):
        def window(carry, inputs):
            (state, memory), (x, reset) = carry, inputs
            batch = Batch(x, jnp.ones((T, B)), reset, jnp.arange(B, dtype=jnp.int32))
            start, entering = reset_rows(RTRL(), problem, params, state, memory, reset)
            entering = jax.tree.map(lambda kept, new: jnp.where(planted, kept, new), memory, entering)
            found = RTRL().draw_and_estimate(problem, params, start, entering, batch)
            return (found.state, found.memory), found.grads

        start = jnp.zeros(B), init_memory(RTRL(), problem, params, jnp.zeros(B), B)
        return jax.tree.map(lambda a: a.sum(0), jax.lax.scan(window, start, (xs, resets))[1])

    total = np.zeros(2)
    for w, b in np.ndindex(3, B):
        if resets[w, b]:
            rows[b] = np.sin(params["start"]), np.array([0, np.cos(params["start"])])
        s, M = rows[b]
        for x in xs[w, :, b]:
            before, s = s, np.tanh(params["w"] * s + x)
            M = (1 - s**2) * (params["w"] * M + np.array([before, 0]))
            total += 2 * s * M
        rows[b] = s, M
    want = dict(zip(("w", "start"), total, strict=True))
    assert_close(gradient(params, False), want, "the gradient", bound=1e-12)
    assert_far(gradient(params, True), want, "M is kept at a reset")


@pytest.mark.parametrize("at", [0, 2])
def test_a_reset_inside_of_a_window_by_units(at):
    """The gradient is that of two windows, the second of which begins anew, and so is what is carried on."""
    c, _ = of_model(sj.create("model", "min-gru", hidden=3), TOKENS)
    assert_close(*with_a_reset(RTRL(), c, at), "min-gru", bound=1e-12)


def test_a_stack_by_units_or_dense_has_the_right_number_of_numbers():
    """M of `lru`: two numbers of a unit for each parameter; with an embedding, 6 for each of its entries."""

    def shapes(model):
        problem = model.problem(TOKENS)
        params = jax.eval_shape(problem.init, jax.random.key(0))
        first = lambda params: RTRL().init(problem, params, problem.init_state(params)).rows
        return sorted(a.shape for a in jax.tree.leaves(jax.eval_shape(first, params)))

    H = 3
    own = [(2, 1, H)] * 3
    assert shapes(sj.create("model", "lru", hidden=H)) == sorted([*own, (2, 2, H), (2, 2 * V, H)])
    embedded = sj.create("model", "lru", hidden=H, embedding=2)
    assert shapes(embedded) == sorted([*own, (2, 2, H), (2, 4, H), (2 * H, V, 2)])
    rnn = sj.create("model", "rnn", hidden=H)
    assert shapes(rnn) == sorted([(H, H), (H, H, H), (H, V, H)])
    residual = sj.create("model", "ind-rnn", hidden=H, embedding=2, residual=True)
    assert shapes(residual) == sorted([(1, 1, H), (1, 1, H), (1, H, H), (H, V, 2), (H, 2, H), *[(H, H)] * 3])
    layers = sj.create("model", "ind-rnn", hidden=H, layers=2)
    assert shapes(layers) == sorted([(2 * H, V, H), (2 * H, H, H), *[(2 * H, H)] * 4])
    assert shapes(Shared(hidden=H)) == sorted([(H, H), (H, H), (H, V, H)])
    assert shapes(Scalar(hidden=H)) == sorted([(H,), (1, 1, H), (1, V, H)])
    ssm = sj.create("model", "ssm", hidden=H, states=2)
    assert {shape[0] for shape in shapes(ssm)} == {4}


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("ind-rnn", {"layers": 2}),
        pytest.param("ind-rnn", {"layers": 2, "embedding": 2, "residual": True}, marks=pytest.mark.slow),
        *(pytest.param(name, {"layers": 3}, marks=pytest.mark.slow) for name in ("rnn", "lstm", "lru", "min-gru")),
        *(pytest.param(name, {"layers": 3, "residual": True}, marks=pytest.mark.slow) for name in ("lru", "min-gru")),
    ],
    ids=repr,
)
def test_layerwise_loses_what_a_layer_did_to_higher_states_before_the_window(name, fields):
    """It is the gradient of the history without ∂L/∂s_j ds_j/dθ_i for j > i, with the state s_j before the window."""
    c, steps = of_model(sj.create("model", name, hidden=3, **fields), TOKENS)
    layers = c.problem.model.layers
    names = [name.split(".")[0] for name, a in leaf_names(c.params, "params") for _ in range(a.size)]
    # The parameters that feed the state of a layer from below or within, and the numbers of this state.
    below = [("layer_0", "E", "W_in", "b_in"), *((f"layer_{layer}",) for layer in range(1, layers))]
    feed = np.array([[name in fed for name in names] for fed in below])
    of_state = np.repeat(np.eye(layers, dtype=bool), len(steps[0].J[0, 0]) // layers, axis=1)
    own = of_state.T @ feed

    class Lost(Rtrl):
        true = 0.0

        def begin(self, I):
            self.true = self.true + I
            self.M = np.where(own, self.true, 0)

        def advance(self, J, I):
            super().advance(J, I)
            self.true = J @ self.true + I

    want, exact = by_hand(c, steps, Lost), by_hand(c, steps, Rtrl)
    assert_close(run(Layerwise(), c), want, "layerwise", bound=1e-12)
    (_, last, _), (_, true, _) = want[-1], exact[-1]
    assert_close(last[feed[-1]], true[feed[-1]], "the gradient of the highest layer", bound=1e-12)
    assert_far(last[feed[0]], true[feed[0]], "the gradient of the lowest layer", at_least=1e-4)


@pytest.mark.parametrize("strategy", [RTRL(), Layerwise(), SnAp(), RFLO(), UORO()], ids=repr)
@pytest.mark.parametrize("what", ["parameter", "state"])
def test_complex_numbers_are_refused(strategy, what):
    """What is carried has one number for the two parts of a derivative by a complex number."""
    w, s = np.array(0.5), np.zeros(B)
    w, s = (w.astype(complex), s) if what == "parameter" else (w, s.astype(complex))
    step = lambda w, s, x: (jnp.abs(w).astype(s.dtype) * s + x.astype(s.dtype), jnp.abs(s) ** 2)
    estimate = sj.estimate(step, strategy, batched=True)
    with pytest.raises(sj.Error, match=rf"the {what} .*is complex: keep it as two floats"):
        estimate(w, s, np.ones((T, B)), key=jax.random.key(0))


def with_gain(problem):
    """A problem of an author's own with the step of a model inside, and a parameter beside those of the model."""

    def step(params, state, x):
        state, output = problem.model.step(params["net"], state, params["gain"] * jax.nn.one_hot(x[0], V))
        return state, output[x[1]] ** 2

    return problem.changed(step=step, init_state=None)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", [RTRL(), SnAp(n=3)], ids=repr)
def test_the_parameters_of_an_own_problem_with_a_model_are_all_carried(strategy):
    of_rnn, _ = of_model(RNN(hidden=3), TOKENS)
    problem = with_gain(of_rnn.problem)
    c = Case(problem, {"net": of_rnn.params, "gain": np.array(1.5)}, *of_rnn[2:4], problem.step, None)
    assert_close(run(strategy, c), by_hand(c, derivatives(c), Rtrl), "the gradient", bound=1e-12)


def test_the_structure_of_a_layer():
    """The parts of M by name; the read-out acts on no state."""
    params = RNN(hidden=3, layers=2).init(jax.random.key(0), TOKENS)
    known = structure_of(RNN(hidden=3, layers=2).problem(TOKENS), params)
    of_layer = lambda n: frozenset(f"layer_{n}.{name}" for name in ("W_xh", "W_hh", "b_h"))
    assert known == Structure([Part(of_layer(0) | of_layer(1), 0, 6)], [Part(of_layer(n), 3 * n, 3) for n in (0, 1)])


def test_a_learned_initial_state_makes_everything_dense():
    """It may act on all units."""

    @dataclass(frozen=True)
    class Learned(MinGRU):
        def init_state(self, params, spec, key=None):
            state = super().init_state(params, spec, key)
            return jax.tree.map(lambda a: a + params["layer_0"]["b_h"].sum(), state)

    params = MinGRU(hidden=3).init(jax.random.key(0), TOKENS)
    assert structure_of(MinGRU(hidden=3).problem(TOKENS), params).units is not None
    assert structure_of(Learned(hidden=3).problem(TOKENS), params) == Structure()


def test_a_problem_of_an_authors_own_makes_everything_dense():
    problem = with_gain(RNN(hidden=3).problem(TOKENS))
    assert structure_of(problem, {"gain": jnp.array(1.5)}) == Structure()


@pytest.mark.parametrize("traced", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["min-gru", pytest.param("lru", marks=pytest.mark.slow)])
def test_parameters_in_bfloat16(name, traced):
    """The gradient is right to a few digits, though the unroll of these models returns a state in float32.

    If it is traced alone, that shows that each loop leads from one dtype to the same.
    """
    c, _ = of_model(sj.create("model", name, hidden=3), TOKENS)
    narrow = jax.tree.map(lambda a: np.asarray(a).astype(jnp.bfloat16), (c.params, c.state))

    def second(params, state):
        """The gradient of the second window."""
        memory = init_memory(RTRL(), c.problem, params, state, B)
        for batch in c.windows[:2]:
            e = RTRL()(c.problem, params, state, memory, batch._replace(weights=batch.weights.astype(jnp.float32)))
            state, memory = e.state, e.memory
        return e.grads

    with jax.numpy_dtype_promotion("standard"):
        found = jax.eval_shape(second, *narrow) if traced else quick_jit(second)(*narrow)
    assert {a.dtype for a in jax.tree.leaves(found)} == {jnp.dtype(jnp.bfloat16)}
    if not traced:
        params, state = jax.tree.map(lambda a: a.astype(float), narrow)
        wide = c._replace(params=params, state=state)
        want = ravel_pytree(params)[1](by_hand(wide, derivatives(wide), Rtrl)[1][1])
        assert_close(found, want, "the gradient", bound=0.05)


@pytest.mark.parametrize("strategy", [SnAp(), pytest.param(RFLO(), marks=pytest.mark.slow)], ids=repr)
def test_resets_inside_of_a_window_begin_anew_by_units(strategy):
    """The gradient is the sum of the gradients of the two pieces."""
    c, _ = of_model(RNN(hidden=3), TOKENS)
    xs, weights = c.windows[0][:2]
    estimate = quick_jit(
        lambda *args, **options: sj.estimate(c.problem, strategy, batched=True)(*args, **options).grads
    )
    found = estimate(c.params, c.state, xs, weights=weights, reset=np.arange(len(weights)) == 2)

    xs, weights = jax.tree.map(np.asarray, (xs, weights))
    # Steps of weight 0 fill up the pieces, so that one program serves both.
    first, initial = (np.arange(len(weights)) < 2)[:, None], jax.tree.map(np.zeros_like, c.state)
    before = estimate(c.params, c.state, xs, weights=weights * first)
    rolled = jax.tree.map(lambda a: np.roll(a, -2, 0), (xs, weights * ~first))
    later = estimate(c.params, initial, rolled[0], weights=rolled[1])
    assert_close(found, jax.tree.map(np.add, before, later), "the gradient", bound=1e-12)


def test_inputs_that_depend_on_the_parameters_are_refused():
    problem = sj.Problem(lambda w, s, x: (0.5 * s + x, s**2), inputs=lambda params, xs: params * xs)
    batch = Batch(jnp.ones((T, B)), jnp.ones((T, B)), None, jnp.arange(B, dtype=jnp.int32))
    state, params = jnp.zeros(B), jnp.array(2.0)
    memory = init_memory(RTRL(), problem, params, state, B)
    with pytest.raises(sj.Error, match="does not differentiate what the steps read"):
        RTRL()(problem, params, state, memory, batch)
