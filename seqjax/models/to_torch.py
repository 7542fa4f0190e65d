"""Parameters as the state dict of a PyTorch network. Only arrays are made, and torch is not imported."""

import re

import numpy as np

from seqjax.errors import Error
from seqjax.gradients.problem import Params


def to_torch(
    params: Params, *, module: str = "rnn.", readout: str = "linear.", embedding: str = "embedding."
) -> dict[str, np.ndarray]:
    """The parameters of `RNN`, `GRU` or `LSTM` under the names and in the shapes of PyTorch.

        arrays = seqjax.to_torch(run.params)
        net.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})

    It is the inverse of `from_torch`. The network has an `nn.RNN` (with tanh), `nn.GRU` or `nn.LSTM`, a linear
    read-out, and an embedding if the model has one; otherwise ids are read as one-hot vectors.

    Args:
        params: the parameters, such as those of a run.
        module: the name of the recurrent module, with its dot; "" for the module itself.
        readout: the name of the linear read-out.
        embedding: the name of the embedding.

    Returns:
        Name -> array, in the dtypes of the parameters. `bias_hh` is zero, but for the part of a GRU that the reset gate
        multiplies.

    Raises:
        Error: they are no parameters, or those of another model.
    """
    if not isinstance(params, dict):
        raise Error(f"to_torch takes the parameters of a model, such as run.params, not {type(params).__name__}")
    layers = [name for name in params if re.fullmatch(r"layer_\d+", name)]
    others = {"W_hq", "b_q", "E"} & set(params)
    known = {"W_xh", "W_hh", "b_h", "b_hh"}
    strange = [name for name in params if name not in {*layers, *others}]
    strange += [f"{layer}/{name}" for layer in layers for name in params[layer] if name not in known]
    if not layers or strange or not {"W_hq", "b_q"} <= others:
        raise Error(
            "to_torch takes the parameters of RNN, GRU or LSTM: layer_0, layer_1, ..., W_hq, b_q and E"
            + (f"; PyTorch has no {', '.join(strange)}" if strange else "")
        )
    found = {}
    for number, layer in enumerate(sorted(layers, key=lambda name: int(name.removeprefix("layer_")))):
        weights = {name: np.asarray(array) for name, array in params[layer].items()}
        found[f"{module}weight_ih_l{number}"] = weights["W_xh"].T
        found[f"{module}weight_hh_l{number}"] = weights["W_hh"].T
        found[f"{module}bias_ih_l{number}"] = weights["b_h"]
        found[f"{module}bias_hh_l{number}"] = weights.get("b_hh", np.zeros_like(weights["b_h"]))
    found[f"{readout}weight"], found[f"{readout}bias"] = np.asarray(params["W_hq"]).T, np.asarray(params["b_q"])
    if "E" in params:
        found[f"{embedding}weight"] = np.asarray(params["E"])
    return {name: np.array(array, order="C") for name, array in found.items()}  # copies, which torch may write to
