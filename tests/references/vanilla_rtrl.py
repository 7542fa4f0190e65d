"""Records the gradients of vanilla-rtrl (numpy): RTRL, RFLO, KF-RTRL, UORO, KeRNL, DNI and backpropagation in segments.

    git clone https://github.com/omarschall/vanilla-rtrl FOLDER
    git -C FOLDER checkout 4602f366b285687e03ba343c9344e072777bf8f3
    python tests/references/vanilla_rtrl.py FOLDER

It needs numpy and scipy; the recorded file names the versions. The network is "leaky". Its own `Simulation` runs the
steps, with an optimizer of learning rate zero.

The random numbers are given: `numpy.random.choice` and `numpy.random.normal` are replaced while a rule runs, and return
those of `setting.py`. What starts at random (s̃ and θ̃ of UORO, the two factors of KF-RTRL, the weights of DNI) is given,
too. `rflo, feedback` has given feedback weights in the place of those of the read-out. KF-RTRL has one Kronecker
product for all of [h, x, 1]. `kernl, fixed` keeps its matrix and its rates, and `kernl` learns both with plain gradient
descent. In this code the perturbation that KeRNL adds to its sum at a step enters the perturbed network one step later.
DNI makes its synthetic gradient learn, too; what `dni` records is read after the weights have changed at that step, as
its `Simulation` does.
"""

import argparse
import sys
from unittest import mock

import numpy as np
import scipy
from setting import LEAKS, STEPS, Setting, commit_of, running_sums, write

NETWORK = "leaky"
ALPHA = LEAKS[NETWORK]
RATE = 0.2
"""The learning rate of what a rule learns beside the network."""


def main() -> None:
    """Runs all rules and writes vanilla_rtrl.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="where the repository is checked out")
    folder = parser.parse_args().folder
    sys.path.insert(0, folder)
    import learning_algorithms as rules
    from optimizers import Stochastic_Gradient_Descent as Descent

    s = Setting()
    kernl = {"A": np.eye(len(s.b)) + 0.1 * s.B_0, "alpha": np.linspace(0.2, 0.9, len(s.b)), "sigma_noise": 1.0}
    found = {
        "rtrl": run(rules.RTRL),
        "rflo": run(rules.RFLO, alpha=ALPHA),
        "rflo, feedback": run(rules.RFLO, alpha=ALPHA, W_FB=s.feedback),
        "kf-rtrl": run(rules.KF_RTRL, choices=s.signs[:, :2], A=s.A_0, B=s.B_0),
        "uoro": run(rules.UORO, choices=s.signs, A=s.s_0, B=s.theta_0),
        "kernl, fixed": run(rules.KeRNL, normals=s.zeta, optimizer=Descent(lr=0.0), **kernl),
        "kernl": run(rules.KeRNL, normals=s.zeta, optimizer=Descent(lr=RATE), kept=("A", "alpha"), **kernl),
        "dni": run(rules.DNI, optimizer=Descent(lr=RATE), A=s.synthetic_0, fix_A_interval=1, kept=("A",)),
        "segments-4": run(rules.Efficient_BPTT, T_truncation=4),
        "segments-12": run(rules.Efficient_BPTT, T_truncation=STEPS),
    }
    for name in ("kernl, fixed", "kernl"):
        found[name] |= {"matrix": kernl["A"].tolist(), "rates": kernl["alpha"].tolist()}
    for name in ("kernl", "dni"):
        found[name] |= {"learning rate": RATE}
    write("vanilla_rtrl", "omarschall/vanilla-rtrl", commit_of(folder), {"scipy": scipy.__version__}, found)


def run(rule, choices=None, normals=None, kept=(), **arguments):
    """The gradients of a rule.

    Args:
        rule: the class.
        choices: what each call of `numpy.random.choice` returns; None: there is none.
        normals: the same for `numpy.random.normal`, from when the rule is made on.
        kept: the names of attributes of the rule whose last values are recorded.
        arguments: of the class.
    """
    from core import RNN, Simulation
    from functions import identity, mean_squared_error, tanh
    from optimizers import Stochastic_Gradient_Descent as Descent

    s = Setting()
    network = RNN(s.U, s.W, s.R, s.b, s.c, tanh, ALPHA, identity, mean_squared_error)
    network.reset_network(h=np.zeros_like(s.h_0), a=s.h_0.copy())
    given = {"choice": iter(() if choices is None else choices)}
    normals = iter(() if normals is None else normals)

    def choice(values, size):
        assert values == [-1, 1]
        return next(given["choice"]).reshape(size)

    def normal(mean, deviation, size):
        # `Simulation` draws a state that it then replaces: here it has mean 0 and deviation 1, and the perturbations of
        # KeRNL, which have this deviation, too, are told apart by who asks.
        if sys._getframe(1).f_code.co_name == "reset_network":
            return np.zeros(size)
        return next(normals).reshape(size)

    with mock.patch.object(np.random, "choice", choice), mock.patch.object(np.random, "normal", normal):
        learner = rule(network, **{k: np.copy(v) if isinstance(v, np.ndarray) else v for k, v in arguments.items()})
        simulation = Simulation(network)
        simulation.run(
            {"train": {"X": s.x, "Y": s.y, "trial_switch": np.zeros(STEPS), "loss_mask": np.ones(STEPS)}},
            learn_alg=learner,
            optimizer=Descent(lr=0.0),
            a_initial=s.h_0.copy(),
            monitors=["learn_alg.rec_grads"],
            verbose=False,
        )
    assert next(given["choice"], None) is None
    assert next(normals, None) is None
    found = {"network": NETWORK, "sums": running_sums(simulation.mons["learn_alg.rec_grads"])}
    return found | {f"last {name}": np.asarray(getattr(learner, name)).tolist() for name in kept}


if __name__ == "__main__":
    main()
