"""Every cell against loops written from its equations, and its fused unroll against the default scan of its step."""

import contextlib
import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.accelerators import as_on_an_accelerator
from support.cells import MGU, PeepholeLSTM
from support.slow import slow

from seqjax import Error, Problem, Spec, Tokens, Values
from seqjax.gradients import unroll
from seqjax.models import GRU, LSTM, RNN
from seqjax.models.cell_scan import scan_cell
from seqjax.models.check_cell import check_layer
from seqjax.models.layered import CellState
from seqjax.models.products import product
from seqjax.testing.quick_jit import quick_jit

T, B, V = 5, 2, 7
TOKENS, VALUES = Spec(Tokens(V)), Spec(Values(3), Values(2))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def rnn(u, v, h):
    return (np.tanh(u + v),)


def gru(u, v, h):
    n = len(h)
    r, z = sigmoid(u[:n] + v[:n]), sigmoid(u[n : 2 * n] + v[n : 2 * n])
    return ((1 - z) * np.tanh(u[2 * n :] + r * v[2 * n :]) + z * h,)


def lstm(u, v, h, c):
    i, f, g, o = (u + v).reshape(4, -1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def mgu(u, v, h):
    n = len(h)
    f = sigmoid(u[:n] + v[:n])
    return ((1 - f) * h + f * np.tanh(u[n:] + f * v[n:]),)


def peephole(u, v, h, c, w, w_o):
    i, f, g, o = (u + v).reshape(4, -1)
    c = sigmoid(f + w[1] * c) * c + sigmoid(i + w[0] * c) * np.tanh(g)
    return np.tanh(c) * sigmoid(o + w_o * c), c


EQUATIONS = {RNN: rnn, GRU: gru, LSTM: lstm, MGU: mgu, PeepholeLSTM: peephole}
CELLS = pytest.mark.parametrize("cls", EQUATIONS, ids=[f.__name__ for f in EQUATIONS.values()])
QUICK_CELL = pytest.mark.parametrize(
    "cls", [pytest.param(cls, marks=[pytest.mark.slow] * (cls is not PeepholeLSTM)) for cls in EQUATIONS]
)
"""The cell with a state of two leaves and parameters of its own in the quick suite; the other cells in the long one."""
SETUPS = pytest.mark.parametrize(
    ("fields", "spec"),
    [
        pytest.param({"recurrent_dropout": 0.3}, TOKENS, marks=pytest.mark.slow, id="one-layer"),
        pytest.param({"layers": 2}, VALUES, marks=pytest.mark.slow, id="two-layers-values"),
        pytest.param({"layers": 2, "embedding": 3, "dropout": 0.4, "recurrent_dropout": 0.5}, TOKENS, id="dropout"),
    ],
)


def shapes_of(model, spec):
    """The shapes and dtypes of the initial parameters."""
    return jax.eval_shape(lambda key: model.init(key, spec), jax.random.key(0))


def make(model, spec, hidden_bias=True):
    """Random parameters, a state in the middle of a sequence, and inputs [T, B, ...]."""
    rng = np.random.default_rng(0)
    draw = lambda a: rng.normal(size=a.shape, scale=0.7).astype(a.dtype)
    params = shapes_of(model, spec)
    for name in [f"layer_{layer}" for layer in range(model.layers)] if hidden_bias else []:
        params[name]["b_hh"] = params[name]["b_h"]
    params = jax.tree.map(draw, params)
    draw_keys = lambda: jax.random.split(jax.random.key(3), B)
    state = jax.eval_shape(lambda: jax.vmap(functools.partial(model.init_state, params, spec))(draw_keys()))
    state = state._replace(layers=jax.tree.map(draw, state.layers))
    if not isinstance(state.step, tuple):
        state = state._replace(key=draw_keys(), step=np.array([3, 7], np.int32))
    if isinstance(spec.inputs, Tokens):
        return params, state, rng.integers(0, V, (T, B)).astype(np.int32)
    return params, state, rng.normal(size=(T, B, spec.inputs.dim)).astype(params["W_hq"].dtype)


def masks_of(model, state):
    """The factors of the layers' outputs, [T, B, layers, hidden], and those of h before W_hh, the same at all steps."""
    of_outputs, held = (np.ones((T, B, model.layers, model.hidden)) for _ in range(2))
    if isinstance(state.key, tuple):
        return of_outputs, held

    @functools.partial(quick_jit, static_argnums=0)
    def draw(dropout, key, step, layer):
        key = jax.random.fold_in(jax.random.fold_in(key, step), layer)
        return jax.random.bernoulli(key, 1 - dropout, (model.hidden,))

    for t, b, layer in np.ndindex(*held.shape[:3]):
        for masks, dropout, step in (
            (of_outputs, model.dropout, state.step[b] + t),
            (held, model.recurrent_dropout, 2**32 - 1),
        ):
            masks[t, b, layer] = np.asarray(draw(dropout, state.key[b], np.uint32(step), layer)) / (1 - dropout)
    return of_outputs, held


def by_hand(equations, params, layers, xs, masks, held_masks):
    """The states of the layers after all steps, and the outputs, step by step and row by row."""
    layers = [[[leaf[b] for leaf in layer] for layer in layers] for b in range(B)]
    outputs = []
    for t, x_B in enumerate(xs):
        for b, x in enumerate(x_B):
            x = params["E"][x] if "E" in params else np.eye(V)[x] if x.ndim == 0 else x
            for index, old in enumerate(layers[b]):
                p = params[f"layer_{index}"]
                u = x @ p["W_xh"] + p["b_h"]
                v = (old[0] * held_masks[t, b, index]) @ p["W_hh"] + p.get("b_hh", 0)
                layers[b][index] = equations(u, v, *old, **p.get("cell", {}))
                x = layers[b][index][0] * masks[t, b, index]
            outputs.append(x @ params["W_hq"] + params["b_q"])
    ends = [[np.stack([layers[b][i][j] for b in range(B)]) for j in range(len(old))] for i, old in enumerate(layers[0])]
    return ends, np.stack(outputs).reshape(len(xs), B, -1)


def score(layers, outputs):
    """A number to which every output and every part of the last state contributes, each with its own weight."""
    weigh = lambda a: jnp.sum(jnp.square(a) * jnp.cos(jnp.arange(a.size, dtype=a.dtype)).reshape(a.shape))
    return sum(map(weigh, [outputs, *jax.tree.leaves(layers)]))


def scan_steps(model, params, state, xs, edge_weights):
    """The scan of the model's step."""
    return unroll(functools.partial(model.step, params), state, xs, edge_weights)


def differentiate(run, params, state, xs, edge_weights):
    """((score, (state, outputs)), gradients by parameters, by the state that enters, and by inputs that are values)."""

    def scored(params, layers, xs):
        new, outputs = run(params, state._replace(layers=layers), xs, edge_weights)
        return score(new.layers, outputs), (new, outputs)

    argnums = (0, 1) if jnp.issubdtype(xs.dtype, jnp.integer) else (0, 1, 2)
    return jax.value_and_grad(scored, argnums, has_aux=True)(params, state.layers, xs)


def fused_and_scanned(model, edge_weights, params, state, xs):
    """The results of the fused unroll, as on a CPU and as on an accelerator, and of the scan of the vmapped step."""

    @quick_jit
    def all_ways(*args):
        with as_on_an_accelerator():
            packed = differentiate(model.unroll, *args)
        return differentiate(model.unroll, *args), packed, differentiate(functools.partial(scan_steps, model), *args)

    return all_ways(params, state, xs, edge_weights)


def assert_close(a, b, atol):
    """Leaf by leaf; keys bit by bit."""
    raw = lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x
    assert jax.tree.structure(a) == jax.tree.structure(b)
    assert [x.dtype for x in jax.tree.leaves(a)] == [x.dtype for x in jax.tree.leaves(b)]
    jax.tree.map(lambda x, y: np.testing.assert_allclose(raw(x), raw(y), atol=atol, rtol=atol), a, b)


def edge_weights_of(*shape):
    """Edge weights that cut, keep, enlarge and reduce."""
    return np.random.default_rng(5).choice([0.0, 1.0, 1.7, 0.4], shape)


@QUICK_CELL
@SETUPS
def test_values_are_those_of_a_loop_over_the_equations_and_gradients_those_of_the_default_scan(x64, cls, fields, spec):
    """With edge weights on each row and step."""
    model = cls(hidden=5, **fields)
    params, state, xs = make(model, spec)
    fused, packed, scanned = fused_and_scanned(model, edge_weights_of(T, B), params, state, xs)
    assert_close(fused, scanned, 1e-12)
    assert_close(packed, scanned, 1e-12)
    layers, outputs = by_hand(EQUATIONS[cls], params, state.layers, xs, *masks_of(model, state))
    (_, (new, found)), _ = fused
    np.testing.assert_allclose(found, outputs, atol=1e-13)
    check = functools.partial(np.testing.assert_allclose, atol=1e-13)
    jax.tree.map(check, [list(layer) for layer in new.layers], layers)
    if model.dropout:
        assert new.step.tolist() == [3 + T, 7 + T]


def test_a_product_in_bfloat16_rounds_its_operands_and_nothing_else():
    """Forwards and backwards it is the product in float64 of the rounded operands. Rounding the results, or the sums,
    would change them by up to 1 in 256."""
    rng = np.random.default_rng(0)
    x, W, dy = (rng.normal(size=shape).astype(np.float32) for shape in ((2, 3, 50), (50, 4), (2, 3, 4)))

    @quick_jit
    def both_ways(x, W, dy):
        y, vjp = jax.vjp(functools.partial(product, dtype=jnp.bfloat16), x, W)
        return y, *vjp(dy)

    low = [a.astype(jnp.bfloat16).astype(np.float64) for a in (x, W, dy)]
    wanted = low[0] @ low[1], low[2] @ low[1].T, np.einsum("tbi,tbj->ij", low[0], low[2])
    for got, exact in zip(both_ways(x, W, dy), wanted, strict=True):
        assert got.dtype == jnp.float32
        np.testing.assert_allclose(got, exact, rtol=1e-5, atol=1e-5)


def test_a_recurrence_in_bfloat16_rounds_the_operands_of_its_products_and_nothing_else():
    """The gradients of two steps h_2 = tanh(u_2 + tanh(u_1) W), written out in float64 with rounded operands."""
    rng = np.random.default_rng(1)
    W, u, dh = (rng.normal(size=shape).astype(np.float32) for shape in ((32, 32), (2, 3, 32), (3, 32)))

    def low(a):
        return a.astype(jnp.bfloat16).astype(np.float64)

    @quick_jit
    def both_ways(W, u, dh):
        zero = RNN.State(jnp.zeros((3, 32)))
        last = lambda W, u: scan_cell(RNN(hidden=32), jnp.bfloat16, W, None, {}, u, zero, jnp.ones(2))[0].h
        results = []
        for way in (contextlib.nullcontext(), as_on_an_accelerator()):
            with way:
                got, vjp = jax.vjp(last, W, u)
                results.append((got, *vjp(dh)))
        return results

    results = both_ways(W, u, dh)
    h_1 = np.tanh(u[0].astype(np.float64))
    h_2 = np.tanh(u[1] + low(h_1) @ low(W))
    dv_2 = dh * (1 - h_2**2)
    dv_1 = (low(dv_2) @ low(W).T) * (1 - h_1**2)
    for got, dW, du in results:
        for found, exact in ((got, h_2), (du[1], dv_2), (du[0], dv_1), (dW, low(h_1).T @ low(dv_2))):
            # An operand next to the middle of two bfloat16 numbers may be rounded to the other one; its product is 1 of
            # 32.
            np.testing.assert_allclose(found, exact, rtol=1e-3, atol=1e-3)


@QUICK_CELL
def test_the_state_starts_at_zero_in_the_dtype_of_the_parameters(cls):
    model = cls(hidden=3, layers=2)
    params = jax.tree.map(lambda a: a.update(dtype=jnp.bfloat16), shapes_of(model, TOKENS))
    state = quick_jit(lambda: model.init_state(params, TOKENS))()
    assert isinstance(state, CellState)
    assert [a.shape for a in jax.tree.leaves(state)] == [(3,)] * 2 * len(cls.State._fields)
    assert {a.dtype for a in jax.tree.leaves(state)} == {jnp.dtype(jnp.bfloat16)}
    assert not any(np.any(a) for a in jax.tree.leaves(state))


@CELLS
def test_parameters_are_as_documented(cls):
    model = cls(hidden=5, layers=2, embedding=3)
    wide = 5 * cls.blocks
    own = {"cell": {"w": (2, 5), "w_o": (5,)}} if cls is PeepholeLSTM else {}
    assert jax.tree.map(jnp.shape, shapes_of(model, TOKENS)) == {
        "E": (V, 3),
        "layer_0": {"W_xh": (3, wide), "W_hh": (5, wide), "b_h": (wide,), **own},
        "layer_1": {"W_xh": (5, wide), "W_hh": (5, wide), "b_h": (wide,), **own},
        "W_hq": (5, V),
        "b_q": (V,),
    }
    with pytest.raises(Error, match="embedding = 3"):
        shapes_of(model, VALUES)


def initial(models, spec=TOKENS):
    """The initial parameters of some models, compiled at once."""
    return jax.tree.map(
        np.asarray, quick_jit(lambda key: [model.init(key, spec) for model in models])(jax.random.key(1))
    )


def test_each_layer_draws_the_parameters_of_its_cell():
    model = PeepholeLSTM(hidden=5, layers=2)
    params = quick_jit(lambda key: [model.init(key, TOKENS)[layer]["cell"] for layer in ("layer_0", "layer_1")])
    numbers = np.concatenate([np.ravel(a) for a in jax.tree.leaves(params(jax.random.key(0)))])
    assert len(np.unique(numbers)) == numbers.size == 30


def test_initial_weights_are_those_of_the_scheme():
    """Four standard errors around mean and standard deviation of each weight."""
    h, spec = 64, Spec(Tokens(40), Tokens(50))
    deviations = {  # of W_xh, W_hh, W_hq
        "normal": [0.01, 0.01, 0.01],
        "uniform": [(3 * h) ** -0.5] * 3,
        "glorot": [(2 / (40 + h)) ** 0.5, (2 / (h + h)) ** 0.5, (2 / (h + 50)) ** 0.5],
        "orthogonal": [40**-0.5, h**-0.5, h**-0.5],
    }
    models = {scheme: GRU(hidden=h, initializer=scheme) for scheme in deviations}
    for (scheme, expected), params in zip(deviations.items(), initial(models.values(), spec), strict=True):
        layer = params["layer_0"]
        assert not layer["b_h"].any()
        assert not params["b_q"].any()
        weights = [np.asarray(w) for w in (layer["W_xh"], layer["W_hh"], params["W_hq"])]
        for w, deviation in zip(weights, expected, strict=True):
            assert abs(w.mean()) < 4 * deviation / w.size**0.5
            assert abs(w.std() - deviation) < 4 * deviation / (2 * w.size) ** 0.5
        if scheme in ("uniform", "glorot"):
            for w, deviation in zip(weights, expected, strict=True):
                assert 0.98 < abs(w).max() / (deviation * 3**0.5) <= 1
        blocks = np.split(weights[1], 3, axis=1)
        if scheme == "orthogonal":
            for w in blocks:
                np.testing.assert_allclose(w.T @ w, np.eye(h), atol=1e-5)
        assert abs(np.corrcoef([w.ravel() for w in blocks]) - np.eye(3)).max() < 0.07, "blocks are drawn apart"


def test_the_bias_of_forget_gates_and_the_scale_of_embeddings():
    (params,) = initial([LSTM(hidden=3, layers=2, forget_bias=1.5, embedding=50)])
    for layer in ("layer_0", "layer_1"):
        assert params[layer]["b_h"].tolist() == [0.0] * 3 + [1.5] * 3 + [0.0] * 6
    assert params["E"].std() == pytest.approx(1, abs=4 / (2 * 7 * 50) ** 0.5)


def test_a_problem_trains_a_cell_with_dropout_in_bfloat16():
    """Computed in bfloat16, returned in float32; the key stays in the state."""
    problem = Problem.of(LSTM(hidden=4, dropout=0.5), TOKENS, precision="bfloat16")
    params, state, xs = make(problem.model, TOKENS, hidden_bias=False)
    new, losses = jax.eval_shape(problem.unroll, params, state, (xs, xs))
    assert losses.dtype == jnp.float32
    assert new.key.dtype == state.key.dtype


@dataclass(frozen=True)
class Ring(GRU):
    """Unit j reads itself and the unit before it; in the layers above the unit after it."""

    def recurrent_mask(self, layer):
        own = np.eye(self.hidden, dtype=bool)
        return own | np.roll(own, -1 if layer else 1, axis=1)


def without(W_hh, mask):
    """W_hh with zeros where unit j does not read unit i, written out block by block."""
    W_hh = np.array(W_hh)
    for i, j in zip(*np.nonzero(~mask), strict=True):
        W_hh[i, j :: len(mask)] = 0
    return W_hh


def only_read(model, tree):
    """A tree like the parameters of a sparse model, with zeros in W_hh where its masks are False."""
    masks = {f"layer_{layer}": model.recurrent_mask(layer) for layer in range(model.layers)}
    return tree | {name: tree[name] | {"W_hh": without(tree[name]["W_hh"], mask)} for name, mask in masks.items()}


@pytest.mark.parametrize(
    ("sparse", "dense", "spec"),
    [
        (Ring(hidden=4, layers=2), GRU, VALUES),
        *slow((Ring(hidden=4, layers=2, dropout=0.4, recurrent_dropout=0.3), GRU, VALUES)),
        *slow((GRU(hidden=5, layers=2, density=0.4), GRU, TOKENS), (LSTM(hidden=5, density=0.3), LSTM, TOKENS)),
        *slow((RNN(hidden=6, density=0.3, embedding=2), RNN, TOKENS)),
    ],
    ids=repr,
)
def test_a_sparse_cell_is_the_dense_one_with_zeros_whose_gradients_are_zero(x64, sparse, dense, spec):
    """The parameters have other numbers at the masked entries, which have no effect."""
    names = ("hidden", "layers", "embedding", "dropout", "recurrent_dropout")
    whole = dense(**{name: getattr(sparse, name) for name in names})
    params, state, xs = make(sparse, spec)
    fused, packed, scanned = fused_and_scanned(sparse, edge_weights_of(T, B), params, state, xs)
    zeroed = only_read(sparse, params)
    assert np.abs(params["layer_0"]["W_hh"] - zeroed["layer_0"]["W_hh"]).max() > 0.1
    dense_fused = quick_jit(functools.partial(differentiate, whole.unroll))
    values, (by_params, *others) = dense_fused(zeroed, state, xs, edge_weights_of(T, B))
    wanted = values, (only_read(sparse, by_params), *others)
    for found in (fused, packed, scanned):
        assert_close(found, wanted, 1e-12)
        _, (grads, *_) = found
        jax.tree.map(np.testing.assert_array_equal, only_read(sparse, grads), grads)


def test_units_read_themselves_and_the_same_number_of_other_units():
    for hidden, density in ((1, 0.5), (7, 0.3), (20, 0.4), (64, 0.1)):
        model = RNN(hidden=hidden, layers=2, density=density)
        mask = model.recurrent_mask(0)
        assert (mask.dtype, mask.shape) == (bool, (hidden, hidden))
        assert mask.sum() == max(round(density * hidden**2), hidden)
        assert np.ptp(mask.sum(0)) <= 1
        assert mask.diagonal().all()
        np.testing.assert_array_equal(mask, GRU(hidden=hidden, density=density).recurrent_mask(0))
        assert not (mask & ~RNN(hidden=hidden, density=min(1.2 * density, 0.99)).recurrent_mask(0)).any()
    assert (mask != model.recurrent_mask(1)).any()
    of_units = mask.sum(1) - 1  # how many other units read a unit: binomial, with variance 5.7 * (1 - 5.4 / 63)
    assert 2 < of_units.var() < 9


def test_which_units_are_read_stays_the_same_in_later_versions():
    """Else a kept run would be another network."""
    read = [np.flatnonzero(column).tolist() for column in RNN(hidden=6, density=0.4).recurrent_mask(1).T]
    assert read == [[0, 1, 2], [1, 2, 5], [2, 5], [3, 4], [2, 4], [0, 5]]


def test_a_dense_cell_has_no_mask_in_its_programs():
    for model in (GRU(hidden=3), GRU(hidden=3, density=0.99)):
        params, state, xs = make(model, VALUES)
        row = jax.tree.map(lambda a: a[0], state)
        programs = jax.make_jaxpr(model.unroll)(params, state, xs), jax.make_jaxpr(model.step)(params, row, xs[0, 0])
        assert [str(program).count("select_n") for program in programs] == [int(model.density < 1)] * 2


def test_the_initial_weights_of_a_sparse_cell_are_those_of_the_dense_one_and_zeros():
    sparse, dense = (GRU(hidden=6, layers=2, density=density) for density in (0.4, 1.0))
    of_sparse, of_dense = initial([sparse, dense])
    wanted = only_read(sparse, of_dense)
    jax.tree.map(np.testing.assert_array_equal, of_sparse, wanted)
    assert (wanted["layer_1"]["W_hh"] != of_dense["layer_1"]["W_hh"]).any()


@pytest.mark.parametrize(
    ("returned", "told"),
    [
        (np.ones((3, 9), bool), r"recurrent_mask\(0\) returned bool\[3, 9\], and must return None or .* bool\[3, 3\]"),
        (np.ones((3, 3)), r"returned float64\[3, 3\]"),
        ([[True]], "returned a list"),
        (True, "returned a bool"),
    ],
    ids=str,
)
def test_a_mask_of_another_kind_is_refused(returned, told):
    own = type("Own", (GRU,), {"recurrent_mask": lambda self, layer: returned})
    with pytest.raises(Error, match=told):
        check_layer(own(hidden=3))


def test_no_steps_return_the_state_and_have_gradients_of_zero():
    model = RNN(hidden=3)
    params, state, xs = make(model, VALUES)
    run = quick_jit(lambda *args: differentiate(model.unroll, *args, None))
    (_, (new, outputs)), (by_params, *_) = run(params, state, xs[:0])
    assert_close(new.layers, state.layers, 0)
    assert outputs.shape == (0, B, 2)
    assert not any(np.any(a) for a in jax.tree.leaves(by_params))
