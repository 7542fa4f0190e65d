"""Equinox's cells and modules as models, against Python loops over the modules and Equinox's own gradients."""

import functools
import sys
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.shell import run

import seqjax
from seqjax import Error, Experiment, Problem, Series, Spec, Tokens, Values, estimate, from_equinox, train
from seqjax.data import Stream
from seqjax.gradients import Full
from seqjax.models import unroll_model
from seqjax.optimizers import SGD
from seqjax.samplers import Sequential
from seqjax.testing.compare import assert_close
from seqjax.testing.quick_jit import quick_jit

HIDDEN, T, B = 4, 3, 2
TOKENS = Spec(Tokens(5))
VALUES = Spec(Values(3))
ORDER = (2, 0, 4, 1, 3)
CELLS = {"GRUCell": eqx.nn.GRUCell, "LSTMCell": eqx.nn.LSTMCell}


class Net(eqx.Module):
    """A cell with an embedding and a read-out, as a user of Equinox writes it, with leaves that are not parameters."""

    embed: eqx.nn.Embedding
    cell: eqx.nn.GRUCell
    out: eqx.nn.Linear
    order: jax.Array
    activation: Callable
    slope: float
    name: str = eqx.field(static=True)

    def __init__(self, key, order=ORDER, slope=0.5, name="net", size=5):
        keys = jax.random.split(key, 3)
        self.embed = eqx.nn.Embedding(size, 3, key=keys[0])
        self.cell = eqx.nn.GRUCell(3, HIDDEN, key=keys[1])
        self.out = eqx.nn.Linear(HIDDEN, size, key=keys[2])
        self.order, self.activation, self.slope, self.name = jnp.asarray(order), jax.nn.leaky_relu, slope, name

    def init_state(self):
        return {"h": jnp.full(HIDDEN, 0.5), "seen": jnp.zeros((), jnp.int32)}

    def __call__(self, state, x):
        h = self.cell(self.embed(self.order[x]), state["h"])
        output = self.out(self.activation(h, self.slope))
        return {"h": h, "seen": state["seen"] + 1}, output


def made(cls, *args, seed=0, **fields):
    """A module with random weights, which no compiled program has drawn."""
    rng = np.random.default_rng(seed)

    def fill(leaf):
        if not isinstance(leaf, jax.ShapeDtypeStruct):
            return leaf
        is_float = jnp.issubdtype(leaf.dtype, jnp.inexact)
        return jnp.asarray(rng.normal(size=leaf.shape) if is_float else fields.get("order", ORDER), leaf.dtype)

    return jax.tree.map(fill, eqx.filter_eval_shape(lambda key: cls(*args, key=key, **fields), jax.random.key(0)))


def ids(*shape, seed=1):
    return np.random.default_rng(seed).integers(0, 5, shape).astype(np.int32)


def init_rows(model, params, spec, rows=B, key=None):
    """The initial states of some rows."""
    keys = None if key is None else jax.random.split(key, rows)
    return quick_jit(jax.vmap(functools.partial(model.init_state, params, spec), axis_size=rows))(keys)


@eqx.filter_jit
def loop(module, state, xs):
    """The outputs of a module that is called step after step with one sequence."""
    outputs = []
    for x in xs:
        state, output = module(state, x)
        outputs.append(output)
    return state, jnp.stack(outputs)


@pytest.mark.parametrize("cell", CELLS)
def test_a_cell_is_equinoxs_own_in_a_loop(x64, cell):
    module = made(CELLS[cell], 3, HIDDEN)
    model, params = from_equinox(module)
    xs = np.random.default_rng(1).normal(size=(T, B, 3))
    start = init_rows(model, params, VALUES)
    new, outputs = jax.tree.map(np.asarray, quick_jit(functools.partial(unroll_model, model))(params, start, xs))
    step, zeros = eqx.filter_jit(module), np.zeros(HIDDEN)
    for row in range(B):
        state = zeros if cell == "GRUCell" else (zeros, zeros)
        for t in range(T):
            state = step(xs[t, row], state)
            assert_close(outputs[t, row], state if cell == "GRUCell" else state[0], "an output")
        assert_close(jax.tree.map(lambda a, row=row: a[row], new), state, "the last state")


