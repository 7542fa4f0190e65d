"""Files of a run that nobody expects, with hashes that are right: exit code 4, no traceback, and nothing is written."""

import json
import os
import struct
import tomllib
from pathlib import Path

import pytest
import tomli_w
from faults.fuzz import sign

from seqjax import Error, Experiment, Run, Text
from seqjax.cli import main
from seqjax.parse import LONGEST_TOML
from seqjax.runs import checkpoint, environment, folder
from seqjax.runs.arrays import save_arrays, sha256_of
from seqjax.runs.binding import binding
from seqjax.runs.params_file import read_arrays
from seqjax_datasets import CSV
from seqjax_models import RNN, NGram
from seqjax_samplers import Sequential

TINY = Experiment(
    dataset=Text("the cat sat on the mat. " * 20), model=RNN(hidden=2), sampler=Sequential(2, 8), epochs=2
)


@pytest.fixture
def finished(tmp_path):
    return TINY.run(tmp_path / "run").path


def contents(path):
    return {file.relative_to(path): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def replaced(file, change):
    """Changes a file, and gives the files of the run hashes that are right."""
    kept = binding(file.parent)
    file.write_bytes(change(file.read_bytes()))
    sign(file, kept)


def is_refused(path, name, use=Run.open):
    """Whether the run is exit 4 with the name of the file, and stays as it is."""
    before = contents(path)
    with pytest.raises(Error) as caught:
        use(path)
    assert caught.value.exit_code == 4, caught.value
    assert name in str(caught.value)
    return contents(path) == before


def in_json(key, value):
    """Replaces the value at a path of keys, such as `spec.inputs`."""

    def change(data):
        tree = json.loads(data)
        *outer, last = key.split(".")
        table = tree
        for name in outer:
            table = table[name]
        if value is None:
            del table[last]
        else:
            table[last] = value
        return json.dumps(tree).encode()

    return change


DEEP = b'{"a":' * 10**5 + b"1" + b"}" * 10**5


@pytest.mark.parametrize("row", [{"epoch": 2}, {"loss": 1.0}, [], 1, "x"], ids=str)
def test_rows_without_their_columns(finished, row):
    first, _ = (finished / folder.METRICS).read_bytes().splitlines()
    replaced(finished / folder.METRICS, lambda data: first + b"\n" + json.dumps(row).encode() + b"\n")
    assert is_refused(finished, folder.METRICS)
    assert main(["status", str(finished)]) == 4


@pytest.mark.parametrize(
    ("name", "value"), [("epoch", '"2"'), ("epoch", "true"), ("epoch", "null"), ("train_loss", "[]"), ("seconds", "{}")]
)
def test_rows_with_entries_of_other_types(finished, name, value):
    replaced(finished / folder.METRICS, lambda data: _with(data, name, value))
    assert is_refused(finished, folder.METRICS)


def _with(lines, name, value):
    rows = [json.loads(line) for line in lines.splitlines()]
    rows[1][name] = "@"
    return b"\n".join(json.dumps(row).replace('"@"', value).encode() for row in rows) + b"\n"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("spec.inputs", {"Tokens": -3}),
        ("spec.inputs", {"Tokens": "many"}),
        ("spec.inputs", {"Tokens": 10**12}),
        ("spec.inputs", {"Token": 3}),
        ("spec.inputs", {}),
        ("spec.targets", {"Values": True}),
        ("spec.targets", {"Tokens": 3}),
        ("spec", []),
        ("codec.tokens", [{}]),
        ("codec.tokens", ["a", "a"]),
        ("codec.tokens", ["a"]),
        ("codec.freqs", [["a", -1]]),
        ("codec.freqs", [["a", "often"]]),
        ("codec.freqs", 3),
        ("codec", None),
    ],
)
def test_a_codec_or_a_spec_of_other_types(finished, key, value):
    replaced(finished / folder.CODEC, in_json(key, value))
    assert is_refused(finished, folder.CODEC)


@pytest.mark.parametrize("name", [folder.CODEC, folder.ENVIRONMENT])
def test_deep_nesting(finished, name):
    replaced(finished / name, lambda data: DEEP)
    assert is_refused(finished, name)


def test_deep_nesting_in_the_header_of_parameters(finished):
    replaced(finished / folder.PARAMS, lambda data: struct.pack("<Q", len(DEEP)) + DEEP)
    assert is_refused(finished, folder.PARAMS)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("plugins", None),
        ("plugins", [3]),
        ("versions", None),
        ("versions", {}),
        ("data_sha256", {"dataset": []}),
        ("devices", "two"),
        ("devices", 10**12),
        ("precision", "float8"),
        ("xla_flags", 3),
    ],
)
def test_an_environment_of_other_types(finished, key, value):
    replaced(finished / folder.ENVIRONMENT, in_json(key, value))
    for use in (environment.read_environment, Run.open):
        assert is_refused(finished, folder.ENVIRONMENT, use)


