"""Files of a run that nobody expects, with hashes that are right: exit code 4, no traceback, and nothing is written."""

import json
import struct
import tomllib

import pytest
import tomli_w
from support.crash import contents
from support.tiny import FULL, refused, replace_file

from seqjax import Run
from seqjax.array_files.arrays import load_arrays, save_arrays
from seqjax.parse import LONGEST_TOML
from seqjax.plugin import config
from seqjax.runs.files import folder
from seqjax.runs.files.manifest import read_manifest


def is_refused(path, name, change, use):
    """Changes a file; the use is exit 4 with its name, and leaves the run as it is."""
    good = (path / name).read_bytes()
    replace_file(path, name, change(good))
    before = contents(path)
    with refused(str(path / name)):
        use(path)
    assert contents(path) == before
    replace_file(path, name, good)


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


OUTSIDE = {"kind": "model", "id": "local/x", "version": "1", "target": "x:X", "file": "../x.py", "sha256": "0" * 64}
"""A plugin whose file is not inside the run."""
NESTED = b'{"a":' * 10**5 + b"1" + b"}" * 10**5


VALUES = {
    folder.CODEC: [
        *(in_json("spec.inputs", value) for value in ({"Tokens": -3}, {"Tokens": "many"}, {"Tokens": 10**12}, {})),
        *(in_json("spec.targets", value) for value in ({"Values": True}, {"Token": 3}, {"Tokens": 7})),
        *(in_json("codec.tokens", value) for value in ([{}], ["a", "a"])),
        *(in_json("codec.freqs", value) for value in ([["a", -1]], [["a", "often"]], 3)),
        *(in_json("spec", []), in_json("codec", None), lambda data: NESTED),
    ],
    folder.ENVIRONMENT: [
        *(in_json("plugins", value) for value in (None, [3], [OUTSIDE])),
        *(in_json("versions", value) for value in (None, {"jax": 1})),
        *(in_json("devices", value) for value in ("two", 10**12, 0)),
        *(in_json("data_sha256", {"dataset": []}), in_json("xla_flags", 3)),
    ],
    folder.CONFIG: [
        *(in_toml(epochs="2"), in_toml(seed=-1), in_toml(x=3), lambda data: b"model = "),
        *(in_toml(model={"plugin": "seqjax/rnn", "hidden": 0}), lambda data: data + b"#" * LONGEST_TOML),
    ],
}
"""File -> changes of its values."""
READERS = dict.fromkeys((folder.CODEC, folder.ENVIRONMENT, folder.CONFIG), Run.open)


@pytest.mark.parametrize("name", VALUES)
def test_values_of_other_types_are_damage(finished, name):
    """A run that is trained has its codec from the data."""
    for change in VALUES[name]:
        is_refused(finished, name, change, READERS[name])


@pytest.mark.parametrize(
    ("name", "change"),
    [
        (folder.ENVIRONMENT, in_json("plugins", None)),
        (folder.CONFIG, in_toml(epochs="2")),
        (folder.METRICS, lambda data: data.replace(b'"epoch": 2', b'"epoch": 3')),
        (folder.PARAMS, lambda data: struct.pack("<Q", len(NESTED)) + NESTED),
        (folder.BEST, lambda data: b""),
        (folder.DATA["dataset"], lambda data: data[:-1]),
        ("newest checkpoint", lambda data: save_arrays(load_arrays(data)[0], {"epoch": "x"})),
    ],
)
def test_a_run_with_such_a_file_is_neither_opened_nor_trained(finished, stopped, name, change):
    path = finished
    if name == "newest checkpoint":
        path, (name, _) = stopped, read_manifest(stopped).checkpoints
    for use in (Run.open, FULL.run):
        is_refused(path, name, change, use)


def test_a_config_of_a_plugin_that_is_not_installed_is_bad_input(finished):
    change = in_toml(model={"plugin": "other/rnn"})
    replace_file(finished, folder.CONFIG, change((finished / folder.CONFIG).read_bytes()))
    with refused("unknown model", 2):
        Run.open(finished)


def test_parameters_of_other_names_or_types(finished):
    arrays, header = load_arrays((finished / folder.PARAMS).read_bytes())
    for change in (lambda name, array: (f"{name}_", array), lambda name, array: (name, array.astype(bool))):
        other = dict(change(name, array) for name, array in arrays.items())
        replace_file(finished, folder.PARAMS, save_arrays(other, json.loads(header)))
        with refused(f"{finished} has no parameters of this model: it has the arrays .*, but the model has"):
            Run.open(finished)


def test_a_config_that_would_be_too_long_to_be_read_is_refused_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "LONGEST_TOML", 300)
    with refused(r"config would have \d+ characters, more than 300; shorten its longest field, \w+\.sha256", 2):
        FULL.run(tmp_path / "run")
    assert not (tmp_path / "run").exists()
