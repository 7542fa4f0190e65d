"""PyTorch's weights in our cells, against its equations in numpy and against outputs recorded from PyTorch."""

from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from seqjax import Error, Spec, Tokens, Values, from_torch
from seqjax.models import GRU, LSTM, RNN
from seqjax.testing.quick_jit import quick_jit

HIDDEN, T, B, D, Q = 4, 6, 3, 5, 7
MODELS = {"RNN": RNN, "GRU": GRU, "LSTM": LSTM}
BLOCKS = {"RNN": 1, "GRU": 3, "LSTM": 4}
KINDS = pytest.mark.parametrize("kind", MODELS)


def state_dict(kind, layers=1, module="rnn.", dtype=float, bias=True, readout=True):
    """Random weights under PyTorch's names and in its shapes."""
    rng, rows, width, found = np.random.default_rng(0), BLOCKS[kind] * HIDDEN, D, {}
    for layer in range(layers):
        found[f"{module}weight_ih_l{layer}"] = rng.normal(size=(rows, width)).astype(dtype)
        found[f"{module}weight_hh_l{layer}"] = rng.normal(size=(rows, HIDDEN)).astype(dtype)
        if bias:
            found[f"{module}bias_ih_l{layer}"] = rng.normal(size=rows).astype(dtype)
            found[f"{module}bias_hh_l{layer}"] = rng.normal(size=rows).astype(dtype)
        width = HIDDEN
    if readout:
        found["linear.weight"] = rng.normal(size=(Q, HIDDEN)).astype(dtype)
        found["linear.bias"] = rng.normal(size=Q).astype(dtype)
    return found


def outputs_of(model, params, xs, spec):
    @quick_jit
    def run(params, xs):
        state = jax.tree.map(lambda a: jnp.stack([a] * B), model.init_state(params, spec))
        return model.unroll(params, state, xs)[1]

    return run(params, xs)


@pytest.mark.parametrize("kind", ["GRU", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("RNN", "LSTM"))])
def test_ids_pick_rows_or_embeddings(x64, kind):
    ids = np.random.default_rng(1).integers(0, D, (T, B)).astype(np.int32)
    weights, model = state_dict(kind), MODELS[kind](hidden=HIDDEN)
    params = from_torch(weights)
    one_hot, values = (
        outputs_of(model, params, xs, Spec(side(D))) for xs, side in ((ids, Tokens), (np.eye(D)[ids], Values))
    )
    np.testing.assert_allclose(one_hot, values, atol=1e-12)
    table = np.random.default_rng(2).normal(size=(11, D))
    embedded = from_torch(weights | {"embed.weight": table})
    found = outputs_of(MODELS[kind](hidden=HIDDEN, embedding=D), embedded, ids, Spec(Tokens(11)))
    np.testing.assert_allclose(found, outputs_of(model, params, table[ids], Spec(Values(D))), atol=1e-12)


@KINDS
def test_a_module_without_biases_has_biases_of_zero(kind):
    weights = state_dict(kind, layers=2)
    zeros = {name: 0 * array if ".bias_" in name else array for name, array in weights.items()}
    without = {name: array for name, array in weights.items() if ".bias_" not in name}
    jax.tree.map(np.testing.assert_array_equal, from_torch(without), from_torch(zeros))


def test_a_gru_keeps_the_bias_inside_its_reset_product_unless_it_is_zero():
    weights = state_dict("GRU")
    b_hh = from_torch(weights)["layer_0"]["b_hh"]
    assert not b_hh[: 2 * HIDDEN].any()
    np.testing.assert_array_equal(b_hh[2 * HIDDEN :], weights["rnn.bias_hh_l0"][2 * HIDDEN :])
    weights["rnn.bias_hh_l0"][2 * HIDDEN :] = 0
    assert "b_hh" not in from_torch(weights)["layer_0"]


