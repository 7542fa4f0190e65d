"""RTRL, SnAp and RFLO from their definitions, and against each other's way to store M."""

import functools
import itertools
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.cells import MGU, PeepholeLSTM
from support.influence import B, H, Rtrl, T, V, by_hand, of_model, run, windows
from support.parts import derivatives

import seqjax
from seqjax import Cell, Model, Problem, Spec, Tokens, Values
from seqjax.gradients import RFLO, RTRL, SnAp, init_memory, structure_of
from seqjax.models import GRU, LSTM, RNN
from seqjax.testing.compare import assert_close
from seqjax.testing.proofs.cases import Case
from seqjax_gradients.influence import _reached

pytestmark = pytest.mark.usefixtures("x64")

TOKENS, VALUES = Spec(Tokens(V)), Spec(Values(2))


@dataclass(frozen=True)
class Whole(Model):
    """The same model, without the knowledge that its parameters feed one unit each."""

    inner: Cell

    def init(self, key, spec):
        return self.inner.init(key, spec)

    def init_state(self, params, spec, key=None):
        return self.inner.init_state(params, spec, key)

    def step(self, params, state, x):
        return self.inner.step(params, state, x)


class Late(NamedTuple):
    """A state of two leaves."""

    h: Any
    m: Any


@dataclass(frozen=True)
class LateReach(Cell):
    """A parameter reaches m directly only at steps with u > 1, and else one step later, through h."""

    blocks = 2
    State = Late

    def cell(self, u, v, state):
        (u_h, u_m), (v_h, v_m) = jnp.split(u, 2, -1), jnp.split(v, 2, -1)
        new = jnp.tanh(u_h + v_h) + 0.3 * state.m
        return Late(new, 0.5 * state.m + state.h + jax.nn.relu(u_h - 1) * jnp.cos(u_m + v_m))


OWN = {"mgu": MGU, "peephole": PeepholeLSTM, "late": LateReach}


def make(name, **fields):
    return OWN[name](hidden=H, **fields) if name in OWN else seqjax.create("model", name, hidden=H, **fields)


@functools.cache
def chain():
    """Four units, each of which reads the previous one: with each step a parameter reaches one more unit."""

    def step(params, state, x):
        read = jnp.concatenate([jnp.zeros(1), state["h"][:-1]])
        h = jnp.tanh(params["a"] * state["h"] + params["b"] * read + params["c"] * x)
        return {"h": h, "n": state["n"] + 1}, jnp.sum(h * h) + h[-1]

    rng = np.random.default_rng(1)
    params = {name: rng.normal(size=4) for name in "abc"}
    state = {"h": rng.normal(size=(B, 4)), "n": np.zeros(B, np.int32)}
    batches = windows(rng, rng.normal(size=(3, T, B)), np.zeros((3, B), bool))
    c = Case(Problem(step), params, state, batches, step, None)
    return c, derivatives(c)


class Rflo(Rtrl):
    """The same with (1 - leak) in place of J_t."""

    leak = 0.3

    def advance(self, J, I):
        self.M = (1 - self.leak) * self.M + I


def snap(order):
    """RTRL with a mask: what is reached within `order` steps, from all J and I so far."""

    class Masked(Rtrl):
        seen, joined = 0, 0

        def begin(self, I):
            self.M, self.seen = self.M + I, np.maximum(self.seen, I != 0)

        def advance(self, J, I):
            self.seen, self.joined = np.maximum(self.seen, I != 0), np.maximum(self.joined, J != 0)
            hops = [np.linalg.matrix_power(self.joined, k) @ self.seen for k in range(order)]
            self.M = np.where(sum(hops) > 0, J @ self.M + I, 0)

    return Masked


MODELS = {"rnn": TOKENS, "gru": VALUES, "lstm": TOKENS, "lru": TOKENS, "min-gru": VALUES} | dict.fromkeys(OWN, TOKENS)
RULES = {"snap": (SnAp(), snap(1)), "rflo": (RFLO(leak=0.3), Rflo)}
QUICK = {("late", "snap"), ("late", "rflo")}


