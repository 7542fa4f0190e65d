"""Bias and noise of gradient estimators.

`measure` draws each strategy many times at the fixed parameters of an RNN of 16 units that reads text, over eight
windows of 10 steps. The bias is relative to the gradient of the whole history; `randomized` is unbiased for the
gradient of the window. A point further up has noisier draws.
"""

import numpy as np

import seqjax as sj
from seqjax.gradients import RFLO, RTRL, UORO, Immediate, Randomized, SnAp, Truncated
from seqjax.models import RNN
from seqjax.samplers import Sequential

text = sj.Text("the quick brown fox jumps over the lazy dog. " * 100)
sampler = Sequential(batch_size=8, num_steps=10)
run = sj.Experiment(dataset=text, model=RNN(hidden=16), sampler=sampler, epochs=5).run()
strategies = {
    "rtrl": RTRL(),
    "snap": SnAp(),
    "rflo": RFLO(),
    "immediate": Immediate(),
    "cut after 5": Truncated(steps=5),
    "randomized": Randomized(0.9),
    "uoro": UORO(),
}
measures = run.measure(strategies, draws=40, windows=8)
print(measures)
noise = np.sqrt(measures.variance)
points = {name: xy for name, *xy in zip(strategies, measures.history_bias, noise, strict=True)}
figure = sj.plot.points(points, x_label="relative bias", y_label="relative noise of one draw", figsize=(3.25, 2.3))
figure.savefig("estimators.png")
