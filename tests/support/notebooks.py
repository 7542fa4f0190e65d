"""Executes the notebooks of docs/. As a script (`make notebooks`), it also writes their outputs into their files."""

import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[2] / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def execute(notebook: nbformat.NotebookNode, folder: Path) -> None:
    """Replaces the outputs of a notebook by those of a kernel that works in a folder; a cell that fails is an error."""
    resources = {"metadata": {"path": str(folder)}}
    # Times and the version of Python would change the file with each execution.
    options = {"timeout": 600, "kernel_name": "python3", "record_timing": False}
    # Lines that are printed at different times are one output, so that the outputs do not depend on the speed.
    NotebookClient(notebook, resources=resources, coalesce_streams=True, **options).execute()
    notebook.metadata.language_info = {"name": "python"}


if __name__ == "__main__":
    for file in NOTEBOOKS:
        print(file.name, flush=True)
        notebook = nbformat.read(file, as_version=4)
        with tempfile.TemporaryDirectory() as folder:
            execute(notebook, Path(folder))
        nbformat.write(notebook, file)