@pytest.mark.parametrize(
    ("name", "rule"),
    [pytest.param(*each, marks=[pytest.mark.slow] * (each not in QUICK)) for each in itertools.product(MODELS, RULES)],
)
def test_stored_by_units_it_is_the_dense_definition(name, rule):
    (c, steps), (strategy, influence) = of_model(make(name), MODELS[name]), RULES[rule]
    assert_close(run(strategy, c), by_hand(c, steps, influence), name)
    numbers = [a.size for a in jax.tree.leaves(rows_of(strategy, c)) if a.dtype == float]  # and not the mask
    assert sum(numbers) == B * len(c.state.layers[0]) * sum(a.size for a in jax.tree.leaves(c.params["layer_0"]))


def rows_of(strategy, c):
    """The shapes of what rows carry."""
    init = functools.partial(init_memory, strategy, c.problem)
    return jax.eval_shape(lambda params, state: init(params, state, B).rows, c.params, c.state)


@pytest.mark.parametrize("fields", [{"embedding": 2}, {"layers": 2}], ids=repr)
def test_networks_whose_parameters_feed_many_units_do_not_fit(fields):
    assert not has_units(make("rnn", **fields))
    assert not has_units(Whole(make("rnn")))
    assert not has_units(make("lru", **fields))


def test_elementwise_networks_whose_parameters_feed_many_units_do_not_fit():
    assert has_units(make("lru"))
    for model in (make("lru", residual=True), make("ssm"), make("ssm", selective=True)):
        assert not has_units(model)


def has_units(model):
    """Whether it is known that each parameter of a model feeds one unit."""
    return structure_of(model.problem(TOKENS), params_of(model, TOKENS)).units is not None


def params_of(model, spec):
    """The shapes of the parameters of a model."""
    return jax.eval_shape(lambda: model.init(jax.random.key(0), spec))


@pytest.mark.parametrize(("name", "n"), [("ind-rnn", 1), pytest.param("lru", 2, marks=pytest.mark.slow)])
def test_where_units_do_not_act_on_each_other_snap_is_rtrl(name, n):
    """Within two steps a parameter reaches both numbers of a complex unit."""
    c, steps = of_model(make(name), TOKENS)
    assert_close(run(SnAp(n=n), c), by_hand(c, steps, Rtrl), name)


@pytest.mark.parametrize(
    ("strategy", "influence"),
    [
        (SnAp(n=2), snap(2)),
        pytest.param(RFLO(leak=0.3), Rflo, marks=pytest.mark.slow),
        *(pytest.param(SnAp(n=n), snap(n), marks=pytest.mark.slow) for n in (1, 3)),
        *(pytest.param(each, Rtrl, marks=pytest.mark.slow) for each in (RTRL(), SnAp(n=4), SnAp(n=10**9))),
    ],
    ids=repr,
)
def test_the_dense_matrix_is_that_of_the_definition(strategy, influence):
    """On a chain of four units SnAp-4 is RTRL."""
    assert_close(run(strategy, chain()[0]), by_hand(*chain(), influence), repr(strategy))


@dataclass(frozen=True)
class Linked(Cell):
    """Units of two blocks with a parameter of their own, which read the units that are listed."""

    blocks = 2
    reads = ((1,), (2, 4), (), (0, 3, 4, 5), (0,), (3, 5))
    """For each unit the units that it reads. Units 0, 1, 2 and 4 do not read themselves, and unit 2 reads nothing."""

    def recurrent_mask(self, layer):
        mask = np.zeros((self.hidden, self.hidden), bool)
        for unit, read in enumerate(self.reads):
            mask[list(read), unit] = True
        return mask

    def init_cell(self, key):
        return {"w": jax.random.normal(key, (2, self.hidden))}

    def cell(self, u, v, state, w):
        (u_f, u_n), (v_f, v_n) = jnp.split(u, 2, -1), jnp.split(v, 2, -1)
        f = jax.nn.sigmoid(u_f + v_f + w[0] * state.h)
        return self.State(f * state.h + (1 - f) * jnp.tanh(u_n + f * v_n + w[1]))


