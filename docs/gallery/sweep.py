"""A sweep with bands.

`sweep` trains one run for each combination, here of three strategies and three seeds. The target depends on the inputs
4 and 6 steps earlier: segments of 6 steps reach the first of them, and segments of 2 steps neither. The lines are means
over the seeds, and the bands their 95 % intervals. `compare` prints the differences from one variant, seed by seed.
"""

import seqjax as sj
from seqjax.datasets import Add
from seqjax.gradients import Full, Truncated
from seqjax.models import RNN
from seqjax.optimizers import Adam
from seqjax.samplers import Sequential

base = sj.Experiment(
    dataset=Add(num_steps=40_000),
    model=RNN(hidden=32),
    sampler=Sequential(batch_size=32, num_steps=40),
    optimizer=Adam(learning_rate=0.003),
    epochs=30,
)
gradients = {"full": Full(), "6 steps": Truncated(steps=6), "2 steps": Truncated(steps=2)}
runs = sj.sweep(base, {"gradient": gradients, "seed": range(3)})
print(runs.compare("heldout_loss", against="full"))
figure = sj.plot.runs(runs, x="epoch", y="heldout_loss", figsize=(3.25, 2.3))
figure.savefig("sweep.png")
print(figure.caption)
