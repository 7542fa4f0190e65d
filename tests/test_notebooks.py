"""The notebooks of docs/ run, and what a kernel shows of figures and of progress is short."""

import base64
import json
import re

import nbformat
import pytest
from support.notebooks import FOLDER, NOTEBOOKS, execute

MOST_BYTES = 300_000
SMALL_RUN = """
import seqjax as sj
from seqjax.models import RNN

experiment = sj.Experiment(dataset=sj.Text("the cat sat on the mat. " * 100), model=RNN(hidden=3), epochs=40)
run = experiment.run()
"""


def outputs(notebook):
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def faults(text):
    """What is wrong with a notebook as it is committed, one line each."""
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    found = [f"no output: {cell.source[:60]}" for cell in code if not cell.outputs]
    found += ["not executed in order"] if [cell.execution_count for cell in code] != [*range(1, len(code) + 1)] else []
    found += ["an error" for output in outputs(notebook) if output.output_type == "error"]
    found += ["a line of stderr" for output in outputs(notebook) if output.get("name") == "stderr"]
    found += [f"{len(text.encode()):,} bytes"] if len(text.encode()) > MOST_BYTES else []
    # Images are base64, in which any letters may follow a slash.
    words = re.sub(r'"image/png": "[^"]*"|base64,[A-Za-z0-9+/=]*', "", text)
    found += re.findall(
        r"(?:/home|/root|/Users|/tmp|/work|[A-Z]:\\\\)[^\s\"']*| at 0x[0-9a-f]+|20\d\d-\d\d-\d\dT", words
    )
    return found


def test_there_are_notebooks():
    assert [file.stem for file in NOTEBOOKS] == ["first_run", "online", "simulator", "solutions", "truncation"]


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_committed_outputs_are_whole_small_and_of_no_machine(file):
    assert faults(file.read_text("utf-8")) == []


def test_faults_are_found():
    text = NOTEBOOKS[0].read_text("utf-8")
    notebook = json.loads(text)
    cell = next(cell for cell in notebook["cells"] if cell["cell_type"] == "code")

    def planted(**fields):
        changed = [cell | fields if other is cell else other for other in notebook["cells"]]
        return faults(json.dumps(notebook | {"cells": changed}))

    stream = {"output_type": "stream", "name": "stdout", "text": "saved /home/someone/x"}
    error = {"output_type": "error", "ename": "E", "evalue": "", "traceback": []}
    assert planted(outputs=[]) == [f"no output: {''.join(cell['source'])[:60]}"]
    assert planted(outputs=[stream]) == ["/home/someone/x"]
    assert planted(outputs=[stream | {"text": "<X at 0x7f36490d9a90>"}]) == [" at 0x7f36490d9a90"]
    assert planted(outputs=[stream | {"name": "stderr", "text": "warning"}]) == ["a line of stderr"]
    assert planted(outputs=[error]) == ["an error"]
    assert planted(execution_count=7) == ["not executed in order"]
    assert planted(outputs=[stream | {"text": " " * MOST_BYTES}])[0].endswith(" bytes")


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_links_lead_to_files(file):
    notebook = nbformat.read(file, as_version=4)
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    links = re.findall(r"\]\(([^)#]+)", text)
    assert links
    assert [link for link in links if not (FOLDER / link).is_file()] == []


@pytest.mark.slow
@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_runs(file, tmp_path):
    notebook = nbformat.read(file, as_version=4)
    kinds = [sorted(output.get("data", {})) for output in outputs(notebook)]
    execute(notebook, tmp_path)  # an error of a cell is an exception
    assert [sorted(output.get("data", {})) for output in outputs(notebook)] == kinds


@pytest.mark.slow
def test_a_kernel_shows_one_image_of_a_figure_and_one_output_of_progress(tmp_path):
    sources = [SMALL_RUN, "run.plot()", "%matplotlib inline\nrun.plot()", "run", "experiment"]
    notebook = nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, sources)))
    execute(notebook, tmp_path)
    progress, before_magic, after_magic, run, experiment = [cell.outputs for cell in notebook.cells]
    for (output,) in (before_magic, after_magic):
        assert base64.b64decode(output.data["image/png"]).startswith(b"\x89PNG")
        assert set(output.data) == {"image/png", "text/plain"}
    (output,) = progress
    lines = output.data["text/plain"].splitlines()
    assert [line.split()[0] for line in lines] == ["device", "dataset", "model", "epoch", "1", "…", "40"]
    for (output,) in (run, experiment):
        assert "| --- |" in output.data["text/markdown"]
