"""The manifest of a run: each file is in it, and each change of a file or of the manifest is noticed."""

import dataclasses
import json
import shutil

import pytest
from support.crash import NoFigure, contents, crash_after, experiment

from seqjax import Error, Experiment, Run, Text
from seqjax.runs.files import folder
from seqjax.runs.files.manifest import Manifest, check_files, first_hashes, read_manifest, write_manifest
from seqjax_models import RNN
from seqjax_samplers import Sequential

EXPERIMENT = Experiment(
    dataset=Text("the cat sat on the mat. " * 20),
    heldout=Text("a dog sat on a log. " * 3),
    model=RNN(hidden=3),
    sampler=Sequential(4, 5),
    epochs=3,
    keep="best",
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "finished"
    EXPERIMENT.run(path, callback=lambda run: len(run.metrics) == 2)
    return path


@pytest.fixture
def copied(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def names(path):
    return {str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()}


def test_every_file_of_a_finished_run_is_in_it_or_has_its_hash_in_its_name(finished):
    others = {name for name in names(finished) if name.startswith(f"{folder.CHECKPOINTS}/")}
    listed = set(read_manifest(finished).files)
    assert names(finished) - others - listed == {folder.LOCK, folder.MANIFEST}
    assert {folder.CONFIG, folder.PARAMS, folder.BEST, folder.STOPPED, *folder.DATA.values()} <= listed


def test_an_unfinished_run_lists_the_files_that_training_does_not_change(tmp_path, monkeypatch):
    with crash_after(monkeypatch, 1):
        experiment("gru, random").run(tmp_path / "run", checkpoint_seconds=0)
    listed = set(read_manifest(tmp_path / "run").files)
    assert listed == {folder.CONFIG, folder.CODEC, folder.ENVIRONMENT, folder.DATA["dataset"]}


@pytest.mark.parametrize("change", ["first", "middle", "last", "cut", "longer", "missing", "empty"])
def test_a_change_of_any_file_is_exit_4_and_named(copied, change):
    good = contents(copied)
    for name in read_manifest(copied).files.keys() - {folder.CONFIG}:
        data = bytearray((copied / name).read_bytes())
        where = {"first": 0, "middle": len(data) // 2, "last": -1}.get(change)
        if where is not None:
            data[where] ^= 1
        changed = {"cut": data[:-1], "longer": data + b"\n", "empty": b""}.get(change, data)
        (copied / name).unlink() if change == "missing" else (copied / name).write_bytes(changed)
        with pytest.raises(Error, match="seqjax adopt") as caught:
            Run.open(copied)
        assert caught.value.exit_code == 4
        word = "is missing" if change == "missing" else "has changed"
        assert caught.value.problems == (f"{copied / name} {word}",)
        (copied / name).write_bytes(good[name])
    assert Run.open(copied).finished


def test_a_change_of_the_config_is_exit_4_and_named(copied):
    """A flipped bit in each byte; a cut at each byte."""
    file = copied / folder.CONFIG
    good = file.read_bytes()
    damaged = [good[:n] for n in range(0, len(good), 5)]
    damaged += [good[:n] + bytes([good[n] ^ 1 << n % 8]) + good[n + 1 :] for n in range(len(good))]
    for data in damaged:
        file.write_bytes(data)
        with pytest.raises(Error) as caught:
            check_files(copied)
        assert (caught.value.exit_code, caught.value.problems) == (4, (f"{file} has changed",))


def test_each_flipped_bit_and_each_truncation_of_the_manifest_is_exit_4(copied):
    file = copied / folder.MANIFEST
    good = file.read_bytes()
    damaged = [good[:n] for n in range(len(good))]
    damaged += [
        good[:n] + bytes([good[n] ^ 1 << bit]) + good[n + 1 :] for n in range(0, len(good), 7) for bit in range(8)
    ]
    for data in damaged:
        file.write_bytes(data)
        with pytest.raises(Error) as caught:
            read_manifest(copied)
        assert caught.value.exit_code == 4
        assert str(file) in str(caught.value)


@pytest.mark.parametrize("name", ["../elsewhere", "/etc/hostname", "plugins/../../x", ".lock", "a/b"])
def test_a_name_that_leads_out_of_the_run_is_refused(copied, name):
    (copied / "plugins").mkdir()
    write_manifest(copied, Manifest({folder.CONFIG: ["0" * 64], name: ["0" * 64]}, [], []))
    with pytest.raises(Error, match="not the name of a file of a run") as caught:
        check_files(copied)
    assert caught.value.exit_code == 4


def test_while_a_file_is_replaced_both_contents_are_right(copied):
    manifest = read_manifest(copied)
    both = [*manifest.files[folder.SAMPLES], "1" * 64]
    write_manifest(copied, manifest._replace(files=manifest.files | {folder.SAMPLES: both}))
    check_files(copied)


def test_a_run_without_a_manifest_says_in_one_line_what_to_do(copied):
    (copied / folder.MANIFEST).unlink()
    with pytest.raises(Error, match=r"has no manifest\.json: it was lost, or an earlier seqjax") as caught:
        Run.open(copied)
    assert caught.value.exit_code == 4
    assert f"seqjax adopt {copied}" in str(caught.value)


def test_more_epochs_replace_config_and_results_in_it(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(Run, "plot", NoFigure)
    e = dataclasses.replace(EXPERIMENT, keep="last")
    e.run(tmp_path / "run")
    before = json.loads((tmp_path / "run" / folder.MANIFEST).read_text())["files"]
    dataclasses.replace(e, epochs=4).run(tmp_path / "run")
    after = json.loads((tmp_path / "run" / folder.MANIFEST).read_text())["files"]
    same = {name for name in before if before[name] == after[name]}
    assert before.keys() == after.keys()
    assert {folder.CONFIG, folder.METRICS, folder.PARAMS}.isdisjoint(same)
    assert {folder.CODEC, folder.ENVIRONMENT} <= same
    assert all(len(hashes) == 1 for hashes in after.values())


def test_a_manifest_without_the_config_is_damaged(copied):
    write_manifest(copied, Manifest({}, [], []))
    with pytest.raises(Error, match=r"it does not have config\.toml") as caught:
        check_files(copied)
    assert caught.value.exit_code == 4


def test_only_copies_of_plugins_are_in_the_manifest(copied):
    """An editor or a file manager may leave others, whose names no manifest could have."""
    (copied / folder.PLUGINS).mkdir()
    for name in (".DS_Store", "my mine.py", "a.py~", "a.py"):
        (copied / folder.PLUGINS / name).write_text("")
    (copied / folder.PLUGINS / "__pycache__").mkdir()
    assert [name for name in first_hashes(copied) if folder.PLUGINS in name] == [f"{folder.PLUGINS}/a.py"]
