"""A page of runs.

`runs.page` writes one file for a browser, which needs neither a server nor a network: the table of all runs, their
curves, what differs between their experiments, samples and figures. The picture shows its beginning.
"""

import seqjax as sj
from seqjax.gradients import Full, Randomized, Truncated
from seqjax.models import RNN
from seqjax.optimizers import Adam

text = sj.Text("the quick brown fox jumps over the lazy dog. " * 100)
base = sj.Experiment(dataset=text, model=RNN(hidden=16), optimizer=Adam(learning_rate=0.02), epochs=15)
gradients = {"full": Full(), "cut after 2": Truncated(steps=2), "cut at random": Randomized(0.8)}
runs = sj.sweep(base, {"gradient": gradients, "seed": range(3)}, out="runs")
runs.page("page.html")