SPARSE = {"rnn": RNN(hidden=6, density=0.3), "gru": GRU(hidden=6, density=0.3, dropout=0.2), "own": Linked(hidden=6)}
SPARSE_SPECS = {"rnn": TOKENS, "gru": VALUES, "own": TOKENS}


def within(model, n):
    """For each unit the units that it reaches within n - 1 steps, one step after the other."""
    mask, found = model.recurrent_mask(0), []
    for unit in range(model.hidden):
        reached = {unit}
        for _ in range(n - 1):
            reached |= {j for i in reached for j in range(model.hidden) if mask[i, j]}
        found.append(reached)
    return found


@pytest.mark.parametrize(
    ("name", "n"),
    [
        pytest.param(name, n, marks=[pytest.mark.slow] * ((name, n) != ("own", 3)))
        for name, n in (*itertools.product(SPARSE, (2, 3)), ("own", 4))
    ],
)
def test_of_a_sparse_cell_the_blocks_are_the_dense_definition(name, n):
    model, spec = SPARSE[name], SPARSE_SPECS[name]
    c, steps = of_model(model, spec)
    assert_close(run(SnAp(n=n), c), by_hand(c, steps, snap(n)), name, bound=1e-12)
    hidden, layer = model.hidden, {key: a for key, a in c.params["layer_0"].items() if key != "W_hh"}
    in_use = model.blocks * model.recurrent_mask(0).sum(0).max()
    of_unit = sum(a.size for a in jax.tree.leaves(layer)) // hidden + in_use
    assert rows_of(SnAp(n=n), c).shape == (B, hidden, max(map(len, within(model, n))), of_unit)


@pytest.mark.parametrize("name", SPARSE)
@pytest.mark.parametrize("n", [1, 2, 3, 10**9])
def test_a_unit_keeps_those_that_it_reaches_soon(name, n):
    model = SPARSE[name]
    which, mask = _reached.pattern(model, n), model.recurrent_mask(0)
    for unit, reached in enumerate(within(model, min(n, 7))):
        assert which.reached[unit, 0] == unit
        kept = which.reached[unit][which.is_reached[unit]].tolist()
        assert sorted(kept) == sorted(reached)
        assert which.read[unit][which.is_read[unit]].tolist() == np.flatnonzero(mask[:, unit]).tolist()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "influence"),
    [(SnAp(), snap(1)), (SnAp(n=10**9), Rtrl), (RTRL(), Rtrl), (RFLO(leak=0.3), Rflo)],
    ids=repr,
)
def test_what_follows_other_units_or_none_is_right_for_a_sparse_cell(strategy, influence):
    """`Linked` has a unit that reads nothing, and two cycles."""
    c, steps = of_model(SPARSE["own"], TOKENS)
    assert_close(run(strategy, c), by_hand(c, steps, influence), repr(strategy), bound=1e-12)


@pytest.mark.slow
def test_two_sparse_layers_have_the_dense_matrix():
    c, steps = of_model(RNN(hidden=4, layers=2, density=0.4), TOKENS)
    assert_close(run(SnAp(n=2), c), by_hand(c, steps, snap(2)), "two layers")


@pytest.mark.parametrize(
    "model",
    [
        RNN(hidden=4),
        LSTM(hidden=4, density=0.4),
        *(GRU(hidden=4, density=0.4, **f) for f in ({"layers": 2}, {"embedding": 2}, {"recurrent_dropout": 0.5})),
        Whole(RNN(hidden=4, density=0.4)),
        seqjax.create("model", "lru", hidden=4),
    ],
    ids=repr,
)
def test_where_the_reach_is_not_known_beforehand_the_matrix_is_dense(model):
    assert _reached.sparse_cell(Problem.of(model, TOKENS), params_of(model, TOKENS)) is None


def test_where_the_reach_is_known_it_is_used():
    for name, model in SPARSE.items():
        spec = SPARSE_SPECS[name]
        assert _reached.sparse_cell(Problem.of(model, spec), params_of(model, spec)) is model
