"""Records the gradients of sketched-rtrl (PyTorch): RTRL, SnAp-1, SK-RTRL, RFLO, KF-RTRL and UORO.

    git clone https://github.com/sonaradarcn/sketched-rtrl FOLDER
    git -C FOLDER checkout bb6055eb7ab783dc88dff83ea5177a7b05759a4b
    python tests/references/sketched_rtrl.py FOLDER

It needs torch and numpy, and neither jax nor seqjax; the recorded file names the versions. The network is "tanh" alone.

The random signs are given: `torch.randint` is replaced while a rule runs, and returns those of `setting.py`. For ranks
between 0 and the number of units, its SK-RTRL projects the new part onto its c largest directions first; with c as
large as the number of units, this step loses nothing. `certificate` is e_t, its bound on the norm of what it left out,
and `left out` is this norm itself.
"""

import argparse
import sys
from unittest import mock

import numpy as np
import torch
from setting import STEPS, UNITS, Setting, commit_of, running_sums, write


def main() -> None:
    """Runs all rules and writes sketched_rtrl.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="where the repository is checked out")
    folder = parser.parse_args().folder
    sys.path.insert(0, folder)
    from skrtrl import algos, baselines

    torch.set_default_dtype(torch.float64)
    signs = Setting().signs
    rules = {
        "rtrl": run(algos.ExactRTRL),
        "snap-1": run(algos.SnAp1),
        "sk-rtrl-2": run(algos.SKRTRL, r=2, c=UNITS),
        "sk-rtrl-4": run(algos.SKRTRL, r=4, c=UNITS),
        "sk-rtrl-6": run(algos.SKRTRL, r=UNITS),
        "rflo": run(baselines.RFLO, tau=10.0),
        "kf-rtrl": run(baselines.KFRTRL, drawn=[[row[:1], row[1:2]] for row in signs]),
        "uoro": run(baselines.UORO, drawn=[[row] for row in signs]),
    }
    write(
        "sketched_rtrl",
        "sonaradarcn/sketched-rtrl",
        commit_of(folder),
        {"torch": torch.__version__},
        {name: {"network": "tanh"} | found for name, found in rules.items()},
    )


def run(rule, drawn=None, **arguments):
    """The gradients of a rule, and its certificates.

    Args:
        rule: the class.
        drawn: for each step, the signs that its calls of `torch.randint` return; None: it makes no call.
        arguments: of the class.
    """
    from skrtrl.algos import ExactRTRL
    from skrtrl.cells import TanhRNNCell

    setting = Setting()
    cell = TanhRNNCell(setting.U.shape[1], UNITS, dtype=torch.float64)
    for name in "WUb":
        getattr(cell, name).data = torch.tensor(getattr(setting, name))
    algorithm, exact = rule(cell, 1, **arguments), ExactRTRL(cell, 1)
    h, gradients, certificates, left_out = torch.tensor(setting.h_0)[None], [], [], []
    for t in range(STEPS):
        x = torch.tensor(setting.x[t])[None]
        new = cell(x, h).detach()
        pieces = cell.jac_pieces(x, h, new)
        exact.step_state(*pieces)
        signs = iter([] if drawn is None else drawn[t])

        def randint(low, high, size, *, signs=signs, **_):
            assert (low, high) == (0, 2)
            return (torch.tensor(next(signs)).reshape(size) + 1) / 2

        with mock.patch.object(torch, "randint", randint):
            algorithm.step_state(*pieces)
        assert next(signs, None) is None
        h = new.clone().requires_grad_()
        error = h @ torch.tensor(setting.R).T + torch.tensor(setting.c) - torch.tensor(setting.y[t])
        (of_h,) = torch.autograd.grad((error**2).sum() / 2, h)
        h = new
        gradients.append(algorithm.grad_rows(of_h).numpy().copy())
        if hasattr(algorithm, "e"):
            certificates.append(algorithm.e.item())
            left_out.append((algorithm.residual_dense() - exact.J).norm().item())
    found = {"arguments": arguments, "sums": running_sums(np.array(gradients))}
    return found | ({"certificate": certificates, "left out": left_out} if certificates else {})


if __name__ == "__main__":
    main()
