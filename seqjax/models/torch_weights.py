"""Converts between the weights of a PyTorch network and parameters. Only arrays are used, and torch is not imported."""

import re
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from seqjax.errors import Error, check_type
from seqjax.gradients.contract.problem import Params
from seqjax.models.cell import Cell
from seqjax.models.model import Model
from seqjax.models.torch_elementwise import Arrays, modules_of, read_layers, take, write_layers

_LEAF = re.compile(r"(?P<module>.*?)(?P<leaf>(weight|bias)_(ih|hh|hr)_l(?P<layer>\d+)(_reverse)?)")
_BLOCKS = {1: "nn.RNN", 3: "nn.GRU", 4: "nn.LSTM"}


def from_torch(state_dict: Mapping[str, Any], prefix: str = "") -> Params:
    """The parameters of a model from the state dict of a PyTorch network.

    >>> import numpy as np
    >>> import seqjax as sj
    >>> state_dict = {  # or net.state_dict(), or safetensors.numpy.load_file("net.safetensors")
    ...     "rnn.weight_ih_l0": np.ones((4, 3), np.float32),
    ...     "rnn.weight_hh_l0": np.ones((4, 4), np.float32),
    ...     "linear.weight": np.ones((3, 4), np.float32),
    ...     "linear.bias": np.ones(3, np.float32),
    ... }
    >>> params = sj.from_torch(state_dict)
    >>> {name: array.shape for name, array in params["layer_0"].items()}
    {'W_xh': (3, 4), 'W_hh': (4, 4), 'b_h': (4,)}

    The network has one `nn.RNN` (with tanh), `nn.GRU` or `nn.LSTM` with any number of layers, and the result has the
    parameters of `RNN`, `GRU` or `LSTM`. It may have one linear read-out (a `*.weight` with its `*.bias`) and one
    embedding (a `*.weight` alone). Without a read-out, `W_hq` is the identity and `b_q` is zero, so that the model
    returns the outputs of the recurrent module: the h_t of its highest layer. The spec then has `Values(hidden)` as
    targets.

    PyTorch's matrices are transposed, and its two biases are summed: `b_h` = b_ih + b_hh. A GRU multiplies one part of
    b_hh by the reset gate; that part is kept in `b_hh` [3 hidden], with zeros for r and z, unless it is zero.

    In place of the recurrent module, the network may have

    - one or several `minGRU` or `minLSTM` of lucidrains/minGRU-pytorch, one after the other in the order of the names,
      for `MinGRU(positive=True)` or `MinLSTM(positive=True)`. The `to_out` of the last one is the read-out;
    - one `LRU` of Gothos/LRU-pytorch (0.1.3), for `LRU`, with its read-out. Its D x_t is computed by ⌈inputs / 2⌉
      additional units with λ = 0, unless D is zero.

    Args:
        state_dict: name -> array: tensors on the CPU, numpy or jax arrays. If the read-out has no bias, add a bias of
            zeros.
        prefix: only entries whose names start with it are read, such as "decoder." of a network with several parts.

    Returns:
        Arrays in their own dtypes: `layer_0`, `layer_1`, ... with `W_xh`, `b_h` and, if the model has them, `W_hh` and
        `cell`; `W_hq` and `b_q`; and `E` if there is an embedding.

    Raises:
        Error: names or shapes are missing, or do not fit such a network (it may be bidirectional, or have projections);
            a value cannot be read.
    """
    if not isinstance(state_dict, Mapping):
        raise Error(f"from_torch takes a mapping of names to arrays, such as net.state_dict(), not {state_dict!r:.80}")
    check_type("from_torch: prefix", prefix, str, "the beginning of names, such as 'decoder.'")
    for name in state_dict:
        check_type("from_torch: a name", name, str, "arrays by texts, such as net.state_dict()")
    arrays = {name: _array(name, value) for name, value in state_dict.items() if name.startswith(prefix)}
    modules = modules_of(arrays)
    params, hidden = read_layers(arrays, modules) if modules else _read_recurrent(arrays, prefix)
    return params | _readout_and_embedding(arrays, params, hidden)


def _read_recurrent(arrays: Arrays, prefix: str) -> tuple[Params, int]:
    """`layer_0`, ... of an `nn.RNN`, `nn.GRU` or `nn.LSTM`, and its outputs. Takes what it reads from `arrays`."""
    leaves = {name: match for name in arrays if (match := _LEAF.fullmatch(name))}
    modules = sorted({match["module"] for match in leaves.values()})
    if len(modules) != 1:
        problem = (
            f"several recurrent modules ({', '.join(modules)}); choose with prefix=" if modules else _listed(arrays)
        )
        raise Error(
            f"from_torch needs weight_ih_l0, weight_hh_l0, ... of one module under prefix={prefix!r}: {problem}"
        )
    _refuse_variants(leaves)
    layers = {int(match["layer"]) for match in leaves.values()}
    params: Params = {}
    width = None
    for layer in range(max(layers) + 1):
        params[f"layer_{layer}"] = _layer(arrays, modules[0], layer, width)
        width = len(params[f"layer_{layer}"]["W_hh"])
    return params, len(params["layer_0"]["W_hh"])