def in_toml(**values):
    return lambda data: tomli_w.dumps(tomllib.loads(data.decode()) | values).encode()


@pytest.mark.parametrize(
    "change",
    [in_toml(epochs="2"), in_toml(seed=-1), in_toml(x=3), in_toml(model={"plugin": "seqjax/rnn", "hidden": 0})],
)
def test_a_config_that_is_not_valid_is_damage(finished, change):
    replaced(finished / folder.CONFIG, change)
    assert is_refused(finished, folder.CONFIG)


def test_a_config_that_is_too_long_to_be_read_is_damage(finished):
    replaced(finished / folder.CONFIG, lambda data: data + b"#" * LONGEST_TOML)
    assert is_refused(finished, folder.CONFIG)


def test_a_config_that_would_be_too_long_to_be_read_is_refused_before_training(tmp_path):
    dataset = CSV("t.csv", inputs=("x",), targets=("y",), labels=tuple(map(str, range(200_000))))
    with pytest.raises(Error, match=r"config would have 2,\d+,\d+ characters.*shorten .* dataset\.labels"):
        Experiment(dataset=dataset).run(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_config_of_a_plugin_that_is_not_installed_is_bad_input(finished):
    replaced(finished / folder.CONFIG, in_toml(model={"plugin": "other/rnn"}))
    with pytest.raises(Error, match="unknown model") as caught:
        Run.open(finished)
    assert caught.value.exit_code == 2


ODD_PROGRESS = [("epoch", "x"), ("done", 1), ("tokens", 0.5), ("updates", ["loss", "other"])]


@pytest.mark.parametrize(("name", "value"), ODD_PROGRESS)
def test_a_checkpoint_whose_progress_has_other_types(finished, name, value):
    saved = checkpoint.newest(finished)
    (file,) = (finished / folder.CHECKPOINTS).iterdir()
    arrays = saved.arrays | {f"progress/{key}": values for key, values in saved.progress.updates.items()}
    progress = saved.progress._asdict() | {"updates": sorted(saved.progress.updates), name: value}
    file.write_bytes(save_arrays(arrays, {"progress": progress, "binding": saved.bound}))
    sign(file, None)
    with pytest.raises(Error, match="is damaged") as caught:
        checkpoint.newest(finished)
    assert caught.value.exit_code == 4


OTHER_ARRAYS = {
    "names": lambda arrays: {f"{name}_": array for name, array in arrays.items()},
    "types": lambda arrays: {name: array.astype(bool) for name, array in arrays.items()},
}


@pytest.mark.parametrize("other", OTHER_ARRAYS)
@pytest.mark.parametrize("model", [NGram(order=2), RNN(hidden=2)], ids=["ngram", "rnn"])
def test_parameters_of_other_names_or_types(tmp_path, model, other):
    sampler = {} if isinstance(model, NGram) else {"sampler": TINY.sampler}
    path = Experiment(dataset=TINY.dataset, model=model, epochs=1, **sampler).run(tmp_path / "run").path
    arrays, header = read_arrays(path, folder.PARAMS)
    changed = OTHER_ARRAYS[other](arrays)
    (path / folder.PARAMS).write_bytes(save_arrays(changed, header | {"sha256": sha256_of(changed)}))
    sign(path / folder.PARAMS, binding(path))
    assert is_refused(path, folder.PARAMS)


NAMES = [folder.CONFIG, folder.ENVIRONMENT, folder.CODEC, folder.METRICS, folder.PARAMS, folder.MANIFEST]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "itself"])
def test_what_is_no_plain_file_is_refused_at_once(finished, name, kind):
    file = finished / name
    file.unlink()
    make = {"pipe": os.mkfifo, "folder": Path.mkdir, "device": lambda file: file.symlink_to("/dev/zero")}
    make["itself"] = lambda file: file.symlink_to(name)
    make[kind](file)
    for verb in (["evaluate"], ["compare"]):
        assert main([*verb, str(finished)]) in (2, 4), verb


def test_a_file_that_may_not_be_read_is_exit_6(finished, monkeypatch):
    opened = os.open

    def closed(path, *args, **kwargs):
        if str(path).endswith(folder.PARAMS):
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", closed)
    for use in (Run.open, TINY.run):
        with pytest.raises(Error, match=r"params\.safetensors may not be read") as caught:
            use(finished)
        assert caught.value.exit_code == 6
