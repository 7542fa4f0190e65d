"""Records what PyTorch computes with small networks, for test_from_torch.py to compare with; needs torch.

Type: python tests/models/record_torch.py
"""

from pathlib import Path

import torch
from safetensors.torch import save_file

HIDDEN, T, B, D, Q = 4, 6, 3, 5, 7
FOLDER = Path(__file__).parent / "recorded"


def record(kind: str, layers: int) -> dict[str, torch.Tensor]:
    """Weights, inputs, the outputs of the recurrent module and of the network, the loss, and its gradient."""
    torch.manual_seed(0)
    net = torch.nn.ModuleDict({"rnn": getattr(torch.nn, kind)(D, HIDDEN, layers), "linear": torch.nn.Linear(HIDDEN, Q)})
    xs, targets = torch.randn(T, B, D), torch.randn(T, B, Q)
    hidden = net["rnn"](xs)[0]
    outputs = net["linear"](hidden)
    loss = torch.nn.functional.mse_loss(outputs, targets)
    loss.backward()
    found = {"xs": xs, "targets": targets, "hidden": hidden, "outputs": outputs, "loss": loss}
    found |= {f"net.{name}": parameter for name, parameter in net.named_parameters()}
    found |= {f"grad.{name}": parameter.grad for name, parameter in net.named_parameters()}
    return {name: tensor.detach().contiguous() for name, tensor in found.items()}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for kind in ("RNN", "GRU", "LSTM"):
        for layers in (1, 2):
            save_file(record(kind, layers), FOLDER / f"{kind}_{layers}.safetensors", {"torch": torch.__version__})
