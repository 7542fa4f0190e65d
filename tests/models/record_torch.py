"""Records what PyTorch computes with small networks, for test_torch_weights.py to compare with.

Type: pip install torch safetensors && pip install --no-deps minGRU-pytorch==0.2.1 LRU-pytorch==0.1.3
Then: python tests/models/record_torch.py
"""

from pathlib import Path

import torch
from LRU_pytorch import LRU
from minGRU_pytorch.minGRU import minGRU
from minGRU_pytorch.minLSTM import minLSTM
from safetensors.torch import save_file

HIDDEN, T, B, D, Q = 4, 6, 3, 5, 7
FOLDER = Path(__file__).parent / "recorded"


def record(kind: str, layers: int) -> dict[str, torch.Tensor]:
    """Weights, inputs, the outputs of the recurrent module and of the network, the loss, and its gradient."""
    torch.manual_seed(0)
    net = torch.nn.ModuleDict({"rnn": getattr(torch.nn, kind)(D, HIDDEN, layers), "linear": torch.nn.Linear(HIDDEN, Q)})
    xs, targets = torch.randn(T, B, D), torch.randn(T, B, Q)
    hidden = net["rnn"](xs)[0]
    return results(net, xs, targets, net["linear"](hidden)) | {"hidden": hidden.detach().contiguous()}


def record_public(net: torch.nn.Module, *before: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The same of networks whose modules take [B, T, D], the last of them with a read-out."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(*before, net) if before else net
    xs = torch.randn(T, B, D)
    outputs = net(xs.transpose(0, 1)).transpose(0, 1)
    return results(net, xs, torch.randn_like(outputs), outputs)


def results(net, xs, targets, outputs):
    """What is recorded of a network."""
    loss = torch.nn.functional.mse_loss(outputs, targets)
    loss.backward()
    found = {"xs": xs, "targets": targets, "outputs": outputs, "loss": loss}
    found |= {f"net.{name}": parameter for name, parameter in net.named_parameters()}
    found |= {f"grad.{name}": parameter.grad for name, parameter in net.named_parameters()}
    return {name: tensor.detach().contiguous() for name, tensor in found.items()}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for kind in ("RNN", "GRU", "LSTM"):
        for layers in (1, 2):
            save_file(record(kind, layers), FOLDER / f"{kind}_{layers}.safetensors", {"torch": torch.__version__})
    torch.manual_seed(0)
    public = {
        "minGRU": record_public(minGRU(D, expansion_factor=1.6)),
        "minGRU_stacked": record_public(minGRU(D), minGRU(D)),
        "minLSTM": record_public(minLSTM(D, expansion_factor=1.6)),
        "minLSTM_stacked": record_public(minLSTM(D), minLSTM(D)),
        "LRU": record_public(LRU(D, Q, HIDDEN)),
    }
    for name, found in public.items():
        save_file(found, FOLDER / f"{name}.safetensors", {"torch": torch.__version__})
