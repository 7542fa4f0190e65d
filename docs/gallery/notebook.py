"""Runs in a notebook.

Experiments, runs, tables and figures show themselves in Jupyter, and so does progress during training. This script
executes a notebook of three cells, and writes them with their outputs into a page, of which the picture is.
"""

from html import escape
from pathlib import Path

import nbformat
from markdown_it import MarkdownIt
from nbclient import NotebookClient

CELLS = (
    """import seqjax as sj
from seqjax.models import LRU
from seqjax.optimizers import Adam

text = sj.Text("the quick brown fox jumps over the lazy dog. " * 100)
experiment = sj.Experiment(dataset=text, model=LRU(hidden=16), optimizer=Adam(0.02), epochs=15)
run = experiment.run()""",
    "run",
    "run.plot()",
)
notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
NotebookClient(notebook, kernel_name="python3").execute()
parts = []
for cell in notebook.cells:
    parts.append(f"<pre style='background: #eee; padding: 8px'>{escape(cell.source)}</pre>")
    for data in (output.data for output in cell.outputs if "data" in output):
        image = f"<img width=400 src='data:image/png;base64,{data.get('image/png')}'>" if "image/png" in data else ""
        text = MarkdownIt().enable("table").render(data["text/markdown"]) if "text/markdown" in data else ""
        parts.append(image or text or f"<pre>{escape(data['text/plain'])}</pre>")
page = f"<meta charset=utf-8><body style='font: 13px sans-serif'>{''.join(parts)}"
Path("notebook.html").write_text(page, "utf-8")
