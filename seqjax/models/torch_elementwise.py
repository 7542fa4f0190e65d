"""The weights of public PyTorch versions of minGRU and minLSTM (minGRU-pytorch), and of LRU (LRU-pytorch).

In these packages and in seqjax the initial state is zero. minGRU and minLSTM correspond to `positive=True`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from seqjax.errors import Error
from seqjax.gradients.contract.problem import Params

ORDERS = {"to_hidden_and_gate": (1, 0), "to_hidden_and_f_i_gate": (1, 2, 0)}
"""The places of our blocks (z, n of min-gru; f, i, n of min-lstm) in the matrices of PyTorch (n, z; n, f, i)."""
OF_LRU = "nu_log"
"""A parameter of an LRU."""
NU_OF_ZERO = 7.0
"""|λ| = exp(-exp(7)) is 0 in all dtypes."""

Arrays = dict[str, np.ndarray]


def modules_of(arrays: Mapping[str, Any]) -> dict[str, str]:
    """The modules of such a network: name, with its dot -> what it is recognised by, one of `ORDERS` or `OF_LRU`.

    They are in the order of their names, 2 before 10: a file of arrays need not keep the order of the network.
    """
    found = {name.removesuffix(OF_LRU): OF_LRU for name in arrays if name.endswith(OF_LRU)}
    for linear in ORDERS:
        end = f"{linear}.weight"
        found |= {name.removesuffix(end): linear for name in arrays if name.endswith(end)}
    numbered = lambda name: [(not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in name.split(".")]
    return {name: found[name] for name in sorted(found, key=numbered)}


def read_layers(arrays: Arrays, modules: dict[str, str]) -> tuple[Params, int]:
    """`layer_0`, ... from the modules, with `W_hq` and `b_q` if they have a read-out, and the number of their outputs.

    What is read is taken from `arrays`.

    Raises:
        Error: they are of different kinds, or an entry is missing or has another shape.
    """
    if len(set(modules.values())) > 1 or (len(modules) > 1 and OF_LRU in modules.values()):
        kinds = ", ".join(f"{module or 'the network'} ({kind})" for module, kind in modules.items())
        raise Error(f"from_torch reads one LRU, or several minGRU or minLSTM, not {kinds}; choose with prefix=")
    if OF_LRU in modules.values():
        return _read_lru(arrays, *modules)
    *lower, _ = modules
    if any(f"{module}to_out.weight" in arrays for module in lower):
        raise Error("from_torch: only the last module of a stack may have to_out (expansion_factor = 1 in the others)")
    params: Params = {}
    width: int | None = None
    for number, (module, linear) in enumerate(modules.items()):
        order = ORDERS[linear]
        W = take(arrays, f"{module}{linear}.weight", None, width)
        if len(W) % len(order):
            raise Error(f"from_torch: {module}{linear}.weight has {len(W)} rows, which are not {len(order)} blocks")
        b = take(arrays, f"{module}{linear}.bias", len(W), default=np.zeros(len(W), W.dtype))
        params[f"layer_{number}"] = {"W_xh": _reordered(W, order).T.copy(), "b_h": _reordered(b, order)}
        width = hidden = len(W) // len(order)
    if (name := f"{module}to_out.weight") in arrays:
        W = take(arrays, name, None, hidden)
        params |= {"W_hq": W.T.copy(), "b_q": np.zeros(len(W), W.dtype)}
    return params, hidden


def _reordered(a, order):
    blocks = np.split(a, len(order))
    return np.concatenate([blocks[i] for i in order])


def _read_lru(arrays, module):
    """The parameters for y_t = Re(C s_t) + D x_t + bias.

    D x_t is computed by additional units with λ = 0, whose state is a pair of inputs, x_a + i x_b. Their λ stays 0 in
    training, since its derivative by ν is 0.
    """
    nu = take(arrays, f"{module}nu_log", None)
    theta, gamma = (take(arrays, f"{module}{name}", len(nu)) for name in ("theta_log", "gamma_log"))
    B, C = take(arrays, f"{module}B", len(nu), None), take(arrays, f"{module}C", None, len(nu))
    D = take(arrays, f"{module}D", len(C), B.shape[1])
    bias_B = take(arrays, f"{module}bias_B", len(nu), default=np.zeros(len(nu), B.dtype))
    bias = take(arrays, f"{module}bias", len(C), default=np.zeros(len(C), nu.dtype))
    if D.any():
        units = (D.shape[1] + 1) // 2
        D = np.pad(D, ((0, 0), (0, 2 * units - D.shape[1])))
        one = np.eye(2 * units, B.shape[1])
        # Re((D_a - i D_b)(x_a + i x_b)) = D_a x_a + D_b x_b
        B = np.concatenate([B, one[0::2] + 1j * one[1::2]])
        C = np.concatenate([C, D[:, 0::2] - 1j * D[:, 1::2]], 1)
        nu = np.pad(nu, (0, units), constant_values=NU_OF_ZERO)
        theta, gamma, bias_B = (np.pad(a, (0, units)) for a in (theta, gamma, bias_B))
    as_real = lambda *parts: np.concatenate(parts, -1).astype(nu.dtype)
    layer: Params = {"W_xh": as_real(B.real.T, B.imag.T), "b_h": as_real(bias_B.real, bias_B.imag)}
    layer |= {"cell": {"nu": nu.copy(), "theta": theta.copy(), "gamma": gamma.copy()}}
    return {"layer_0": layer, "W_hq": as_real(C.real, -C.imag).T.copy(), "b_q": bias.copy()}, len(C)


def take(arrays: Arrays, name: str, *shape: int | None, default: np.ndarray | None = None) -> np.ndarray:
    """Takes an entry from `arrays`.

    Raises:
        Error: it is missing without a default, or its shape is another one (None: any number).
    """
    if name not in arrays:
        if default is not None:
            return default
        raise Error(f"from_torch: {name} is missing; not read so far: {', '.join(arrays) or 'nothing'}")
    array = arrays.pop(name)
    if len(shape) != array.ndim or any(n not in (None, m) for n, m in zip(shape, array.shape, strict=True)):
        expected = ", ".join("any" if n is None else str(n) for n in shape)
        raise Error(f"from_torch: {name} has shape {list(array.shape)}, expected [{expected}]")
    return array


def write_layers(layers: list[Params], params: Params, module: str) -> tuple[Arrays, bool] | None:
    """The arrays of the modules, and whether they include the read-out; None if the layers belong to other models.

    Args:
        layers: from the lowest to the highest.
        params: all parameters.
        module: the name of the module, with its dot; of several modules, the name of their `nn.Sequential`.
    """
    names = {name for layer in layers for name in layer}
    if names == {"W_xh", "b_h"}:
        return _write_min(layers, params, module)
    if names == {"W_xh", "b_h", "cell"} and len(layers) == 1 and set(layers[0]["cell"]) == {"nu", "theta", "gamma"}:
        return _write_lru(layers[0], params, module)
    return None


def _write_min(layers, params, module):
    arrays: Arrays = {}
    sizes = [*(len(layer["W_xh"]) for layer in layers[1:]), len(params["W_hq"])]
    for number, (layer, hidden) in enumerate(zip(layers, sizes, strict=True)):
        linear = next((name for name, order in ORDERS.items() if layer["b_h"].size == len(order) * hidden), None)
        if linear is None:
            return None
        order = np.argsort(ORDERS[linear])
        name = f"{module}{linear}" if len(layers) == 1 else f"{module}{number}.{linear}"
        arrays[f"{name}.weight"] = _reordered(np.asarray(layer["W_xh"]).T, order)
        # The public modules have no biases, so that only biases that are not zero need an entry.
        if np.any(layer["b_h"]):
            arrays[f"{name}.bias"] = _reordered(np.asarray(layer["b_h"]), order)
    return arrays, False


def _write_lru(layer, params, module):
    B_re, B_im = np.split(np.asarray(layer["W_xh"]).T, 2)
    C_re, minus_C_im = np.split(np.asarray(params["W_hq"]).T, 2, 1)
    arrays = {f"{module}{name}_log": np.asarray(layer["cell"][name]) for name in ("nu", "theta", "gamma")}
    arrays |= {f"{module}B": B_re + 1j * B_im, f"{module}C": C_re - 1j * minus_C_im}
    arrays[f"{module}D"] = np.zeros((len(C_re), B_re.shape[1]), C_re.dtype)
    if np.any(layer["b_h"]):
        re, im = np.split(np.asarray(layer["b_h"]), 2)
        arrays[f"{module}bias_B"] = re + 1j * im
    if np.any(params["b_q"]):
        arrays[f"{module}bias"] = np.asarray(params["b_q"])
    return arrays, True
