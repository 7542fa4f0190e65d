"""How the folder of a run is written: what is synced before what, and what a full disk leaves."""

import contextlib
import os
import subprocess
from pathlib import Path

import pytest
from faults.calls import watched
from support.crash import contents, crash_after
from support.tiny import FULL, TINY, changed, refused

from seqjax import Error, Run
from seqjax.files import make_folder
from seqjax.runs.files import folder, manifest, store
from seqjax.runs.files.manifest import check_files, read_manifest


def checkpoints(path):
    return sorted(file.name for file in (path / folder.CHECKPOINTS).iterdir())


@pytest.fixture(scope="module")
def log(small, tmp_path_factory):
    """The calls that change the folder of a run: name of the call, name of the file, the checkpoints before it."""
    path, found = tmp_path_factory.mktemp("log") / "run", []

    def note(call):
        there = checkpoints(path) if (path / folder.CHECKPOINTS).is_dir() else []
        found.append((call.name, call.path.name, there))

    with watched(path, note):
        changed(epochs=3).run(path, checkpoint_seconds=0)
    return found


def test_a_checkpoint_is_deleted_only_when_two_newer_ones_and_the_manifest_are_on_the_disk(log):
    deletions = [entry for entry in log if entry[0] == "unlink" and entry[1].endswith(".safetensors")]
    for _, file, there in deletions[:-1]:
        assert (file, len(there)) == (there[0], 3), "the oldest of three"
    assert len(deletions) == 5, "of six, the last one stays"
    replaced = [file for name, file, _ in log if name == "replace"]
    assert replaced[-3:] == [folder.SAMPLES, folder.HISTORY, folder.MANIFEST]


def test_each_file_is_synced_before_it_is_in_its_place_and_its_folder_and_rows_it_relies_on_too(log):
    """Otherwise a power cut could leave a checkpoint or a result without its rows."""
    calls = [entry[:2] for entry in log]
    places = [n for n, (name, _) in enumerate(calls) if name == "replace"]
    for before, n in zip([0, *places], places, strict=False):
        file = calls[n][1]
        in_checkpoints = file.endswith(".safetensors") and file[0].isdigit()
        assert calls[n - 1][0] == "fsync"
        assert calls[n - 1][1].startswith(f"{file}.")
        assert calls[n + 1] == ("fsync", folder.CHECKPOINTS if in_checkpoints else "run")
        if in_checkpoints or file == folder.PARAMS:
            assert ("fsync", folder.METRICS) in calls[before:n]


def test_each_new_folder_is_synced_in_the_one_that_holds_it(log, tmp_path, monkeypatch):
    """Otherwise a power cut could lose the folder of a run with all that was synced inside."""
    synced = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
    for _ in range(2):
        make_folder(tmp_path / "a" / "b")
    assert synced == [str(tmp_path), str(tmp_path / "a")]
    calls = [entry[:2] for entry in log]
    assert calls[calls.index(("mkdir", folder.CHECKPOINTS)) + 1] == ("fsync", "run")


def test_a_checkpoint_without_a_new_update_is_not_written(stopped):
    newest, _ = read_manifest(stopped).checkpoints
    before = contents(stopped)
    store.save_checkpoint(stopped, int(Path(newest).stem), b"other bytes")
    assert contents(stopped) == before


def test_names_that_are_no_checkpoints_are_left_and_incomplete_ones_are_deleted(stopped):
    mine = ["99.safetensors", f"{99:010}.safetensors.bak", f"{99:011}.safetensors", f"{99:010}.npz", "notes.txt"]
    parts = [f"{99:010}.safetensors.0123.part", "../config.toml.0123.part"]
    for name in (*mine, *parts, f"{99:010}.safetensors"):
        (stopped / folder.CHECKPOINTS / name).write_text("mine")
    FULL.run(stopped)
    (last,) = read_manifest(stopped).checkpoints
    assert checkpoints(stopped) == sorted([*mine, Path(last).name])
    assert not list(stopped.glob("*.part"))


@pytest.fixture
def small_disk(tmp_path):
    """The folder of a file system of 256 kB."""
    path = tmp_path / "disk"
    path.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", path], capture_output=True).returncode:
        pytest.skip("only root may mount a small file system")
    yield path
    subprocess.run(["umount", path], check=True)


def test_a_disk_that_is_really_full(small_disk, monkeypatch):
    """It fills up after the first checkpoint; when space is free again, the same command continues."""
    filler, add = small_disk / "filler", store.save_checkpoint

    def fill(*args):
        add(*args)
        with contextlib.suppress(OSError), filler.open("wb", 0) as file:
            while True:
                file.write(bytes(1024))

    with monkeypatch.context() as patch:
        patch.setattr(store, "save_checkpoint", fill)
        with refused("No space left on device", 6):
            TINY.run(small_disk / "run", checkpoint_seconds=0)
    assert len(checkpoints(small_disk / "run")) == 1
    filler.unlink()
    assert TINY.run(small_disk / "run").finished
    check_files(small_disk / "run")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with refused("Read-only file system", 6):
        TINY.run(small_disk / "new")


@pytest.mark.parametrize("path", ["file", "file/deep/run"])
def test_a_path_that_cannot_be_a_folder_is_exit_6(tmp_path, path):
    (tmp_path / "file").write_text("in the way")
    with refused(str(tmp_path / "file"), 6):
        TINY.run(tmp_path / path)
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_reader_that_another_process_overtakes_reads_the_run_again(whole, tmp_path, monkeypatch):
    """Another process trains the run, and deletes files, before a checkpoint is read."""
    path, real = tmp_path / "run", manifest._examine
    with monkeypatch.context() as patch, crash_after(patch, 3):
        FULL.run(path, checkpoint_seconds=0)

    def overtaken(file, *args):
        if file.parent.name != folder.CHECKPOINTS:
            return real(file, *args)
        monkeypatch.setattr(manifest, "_examine", real)
        FULL.run(path)
        return real(file, *args)

    monkeypatch.setattr(manifest, "_examine", overtaken)
    run = Run.open(path)
    assert run.finished
    assert run.metric("heldout_loss").tolist() == whole.metric("heldout_loss").tolist()


def test_a_file_that_is_really_missing_is_no_reason_to_read_again(stopped, monkeypatch):
    check = store.check_files

    def check_then_lose(path, wanted):
        found = check(path, wanted=wanted)
        (path / folder.METRICS).unlink(missing_ok=True)
        return found

    monkeypatch.setattr(store, "check_files", check_then_lose)
    with pytest.raises(Error, match=r"metrics\.jsonl is missing"):
        Run.open(stopped)