def test_the_parameters_are_the_float_arrays_of_the_module():
    module = made(Net)
    _, params = from_equinox(module)
    assert type(params) is Net
    assert params.order is params.activation is params.slope is None
    to_numpy = lambda tree: jax.tree.map(lambda leaf: np.asarray(leaf) if eqx.is_array(leaf) else leaf, tree)
    assert eqx.tree_equal(*map(to_numpy, (params, eqx.filter(module, eqx.is_inexact_array))))
    assert eqx.tree_equal(*map(to_numpy, (eqx.combine(params, module), module)))


def test_gradients_and_states_of_a_users_module_are_equinoxs_own(x64):
    """It is called with one sequence."""
    module = made(Net)
    model, params = from_equinox(module)
    problem, tokens = Problem.of(model, TOKENS), ids(T + 1, B)

    @eqx.filter_jit
    @functools.partial(eqx.filter_value_and_grad, has_aux=True)
    def whole(module):
        def row(tokens):
            state, logits = loop(module, module.init_state(), tokens[:-1])
            return -jax.nn.log_softmax(logits)[jnp.arange(T), tokens[1:]].mean(), state

        losses, states = jax.vmap(row, 1)(jnp.asarray(tokens))
        return losses.mean(), states

    start = init_rows(model, params, TOKENS)
    found = quick_jit(estimate(problem, Full(), batched=True))(params, start, (tokens[:-1], tokens[1:]))
    assert_close(((found.loss, found.state), found.grads), whole(module), "the loss, the states and the gradient")


def test_equal_modules_make_equal_models_so_that_jit_traces_them_once():
    def model(seed=0, **fields):
        return from_equinox(made(Net, seed=seed, **fields))[0]

    assert model() == model(1)
    assert hash(model()) == hash(model(1))
    others = [model(order=(0, 1, 2, 3, 4)), model(slope=0.25), model(name="other")]
    assert all(model() != other for other in others)


@pytest.mark.slow
def test_a_module_trains_and_the_trained_module_is_had_back(x64):
    module, tokens = Net(jax.random.key(0)), np.tile(np.arange(5), 60)
    model, params = from_equinox(module)
    problem, stream = Problem.of(model, TOKENS), Stream(tokens[:-1], tokens[1:], np.array([0, len(tokens) - 1]))
    setup = {"sampler": Sequential(4, 6), "gradient": Full(), "optimizer": SGD(learning_rate=1.0), "epochs": 4}
    *_, (state, _) = train(problem, stream, params=params, **setup)
    trained = eqx.combine(state.params, module)
    _, logits = eqx.filter_jit(loop)(trained, trained.init_state(), jnp.asarray(tokens[:50], jnp.int32))
    losses = -jax.nn.log_softmax(logits)[np.arange(50), tokens[1:51]]
    part = Stream(tokens[:50], tokens[1:51], np.array([0, 50]))
    assert seqjax.evaluate(problem, state.params, part)["loss"] == pytest.approx(float(losses.mean()), rel=1e-10)
    assert losses.mean() < 0.5 * seqjax.evaluate(problem, params, part)["loss"]


class Noisy(eqx.Module):
    """A cell with dropout, which keeps a key in its state."""

    cell: eqx.nn.GRUCell
    dropout: eqx.nn.Dropout

    def __init__(self, key):
        self.cell, self.dropout = eqx.nn.GRUCell(3, 3, key=key), eqx.nn.Dropout(0.5)

    def init_state(self, key=None):
        return jnp.zeros(3), key

    def __call__(self, state, x):
        h, key = state
        h = self.cell(x, h)
        now = None
        if key is not None:
            key, now = jax.random.split(key)
        return (h, key), self.dropout(h, key=now, inference=now is None)


def test_dropout_draws_from_a_rows_key_and_is_off_without_one(x64):
    module = made(Noisy)
    model, params = from_equinox(module)
    assert len(jax.tree.leaves(params)) == 4, "the probability of dropout is no parameter"
    xs, run = np.ones((T, 200, 3)), quick_jit(functools.partial(unroll_model, model))
    noisy, calm = init_rows(model, params, VALUES, 200, jax.random.key(1)), init_rows(model, params, VALUES, 200)
    outputs, quiet = (np.asarray(run(params, state, xs)[1]) for state in (noisy, calm))
    _, expected = loop(module, module.init_state(), xs[:, 0])
    assert_close(quiet[:, 7], expected, "without dropout")
    dropped = outputs == 0
    np.testing.assert_allclose(outputs, np.where(dropped, 0, 2 * quiet), rtol=1e-12)
    assert 0.4 < dropped.mean() < 0.6
    assert (dropped[0] != dropped[1]).any(), "a later step draws another mask"
    assert (dropped[:, 0] != dropped[:, 1]).any(), "rows draw their own masks"


