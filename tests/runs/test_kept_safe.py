"""Trained parameters are kept if other files are damaged, or if samples cannot be made."""

import contextlib
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import numpy as np
import pytest
from support.crash import contents, forget_results
from support.shell import call

from seqjax import Error, Experiment, Run, Text, Tokenizer, create, register, sweep
from seqjax.files import open_plain, write
from seqjax.plugin import registry
from seqjax.runs import begin, folder
from seqjax.sweeps.launching.state import JOBS
from seqjax_models import RNN
from seqjax_optimizers import SGD
from seqjax_samplers import Sequential
from seqjax_tokenizers import Word

TINY = Experiment(
    dataset=Text("the cat sat on the mat. " * 20),
    model=RNN(hidden=2),
    sampler=Sequential(2, 8),
    optimizer=SGD(0.5),
    epochs=3,
)


@pytest.fixture
def finished(tmp_path):
    return TINY.run(tmp_path / "run").path


DAMAGE = {
    "torn": lambda data: data[:-30],
    "last row gone": lambda data: data[: data.rindex(b"\n", 0, -1) + 1],
    "first row gone": lambda data: data[data.index(b"\n") + 1 :],
    "empty": lambda data: b"",
    "rows swapped": lambda data: b"".join(data.splitlines(keepends=True)[::-1]),
    "a text for a number": lambda data: data.replace(b'"epoch": 2', b'"epoch": "2"'),
    "no epoch": lambda data: data.replace(b'"epoch": 2', b'"epic": 2'),
    "no rows": lambda data: b"[]\n[]\n[]\n",
}


@pytest.mark.filterwarnings("ignore:.*last line is incomplete")
@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_metrics_of_a_finished_run_are_exit_4_and_nothing_is_deleted(finished, damage):
    file = finished / folder.METRICS
    file.write_bytes(DAMAGE[damage](file.read_bytes()))
    before = contents(finished)
    for use in (lambda: TINY.run(finished), lambda: Run.open(finished)):
        with pytest.raises(Error, match=r"metrics\.jsonl") as caught:
            use()
        assert caught.value.exit_code == 4
    assert contents(finished) == before


FEW = 100
"""Fewer tokens than the training part has, which is checked before training."""


@dataclass(frozen=True)
class LossyWords(Tokenizer):
    """Words, of which a few are joined without spaces, so that `join` is not the inverse of `split`."""

    def split(self, text):
        return text.split()

    def join(self, tokens):
        return ("" if len(tokens) < FEW else " ").join(tokens)


@dataclass(frozen=True)
class Fails(LossyWords):
    """A tokenizer that cannot join a few words."""

    def join(self, tokens):
        if len(tokens) < FEW:
            raise LookupError("no such word")
        return " ".join(tokens)


@pytest.fixture
def lossy_words():
    register("tokenizer", "lossy-words")(LossyWords)
    yield LossyWords()
    del registry._registered["tokenizer", "local/lossy-words"]


@pytest.fixture
def fails():
    register("tokenizer", "fails")(Fails)
    yield Fails()
    del registry._registered["tokenizer", "local/fails"]


@pytest.mark.parametrize("name", ["word", "lossy"])
def test_with_a_join_that_is_not_the_inverse_the_run_is_kept(tmp_path, lossy_words, name):
    tokenizer = {"word": Word(min_freq=500), "lossy": lossy_words}[name]
    run = replace(TINY, tokenizer=tokenizer, sampler=Sequential(2, 4)).run(tmp_path / "run", progress=True)
    assert run.finished
    jax.tree.map(np.testing.assert_array_equal, Run.open(run.path).params, run.params)
    assert (run.path / folder.SAMPLES).is_file()


def test_samples_that_cannot_be_made_are_reported_and_the_run_is_kept(tmp_path, fails, capsys):
    experiment = replace(TINY, tokenizer=fails, sampler=Sequential(2, 4))
    run = experiment.run(tmp_path / "run")
    assert Run.open(run.path).finished
    assert "no samples could be made ---\nLookupError: no such word" in (run.path / folder.SAMPLES).read_text()
    assert "the parameters are saved" in capsys.readouterr().out
    assert experiment.run(run.path).finished, "it is opened, and not trained again"


