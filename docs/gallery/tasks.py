"""Tasks whose lowest loss is known.

The black line shows the targets of the first 48 steps, and the grey one the inputs; in a series, the input is the
value before. `floor` is the lowest loss of any model, and `chance` the loss of the best prediction that is always the
same, in nats or as a squared error. On such tasks, a loss says how much has been learned.
"""

import matplotlib.pyplot as plt

from seqjax.datasets import NARMA, Add, Adding, AnBn, CuedCopy, DelayedMatch, Dyck, FlipFlop, Henon, Lorenz

pairs = {"add": Add(), "an-bn": AnBn(), "cued-copy": CuedCopy(), "delayed-match": DelayedMatch(), "dyck": Dyck()}
values = {"flip-flop": FlipFlop(channels=1), "adding": Adding(), "henon": Henon(), "lorenz": Lorenz(), "narma": NARMA()}
with plt.style.context("seqjax.report.seqjax"):
    figure, axes = plt.subplots(5, 2, figsize=(3.25, 4.2), sharex=True, layout="constrained")
    for axis, (name, task) in zip(axes.T.flat, (pairs | values).items(), strict=True):
        data = task.load()[:48]
        inputs, targets = (
            (data.values[:-1], data.values[1:]) if name in ("henon", "lorenz") else (data.inputs, data.targets)
        )
        axis.step(range(len(inputs)), inputs, color="0.7", lw=0.8, ls="-")
        axis.step(range(len(targets)), targets, color="black", lw=0.8, ls="-")
        axis.set_title(name, size=6)
        print(f"{name}: floor {task.floor:.4f}, chance {task.chance:.4f}")
    figure.savefig("tasks.png")
