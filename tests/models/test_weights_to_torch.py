"""`to_torch` is the inverse of `from_torch`, whose results are tested against PyTorch's equations and outputs."""

from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy
from support.cells import PeepholeLSTM

from seqjax import Error, Experiment, Run, Spec, Tokens, Values, from_torch, to_torch
from seqjax.models import GRU, LRU, LSTM, MLP, RNN, RTU, SSM, IndRNN, MinGRU, MinLSTM

RECORDED = Path(__file__).parent / "recorded"
ENDINGS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
CELLS = RNN(hidden=3), GRU(hidden=3, layers=2), LSTM(hidden=3, embedding=2)
ELEMENTWISE = MinGRU(hidden=3), MinGRU(hidden=3, layers=2, embedding=4), MinLSTM(hidden=3), LRU(hidden=3)
OTHERS = MLP(lags=2), PeepholeLSTM(hidden=3), RTU(hidden=3), IndRNN(hidden=3), SSM(hidden=3)


def initial(model, spec):
    """Random parameters of a model."""
    rng, shapes = np.random.default_rng(0), jax.eval_shape(lambda key: model.init(key, spec), jax.random.key(0))
    return jax.tree.map(lambda a: rng.random(a.shape, a.dtype), shapes)


@pytest.mark.parametrize("file", sorted(RECORDED.glob("*_[12].safetensors")), ids=lambda file: file.stem)
def test_weights_of_pytorch_come_back(file):
    """The names and the arrays that PyTorch wrote; the two biases of a gate are summed."""
    weights = {n.removeprefix("net."): a for n, a in safetensors.numpy.load_file(file).items() if n.startswith("net.")}
    module = next(name for name in weights if "weight_ih_l0" in name).removesuffix("weight_ih_l0")
    found = to_torch(from_torch(weights), module=module)
    assert found.keys() == weights.keys()
    for name, array in weights.items():
        assert (found[name].shape, found[name].dtype) == (array.shape, array.dtype)
        if "bias_" not in name:
            np.testing.assert_array_equal(found[name], array)
    for name in (name for name in weights if "bias_ih" in name):
        other = name.replace("_ih", "_hh")
        np.testing.assert_allclose(found[name] + found[other], weights[name] + weights[other], rtol=1e-6)


@pytest.mark.parametrize("model", [*CELLS, *ELEMENTWISE], ids=str)
def test_parameters_come_back_to_the_bit(model):
    params = initial(model, Spec(Tokens(5)))
    again = from_torch(to_torch(params))
    jax.tree.map(np.testing.assert_array_equal, again, params)
    assert jax.tree.structure(again) == jax.tree.structure(params)


def test_other_names_and_writable_arrays():
    params = initial(RNN(hidden=3), Spec(Values(2)))
    found = to_torch(params, module="", readout="head.")
    assert list(found) == [f"{name}_l0" for name in ENDINGS] + ["head.weight", "head.bias"]
    found["head.bias"][:] = 1
    assert (params["b_q"] < 1).all()


@pytest.mark.parametrize("model", [*OTHERS, LRU(hidden=3, residual=True), LRU(hidden=3, layers=2)], ids=str)
def test_other_models_are_refused(model):
    with pytest.raises(Error, match=r"to_torch takes .* of RNN, GRU, LSTM, MinGRU, MinLSTM or LRU.*PyTorch has no"):
        to_torch(initial(model, Spec(Values(2))))
    with pytest.raises(Error, match=r"to_torch takes the parameters"):
        to_torch({})


def test_a_run_in_place_of_its_parameters_is_refused():
    run = Run(Experiment(), None, Spec(Values(2)), {})
    for given in (run, None, [1.0]):
        with pytest.raises(Error, match=rf"such as run\.params, not {type(given).__name__}"):
            to_torch(given)


def test_entries_that_a_sparse_cell_does_not_read_become_zeros():
    """The parameters are random everywhere, as those of a dense network that was made sparse."""
    spec, model = Spec(Tokens(5)), GRU(hidden=4, layers=2, density=0.4)
    params = initial(model, spec)
    found, plain = to_torch(params, model=model), to_torch(params)
    for layer in range(2):
        name, mask = f"rnn.weight_hh_l{layer}", model.recurrent_mask(layer)
        for block in range(3):
            rows = slice(4 * block, 4 * block + 4)
            np.testing.assert_array_equal(found[name][rows], plain[name][rows] * mask.T)
        assert found.pop(name).dtype == plain.pop(name).dtype
    jax.tree.map(np.testing.assert_array_equal, found, plain)
    with pytest.raises(Error, match=r"to_torch: model = .*: pass the model of the parameters"):
        to_torch(params, model=GRU)