class Learned(eqx.nn.GRUCell):
    """A cell whose initial state is a parameter."""

    start: jax.Array

    def __init__(self, *, key):
        super().__init__(3, 3, key=key)
        self.start = jnp.full(3, 0.3)

    def init_state(self):
        return self.start


def test_an_initial_state_may_be_learned(x64):
    module = made(Learned)
    model, params = from_equinox(module)
    np.testing.assert_array_equal(model.init_state(params, VALUES), module.start)
    x = np.arange(3.0)

    @quick_jit
    def grads(params, start):
        found = jax.grad(lambda p: model.step(p, model.init_state(p, VALUES), x)[1].sum())(params).start
        return found, jax.grad(lambda h: module(x, h).sum())(start)

    assert_close(*grads(params, module.start), "gradient")


class Keyed(eqx.Module):
    """A module that holds a random key."""

    key: jax.Array

    def init_state(self):
        return jnp.zeros(3)


def test_modules_that_cannot_be_models_are_errors():
    with pytest.raises(Error, match=r"from_equinox takes a module, such as .*, not <class 'equinox.nn._rnn.GRUCell'>"):
        from_equinox(eqx.nn.GRUCell)
    with pytest.raises(Error, match=r"Linear has no init_state\(\): pass eqx.nn.GRUCell or eqx.nn.LSTMCell, or give"):
        from_equinox(made(eqx.nn.Linear, 2, 3))
    with pytest.raises(Error, match=r"Keyed holds a random key: keep it in the state"):
        from_equinox(Keyed(jax.random.key(0)))
    with pytest.raises(Error, match=r"Net holds an object that is not hashable \(.*set.*\): declare it as eqx.field"):
        from_equinox(made(Net, slope={0.5}))
    models = [from_equinox(made(Net, name={"net"}))[0] for _ in range(2)]  # such a field
    assert hash(models[0]) == hash(models[1])


def test_a_cell_names_the_inputs_that_it_cannot_read():
    model, params = from_equinox(made(eqx.nn.GRUCell, 3, 5))
    for spec in (TOKENS, Spec(Values(2))):
        with pytest.raises(Error, match=r"GRUCell reads Values\(3\), but the inputs are (Tokens\(|Values\(dim=2)"):
            model.init_state(params, spec)


class Stateless(eqx.Module):
    """A module that is called as a cell is."""

    def init_state(self):
        return jnp.zeros(3)

    def __call__(self, state, x):
        return state + x


def test_a_module_that_returns_the_state_alone_is_an_error():
    model, params = from_equinox(Stateless())
    with pytest.raises(Error, match=r"Stateless\(state, x\) must return \(state, output\), not .*float32\[3\]"):
        jax.eval_shape(model.step, params, jnp.zeros(3), jnp.zeros(3))


def test_without_equinox_an_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "equinox", None)
    with pytest.raises(Error, match=r"needs Equinox, which is not installed\. Type: pip install equinox"):
        from_equinox(object())


def test_asking_for_the_function_or_choosing_a_cell_imports_no_library_of_modules(tmp_path):
    code = "import sys, seqjax; from seqjax.models import FlaxCell; seqjax.from_equinox; FlaxCell(cell='LSTMCell')\n"
    code += "assert 'jax' in sys.modules; assert not {'equinox', 'flax'} & {*sys.modules}"
    done = run([sys.executable, "-c", code], cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_an_experiment_says_how_else_an_equinox_module_is_trained_and_used():
    model, _ = from_equinox(made(eqx.nn.GRUCell, 1, 1))
    with pytest.raises(Error, match="cannot make initial parameters") as caught:
        Experiment(dataset=Series(np.sin(np.arange(60.0))), model=model, sampler=Sequential(2, 8)).run()
    for call in (".run(params=params)", "seqjax.train("):
        assert call in str(caught.value)
