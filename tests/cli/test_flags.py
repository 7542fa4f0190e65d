"""The flags of an experiment: what they make of held-out datasets, files and several values."""

import dataclasses
import re
import shlex
import shutil
import tomllib

import pytest
from support.shell import call

from seqjax import Experiment
from seqjax.runs.settings import Scalars

TABLE = ["--dataset", "csv", "--dataset.path", "t.csv", "--dataset.inputs", "b", "--dataset.targets", "y"]


@pytest.fixture
def tables(tmp_path, monkeypatch):
    """Tables of constant columns, in different places."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text("b,y\n" + "1,2\n" * 40)
    (tmp_path / "valid.csv").write_text("y,other,b\n" + "7,9,5\n" * 12)
    (tmp_path / "semicolons.csv").write_text("y;b\n" + "7;5\n" * 12)
    return tmp_path


@pytest.mark.parametrize(
    ("heldout", "expected"),
    [
        ("seqjax/csv:path=valid.csv", ([5.0], [7.0])),
        ("csv:path=valid.csv:inputs=other", ([9.0], [7.0])),
        ("csv:path=semicolons.csv:delimiter=;", ([5.0], [7.0])),
    ],
)
def test_a_heldout_dataset_of_the_same_plugin_has_the_fields_of_the_dataset(tables, heldout, expected):
    done = call("run", *TABLE, "--heldout", heldout, "--print-config")
    pairs = Experiment.from_toml(done.stdout).heldout.load()
    assert (pairs.inputs[0].tolist(), pairs.targets[0].tolist()) == expected


def test_a_heldout_dataset_of_another_plugin_has_its_own_fields(tables):
    done = call("run", *TABLE, "--heldout", "npz:path=valid.npz", "--print-config")
    assert tomllib.loads(done.stdout)["heldout"]["targets"] == "targets", "the default of npz"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["run", *TABLE, "--heldout", "valid.csv"],
         "--heldout valid.csv: a file needs the name of the dataset that reads it: --heldout csv:path=valid.csv"),
        (["run", "--dataset", "no such file.npy"],
         "--dataset no such file.npy: there is no such file, and a file needs the name of the dataset that reads it: "
         "--dataset 'npy:path=no such file.npy'"),
        (["run", "--dataset", "t.parquet"],
         "--dataset t.parquet: there is no such file, and a file needs the name of the dataset that reads it: "
         "--dataset csv:path=t.parquet"),
        (["run", "notes.md"], "no such argument: notes.md; to read this file: --dataset text-file:path=notes.md"),
        (["sweep", "a.toml"], "no such argument: a.toml; to read this file: --config a.toml"),
        (["run", "--gradient", "truncated:steps=3:steps=4", "--epoch"],
         "no such argument: --epoch; did you mean '--epochs'?"),
        (["run", "--metrics", "a", "b"],
         "no such argument: b; several values of a flag are separated by commas, without spaces: --metrics a,b"),
        (["run", *TABLE, "--dataset.inputs", "a,", "b"],
         "several values of a flag are separated by commas, without spaces: --dataset.inputs a,b"),
        (["sweep", "--gradient", "full,truncated"],
         "--gradient full,truncated: the values of a sweep are separated by spaces: --gradient full truncated"),
        (["run", "--seeds", "0-4"], "--seeds 0-4: name each seed, such as --seeds 0,1,2,3,4"),
        (["sweep", "--seeds", "4..2"], "--seeds 4..2: name each seed, such as --seeds 0,1,2"),
    ],
)  # fmt: skip
def test_what_to_type_instead(tables, argv, message):
    (tables / "notes.md").write_text("a text")
    (tables / "a.toml").write_text("epochs = 1")
    done = call(*argv)
    assert done.returncode == 2
    assert done.stderr.startswith(f"seqjax: {message}\n")


def test_the_help_shows_the_values_of_each_choice():
    text = call("run", "--help").stdout
    for field in dataclasses.fields(Scalars):
        values = re.findall(r"'(\w+)'", str(field.type))
        assert not values or f"--{field.name.replace('_', '-')} {{{','.join(values)}}}" in text


@pytest.mark.parametrize(("name", "dataset"), [("my book.txt", "text-file"), ("t.csv", "csv"), ("x.npy", "npy")])
def test_a_path_without_a_dataset_names_the_dataset_that_reads_it(name, dataset):
    done = call("run", "--dataset.path", name)
    flags = f"--dataset {dataset} --dataset.path {shlex.quote(name)}"
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"seqjax: --dataset.path {name}: name the dataset that reads this file too: {flags}\n"


def test_the_path_of_a_config_can_be_changed(tables):
    (tables / "a.toml").write_text('[dataset]\nplugin = "csv"\npath = "t.csv"\ninputs = ["b"]\ntargets = ["y"]\n')
    done = call("run", "--config", "a.toml", "--dataset.path", "valid.csv", "--print-config")
    assert tomllib.loads(done.stdout)["dataset"]["path"] == "valid.csv"


def test_the_config_of_a_run_that_was_changed_is_not_used(run_, tmp_path):
    copy = shutil.copytree(run_, tmp_path / "run")
    config = copy / "config.toml"
    begin = ["--config", config, "--print-config"]
    assert call("run", *begin, "--seed", 1).returncode == 0
    text = config.read_text()
    config.write_text(text.replace("learning_rate = 1.0", "learning_rate = 1.5"))
    for verb in ("run", "sweep"):
        done = call(verb, *begin, "--seed", 1)
        assert (done.returncode, done.stdout) == (4, "")
        assert f"{config} has changed" in done.stderr
    (tmp_path / "elsewhere.toml").write_bytes(config.read_bytes())
    config.rename(copy / "other.toml")
    config.write_text(text)
    for file in (tmp_path / "elsewhere.toml", copy / "other.toml"):
        assert "learning_rate = 1.5" in call("run", "--config", file, "--print-config").stdout
