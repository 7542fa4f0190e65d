"""Weights of minGRU, minLSTM and LRU, against outputs and gradients that their public PyTorch versions computed."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

import seqjax as sj
from seqjax.models import LRU, MinGRU, MinLSTM
from seqjax.testing.quick_jit import quick_jit

B, D, Q = 3, 5, 7
MODELS = {
    "minGRU": MinGRU(hidden=8, positive=True),
    "minGRU_stacked": MinGRU(hidden=5, layers=2, positive=True),
    "minLSTM": MinLSTM(hidden=8, positive=True),
    "minLSTM_stacked": MinLSTM(hidden=5, layers=2, positive=True, parallel=False),
    "LRU": LRU(hidden=7, parallel=False),  # 4, and 3 for D x, as x has 5 numbers
}
EACH = pytest.mark.parametrize("name", MODELS)
QUICK = {"minGRU", "minLSTM_stacked", "LRU"}


def recorded(name):
    """The weights, and the inputs and results, from a file of record_torch.py."""
    found = safetensors.numpy.load_file(Path(__file__).parent / "recorded" / f"{name}.safetensors")
    net = {key.removeprefix("net."): array for key, array in found.items() if key.startswith("net.")}
    return net, found


def results(model, params, xs, targets):
    """The outputs, the loss, and its gradient by the parameters."""
    spec = sj.Spec(sj.Values(D), sj.Values(targets.shape[-1]))

    def loss(params):
        state = jax.tree.map(lambda a: jnp.stack([a] * B), model.init_state(params, spec))
        outputs = model.unroll(params, state, jnp.asarray(xs))[1]
        return jnp.mean((outputs - targets) ** 2), outputs

    (value, outputs), grads = quick_jit(jax.value_and_grad(loss, has_aux=True))(params)
    return outputs, value, grads


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n not in QUICK)) for n in MODELS])
def test_outputs_and_gradients_are_pytorchs(name):
    net, found = recorded(name)
    outputs, loss, grads = results(MODELS[name], sj.from_torch(net), found["xs"], found["targets"])
    grads = jax.tree.map(np.asarray, grads)
    np.testing.assert_allclose(outputs, found["outputs"], atol=2e-6)
    np.testing.assert_allclose(loss, found["loss"], atol=1e-6)
    if name == "LRU":
        # The further units are not changed by their ν, and have no counterpart.
        np.testing.assert_array_equal(grads["layer_0"]["cell"]["nu"][4:], 0)
        W, C = grads["layer_0"]["W_xh"], grads["W_hq"]
        grads = {
            "B": W[:, :4].T + 1j * W[:, 7:11].T,
            "C": C[:4].T - 1j * C[7:11].T,
            **{f"{key}_log": array[:4] for key, array in grads["layer_0"]["cell"].items()},
        }
    else:
        has_readout = "to_out.weight" in net
        grads = {key: g for key, g in sj.to_torch(grads).items() if not key.endswith("bias")}
        grads = {key.removeprefix("rnn."): g for key, g in grads.items()}
        if has_readout:
            grads["to_out.weight"] = grads.pop("linear.weight")
        else:
            del grads["linear.weight"]
    theirs = {key.removeprefix("grad."): g for key, g in found.items() if key.startswith("grad.")}
    theirs.pop("D", None)
    assert grads.keys() == theirs.keys()
    for key, grad in grads.items():
        np.testing.assert_allclose(grad, theirs[key], atol=2e-6, err_msg=key)
    assert max(abs(grad).max() for grad in theirs.values()) > 0.01, "gradients of zero would agree with anything"


@EACH
def test_weights_come_back(name):
    net, _ = recorded(name)
    if name == "LRU":
        net["D"][:] = 0
    params = sj.from_torch(net)
    again = sj.to_torch(params, module="", readout="to_out.")
    for key, array in net.items():
        np.testing.assert_array_equal(again.pop(key), array)
    assert not any(array.any() for key, array in again.items() if key.endswith("bias"))
    # A stack without a read-out has the identity.
    assert set(again) <= {"to_out.weight", "to_out.bias"}


def test_modules_are_in_the_order_of_their_numbers():
    """A file of safetensors may have them in another one."""
    weights = {f"{i}.to_hidden_and_gate.weight": np.full((6, 3), i, np.float32) for i in (0, 10, 11, *range(1, 10))}
    params = sj.from_torch(weights)
    assert [float(params[f"layer_{i}"]["W_xh"][0, 0]) for i in range(12)] == list(range(12))


def test_biases_that_are_zero_are_left_out():
    def names_of(model):
        shapes = jax.eval_shape(lambda key: model.init(key, sj.Spec(sj.Tokens(5))), jax.random.key(0))
        return set(sj.to_torch(jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), shapes)))

    assert names_of(MinGRU(hidden=3)) == {"rnn.to_hidden_and_gate.weight", "linear.weight", "linear.bias"}
    assert names_of(LRU(hidden=3)) == {f"rnn.{name}" for name in ("nu_log", "theta_log", "gamma_log", "B", "C", "D")}


GRU = {"a.to_hidden_and_gate.weight": np.ones((6, 5))}


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (GRU | {"b.to_hidden_and_f_i_gate.weight": np.ones((9, 3))}, r"or several minGRU or minLSTM, not a\. \(to_"),
        ({"a.nu_log": np.ones(2), "b.nu_log": np.ones(2)}, r"reads one LRU.*a\. \(nu_log\), b\. \(nu_log\)"),
        ({"nu_log": np.ones(2)}, "theta_log is missing"),
        ({"to_hidden_and_gate.weight": np.ones((5, 5))}, "5 rows, which are not 2 blocks"),
        (GRU | {"b.to_hidden_and_gate.weight": np.ones((6, 5))}, r"shape \[6, 5\], expected \[any, 3\]"),
        (GRU | {"a.to_out.weight": np.ones((4, 2))}, r"shape \[4, 2\], expected \[any, 3\]"),
        (
            GRU | {"a.to_out.weight": np.ones((5, 3)), "b.to_hidden_and_gate.weight": np.ones((6, 5))},
            "only the last module of a stack may have to_out",
        ),
        (GRU | {"norm.weight": np.ones(5)}, r"remove the other entries of:\n  norm\.weight \[5\]"),
        (GRU | {"a.to_hidden_and_gate.bias": np.ones(6, complex)}, "is complex128, and not a floating-point array"),
    ],
)
def test_other_networks_are_errors(weights, message):
    with pytest.raises(sj.Error, match=f"(?s)from_torch.*{message}"):
        sj.from_torch(weights)
