"""The manifest of a run: each file is in it, and each change of a file or of the manifest is noticed."""

import os
import random

import pytest
from support.crash import contents
from support.tiny import FULL, changed, flip, refused

from seqjax import Run
from seqjax.array_files import saved_file
from seqjax.runs.files import folder
from seqjax.runs.files.manifest import (
    Content,
    Manifest,
    check_files,
    compare_files,
    content_of,
    decode_manifest,
    read_manifest,
    write_manifest,
)
from seqjax.runs.verify import CHANGED, UNREADABLE, verify

CONTENT = Content(0, "0" * 64)
LARGE = 2**38
"""The bytes of a sparse file that no machine reads in the time of a test."""


def test_it_lists_every_file_of_a_run_that_has_ended(whole):
    manifest = read_manifest(whole.path)
    assert {*manifest.files} == contents(whole.path).keys() - {folder.LOCK, folder.MANIFEST}
    assert {*folder.DATA.values(), *folder.RESULTS} <= {*manifest.files}
    assert (manifest.ended, manifest.note, manifest.stopped_at, manifest.next_config) == ("finished", "", None, None)
    assert len(manifest.checkpoints) == 1
    for name, expected in manifest.files.items():
        assert content_of((whole.path / name).read_bytes()) == expected


def test_it_lists_the_files_of_an_unfinished_run_that_training_does_not_change(half):
    manifest = read_manifest(half)
    first = {folder.CONFIG, folder.CODEC, folder.ENVIRONMENT, *folder.DATA.values()}
    assert {*manifest.files} - {*manifest.checkpoints} == first
    assert manifest.checkpoints == sorted(manifest.checkpoints, reverse=True)
    assert (len(manifest.checkpoints), manifest.ended) == (2, "")


CHANGES = {
    "has changed": lambda file, at: flip(file, at),
    "is missing": lambda file, at: file.unlink(),
    "is not a plain file": lambda file, at: (file.unlink(), os.mkfifo(file)),
}


@pytest.mark.parametrize("words", CHANGES)
def test_a_change_of_any_file_is_exit_4_and_named(finished, words):
    """Of each file, one byte is flipped; tests/faults flips each of them."""
    good, draw = contents(finished), random.Random(0)
    for name in read_manifest(finished).files:
        is_for_more = name.startswith(folder.CHECKPOINTS)
        if words == "is missing" and is_for_more:
            continue
        CHANGES[words](finished / name, draw.randrange(len(good[name])))
        before, is_run = contents(finished), (finished / folder.CONFIG).is_file()
        for use in (Run.open, FULL.run, check_files) if is_run else (check_files,):
            with refused("some files are missing, or have changed since they were written. None was touched") as caught:
                use(finished)
            assert caught.value.problems == (f"{finished / name} {words}",)
            assert ("only more epochs would need it" in str(caught.value)) == is_for_more
        assert contents(finished) == before
        (finished / name).unlink(missing_ok=True)
        (finished / name).write_bytes(good[name])
    assert Run.open(finished).finished


def test_a_file_of_another_size_is_not_read(finished):
    for name in read_manifest(finished).files:
        data = (finished / name).read_bytes()
        os.truncate(finished / name, LARGE)
        for use in (Run.open, FULL.run, check_files):
            with refused("some files are missing, or have changed") as caught:
                use(finished)
            assert caught.value.problems == (f"{finished / name} has changed",)
        os.truncate(finished / name, len(data))
    assert Run.open(finished).finished


@pytest.mark.parametrize("name", [folder.MANIFEST, folder.CONFIG, folder.ENVIRONMENT])
def test_a_table_is_not_read_if_it_is_larger_than_any(finished, name):
    os.truncate(finished / name, LARGE)
    with refused(f"{name} is damaged, .*it has {LARGE:,} bytes"):
        saved_file.read(finished / name, len)
    lines = verify(finished)
    assert {line.what: line.state for line in lines}[name] == CHANGED


