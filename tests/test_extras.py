"""Without the packages of the extras, each feature that needs one says what to install, and everything else works."""

import importlib
import itertools
import json
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from seqjax import extras
from seqjax.extras import EXTRAS

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
PROGRAM = """
import contextlib, io, json, sys
from pathlib import Path

from seqjax.extras import EXTRAS

for packages in EXTRAS.values():
    sys.modules |= dict.fromkeys(packages)  # None: an import of it fails as that of a missing package
import jax
import jax.numpy as jnp
import pytest
import seqjax as sj
from seqjax.cli import main
from seqjax.data import download

def step(w, s, x):
    return 0.5 * s + w * x, s

def called(*argv):
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
        code = main([*argv])
    return code, out.getvalue()

text = sj.Text("abc" * 600)
Path("t.parquet").touch()
Path("t.jsonl").touch()
experiment = sj.Experiment(dataset=text, model=sj.models.RNN(hidden=2), epochs=1)
with contextlib.redirect_stdout(io.StringIO()) as out:
    run = experiment.run("run", progress=True)
again = sj.Run.open("run")
calls = {
    "a figure": lambda: sj.lags(step, jnp.array(0.5), jnp.array(0.0), jnp.ones(6), max_lag=3).plot(),
    "plot": lambda: sj.plot.lines({"a": [1, 2]}),
    "figure of a run": lambda: run.plot(),
    "report": lambda: sj.Report(title="x").figure("f", None),
    "parquet": lambda: sj.datasets.CSV(path="t.parquet", inputs=("a",), targets=("b",)).load(),
    "json lines": lambda: sj.datasets.CSV(path="t.jsonl", inputs=("a",), targets=("b",)).load(),
    "hf-dataset": lambda: sj.datasets.HFDataset(path="t.parquet", column="text").load(),
    "bpe": lambda: sj.tokenizers.BPE().fit(text),
    "download": lambda: download("https://localhost/x", "sha1:0"),
    "from_flax": lambda: sj.from_flax(None),
    "flax-cell": lambda: sj.models.FlaxCell(hidden=2).init(jax.random.key(0), run.spec),
    "digits": lambda: sj.datasets.Digits().load(),
    "stocks": lambda: sj.datasets.Stocks().load(),
    "tensorboard": lambda: sj.trackers.TensorBoard().open(Path("run"), {}, 0),
    "trackio": lambda: sj.trackers.Trackio().open(Path("run"), {}, 0),
}
said = {}
for name, call in calls.items():
    with pytest.raises(sj.Error) as caught:
        call()
    said[name] = str(caught.value)
said |= {
    "run": out.getvalue(),
    "files": sorted(file.name for file in Path("run").iterdir()),
    "metrics": again.metrics == run.metrics,
    "verify": called("verify", "run"),
    "list": called("list"),
    "compare": called("compare", "run", "--figure", "f.png"),
}
json.dump(said, open("said.json", "w"))
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What is said without the packages of the extras, by feature."""
    folder = tmp_path_factory.mktemp("extras")
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "said.json").read_text())


NEEDS = {
    "a figure": ("a figure", "matplotlib", "plot"),
    "plot": ("a figure", "matplotlib", "plot"),
    "figure of a run": ("a figure", "matplotlib", "plot"),
    "report": ("figure 'f'", "matplotlib", "plot"),
    "stocks": ("dataset stocks", "matplotlib", "plot"),
    "parquet": ("dataset csv: reading t.parquet", "pyarrow", "data"),
    "json lines": ("dataset csv: reading t.jsonl", "pyarrow", "data"),
    "hf-dataset": ("dataset hf-dataset", "datasets", "data"),
    "bpe": ("tokenizer bpe", "tokenizers", "data"),
    "download": ("download https://localhost/x", "pooch", "data"),
    "from_flax": ("from_flax", "flax", "flax"),
    "flax-cell": ("model flax-cell", "flax", "flax"),
    "digits": ("dataset digits", "sklearn", "digits"),
    "tensorboard": ("tracker tensorboard", "tensorboardX", "tensorboard"),
    "trackio": ("tracker trackio", "trackio", "trackio"),
}
"""Feature -> what its error names in Python: what is needed, by whom, and the extra."""


@pytest.mark.parametrize("feature", NEEDS)
def test_a_feature_names_its_extra(said, feature):
    what, package, extra = NEEDS[feature]
    assert said[feature] == f"{what} needs {package}, which is not installed; type: pip install 'seqjax[{extra}]'"


NO_FIGURE = "no figure is written, since matplotlib is not installed; for figures type: pip install 'seqjax[plot]'"


def test_a_run_without_a_figure_trains_and_says_so(said):
    assert NO_FIGURE in said["run"]
    assert {"metrics.jsonl", "params.safetensors"} <= {*said["files"]}
    assert "history.png" not in said["files"]
    assert said["metrics"]
    assert said["verify"][0] == 0, said["verify"]


def test_the_command_line_names_the_extras(said):
    code, listed = said["list"]
    assert code == 0
    lines = listed.splitlines()
    marked = [before.split()[0] for before, line in itertools.pairwise(lines) if "pip install" in line]
    assert marked == [
        *("seqjax/digits", "seqjax/hf-dataset", "seqjax/stocks", "seqjax/bpe", "seqjax/flax-cell"),
        *("seqjax/tensorboard", "seqjax/trackio"),
    ]
    code, text = said["compare"]
    assert (code, "pip install 'seqjax[plot]'" in text) == (2, True), text


def test_a_folder_without_code_is_no_package(monkeypatch, tmp_path):
    """Such as `datasets` in the working folder, or what `pip uninstall` has left."""
    (tmp_path / "folder_of_data").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(extras.EXTRAS, "data", ("folder_of_data",))
    assert not extras.is_installed("data")
    with pytest.raises(extras.MissingExtra, match="a table needs folder_of_data"), extras.needing("data", "a table"):
        importlib.import_module("folder_of_data")
    monkeypatch.delitem(sys.modules, "folder_of_data")


def test_a_package_that_cannot_be_imported_costs_the_figure_alone(monkeypatch, tmp_path):
    (tmp_path / "matplotlib").mkdir()
    (tmp_path / "matplotlib" / "__init__.py").write_text("raise ImportError('libfreetype.so: not found')")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    assert extras.why_no_figure() == (
        "no figure is written, since matplotlib cannot be imported: libfreetype.so: not found"
    )


def test_the_extras_are_those_of_the_project():
    """`all` has the packages of plot, data and flax, and not those for a GPU or a TPU."""
    distributions = packages_distributions()
    declared = {extra: {*map(Requirement, lines)} for extra, lines in PROJECT["optional-dependencies"].items()}
    (whole,) = (one for one in declared["all"] if one.name == "seqjax")
    assert whole.extras == {"plot", "data", "flax"}
    names = {extra: {one.name for one in needs} - {"seqjax"} for extra, needs in declared.items()}
    assert {extra for extra, needed in names.items() if needed == {"jax"}} == {"cuda", "tpu"}
    assert {extra: {distributions[package][0] for package in packages} for extra, packages in EXTRAS.items()} == {
        extra: needed for extra, needed in names.items() if needed not in ({"jax"}, set())
    }