def test_the_command_ends_well_without_samples(tmp_path, fails, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text("the cat sat on the mat. " * 30)
    command = ["run", "--dataset", "text-file", "--dataset.path", "text.txt", "--tokenizer", "fails", "--epochs", 1]
    command += ["--sampler.batch-size", 2, "--sampler.num-steps", 4, "--model.hidden", 4, "--out", "run"]
    for words in ("no samples could be made: LookupError: no such word", "opened   run"):
        done = call(*command)
        assert (done.returncode, done.stderr) == (0, "")
        assert words in done.stdout
        assert "next     seqjax evaluate run" in done.stdout


@pytest.mark.parametrize("missing", [folder.SAMPLES, folder.HISTORY])
def test_files_that_a_finished_run_lacks_after_a_kill_are_made_when_it_is_opened(finished, missing):
    before = contents(finished)
    forget_results(finished)
    (finished / missing).unlink()
    (finished / folder.CHECKPOINTS / f"{1:010}-{'0' * 64}.safetensors").write_text("an earlier state")
    TINY.run(finished)
    assert contents(finished) == before


@pytest.fixture
def elsewhere(tmp_path):
    """A file of the user, outside the folder of any run."""
    file = tmp_path / "elsewhere.txt"
    file.write_text("mine")
    return file


@pytest.mark.parametrize("name", [folder.LOCK, folder.METRICS, folder.ENVIRONMENT, folder.CODEC])
def test_a_link_in_the_place_of_a_file_is_refused_and_not_followed(tmp_path, elsewhere, name):
    path = tmp_path / "run"
    path.mkdir()
    (path / name).symlink_to(elsewhere)
    with contextlib.suppress(Error):  # no error if the file is written anew: it replaces the link
        TINY.run(path)
    assert elsewhere.read_text() == "mine"


@pytest.mark.parametrize("name", [folder.HISTORY, folder.SAMPLES, folder.PARAMS, folder.DIVERGED])
def test_a_link_in_the_place_of_a_result_is_replaced_and_not_followed(tmp_path, elsewhere, name, monkeypatch):
    path = tmp_path / "run"
    copy = begin.copy_local_plugins

    def link(*args):
        copy(*args)
        (path / name).symlink_to(elsewhere)

    monkeypatch.setattr(begin, "copy_local_plugins", link)
    with contextlib.suppress(Error):
        TINY.run(path)
    assert elsewhere.read_text() == "mine"


def test_checkpoints_behind_a_link_are_neither_written_nor_deleted(finished, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / f"{7:010}-{'0' * 64}.safetensors").write_text("mine")
    shutil.rmtree(finished / folder.CHECKPOINTS)
    (finished / folder.CHECKPOINTS).symlink_to(other)
    with pytest.raises(Error, match="is a link") as caught:
        TINY.run(finished)
    assert caught.value.exit_code == 4
    assert [file.read_text() for file in other.iterdir()] == ["mine"]


@pytest.fixture
def victim(tmp_path):
    """A folder of the user, outside that of any run, with a file whose name ends like those that a kill leaves."""
    path = tmp_path / "victim"
    path.mkdir()
    (path / "thesis.part").write_text("mine")
    yield path
    assert contents(path) == {"thesis.part": b"mine"}


@pytest.mark.parametrize("name", [folder.TRACKING, "tensorboard"])
def test_a_tracker_writes_and_deletes_nothing_behind_a_link(finished, victim, name):
    (finished / name).symlink_to(victim)
    done = call("track", finished, "--to", "tensorboard")
    assert done.returncode in (2, 4)
    assert f"{finished / name} is a link" in done.stderr


def test_copies_of_plugins_are_not_written_behind_a_link(tmp_path, victim, monkeypatch, forget_local_plugins):
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text("the cat sat on the mat. " * 30)
    Path("mine.py").write_text(
        "import dataclasses\nimport seqjax\nfrom seqjax_tokenizers import Char\n\n\n"
        "@seqjax.register('tokenizer', 'behind-a-link')\n@dataclasses.dataclass(frozen=True)\n"
        "class Mine(Char):\n    pass\n"
    )
    Path("run").mkdir()
    Path("run", folder.PLUGINS).symlink_to(victim)
    command = ["run", "--dataset", "text-file", "--dataset.path", "text.txt", "--out", "run", "--load", "mine.py"]
    done = call(*command, "--tokenizer", "behind-a-link", "--sampler.batch-size", 2, "--sampler.num-steps", 8)
    assert (done.returncode, "is a link" in done.stderr) == (4, True)


def test_jobs_are_not_written_behind_a_link(tmp_path, victim):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / JOBS).symlink_to(victim)
    experiment = replace(TINY, dataset=create("dataset", "python-docs"))
    with pytest.raises(Error, match="is a link") as caught:
        sweep(experiment, {"seed": [0, 1]}, tmp_path / "out", launcher=create("launcher", "local"))
    assert caught.value.exit_code == 4


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
    with pytest.raises(Error, match="is not a plain file") as caught:
        open_plain(path, os.O_RDONLY)
    assert caught.value.exit_code == 4


def test_a_run_shows_its_folder_or_that_it_has_none(finished):
    assert repr(Run.open(finished)).endswith(f"path={str(finished)!r})")
    assert "path" not in repr(replace(TINY, epochs=1).run())


def test_a_prepared_dataset_shows_sizes_and_no_arrays(finished):
    shown = repr(TINY.run(finished).prepared)
    assert len(shown) < 600
    assert "array" not in shown
