"""Flax's cells and modules as models, against Flax itself and against our own cells with the same weights."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from seqjax import Error, Problem, Spec, Tokens, Values, create, from_flax, train
from seqjax.data import Stream
from seqjax.gradients import Full
from seqjax.models import FlaxCell, unroll_model
from seqjax.models.check import check_model
from seqjax.optimizers import SGD
from seqjax.samplers import Sequential
from seqjax.testing.compare import assert_close
from seqjax.testing.quick_jit import quick_jit

HIDDEN, T, B = 4, 3, 2
TOKENS = Spec(Tokens(5))
VALUES = Spec(Values(3))
SPECS = pytest.mark.parametrize(
    "spec", [TOKENS, pytest.param(VALUES, marks=pytest.mark.slow)], ids=["tokens", "values"]
)
NAMES = ("SimpleCell", "GRUCell", "LSTMCell", "OptimizedLSTMCell")
CELLS = pytest.mark.parametrize(
    "cell", [pytest.param(n, marks=[pytest.mark.slow] * (n in ("SimpleCell", "OptimizedLSTMCell"))) for n in NAMES]
)


def randomize(tree, *axes):
    """A tree of random arrays, with additional leading axes."""
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda a: rng.normal(size=(*axes, *a.shape)).astype(a.dtype), tree)


def inputs(spec, *shape):
    rng = np.random.default_rng(1)
    if isinstance(spec.inputs, Tokens):
        return rng.integers(0, spec.inputs.size, shape).astype(np.int32)
    return rng.normal(size=(*shape, spec.inputs.dim))


def make(cell, spec):
    """A model, random weights and a random state, and inputs xs [T, B, ...]."""
    model = FlaxCell(cell=cell, hidden=HIDDEN)
    params = randomize(jax.eval_shape(lambda key: model.init(key, spec), jax.random.key(0)))
    return model, params, randomize(jax.eval_shape(lambda p: model.init_state(p, spec), params), B), inputs(spec, T, B)


@SPECS
@CELLS
def test_a_cell_is_flaxs_own_in_a_loop(x64, cell, spec):
    model, params, state, xs = make(cell, spec)

    @quick_jit
    def both(params, state, xs):
        module = getattr(nnx, cell)(spec.inputs.width, HIDDEN, dtype=float, param_dtype=float, rngs=nnx.Rngs(0))
        nnx.update(module, params["cell"])
        carry, expected = state.carry, []
        for x in jax.nn.one_hot(xs, spec.inputs.width, dtype=float) if spec is TOKENS else xs:
            carry, h = module(carry, x)
            expected.append(h @ params["W_hq"] + params["b_q"])
        new, outputs = unroll_model(model, params, state, xs)
        _, output = model.step(params, jax.tree.map(lambda a: a[0], state), xs[0, 0])
        return (new.carry, outputs, output), (carry, jnp.stack(expected), expected[0][0])

    assert_close(*both(params, state, xs), "the carry, the outputs, and one of them")


@pytest.mark.parametrize(
    "cell",
    ["GRUCell", *(pytest.param(c, marks=pytest.mark.slow) for c in ("SimpleCell", "LSTMCell", "OptimizedLSTMCell"))],
)
def test_parameters_are_flaxs_own_initial_weights(cell):
    model = FlaxCell(cell=cell, hidden=64)
    init = quick_jit(lambda key: model.init(key, TOKENS))
    params, other = (jax.tree.map(np.asarray, init(jax.random.key(seed))) for seed in (0, 1))
    check_model(model, TOKENS)
    assert set(params) == {"cell", "W_hq", "b_q"}
    names = {path[0].key for path, _ in jax.tree_util.tree_leaves_with_path(params["cell"])}
    recurrent = [params["cell"][name]["kernel"] for name in names if name.startswith("h") or name == "dense_h"]
    for W_hh in recurrent:  # orthogonal
        np.testing.assert_allclose(W_hh @ W_hh.T, np.eye(64) * (W_hh @ W_hh.T)[0, 0], atol=1e-5)
    assert 0.8 < params["W_hq"].std() * 64**0.5 < 1.2
    assert not any(a.any() for a in jax.tree.leaves(params) if a.ndim == 1), "biases start at zero"
    assert all((a != b).mean() > 0.9 for a, b in zip(*map(jax.tree.leaves, (params, other)), strict=True) if a.ndim > 1)


@pytest.mark.parametrize("cell", NAMES)
def test_dtypes_follow_the_parameters(x64, cell):
    model, params, state, xs = make(cell, TOKENS)
    low = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, jnp.bfloat16), (params, state))
    start = jax.eval_shape(lambda params: model.init_state(params, TOKENS), low[0])
    found = start, jax.eval_shape(functools.partial(unroll_model, model), *low, xs)
    assert {a.dtype for a in jax.tree.leaves(found)} == {np.dtype(jnp.bfloat16)}


def test_an_unknown_cell_is_an_error_that_lists_the_four():
    with pytest.raises(Error, match="cell = 'GRU': must be 'SimpleCell' or 'GRUCell' or 'LSTMCell' or 'OptimizedLSTM"):
        create("model", "flax-cell", cell="GRU")


class Net(nnx.Module):
    """A cell with an embedding and a read-out, as a user of Flax writes it."""

    def __init__(self, rngs, dropout=0.0, dtype=None):
        self.embed = nnx.Embed(5, 3, dtype=dtype, rngs=rngs)
        self.cell = nnx.SimpleCell(3, HIDDEN, dtype=dtype or jnp.float32, rngs=rngs)
        self.layers = nnx.List([nnx.Linear(HIDDEN, 5, dtype=dtype, rngs=rngs)])
        self.dropout = nnx.Dropout(dropout, rngs=rngs) if dropout else None

    def __call__(self, carry, x):
        carry, h = self.cell(carry, self.embed(x))
        return carry, self.layers[0](self.dropout(h) if self.dropout else h)

    def initialize_carry(self, shape, rngs):
        assert shape == ()
        return self.cell.initialize_carry(shape, rngs) + 0.5


def made(make):
    """A module with random weights, which no compiled program has drawn."""
    module = nnx.eval_shape(make)
    nnx.update(module, randomize(nnx.state(module, nnx.Param)))
    nnx.update(module, jax.tree.map(lambda a: np.uint32(0), nnx.state(module, nnx.RngCount)))
    nnx.update(module, jax.tree.map(lambda a: jax.random.key(0), nnx.state(module, nnx.RngKey)))
    return module


def adapt(module, spec=TOKENS, rows=B, key=None, params=None):
    """The model of a module, its parameters in the default precision, and the initial states of some rows."""
    model, own = from_flax(module)
    params = jax.tree.map(lambda a: np.asarray(a, float), own) if params is None else params
    keys = None if key is None else jax.random.split(key, rows)
    state = quick_jit(jax.vmap(functools.partial(model.init_state, params, spec), axis_size=rows))(keys)
    return model, params, state


@pytest.mark.parametrize("dtype", [None, jnp.bfloat16])
def test_a_users_module_is_called_with_one_sequence_and_computes_in_its_parameters_precision(x64, dtype):
    model, params, state = adapt(made(lambda: Net(nnx.Rngs(0), dtype=dtype)))
    xs, p = inputs(TOKENS, T, B), params
    h, expected = np.full((B, HIDDEN), 0.5), []
    for x in xs:
        cell = p["cell"]
        u = p["embed"]["embedding"][x] @ cell["dense_i"]["kernel"] + cell["dense_i"]["bias"]
        h = np.tanh(u + h @ cell["dense_h"]["kernel"])
        expected.append(h @ p["layers"][0]["kernel"] + p["layers"][0]["bias"])
    new, outputs = quick_jit(functools.partial(unroll_model, model))(params, state, xs)
    assert_close((new.carry, outputs), (h, np.stack(expected)), "the carry and the outputs")


def test_equal_modules_make_equal_models_so_that_jit_traces_them_once():
    modules = [
        nnx.eval_shape(lambda each=each: Net(nnx.Rngs(each[0]), each[1])) for each in ((0, 0.1), (1, 0.1), (1, 0.2))
    ]
    models = [from_flax(module)[0] for module in modules]
    assert models[0] == models[1] != models[2]
    assert hash(models[0]) == hash(models[1])


@pytest.mark.slow
def test_a_module_trains_on_two_devices_as_on_one(x64):
    module, ids = Net(nnx.Rngs(0), dropout=0.5), np.tile(np.arange(5), 60)
    model, params, _ = adapt(module)
    before = nnx.to_pure_dict(nnx.state(module, nnx.Param))
    stream = Stream(ids[:-1], ids[1:], np.array([0, len(ids) - 1]))
    options = {"sampler": Sequential(4, 6), "gradient": Full(), "optimizer": SGD(learning_rate=1.0), "epochs": 4}
    found = []
    for devices in (1, 2):
        epochs = train(Problem.of(model, TOKENS), stream, params=params, devices=devices, **options)
        found.append([(np.float64(row["train_loss"]), jax.tree.map(np.asarray, state.params)) for state, row in epochs])
    assert found[0][-1][0] < 0.9 * found[0][0][0]
    assert_close(found[0], found[1], "on two devices", 1e-10)
    assert_close(nnx.to_pure_dict(nnx.state(module, nnx.Param)), before, "the module")
    trained = found[0][-1][1]
    nnx.update(module, trained)
    assert_close(module.layers[0].bias[...], trained["layers"][0]["bias"], "the bias")


def test_dropout_draws_from_a_rows_key_and_is_off_without_one(x64):
    model, params, state = adapt(made(lambda: Net(nnx.Rngs(0), dropout=0.5)), rows=200, key=jax.random.key(1))
    xs, run = np.zeros((T, 200), np.int32), quick_jit(functools.partial(unroll_model, model))
    assert set(params) == {"embed", "cell", "layers"}, "the random streams are no parameters"
    new, outputs = run(params, state, xs)
    np.testing.assert_array_equal(outputs, run(params, state, xs)[1])
    last = run(params, new._replace(carry=state.carry), xs)[1]
    plain, _, calm = adapt(nnx.eval_shape(lambda: Net(nnx.Rngs(0))), rows=200, params=params)
    quiet = quick_jit(functools.partial(unroll_model, plain))(params, calm, xs)[1]
    outputs, last, quiet = map(np.asarray, (outputs, last, quiet))
    np.testing.assert_allclose(run(params, calm, xs)[1], quiet, rtol=1e-12, atol=1e-12)
    assert len(np.unique(outputs[0, :, 0])) > 10, "rows draw their own masks"
    assert abs(outputs.mean(1) - quiet.mean(1)).max() < 6 * outputs.std(1).max() / 200**0.5, "scaled by 1 / (1 - p)"
    assert (last != outputs).mean() > 0.5, "the counter goes on, so later steps draw other masks"
    assert (outputs[1] != quiet[1]).mean() > 0.5


class Learned(nnx.GRUCell):
    """A cell whose initial carry is a parameter."""

    def __init__(self, rngs):
        super().__init__(3, 3, rngs=rngs)
        self.start = nnx.Param(jnp.full(3, 0.3))

    def initialize_carry(self, shape, rngs=None, carry_init=None):
        assert shape == (3,)
        return self.start[...]


def test_an_initial_carry_may_be_learned(x64):
    model, params, state = adapt(made(lambda: Learned(nnx.Rngs(0))), VALUES)
    np.testing.assert_array_equal(state.carry, [params["start"]] * B)
    run = quick_jit(jax.grad(lambda p: model.step(p, model.init_state(p, VALUES), jnp.ones(3))[1].sum()))
    assert np.all(np.asarray(run(params)["start"]) != 0)


def test_modules_that_cannot_be_models_are_errors():
    with pytest.raises(Error, match="Linear has no initialize_carry"):
        from_flax(nnx.eval_shape(lambda: nnx.Linear(2, 3, rngs=nnx.Rngs(0))))
    net = nnx.eval_shape(lambda: Net(nnx.Rngs(0)))
    net.norm = nnx.BatchNorm(3, rngs=nnx.Rngs(0))
    with pytest.raises(Error, match=r"(?s)neither nnx.Param nor.*norm.mean: BatchStat\n.*norm.var: BatchStat"):
        from_flax(net)
    net = nnx.eval_shape(lambda: Net(nnx.Rngs(0)))
    net.sizes = {"unhashable"}
    with pytest.raises(Error, match=r"attribute of Net is not hashable \(.*set.*\)"):
        from_flax(net)
