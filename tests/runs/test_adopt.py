"""Files of a run that are changed by hand, on purpose."""

import contextlib
import json
import os
import shutil

import pytest
from seqjax.runs.adopt import adopt
from support.crash import NoFigure, contents, crash_after, results
from support.shell import call

from seqjax import Error, Experiment, Run, Text
from seqjax.runs.files import folder
from seqjax.runs.files.manifest import check_files, read_manifest
from seqjax_models import RNN
from seqjax_optimizers import SGD
from seqjax_samplers import Sequential


def tiny(rate=0.5):
    return Experiment(
        dataset=Text("the cat sat on the mat. " * 20),
        model=RNN(hidden=3),
        sampler=Sequential(4, 5),
        optimizer=SGD(rate),
        epochs=3,
    )


@pytest.fixture(autouse=True)
def no_figure(monkeypatch):
    monkeypatch.setattr(Run, "plot", NoFigure)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "finished"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "plot", NoFigure)
        tiny().run(path)
    return path


@pytest.fixture
def copied(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def edit(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_without_a_change_nothing_is_written(copied):
    before = contents(copied)
    assert adopt(copied) == []
    assert contents(copied) == before


def test_an_edited_config_is_adopted_and_said_in_the_run(copied, finished):
    edit(copied / folder.CONFIG, "learning_rate = 0.5", "learning_rate = 0.25")
    with pytest.raises(Error, match="seqjax adopt"):
        Run.open(copied)
    assert adopt(copied) == [folder.CONFIG]
    run = Run.open(copied)
    assert run.experiment.optimizer == SGD(0.25)
    assert run.changed == [folder.CONFIG]
    assert "changed=['config.toml']" in repr(run)
    assert "changed by hand: config.toml" in run._repr_html_()
    assert Run.open(finished).changed == []
    assert results(copied) == results(finished)


def test_an_interrupted_run_goes_on_with_the_edited_config(tmp_path, monkeypatch):
    """The state before the change counts: it has the updates of the old rate, and then those of the new one."""
    path = tmp_path / "run"
    with crash_after(monkeypatch, 2):
        tiny().run(path, checkpoint_seconds=0)
    edit(path / folder.CONFIG, "learning_rate = 0.5", "learning_rate = 0.25")
    assert adopt(path) == [folder.CONFIG]
    run = tiny(0.25).run(path)
    assert run.finished
    rows, _, params = results(path)
    old, new = (results(tiny(rate).run(tmp_path / f"{rate}").path) for rate in (0.5, 0.25))
    assert rows[:2] == old[0][:2]
    assert [row["learning_rate"] for row in rows] == [0.5, 0.5, 0.25]
    assert params not in (old[2], new[2])
    assert Run.open(path).changed == [folder.CONFIG]


def test_an_edited_row_gets_hashes_that_are_right(copied):
    edit(copied / folder.METRICS, '"epoch": 2, "update": ', '"epoch": 2, "update": 1')
    assert adopt(copied) == [folder.METRICS]
    assert Run.open(copied).metrics[1]["update"] > 100


def test_a_second_change_is_kept_beside_the_first(copied):
    (copied / folder.SAMPLES).write_text("mine\n")
    adopt(copied)
    (copied / folder.HISTORY).unlink()
    assert adopt(copied) == [folder.HISTORY]
    assert Run.open(copied).changed == [folder.SAMPLES, folder.HISTORY]
    assert folder.HISTORY not in read_manifest(copied).files


def test_a_kill_loses_no_name_of_a_changed_file(copied, tmp_path, monkeypatch):
    """Whichever file had been replaced when it came."""
    (copied / folder.SAMPLES).write_text("mine\n")
    adopt(copied)
    edit(copied / folder.METRICS, '"epoch": 2, "update": ', '"epoch": 2, "update": 1')
    edit(copied / folder.CONFIG, "learning_rate = 0.5", "learning_rate = 0.25")
    real, replaced = os.replace, []
    for n in range(5):
        path = shutil.copytree(copied, tmp_path / f"{n}")

        def replace(source, target, n=n):
            if len(replaced) == n:
                raise KeyboardInterrupt
            replaced.append(target)
            real(source, target)

        with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
            patch.setattr(os, "replace", replace)
            adopt(path)
        count, _ = len(replaced), replaced.clear()
        adopt(path)
        run = Run.open(path)
        assert set(run.changed) == {folder.SAMPLES, folder.METRICS, folder.CONFIG}
        assert run.experiment.optimizer == SGD(0.25)
    assert count == 2, "the rows and the manifest"


def test_a_run_of_an_earlier_version_is_adopted(copied, finished):
    """It has no manifest, and rows without hashes."""
    (copied / folder.MANIFEST).unlink()
    rows = [json.loads(line) for line in (copied / folder.METRICS).read_text().splitlines()]
    for row in rows:
        del row["hash"]
    (copied / folder.METRICS).write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert adopt(copied) == [folder.MANIFEST]
    assert Run.open(copied).metrics == Run.open(finished).metrics
    assert (copied / folder.METRICS).read_bytes() == (finished / folder.METRICS).read_bytes()


@pytest.mark.parametrize(
    ("name", "end"),
    [(folder.PARAMS, b"\xff" * 20), (folder.METRICS, b"\xff" * 20), (folder.METRICS, b'"}\n[{"a": 1}]\n')],
)
def test_damage_is_not_adopted(copied, name, end):
    data = (copied / name).read_bytes()
    (copied / name).write_bytes(data[: -len(end)] + end)
    before = contents(copied)
    with pytest.raises(Error) as caught:
        adopt(copied)
    assert caught.value.exit_code == 4
    assert str(copied / name) in str(caught.value)
    assert contents(copied) == before


def test_an_edited_row_of_an_interrupted_run_is_adopted(tmp_path, monkeypatch):
    """Before training ends, the metrics are not in the manifest."""
    path = tmp_path / "run"
    with crash_after(monkeypatch, 2):
        tiny().run(path, checkpoint_seconds=0)
    assert adopt(path) == []
    edit(path / folder.METRICS, '"epoch": 2, "update": ', '"epoch": 2, "update": 1')
    with pytest.raises(Error, match=r"metrics\.jsonl"):
        tiny().run(path)
    assert adopt(path) == [folder.METRICS]
    assert tiny().run(path).metrics[1]["update"] > 100


def test_a_state_of_another_run_is_adopted_when_asked_for(tmp_path, monkeypatch):
    path = tmp_path / "run"
    with crash_after(monkeypatch, 2):
        tiny().run(path, checkpoint_seconds=0)
    with crash_after(monkeypatch, 2):
        tiny(0.25).run(tmp_path / "other", checkpoint_seconds=0)
    shutil.rmtree(path / folder.CHECKPOINTS)
    shutil.copytree(tmp_path / "other" / folder.CHECKPOINTS, path / folder.CHECKPOINTS)
    with pytest.raises(Error, match="belongs to another run"):
        tiny().run(path)
    assert adopt(path) == [folder.CHECKPOINTS]
    assert tiny().run(path).finished


def test_a_damaged_manifest_is_written_anew(copied):
    (copied / folder.MANIFEST).write_text("{}")
    assert adopt(copied) == [folder.MANIFEST]
    assert Run.open(copied).changed == [folder.MANIFEST]


@pytest.mark.parametrize(
    ("name", "old", "new", "named"),
    [
        (folder.CONFIG, "epochs = 3", "epochs = 4", folder.METRICS),
        (folder.CONFIG, "hidden = 3", "hidden = 4", folder.PARAMS),
        (folder.CONFIG, "epochs = 3", "epochs", folder.CONFIG),
        (folder.METRICS, '"epoch": 2, ', '"epoch": 2, "mine": 1, ', folder.METRICS),
    ],
)
def test_files_that_no_command_could_use_are_not_adopted(copied, name, old, new, named):
    edit(copied / name, old, new)
    before = contents(copied)
    with pytest.raises(Error) as caught:
        adopt(copied)
    assert caught.value.exit_code == 4
    assert str(copied / named) in str(caught.value)
    assert contents(copied) == before


def test_a_run_in_use_is_exit_5(copied):
    with folder.lock(copied), pytest.raises(Error, match="is in use") as caught:
        adopt(copied)
    assert caught.value.exit_code == 5


def test_the_command(copied, tmp_path):
    done = call("adopt", copied)
    assert (done.returncode, done.stdout) == (0, f"{copied}: no file has changed\n")
    (copied / folder.SAMPLES).write_text("mine\n")
    done = call("adopt", copied)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("adopted  samples.txt\n")
    check_files(copied)
    done = call("adopt", tmp_path)
    assert (done.returncode, "holds no run" in done.stderr) == (2, True)