@pytest.mark.parametrize("module", ["", "rnn.", "module.encoder.lstm."])
def test_the_recurrent_module_may_have_any_name(module):
    params = from_torch(state_dict("LSTM", module=module, readout=False))
    expected = from_torch(state_dict("LSTM"))["layer_0"]
    assert set(params) == {"layer_0", "W_hq", "b_q"}
    jax.tree.map(np.testing.assert_array_equal, params["layer_0"], expected)


def test_a_prefix_chooses_a_part():
    decoder = {f"decoder.{name}": array for name, array in state_dict("GRU").items()}
    both = state_dict("LSTM", module="encoder.", readout=False) | decoder
    jax.tree.map(np.testing.assert_array_equal, from_torch(both, "decoder."), from_torch(state_dict("GRU")))
    with pytest.raises(Error, match=r"several recurrent modules \(decoder.rnn., encoder.\); choose with prefix="):
        from_torch(both)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
def test_arrays_are_copies_in_their_own_dtype(dtype, tmp_path):
    weights = state_dict("GRU", dtype=dtype) | {"embed.weight": np.ones((3, D), dtype)}
    safetensors.numpy.save_file(weights, tmp_path / "net.safetensors")
    params = from_torch(weights)
    from_file = from_torch(safetensors.numpy.load_file(tmp_path / "net.safetensors"))
    jax.tree.map(np.testing.assert_array_equal, params, from_file)
    from_jax = from_torch({name: jnp.asarray(a, np.float32) for name, a in state_dict("GRU", dtype=np.float32).items()})
    for array in jax.tree.leaves(params):
        assert array.dtype == dtype
        assert type(array) is np.ndarray
        assert array.flags.c_contiguous
        assert not any(np.shares_memory(array, weight) for weight in weights.values())
    assert {a.dtype for a in jax.tree.leaves(from_jax)} == {np.dtype(np.float32)}


def without(name):
    return {key: array for key, array in state_dict("GRU", layers=2).items() if key != name}


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"rnn.weight_ih": np.ones((4, 5))}, r"needs weight_ih_l0.*: found rnn.weight_ih"),
        ({}, "found nothing"),
        (without("rnn.weight_hh_l0"), r"rnn\.weight_hh_l0 is missing; not read so far: rnn\.weight_ih_l0, "),
        (without("rnn.bias_ih_l1"), r"rnn\.bias_ih_l1 is missing"),
        ({k: a for k, a in state_dict("RNN", layers=3).items() if "l1" not in k}, r"rnn\.weight_hh_l1 is missing"),
        (state_dict("LSTM") | {"rnn.weight_ih_l0_reverse": np.ones((16, 5))}, "_reverse: the module is bidirectional"),
        (state_dict("LSTM") | {"rnn.weight_hr_l0": np.ones((2, 4))}, r"weight_hr_l0: the LSTM has projections"),
        (state_dict("RNN") | {"rnn.weight_hh_l0": np.ones((8, 4))}, r"\(8, 4\): rows / columns must be 1 \(nn\.RNN\)"),
        (state_dict("RNN") | {"rnn.weight_hh_l0": np.ones(4)}, r"shape \[4\], expected \[any, any\]"),
        (state_dict("GRU") | {"rnn.bias_hh_l0": np.ones(4)}, r"bias_hh_l0 has shape \[4\], expected \[12\]"),
        (state_dict("GRU", 2) | {"rnn.weight_ih_l1": np.ones((12, 5))}, r"shape \[12, 5\], expected \[12, 4\]"),
        (state_dict("RNN") | {"linear.weight": np.ones((7, 9))}, r"read-out \(\.weight \[any, 4\].*\n  linear\.weight"),
        (state_dict("RNN") | {"head.weight": np.ones((2, 4)), "head.bias": np.ones(2)}, r"head\.weight \[2, 4\]"),
        ({k: a for k, a in state_dict("RNN").items() if k != "linear.bias"}, r"linear\.weight \[7, 4\]"),
        (state_dict("RNN") | {"a.weight": np.ones((2, 5)), "b.weight": np.ones((2, 5))}, r"a\.weight \[2, 5\]"),
        (state_dict("RNN") | {"rnn.weight_hh_l0_orig": np.ones((4, 4))}, r"weight_hh_l0_orig \[4, 4\]"),
        (state_dict("RNN") | {"steps": np.ones(2, int)}, r"steps is int64, and not a floating-point array"),
        (state_dict("RNN") | {"rnn.bias_ih_l0": [[1.0], [1.0, 2.0]]}, r"bias_ih_l0: numpy cannot read it"),
        ([("rnn.weight_ih_l0", 0)], "takes a mapping of names to arrays"),
    ],
)
def test_other_networks_are_errors(weights, message):
    with pytest.raises(Error, match=f"(?s)from_torch.*{message}"):
        from_torch(weights)


