"""Files of a run that nobody expects, with hashes that are right: exit code 4, no traceback, and nothing is written."""

import json
import os
import struct
import tomllib
from pathlib import Path

import pytest
import tomli_w
from support.crash import contents
from support.tiny import FULL, refused, replace_file

from seqjax import Experiment, Run
from seqjax.parse import LONGEST_TOML
from seqjax.runs import environment, stored
from seqjax.runs.files import folder
from seqjax.runs.files.arrays import load_arrays, save_arrays
from seqjax.runs.files.manifest import read_manifest
from seqjax_datasets import CSV
from seqjax_tokenizers import Char


def is_refused(path, name, change, *uses):
    """Changes a file; each use is exit 4 with its name, and leaves the run as it is."""
    replace_file(path, name, change((path / name).read_bytes()))
    before = contents(path)
    for use in uses or (Run.open, FULL.run):
        with refused(str(path / name)):
            use(path)
    return contents(path) == before


def in_json(key, value):
    """Replaces the value at a path of keys, such as `spec.inputs`; None deletes it."""

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


def in_toml(**values):
    return lambda data: tomli_w.dumps(tomllib.loads(data.decode()) | values).encode()


def in_arrays(change):
    def changed(data):
        arrays, header = load_arrays(data)
        return save_arrays(change(arrays), json.loads(header))

    return changed


NESTED = b'{"a":' * 10**5 + b"1" + b"}" * 10**5
CODECS = [
    *(("spec.inputs", value) for value in ({"Tokens": -3}, {"Tokens": "many"}, {"Tokens": 10**12}, {"Token": 3}, {})),
    ("spec.targets", {"Values": True}),
    ("spec", []),
    *(("codec.tokens", value) for value in ([{}], ["a", "a"])),
    *(("codec.freqs", value) for value in ([["a", -1]], [["a", "often"]], 3)),
    ("codec", None),
    ("spec.targets", {"Tokens": 7}),  # not that of the codec
]
ENVIRONMENTS = [
    *(
        ("plugins", None),
        ("plugins", [3]),
        ("versions", None),
        ("versions", {"jax": 1}),
        ("data_sha256", {"dataset": []}),
    ),
    *(("devices", "two"), ("devices", 10**12), ("devices", 0), ("precision", "float8"), ("xla_flags", 3)),
]
CONFIGS = [{"epochs": "2"}, {"seed": -1}, {"x": 3}, {"model": {"plugin": "seqjax/rnn", "hidden": 0}}]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        (folder.ENVIRONMENT, in_json(*ENVIRONMENTS[0])),
        (folder.ENVIRONMENT, lambda data: NESTED),
        (folder.CONFIG, in_toml(**CONFIGS[0])),
        (folder.CONFIG, lambda data: b"model = "),
        (folder.METRICS, lambda data: data.replace(b'"epoch": 2', b'"epoch": 3')),
        (folder.PARAMS, lambda data: struct.pack("<Q", len(NESTED)) + NESTED),
        (folder.BEST, lambda data: b""),
        (folder.DATA["dataset"], lambda data: data[:-1]),
    ],
)
def test_a_run_with_such_a_file_is_neither_opened_nor_trained(finished, name, change):
    assert is_refused(finished, name, change)


@pytest.mark.parametrize("change", CODECS, ids=str)
def test_a_codec_or_a_spec_of_other_types(finished, change):
    """A run that is trained has its codec from the data."""
    assert is_refused(finished, folder.CODEC, in_json(*change), lambda path: stored.read_codec(path, Char()))
    if change == CODECS[0]:
        assert is_refused(finished, folder.CODEC, lambda data: NESTED, Run.open)


@pytest.mark.parametrize("change", ENVIRONMENTS, ids=str)
def test_an_environment_of_other_types(finished, change):
    assert is_refused(finished, folder.ENVIRONMENT, in_json(*change), environment.read_environment)


def test_the_name_of_a_plugin_file_that_leads_out_of_the_run(finished):
    plugin = {"kind": "model", "id": "local/x", "version": "1", "target": "x:X", "file": "../x.py", "sha256": "0" * 64}
    assert is_refused(finished, folder.ENVIRONMENT, in_json("plugins", [plugin]), Run.open)


@pytest.mark.parametrize("values", CONFIGS, ids=str)
def test_a_config_that_is_not_valid_is_damage(finished, values):
    read = lambda path: stored.read_experiment(path, Experiment)
    assert is_refused(finished, folder.CONFIG, in_toml(**values), read)


def test_a_config_of_a_plugin_that_is_not_installed_is_bad_input(finished):
    change = in_toml(model={"plugin": "other/rnn"})
    replace_file(finished, folder.CONFIG, change((finished / folder.CONFIG).read_bytes()))
    with refused("unknown model", 2):
        Run.open(finished)


def test_an_odd_checkpoint_is_named(stopped):
    newest, _ = read_manifest(stopped).checkpoints
    assert is_refused(stopped, newest, lambda data: save_arrays(load_arrays(data)[0], {"epoch": "x"}))


OTHER_ARRAYS = {
    "names": lambda arrays: {f"{name}_": array for name, array in arrays.items()},
    "types": lambda arrays: {name: array.astype(bool) for name, array in arrays.items()},
}


@pytest.mark.parametrize("other", OTHER_ARRAYS)
def test_parameters_of_other_names_or_types(finished, other):
    replace_file(finished, folder.PARAMS, in_arrays(OTHER_ARRAYS[other])((finished / folder.PARAMS).read_bytes()))
    with refused(f"{finished} has no parameters of this model: it has the arrays .*, but the model has"):
        Run.open(finished)


NAMES = [folder.CONFIG, folder.ENVIRONMENT, folder.CODEC, folder.METRICS, folder.PARAMS, folder.MANIFEST]
KINDS = {
    "pipe": os.mkfifo,
    "folder": Path.mkdir,
    "device": lambda file: file.symlink_to("/dev/zero"),
    "itself": lambda file: file.symlink_to(file.name),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_plain_file_is_refused_at_once(finished, kind):
    for name in NAMES:
        file = finished / name
        file.rename(finished.parent / "kept")
        KINDS[kind](file)
        code = 2 if name == folder.CONFIG else 4
        words = "holds no run: it has no config.toml" if name == folder.CONFIG else f"{file} is"
        with refused(words, code):
            Run.open(finished)
        file.rmdir() if kind == "folder" else file.unlink()
        (finished.parent / "kept").rename(file)
    assert Run.open(finished).finished


def test_a_config_that_is_too_long_to_be_read_is_damage(finished):
    is_refused(finished, folder.CONFIG, lambda data: data + b"#" * LONGEST_TOML)


def test_a_config_that_would_be_too_long_to_be_read_is_refused_before_training(tmp_path):
    dataset = CSV("t.csv", inputs=("x",), targets=("y",), labels=tuple(map(str, range(200_000))))
    with refused(r"config would have 2,\d+,\d+ characters.*shorten .* dataset\.labels", 2):
        Experiment(dataset=dataset).run(tmp_path / "run")
    assert not (tmp_path / "run").exists()
