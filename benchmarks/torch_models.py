"""Recurrent modules that PyTorch does not have; used by training.py."""

import torch
from torch import nn
from torch.nn.functional import softplus


class MinGRU(nn.Module):
    """minGRU as its authors write it: in log space, by cumulative sums over all steps (Feng et al. 2024)."""

    def __init__(self, inputs, hidden):
        super().__init__()
        self.output = hidden
        self.linear = nn.Linear(inputs, 2 * hidden)

    def forward(self, x_TBD, h=None):
        """All h_t, and the last one."""
        z, n = self.linear(x_TBD).chunk(2, -1)
        if h is None:
            h = torch.full_like(z[0], 0.5)
        # h_t = (1 - z_t) h_{t-1} + z_t n_t, in logarithms; n is positive.
        log_n = torch.where(n >= 0, (n.relu() + 0.5).log(), -softplus(-n))
        log_values = torch.cat([h.log()[None], log_n - softplus(-z)])
        decay = torch.cumsum(torch.cat([torch.zeros_like(z[:1]), -softplus(z)]), 0)
        hs = (decay + torch.logcumsumexp(log_values - decay, 0)).exp()[1:]
        return hs, hs[-1]


class LRU(nn.Module):
    """The linear recurrent unit (Orvieto et al. 2023), as PyTorch packages have it: a loop over complex numbers."""

    def __init__(self, inputs, hidden):
        super().__init__()
        self.output = 2 * hidden
        self.linear = nn.Linear(inputs, 2 * hidden)
        squared = torch.rand(hidden).clamp(1e-6, 1 - 1e-6)
        self.nu = nn.Parameter((-0.5 * squared.log()).log())
        self.theta = nn.Parameter((6.28 * torch.rand(hidden).clamp_min(1e-6)).log())
        self.gamma = nn.Parameter(0.5 * (1 - squared).log())

    def forward(self, x_TBD, s=None):
        """[Re, Im] of all states, and the last state."""
        u = self.gamma.exp() * torch.complex(*self.linear(x_TBD).chunk(2, -1))
        factor = torch.polar((-self.nu.exp()).exp(), self.theta.exp())
        if s is None:
            s = torch.zeros_like(u[0])
        states = []
        for u_t in u:
            s = factor * s + u_t
            states.append(s)
        states = torch.stack(states)
        return torch.cat([states.real, states.imag], -1), s
