"""`verify`: every changed file is named, whatever else has changed, and what only differs is no fault."""

import json
import shutil

from support.crash import contents, crash_after
from support.tiny import FULL, TEXT, changed, copy, flip, refused, replace_file

from seqjax import Run, create
from seqjax.plugin import registry
from seqjax.runs import verify as module
from seqjax.runs.files import folder
from seqjax.runs.files.manifest import read_manifest
from seqjax.runs.verify import CHANGED, DAMAGED, DIFFERS, MISSING, OK, UNKNOWN, verify

PLUGIN = """
import dataclasses, seqjax, seqjax_datasets
@seqjax.register("dataset", "cats")
@dataclasses.dataclass(frozen=True)
class Cats(seqjax_datasets.TextFile):
    pass
"""


def faults(path):
    return {line.what: line.state for line in verify(path) if line.state in DAMAGED}


def change_record(path, **fields):
    """Changes what `environment.json` says of the environment in which a run was made."""
    record = json.loads((path / folder.ENVIRONMENT).read_text())
    replace_file(path, folder.ENVIRONMENT, json.dumps(record | fields).encode())


def test_a_run_that_was_not_touched_has_no_fault(finished, half):
    before = contents(finished)
    lines = verify(finished)
    assert {line.state for line in lines} == {OK}
    notes = {line.what: line.note for line in lines}
    assert [*notes] == ["files", "metrics", "parameters", "plugins", "dataset", "heldout", "versions"]
    assert notes["files"] == f"{len(read_manifest(finished).files)} files as in manifest.json"
    assert (notes["metrics"], notes["parameters"]) == ("2 epochs", "5 leaves, 276 numbers")
    names = ("sampler/sequential", "model/rnn", "tokenizer/char", "gradient/full", "optimizer/adam")
    assert {*notes["plugins"].split(", ")} == {f"seqjax/{name.partition('/')[2]}" for name in names}
    assert contents(finished) == before, "nothing is written"
    notes = {line.what: (line.state, line.note) for line in verify(half)}
    assert (notes["metrics"], notes["parameters"]) == ((OK, "1 epoch"), (OK, "5 leaves, 276 numbers"))


def test_of_a_run_without_a_checkpoint(stopped, tmp_path, monkeypatch):
    shutil.rmtree(stopped / folder.CHECKPOINTS)
    assert set(faults(stopped)) == {*read_manifest(stopped).checkpoints}
    with crash_after(monkeypatch, 1):
        FULL.run(tmp_path / "run")
    assert ("checkpoints", UNKNOWN, "there is none, so that training would begin anew") in verify(tmp_path / "run")


def test_all_faults_of_a_run_are_found_at_once(finished):
    for name in (folder.SAMPLES, folder.PARAMS):
        flip(finished / name)
    (finished / folder.HISTORY).unlink()
    (checkpoint,) = read_manifest(finished).checkpoints
    flip(finished / checkpoint)
    assert faults(finished) == {
        folder.SAMPLES: CHANGED,
        folder.PARAMS: CHANGED,
        folder.HISTORY: MISSING,
        checkpoint: CHANGED,
    }
    notes = {line.what: line.note for line in verify(finished)}
    assert notes["files"] == f"{len(read_manifest(finished).files) - 4} files as in manifest.json"
    assert {"plugins", "dataset", "versions"} <= notes.keys(), "the other checks are made"


def test_without_an_environment_or_a_manifest_the_other_checks_cannot_be_made(finished):
    flip(finished / folder.ENVIRONMENT)
    unchecked = ("all other checks", UNKNOWN)
    assert [line[:2] for line in verify(finished)][1:] == [(folder.ENVIRONMENT, CHANGED), unchecked]
    flip(finished / folder.MANIFEST)
    assert verify(finished)[0][:2] == (folder.MANIFEST, CHANGED)


def test_files_that_fit_their_hashes_and_not_the_run(finished, stopped):
    data = (finished / folder.METRICS).read_bytes()
    replace_file(finished, folder.METRICS, data.replace(b'"epoch": 2', b'"epoch": 3'))
    assert faults(finished) == {"training": CHANGED}
    (stopped / folder.METRICS).write_bytes(b"")
    assert faults(stopped) == {"training": CHANGED}, "an epoch that a checkpoint counts has no row"


