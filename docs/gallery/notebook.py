"""Runs in a notebook.

Experiments, runs, tables and figures show themselves in Jupyter, and so does progress during training. This script
writes what two cells show into one page, and its last line takes a picture.
"""

import subprocess
from base64 import b64encode
from io import BytesIO
from pathlib import Path

import seqjax as sj
from seqjax_models import LRU
from seqjax_optimizers import Adam

text = sj.Text("the quick brown fox jumps over the lazy dog. " * 100)
base = sj.Experiment(dataset=text, model=LRU(hidden=16), optimizer=Adam(learning_rate=0.02), epochs=15)
runs = sj.sweep(base, {"model.hidden": [4, 16], "seed": range(2)})
file = BytesIO()
sj.plot.runs(runs, x="epoch", y="heldout_perplexity").savefig(file, dpi=75)
image = b64encode(file.getvalue()).decode()
cells = {
    "runs.first": runs.first._repr_html_(),
    'sj.plot.runs(runs, x="epoch", y="heldout_perplexity")': f"<img src='data:image/png;base64,{image}'>",
}
cell = "<pre style='background: #eee; padding: 8px'>{}</pre>{}"
body = "".join(cell.format(*item) for item in cells.items())
Path("cells.html").write_text(f"<meta charset=utf-8><body style='font: 13px sans-serif'>{body}")
browser = ["chromium", "--headless", "--no-sandbox", "--hide-scrollbars", "--window-size=480,640"]
browser += ["--force-device-scale-factor=2", "--screenshot=notebook.png", Path("cells.html").resolve().as_uri()]
subprocess.run(browser, check=True, capture_output=True)