def recorded(kind, layers):
    """The weights of a network of PyTorch, and its inputs and results, from the files of record_torch.py."""
    found = safetensors.numpy.load_file(Path(__file__).parent / "recorded" / f"{kind}_{layers}.safetensors")
    net = {name.removeprefix("net."): array for name, array in found.items() if name.startswith("net.")}
    return net, {name: array for name, array in found.items() if not name.startswith("net.")}


@pytest.mark.parametrize("layers", [pytest.param(1, marks=pytest.mark.slow), 2])
@KINDS
def test_outputs_and_gradients_are_pytorchs(kind, layers):
    net, found = recorded(kind, layers)
    problem = MODELS[kind](hidden=HIDDEN, layers=layers).problem(Spec(Values(D), Values(Q)))
    xs = (found["xs"], found["targets"])

    @quick_jit
    def results(params):
        state = jax.tree.map(lambda a: jnp.stack([a] * B), problem.init_state(params))
        loss, grads = jax.value_and_grad(lambda params: problem.unroll(params, state, xs)[1].mean())(params)
        return loss, grads, problem.model.unroll(params, state, jnp.asarray(found["xs"]))[1]

    loss, grads, outputs = jax.tree.map(np.asarray, results(from_torch(net)))
    np.testing.assert_allclose(outputs, found["outputs"], atol=1e-5)
    np.testing.assert_allclose(loss, found["loss"], atol=1e-5)
    theirs = {name.removeprefix("grad."): array for name, array in found.items() if name.startswith("grad.")}
    for layer in range(layers):
        ours = grads[f"layer_{layer}"]
        np.testing.assert_allclose(ours["W_xh"].T, theirs[f"rnn.weight_ih_l{layer}"], atol=1e-5)
        np.testing.assert_allclose(ours["W_hh"].T, theirs[f"rnn.weight_hh_l{layer}"], atol=1e-5)
        np.testing.assert_allclose(ours["b_h"], theirs[f"rnn.bias_ih_l{layer}"], atol=1e-5)
        hidden_side = ours["b_hh"] if kind == "GRU" else ours["b_h"]
        np.testing.assert_allclose(hidden_side, theirs[f"rnn.bias_hh_l{layer}"], atol=1e-5)
    np.testing.assert_allclose(grads["W_hq"].T, theirs["linear.weight"], atol=1e-5)
    np.testing.assert_allclose(grads["b_q"], theirs["linear.bias"], atol=1e-5)
    assert max(abs(grad).max() for grad in theirs.values()) > 0.01, "gradients of zero would agree with anything"


@pytest.mark.parametrize("kind", ["LSTM", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("RNN", "GRU"))])
def test_without_a_linear_layer_the_outputs_are_those_of_the_recurrent_module(kind):
    net, found = recorded(kind, 2)
    alone = {name: array for name, array in net.items() if name.startswith("rnn.")}
    model, spec = MODELS[kind](hidden=HIDDEN, layers=2), Spec(Values(D), Values(HIDDEN))
    outputs = outputs_of(model, from_torch(alone), found["xs"], spec)
    np.testing.assert_allclose(outputs, found["hidden"], atol=1e-5)