def test_other_versions_and_devices_differ_and_are_no_fault(finished):
    record = json.loads((finished / folder.ENVIRONMENT).read_text())
    versions = record["versions"] | {"jax": "0.1.2"}
    change_record(finished, versions=versions, python="2.7", devices=512, device="abacus")
    assert faults(finished) == {}
    found = {line.what: line for line in verify(finished) if line.state == DIFFERS}
    assert {*found} == {"jax", "python", "devices", "device"}
    assert found["jax"].note == f"then 0.1.2, now {record['versions']['jax']}"
    assert found["devices"].note == "then 512, now 2"


def test_installed_plugins_are_compared_with_those_of_the_run(finished):
    plugins = json.loads((finished / folder.ENVIRONMENT).read_text())["plugins"]
    of = {plugin["kind"]: plugin for plugin in plugins}
    of["model"]["sha256"], of["sampler"]["version"], of["gradient"]["id"] = "0" * 64, "99", "nobody/full"
    of["optimizer"] |= {"id": "local/adam", "file": None}
    change_record(finished, plugins=plugins)
    assert faults(finished) == {"model seqjax/rnn": CHANGED, "gradient nobody/full": MISSING}
    found = {line.what: line.state for line in verify(finished)}
    assert found["sampler seqjax/sequential"] == DIFFERS
    assert found["optimizer local/adam"] == UNKNOWN


def test_the_copy_of_a_local_plugin_is_checked_whether_it_is_loaded_or_not(tmp_path, forget_local_plugins):
    file = tmp_path / "cats.py"
    file.write_text(PLUGIN)
    (tmp_path / "text.txt").write_text(TEXT)
    registry.load_file(file)
    dataset = create("dataset", "cats", path=str(tmp_path / "text.txt"))
    path = changed(dataset=dataset, epochs=1).run(tmp_path / "cats").path
    assert faults(path) == {}
    del registry._registered["dataset", "local/cats"]
    with refused(f"{path} needs local plugins .*\n.*--load {path}/plugins/", 2):
        Run.open(path)
    assert faults(path) == {}
    assert {("dataset local/cats", UNKNOWN), ("dataset", UNKNOWN)} <= {line[:2] for line in verify(path)}
    (copy,) = (path / folder.PLUGINS).iterdir()
    flip(copy)
    assert faults(path) == {f"{folder.PLUGINS}/{copy.name}": CHANGED}
    copy.unlink()
    assert faults(path) == {f"{folder.PLUGINS}/{copy.name}": MISSING}
    shutil.copy(file, copy)
    file.write_text(PLUGIN + "\n# another one\n")
    registry.load_file(file)
    assert faults(path) == {"dataset local/cats": CHANGED}, "the loaded file is another one"
    with refused(f"{path} was made with another dataset 'local/cats' than the loaded one"):
        Run.open(path)


def test_the_dataset_is_loaded_again(tmp_path, monkeypatch):
    file = tmp_path / "text.txt"
    file.write_text(TEXT)
    path = changed(dataset=create("dataset", "text-file", path=str(file)), epochs=1).run(tmp_path / "run").path
    loads, load, hashes = [], module.load, {}
    monkeypatch.setattr(module, "load", lambda dataset: (loads.append(dataset), load(dataset))[1])
    assert faults(path) == {}
    file.write_text(TEXT[:-5] + "rat. ")
    assert all(("dataset", CHANGED) in [line[:2] for line in verify(path, hashes)] for _ in range(2))
    assert len(loads) == 2, "runs of one dataset load it once"
    file.unlink()
    assert faults(path) == {"dataset": MISSING}


def test_without_a_manifest_or_a_record_the_other_checks_are_named(finished, tmp_path):
    path = copy(finished, tmp_path / "run")
    change_record(path, plugins=3)
    states = {line.what: line.state for line in verify(path)}
    assert states == {"files": OK, folder.ENVIRONMENT: CHANGED, "all other checks": UNKNOWN}
    (path / folder.MANIFEST).unlink()
    states = {line.what: line.state for line in verify(path)}
    assert states == {folder.MANIFEST: MISSING, "all other checks": UNKNOWN}