def _array(name, value):
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as cause:
        raise Error(f"from_torch: {name}: numpy cannot read it: {cause}\nTry net.float().cpu().state_dict()") from cause
    # The B and C of an LRU are complex.
    kind = jnp.inexact if name.split(".")[-1] in ("B", "C", "bias_B") else jnp.floating
    if not jnp.issubdtype(array.dtype, kind):
        raise Error(f"from_torch: {name} is {array.dtype}, and not a floating-point array")
    return array


def _refuse_variants(leaves):
    for name, match in leaves.items():
        if match["leaf"].endswith("_reverse"):
            raise Error(f"from_torch: {name}: the module is bidirectional, and a seqjax model reads forwards only")
        if "_hr_" in match["leaf"]:
            raise Error(f"from_torch: {name}: the LSTM has projections (proj_size), which seqjax's LSTM does not have")


def _layer(arrays, module, layer, width):
    """The parameters of one layer, whose input has `width` numbers (None: any)."""
    name = f"{module}{{}}_l{layer}".format
    W_hh = take(arrays, name("weight_hh"), None, None)
    rows, hidden = W_hh.shape
    if rows % hidden or rows // hidden not in _BLOCKS:
        kinds = ", ".join(f"{n} ({kind})" for n, kind in _BLOCKS.items())
        raise Error(f"from_torch: {name('weight_hh')} has shape {rows, hidden}: rows / columns must be {kinds}")
    W_xh = take(arrays, name("weight_ih"), rows, width)
    zeros = np.zeros(rows, W_hh.dtype)
    has_bias = name("bias_ih") in arrays or name("bias_hh") in arrays
    b_ih, b_hh = (take(arrays, name(leaf), rows) for leaf in ("bias_ih", "bias_hh")) if has_bias else (zeros, zeros)
    # A GRU computes n = tanh(u_n + r (v_n + b_hn)), so that its b_hn cannot be added to the bias of u_n.
    is_kept = (np.arange(rows) >= 2 * hidden) & (rows == 3 * hidden)
    kept, summed = np.where(is_kept, b_hh, zeros), np.where(is_kept, zeros, b_hh)
    params = {"W_xh": _transposed(W_xh), "W_hh": _transposed(W_hh), "b_h": b_ih + summed}
    return params | ({"b_hh": kept} if kept.any() else {})


def _readout_and_embedding(arrays, params, hidden):
    """`W_hq`, `b_q` and, if there is one, `E`, from the entries that are left.

    Args:
        arrays: these entries.
        params: the layers, and maybe a read-out.
        hidden: the number of outputs of the last layer.
    """
    inputs = len(params["layer_0"]["W_xh"])
    weights = [name for name in arrays if name.endswith("weight") and arrays[name].ndim == 2]
    bias_of = {name: name.removesuffix("weight") + "bias" for name in weights}
    linear = [name for name in weights if bias_of[name] in arrays and arrays[name].shape[1] == hidden]
    tables = [name for name in weights if bias_of[name] not in arrays and arrays[name].shape[1] == inputs]
    others = set(arrays) - {*linear, *tables, *(bias_of[name] for name in linear)}
    most = 0 if "W_hq" in params else 1
    if others or len(linear) > most or len(tables) > 1:
        raise Error(
            f"from_torch: besides its recurrent layers a network may have one linear read-out (.weight [any, {hidden}] "
            f"and .bias) and one embedding (.weight [any, {inputs}] alone); remove the other entries of:",
            problems=[f"{name} {list(array.shape)}" for name, array in arrays.items()],
        )
    dtype = params["layer_0"]["W_xh"].dtype
    readout: Params = {}
    if "W_hq" not in params:
        readout = {"W_hq": np.eye(hidden, dtype=dtype), "b_q": np.zeros(hidden, dtype)}
    for name in linear:
        readout |= {"W_hq": _transposed(arrays[name]), "b_q": np.array(arrays[bias_of[name]])}
    for name in tables:
        readout |= {"E": np.array(arrays[name])}
    return readout


def _transposed(array):
    """The transposed array, copied, so that it shares no memory with the network."""
    return np.array(array.T, order="C")


def _listed(arrays):
    return f"found {', '.join(arrays) or 'nothing'}"


