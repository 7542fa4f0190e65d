"""`verify`: every changed file is named, whatever else has changed, and what only differs is no fault."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
from seqjax.runs.adopt import adopt
from support.crash import crash_after

from seqjax import Error, Experiment, Run, Text, create, sweep
from seqjax.plugin import registry
from seqjax.runs.files import folder
from seqjax.runs.verify import CHANGED, DAMAGED, DIFFERS, MISSING, OK, UNKNOWN, UNREADABLE, folders_to_verify, verify
from seqjax.training import feed
from seqjax_models import RNN
from seqjax_optimizers import SGD
from seqjax_samplers import Sequential

TEXT = "the cat sat on the mat. "
TINY = Experiment(
    dataset=Text(TEXT * 20), model=RNN(hidden=2), sampler=Sequential(2, 8), optimizer=SGD(0.5), epochs=3, keep="best"
)
PLUGIN = '''
from dataclasses import dataclass

import seqjax


@seqjax.register("dataset", "cats")
@dataclass(frozen=True)
class Cats(seqjax.Dataset):
    """Cats."""

    def load(self):
        return seqjax.Text("the cat sat on the mat. " * 20)
'''


class Figure:
    """Stands for the figure of a run, which takes longer than the training here."""

    def savefig(self, file, dpi, format):
        file.write(b"a figure")


@pytest.fixture(scope="module", autouse=True)
def quick_figure():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "plot", Figure)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return TINY.run(tmp_path_factory.mktemp("whole") / "run").path


@pytest.fixture
def run(whole, tmp_path):
    """A copy of a finished run."""
    return shutil.copytree(whole, tmp_path / "run")


@pytest.fixture
def unfinished(tmp_path, monkeypatch):
    """An interrupted run with two checkpoints."""
    monkeypatch.setattr(feed, "CHUNK_STEPS", 40)
    with crash_after(monkeypatch, 32):
        TINY.run(tmp_path / "unfinished", checkpoint_seconds=0)
    return tmp_path / "unfinished"


def flip(file, at=0.5):
    """Changes one bit of a file."""
    data = bytearray(file.read_bytes())
    data[int(at * len(data))] ^= 1
    file.write_bytes(bytes(data))


def faults(path):
    return {line.what: line.state for line in verify(path) if line.state in DAMAGED}


def files(path):
    """The names of the files of a run that is finished."""
    return sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())


def change_record(path, **fields):
    """Changes what `environment.json` says of the environment in which a run was made, and adopts it."""
    record = json.loads((path / folder.ENVIRONMENT).read_text())
    (path / folder.ENVIRONMENT).write_text(json.dumps(record | fields))
    adopt(path)


def test_a_run_that_was_not_touched_has_no_fault(run, unfinished):
    assert [line.state for line in verify(run)] == [OK] * 8
    found = {line.what: line.state for line in verify(unfinished)}
    assert faults(unfinished) == {}
    assert found["checkpoints"] == found["metrics"] == found["dataset"] == OK
    assert found[f"{folder.METRICS}, {folder.BEST}"] == UNKNOWN


FILES = [
    *("config.toml", "environment.json", "codec.json", "data.safetensors", "metrics.jsonl", "params.safetensors"),
    *("best.safetensors", "samples.txt", "history.png"),
]


def test_the_files_that_are_tried_are_all_files_of_a_run(whole):
    others = [name for name in files(whole) if not name.startswith("checkpoints/")]
    assert sorted([*FILES, folder.LOCK, folder.MANIFEST]) == others


@pytest.mark.parametrize("at", [0.0, 0.5, 0.999])
@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_is_named_with_its_file(run, name, at):
    flip(run / name, at)
    assert faults(run)[name] == CHANGED


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(run, name):
    (run / name).unlink()
    assert faults(run)[name] == MISSING


def test_a_damaged_or_missing_manifest_is_named_and_the_other_checks_are_made(run):
    flip(run / folder.MANIFEST)
    flip(run / folder.METRICS)
    found = {line.what: line.state for line in verify(run)}
    assert (found[folder.MANIFEST], found["metrics"], found["dataset"]) == (CHANGED, CHANGED, OK)
    (run / folder.MANIFEST).unlink()
    found = {line.what: line.state for line in verify(run)}
    assert (found[folder.MANIFEST], found["dataset"], found["plugins"]) == (MISSING, OK, OK)


def test_all_faults_of_a_run_are_found_at_once(run):
    for name in (folder.SAMPLES, folder.PARAMS):
        flip(run / name)
    (run / folder.HISTORY).unlink()
    (checkpoint,) = (run / folder.CHECKPOINTS).iterdir()
    flip(checkpoint)
    assert faults(run) == {
        folder.SAMPLES: CHANGED,
        folder.PARAMS: CHANGED,
        folder.HISTORY: MISSING,
        f"parameters in {folder.PARAMS}": CHANGED,
        f"{folder.CHECKPOINTS}/{checkpoint.name}": CHANGED,
    }


@pytest.mark.parametrize("name", [folder.CONFIG, folder.CODEC])
def test_a_changed_config_is_not_taken_for_damaged_metrics_and_parameters(run, name):
    flip(run / name)
    assert {what for what, state in faults(run).items() if "parameters" in what or "metrics" in what} == set()
    notes = {line.what: line.note for line in verify(run)}
    assert notes["metrics"] == f"their hashes depend on {name}"
    assert notes[f"parameters in {folder.PARAMS}"].endswith(f"not compared with {name}")


def test_the_states_of_an_unfinished_run_have_hashes_of_their_own(unfinished):
    _, previous = sorted((unfinished / folder.CHECKPOINTS).iterdir(), reverse=True)
    flip(previous)
    flip(unfinished / folder.BEST)
    text = (unfinished / folder.METRICS).read_text()
    (unfinished / folder.METRICS).write_text(text.replace('"epoch": 2', '"epoch": 3'))
    assert faults(unfinished) == {
        "metrics": CHANGED,
        f"parameters in {folder.BEST}": CHANGED,
        f"{folder.CHECKPOINTS}/{previous.name}": CHANGED,
    }
    (unfinished / folder.METRICS).write_text(text.splitlines(keepends=True)[0])
    assert folder.METRICS in faults(unfinished), "an epoch that a checkpoint counts has no row"


def test_a_torn_last_line_of_an_unfinished_run_is_told_and_is_no_fault(unfinished):
    with (unfinished / folder.METRICS).open("a") as file:
        file.write('{"epoch": 3, "upd')
    assert faults(unfinished) == {}
    assert "incomplete" in {line.what: line.note for line in verify(unfinished)}["metrics"]


def test_states_of_another_run_are_found_although_their_own_hashes_are_right(run, unfinished, tmp_path):
    other = Experiment(**vars(TINY) | {"seed": 1}).run(tmp_path / "other").path
    shutil.copy(other / folder.PARAMS, run / folder.PARAMS)
    assert faults(run) == {folder.PARAMS: CHANGED, f"parameters in {folder.PARAMS}": CHANGED}
    shutil.rmtree(unfinished / folder.CHECKPOINTS)
    shutil.copytree(other / folder.CHECKPOINTS, unfinished / folder.CHECKPOINTS)
    assert [what.partition("/")[0] for what in faults(unfinished)] == [folder.CHECKPOINTS]


def test_adopted_files_are_named_and_are_no_fault(run):
    (run / folder.SAMPLES).write_text("mine")
    assert adopt(run) == [folder.SAMPLES]
    assert faults(run) == {}
    assert (folder.SAMPLES, DIFFERS, "changed by hand, and adopted") in verify(run)


def test_other_versions_and_devices_differ_and_are_no_fault(run):
    record = json.loads((run / folder.ENVIRONMENT).read_text())
    versions = record["versions"] | {"jax": "0.1.2"}
    change_record(run, versions=versions, python="2.7", devices=512, device="abacus")
    assert faults(run) == {}
    found = {line.what: line for line in verify(run) if line.state == DIFFERS}
    assert {"jax", "python", "devices", "device"} <= set(found)
    assert found["jax"].note == f"then 0.1.2, now {record['versions']['jax']}"
    assert found["devices"].note.startswith("then 512, now ")


def test_installed_plugins_are_compared_with_those_of_the_run(run):
    plugins = json.loads((run / folder.ENVIRONMENT).read_text())["plugins"]
    model = next(plugin for plugin in plugins if plugin["kind"] == "model")
    sampler = next(plugin for plugin in plugins if plugin["kind"] == "sampler")
    gradient = next(plugin for plugin in plugins if plugin["kind"] == "gradient")
    model["sha256"], sampler["version"], gradient["id"] = "0" * 64, "99", "nobody/full"
    change_record(run, plugins=plugins)
    assert faults(run) == {"model seqjax/rnn": CHANGED, "gradient nobody/full": MISSING}
    assert ("sampler seqjax/sequential", DIFFERS) in [line[:2] for line in verify(run)]


@pytest.fixture
def with_plugin(tmp_path, forget_local_plugins):
    """A run with a local dataset, and the file of its plugin."""
    file = tmp_path / "cats.py"
    file.write_text(PLUGIN)
    registry.load_file(file)
    path = Experiment(**vars(TINY) | {"dataset": create("dataset", "cats")}).run(tmp_path / "cats").path
    return path, file


def forget():
    del registry._registered["dataset", "local/cats"]


def test_the_copy_of_a_local_plugin_is_checked_whether_it_is_loaded_or_not(with_plugin):
    path, file = with_plugin
    assert faults(path) == {}
    forget()
    assert faults(path) == {}
    assert ("dataset", UNKNOWN) in [line[:2] for line in verify(path)]
    (copy,) = (path / folder.PLUGINS).iterdir()
    flip(copy)
    assert faults(path) == {f"{folder.PLUGINS}/{copy.name}": CHANGED, "dataset local/cats": CHANGED}
    copy.unlink()
    assert faults(path) == {f"{folder.PLUGINS}/{copy.name}": MISSING, "dataset local/cats": MISSING}
    shutil.copy(file, copy)
    file.write_text(PLUGIN + "\n# another one\n")
    registry.load_file(file)
    assert faults(path) == {"dataset local/cats": CHANGED}, "the loaded file is another one"


def test_the_dataset_is_loaded_again(tmp_path, monkeypatch):
    file = tmp_path / "text.txt"
    file.write_text(TEXT * 20)
    dataset = create("dataset", "text-file", path=str(file))
    sweep(Experiment(**vars(TINY) | {"dataset": dataset, "epochs": 1}), {"seed": [0, 1]}, tmp_path / "sweep")
    paths, loads = folders_to_verify(tmp_path / "sweep")[0], []
    load = type(dataset).load
    monkeypatch.setattr(type(dataset), "load", lambda self: (loads.append(self), load(self))[1])
    hashes = {}
    assert [verify(path, hashes) and faults(path) for path in paths] == [{}, {}]
    file.write_text(TEXT * 19 + "the cat sat on the rat. ")
    assert [faults(path) for path in paths] == [{"dataset": CHANGED}] * 2
    loads.clear()
    hashes = {}
    assert all(("dataset", CHANGED) in [line[:2] for line in verify(path, hashes)] for path in paths)
    assert len(loads) == 1, "runs of one dataset load it once"
    file.unlink()
    assert [faults(path) for path in paths] == [{"dataset": MISSING}] * 2


def test_the_runs_of_a_sweep_that_have_begun(tmp_path, run):
    sweep(Experiment(**vars(TINY) | {"epochs": 1}), {"seed": [0, 1, 2]}, tmp_path / "sweep")
    shutil.rmtree(tmp_path / "sweep" / "seed-1")
    (tmp_path / "sweep" / "seed-2" / folder.CONFIG).unlink()
    folders, fault = folders_to_verify(tmp_path / "sweep")
    assert ([path.name for path in folders], fault) == (["seed-0", "seed-2"], None)
    assert faults(tmp_path / "sweep" / "seed-2")[folder.CONFIG] == MISSING
    assert folders_to_verify(run) == ([run], None)
    folders, fault = folders_to_verify(tmp_path / "sweep" / "seed-0" / folder.CHECKPOINTS)
    assert (folders, "holds no run and no sweep" in str(fault)) == ([], True)
    (tmp_path / "sweep" / "sweep.json").write_text("{")
    folders, fault = folders_to_verify(tmp_path / "sweep")
    assert [path.name for path in folders] == ["seed-0"], "those that hold runs are checked all the same"
    assert fault.exit_code == 4


def test_a_result_that_was_added_to_an_ended_run_is_a_fault(run):
    (run / folder.STOPPED).write_text("the callback ended training after epoch 1\n")
    assert faults(run) == {folder.STOPPED: CHANGED}
    with pytest.raises(Error, match=rf"{folder.STOPPED} is not in manifest\.json") as caught:
        Run.open(run)
    assert caught.value.exit_code == 4


def test_a_checkpoint_has_the_update_of_its_name(run):
    (file,) = (run / folder.CHECKPOINTS).glob("*.safetensors")
    renamed = file.rename(file.with_name(f"9999999999{file.name[10:]}"))
    assert faults(run) == {f"{folder.CHECKPOINTS}/{renamed.name}": CHANGED}


def test_a_file_that_may_not_be_read_is_no_damage(run, monkeypatch):
    """The system is asked through a stand-in, since root may read every file."""
    real = os.open

    def refuse(path, *args, **kwargs):
        if Path(path).name == folder.CODEC:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", refuse)
    assert {line.what: line.state for line in verify(run)}[folder.CODEC] == UNREADABLE
    with pytest.raises(Error, match=rf"{folder.CODEC} may not be read") as caught:
        Run.open(run)
    assert caught.value.exit_code == 6


def test_nothing_is_written(run):
    before = {name: (run / name).read_bytes() for name in files(run)}
    verify(run)
    assert {name: (run / name).read_bytes() for name in files(run)} == before