def test_all_changed_files_are_named_at_once_or_only_those_that_were_asked_for(finished):
    for name in (folder.CODEC, folder.SAMPLES):
        flip(finished / name)
    (finished / folder.HISTORY).unlink()
    with refused("Restore them, or train in another folder") as caught:
        check_files(finished)
    assert len(caught.value.problems) == 3
    with refused("some files") as caught:
        check_files(finished, [folder.CONFIG, folder.CODEC])
    assert caught.value.problems == (f"{finished / folder.CODEC} has changed",)
    assert check_files(finished, [folder.CONFIG, folder.PARAMS]).manifest == read_manifest(finished)


def test_a_checkpoint_may_be_missing_if_another_one_is_there(stopped):
    newest, other = read_manifest(stopped).checkpoints
    (stopped / newest).unlink()
    assert compare_files(stopped).faults == {}
    (stopped / other).unlink()
    assert compare_files(stopped).faults.keys() == {newest, other}


def test_a_change_of_the_manifest_is_exit_4(stopped):
    file = stopped / folder.MANIFEST
    good = file.read_bytes()
    for n in range(0, len(good), 9):
        for end in (b"", bytes([good[n] ^ 1 << n % 8]) + good[n + 1 :]):
            with refused("is damaged"), saved_file.reading(file):
                decode_manifest(good[:n] + end)
    file.write_bytes(good[:-1])
    with refused(f"{file} is damaged"):
        read_manifest(stopped)
    file.unlink()
    for use in (Run.open, FULL.run, check_files):
        with refused(f"{file} is missing; no file was touched"):
            use(stopped)


def test_names_that_are_not_those_of_a_run_are_refused(tmp_path):
    for name in ("../elsewhere", "/etc/hostname", "plugins/../../x", ".lock", "a/b", "plugins/"):
        write_manifest(tmp_path, Manifest({folder.CONFIG: CONTENT, name: CONTENT}))
        with refused(f"its names of files are not those of a run: {name}"):
            check_files(tmp_path)
    write_manifest(tmp_path, Manifest({folder.CODEC: CONTENT}))
    with refused("its names of files are not those of a run"):
        check_files(tmp_path)


def test_while_the_config_is_replaced_both_are_right(finished):
    manifest, longer = read_manifest(finished), changed(FULL, epochs=3).run(finished.parent / "longer").path
    config = (longer / folder.CONFIG).read_bytes()
    write_manifest(finished, manifest._replace(next_config=content_of(config)))
    check_files(finished)
    (finished / folder.CONFIG).write_bytes(config)
    check_files(finished)
    flip(finished / folder.CONFIG)
    with refused("config.toml has changed"):
        check_files(finished)


def test_a_manifest_that_is_replaced_while_the_files_are_compared_is_read_again(stopped, monkeypatch):
    before = [read_manifest(stopped)]
    FULL.run(stopped)
    late = lambda path: before.pop() if before else read_manifest(path)
    monkeypatch.setattr("seqjax.runs.files.manifest.read_manifest", late)
    assert compare_files(stopped) == (read_manifest(stopped), {}, {})


def test_files_that_it_does_not_list_are_no_part_of_the_run(finished):
    (finished / "notes.txt").write_text("mine")
    (finished / folder.PLUGINS).mkdir()
    (finished / folder.PLUGINS / ".DS_Store").write_text("")
    assert Run.open(finished).finished
    assert FULL.run(finished).finished
    assert (finished / "notes.txt").read_text() == "mine"


def test_a_file_that_may_not_be_read_is_exit_6_and_damage_counts_more(finished, monkeypatch):
    """The system is asked through a stand-in, since root may read every file."""
    opened = os.open

    def closed(path, *args, **kwargs):
        if str(path).endswith(folder.PARAMS):
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", closed)
    for use in (Run.open, FULL.run):
        with refused("some files", 6) as caught:
            use(finished)
        assert caught.value.problems == (f"{finished / folder.PARAMS} may not be read",)
    assert (folder.PARAMS, UNREADABLE) in [line[:2] for line in verify(finished)]
    flip(finished / folder.CODEC)
    with refused("some files", 4):
        Run.open(finished)