def to_torch(
    params: Params,
    *,
    module: str = "rnn.",
    readout: str = "linear.",
    embedding: str = "embedding.",
    model: Model | None = None,
) -> dict[str, np.ndarray]:
    """The parameters of a model under the names and in the shapes of PyTorch.

    >>> import jax
    >>> import seqjax as sj
    >>> from seqjax.models import GRU
    >>> params = GRU(hidden=4).init(jax.random.key(0), sj.Spec(sj.Tokens(3)))  # or run.params
    >>> arrays = sj.to_torch(params)
    >>> arrays["rnn.weight_hh_l0"].shape, arrays["linear.weight"].shape
    ((12, 4), (3, 4))

    It is the inverse of `from_torch`. The network has an `nn.RNN` (with tanh), `nn.GRU` or `nn.LSTM`, a linear
    read-out, and an embedding if the model has one; otherwise ids are read as one-hot vectors. It loads the arrays by

        net.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})

    The parameters of `MinGRU(positive=True)` and `MinLSTM(positive=True)` become arrays for `minGRU` and `minLSTM` of
    lucidrains/minGRU-pytorch (several layers are in an `nn.Sequential`), which always compute g(n): parameters do not
    show whether `positive` was set. The parameters of `LRU` become arrays for `LRU` of Gothos/LRU-pytorch, which
    includes the read-out. These modules have no biases: the `bias` of their linear layer, and the `bias_B` and `bias`
    in y_t = Re(C s_t) + D x_t + bias, s_t = λ s_{t-1} + exp(γ) (B x_t + bias_B), are returned unless they are zero.

    Args:
        params: the parameters, such as `run.params`.
        module: the name of the recurrent module, with its dot; "" for the module itself.
        readout: the name of the linear read-out.
        embedding: the name of the embedding.
        model: the model of the parameters, for a `Cell` with a `recurrent_mask`, which a network of PyTorch does not
            have. Entries of W_hh that the mask leaves out are then written as zeros. Without the model they are written
            as they are: zeros from `init`, unless an optimizer changes entries whose gradient is zero.

    Returns:
        Name -> array, in the dtypes of the parameters. `bias_hh` is zero, except for the part of a GRU that the reset
        gate multiplies.

    Raises:
        Error: `params` are not the parameters of such a model.
    """
    if not isinstance(params, dict):
        raise Error(f"to_torch takes the parameters of a model, such as run.params, not {type(params).__name__}")
    for name, value in {"module": module, "readout": readout, "embedding": embedding}.items():
        check_type(f"to_torch: {name}", value, str, "a text, such as 'rnn.'")
    if model is not None:
        check_type("to_torch: model", model, Model, "the model of the parameters, such as RNN(density=0.1)")
    names = sorted((name for name in params if _is_layer(name)), key=lambda name: int(name.removeprefix("layer_")))
    layers = [params[name] for name in names]
    strange = [name for name in params if name not in {*names, "W_hq", "b_q", "E"}]
    if not layers or strange or not {"W_hq", "b_q"} <= set(params):
        raise _cannot_write(strange)
    arrays, has_readout = write_layers(layers, params, module) or (_write_recurrent(layers, module, model), False)
    if not has_readout:
        arrays |= {f"{readout}weight": np.asarray(params["W_hq"]).T, f"{readout}bias": np.asarray(params["b_q"])}
    if "E" in params:
        arrays[f"{embedding}weight"] = np.asarray(params["E"])
    return {name: np.array(array, order="C") for name, array in arrays.items()}  # copies, which torch may write to


def _is_layer(name):
    return re.fullmatch(r"layer_\d+", str(name)) is not None


def _write_recurrent(layers, module, model):
    arrays: Arrays = {}
    known = {"W_xh", "W_hh", "b_h", "b_hh"}
    for number, layer in enumerate(layers):
        if set(layer) - known or known - {"b_hh"} - set(layer):
            raise _cannot_write([f"layer_{number}/{name}" for name in layer if name not in known])
        weights = {name: np.asarray(array) for name, array in layer.items()}
        mask = model.recurrent_mask(number) if isinstance(model, Cell) else None
        if mask is not None:
            weights["W_hh"] = np.where(np.tile(mask, model.blocks), weights["W_hh"], np.zeros_like(weights["W_hh"]))
        arrays[f"{module}weight_ih_l{number}"] = weights["W_xh"].T
        arrays[f"{module}weight_hh_l{number}"] = weights["W_hh"].T
        arrays[f"{module}bias_ih_l{number}"] = weights["b_h"]
        arrays[f"{module}bias_hh_l{number}"] = weights.get("b_hh", np.zeros_like(weights["b_h"]))
    return arrays


def _cannot_write(strange):
    return Error(
        "to_torch takes the parameters of RNN, GRU, LSTM, MinGRU, MinLSTM or LRU (without residual blocks, and of LRU "
        "with one layer): layer_0, layer_1, ..., W_hq, b_q and E"
        + (f"; PyTorch has no {', '.join(map(str, strange))}" if strange else "")
    )
