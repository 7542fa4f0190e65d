"""Files outside the folder of a run are never touched, and trained parameters are kept if samples cannot be made."""

import contextlib
import os
import shutil
from dataclasses import dataclass

import pytest
from support.crash import contents
from support.tiny import FULL, TEXT, TINY, changed, refused

from seqjax import Error, Run, Tokenizer, create, register, sweep
from seqjax.files import open_plain, write
from seqjax.plugin import registry
from seqjax.runs.files import folder, store
from seqjax.sweeps.launching.state import JOBS

FEW = 100
"""Fewer tokens than the training part has, which is checked before training."""


@dataclass(frozen=True)
class Fails(Tokenizer):
    """A tokenizer that cannot join a few characters."""

    def split(self, text):
        return list(text)

    def join(self, tokens):
        if len(tokens) < FEW:
            raise LookupError("no such character")
        return "".join(tokens)


def test_samples_that_cannot_be_made_are_reported_and_the_run_is_kept(tmp_path, forget_local_plugins, capsys):
    register("tokenizer", "fails")(Fails)
    path = tmp_path / "run"
    changed(tokenizer=Fails(), epochs=1).run(path)
    words = "no samples could be made: LookupError: no such character; the parameters are saved"
    assert words in capsys.readouterr().out
    assert (path / folder.SAMPLES).read_text() == "--- no samples could be made ---\nLookupError: no such character\n"
    assert Run.open(path).finished


@pytest.fixture
def elsewhere(tmp_path):
    """A file of the user, outside the folder of any run."""
    file = tmp_path / "elsewhere.txt"
    file.write_text("mine")
    yield file
    assert file.read_text() == "mine"


FIRST = [folder.LOCK, folder.METRICS, folder.ENVIRONMENT, folder.CODEC, folder.MANIFEST]
RESULTS = [folder.HISTORY, folder.SAMPLES, folder.PARAMS, folder.CONFIG]


@pytest.mark.parametrize("name", [*FIRST, *RESULTS])
def test_a_link_in_the_place_of_a_file_is_not_followed(tmp_path, elsewhere, name, monkeypatch):
    """It is refused, or replaced if the file is written anew."""
    path, begin = tmp_path / "run", store.begin

    def link(*args):
        begin(*args)
        (path / name).unlink(missing_ok=True)
        (path / name).symlink_to(elsewhere)

    path.mkdir()
    if name in FIRST:
        (path / name).symlink_to(elsewhere)
    else:
        monkeypatch.setattr(store, "begin", link)
    with contextlib.suppress(Error):
        TINY.run(path)


@pytest.fixture
def victim(tmp_path):
    """A folder of the user, outside that of any run, with files whose names are those that a run would delete."""
    path = tmp_path / "victim"
    path.mkdir()
    for name in ("thesis.part", f"{7:010}.safetensors"):
        (path / name).write_text("mine")
    before = contents(path)
    yield path
    assert contents(path) == before


def test_checkpoints_behind_a_link_are_neither_written_nor_deleted(finished, victim):
    (checkpoint,) = (finished / folder.CHECKPOINTS).iterdir()
    shutil.move(checkpoint, victim)
    (finished / folder.CHECKPOINTS).rmdir()
    (finished / folder.CHECKPOINTS).symlink_to(victim)
    of_run = contents(finished)
    with refused(f"{finished / folder.CHECKPOINTS} is a link, and is left as it is"):
        changed(FULL, epochs=3).run(finished)
    assert {**contents(finished), folder.LOCK: b""} == {**of_run, folder.LOCK: b""}
    (victim / checkpoint.name).unlink()


@pytest.mark.parametrize("name", [folder.TRACKING, "tensorboard"])
def test_a_tracker_writes_and_deletes_nothing_behind_a_link(finished, victim, name, capsys):
    (finished / name).symlink_to(victim)
    FULL.run(finished, tracker=create("tracker", "tensorboard"))
    assert f"{finished / name} is a link" in capsys.readouterr().out


def test_copies_of_plugins_are_not_written_behind_a_link(tmp_path, victim, forget_local_plugins):
    file, path = tmp_path / "mine.py", tmp_path / "run"
    file.write_text(
        "import dataclasses\nimport seqjax\nfrom seqjax.tokenizers import Char\n\n\n"
        "@seqjax.register('tokenizer', 'behind-a-link')\n@dataclasses.dataclass(frozen=True)\n"
        "class Mine(Char):\n    pass\n"
    )
    registry.load_file(file)
    path.mkdir()
    (path / folder.PLUGINS).symlink_to(victim)
    with refused("is a link"):
        changed(tokenizer=create("tokenizer", "behind-a-link")).run(path)


def test_jobs_are_not_written_behind_a_link(tmp_path, victim):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / JOBS).symlink_to(victim)
    (tmp_path / "text.txt").write_text(TEXT)
    experiment = changed(dataset=create("dataset", "text-file", path=str(tmp_path / "text.txt")))
    with refused("is a link"):
        sweep(experiment, {"seed": [0, 1]}, tmp_path / "out", launcher=create("launcher", "local"))


def test_the_name_of_a_file_that_is_being_written_cannot_be_guessed(tmp_path, monkeypatch):
    parts, replaced = [], os.replace
    monkeypatch.setattr(os, "replace", lambda part, path: (parts.append(part.name), replaced(part, path)))
    for _ in range(2):
        write(tmp_path / "file", b"data")
    assert len(set(parts)) == 2
    assert all(len(name) >= len("file.") + 16 for name in parts)


@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_only_plain_files_are_opened(tmp_path, elsewhere, kind):
    path = tmp_path / "it"
    {"link": lambda: path.symlink_to(elsewhere), "folder": path.mkdir, "pipe": lambda: os.mkfifo(path)}[kind]()
    with refused("is not a plain file"):
        open_plain(path, os.O_RDONLY)
