"""Generated text.

A GRU reads the documentation that comes with Python, character by character, for six epochs. Then it continues a
prompt, with less and with more chance in the choice of each character.
"""

import textwrap

import matplotlib.pyplot as plt

import seqjax as sj
from seqjax.datasets import PythonDocs
from seqjax.models import GRU
from seqjax.optimizers import Adam

optimizer = Adam(learning_rate=0.01, clip_norm=1.0, schedule="cosine")
experiment = sj.Experiment(
    dataset=PythonDocs(), model=GRU(hidden=128), train=0.7, heldout=0.05, optimizer=optimizer, epochs=6
)
run = experiment.run()
with plt.style.context("seqjax.report.seqjax"):
    figure = plt.figure(figsize=(3.25, 2.3))
    for n, temperature in enumerate((0.2, 0.7, 1.2)):
        text = " ".join(run.generate("The function ", 400, temperature=temperature).split())
        figure.text(0.02, 0.97 - n / 3, f"temperature {temperature}", weight="bold", va="top")
        lines = "\n".join(textwrap.wrap(text, 52)[:4])
        figure.text(0.02, 0.90 - n / 3, lines, family="monospace", size=6, va="top", parse_math=False)
    figure.savefig("text.png")
