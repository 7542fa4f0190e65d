"""The flags of an experiment: what they make of held-out datasets, files and several values."""

import tomllib

import pytest
from support.shell import call

from seqjax import Experiment

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
        ("csv:path=valid.csv", ([5.0], [7.0])),
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
         "--heldout valid.csv: this is a file; name the dataset that reads it: --heldout csv:path=valid.csv"),
        (["run", "--dataset", "notes.md"],
         "--dataset notes.md: this is a file; name the dataset that reads it: "
         "--dataset seqjax/text-file:path=notes.md"),
        (["run", "--metrics", "a", "b"],
         "no such argument: b; several values of a flag are separated by commas, such as --metrics a,b"),
        (["run", "--seeds", "0-4"], "--seeds 0-4: name each seed, such as --seeds 0,1,2,3,4"),
        (["sweep", "--seeds", "4..2"], "--seeds 4..2: name each seed, such as --seeds 0,1,2"),
    ],
)  # fmt: skip
def test_what_to_type_instead(tables, argv, message):
    (tables / "notes.md").write_text("a text")
    done = call(*argv)
    assert done.returncode == 2
    assert done.stderr.startswith(f"seqjax: {message}\n")
