"""A figure and a table for a paper.

A column of ICML is 3.25 inches wide. The colours also differ in greyscale. What the lines and bands are is in the
caption, which is escaped for LaTeX. `to_latex` prints the table.
"""

import seqjax as sj
from seqjax.gradients import Full, Truncated
from seqjax.models import GRU, LRU
from seqjax.optimizers import Adam

text = sj.Text("the quick brown fox jumps over the lazy dog. " * 100)
base = sj.Experiment(dataset=text, optimizer=Adam(learning_rate=0.02), epochs=15)
models = {"GRU": GRU(hidden=16), "LRU": LRU(hidden=16)}
gradients = {"full": Full(), "K = 2": Truncated(steps=2)}
runs = sj.sweep(base, {"model": models, "gradient": gradients, "seed": range(3)})
print(runs.compare("heldout_perplexity").choose(("variant", "last"), digits=3).to_latex())
figure = sj.plot.runs(runs, x="epoch", y="heldout_perplexity", figsize=(3.25, 2.3))
figure.savefig("paper.png")
print(figure.caption)
