"""What the readers of TensorBoard and Trackio give back is what the folder of a run has."""

import math
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from support.crash import NoFigure, experiment

from seqjax import Error
from seqjax.gradients import Full
from seqjax.optimizers import SGD
from seqjax.runs.files import folder
from seqjax.runs.files.rows import read_rows
from seqjax.runs.tracking.mirror import Mirror
from seqjax.trackers import TensorBoard, Trackio

SHORT = {"gradient": Full(), "optimizer": SGD(0.5), "train": 200}
"""All epochs have equally many windows, so that one program is compiled for them."""
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360606060000000050001"
    "a5f645400000000049454e44ae426082"
)
"""A figure of one pixel."""


@pytest.fixture(autouse=True)
def small_figure(monkeypatch):
    class Figure(NoFigure):
        def savefig(self, file, format):
            file.write(PNG)

    monkeypatch.setattr("seqjax.report.plot.history", Figure)


@pytest.fixture
def project(tmp_path):
    """The name of a new project."""
    return f"{tmp_path.parent.name}-{tmp_path.name}"


def rows_kept(path):
    return {
        row.pop("epoch"): {name: value for name, value in row.items() if not math.isnan(value)}
        for row in read_rows(path)
    }


def read_tensorboard(path):
    """Epoch -> column -> value, the texts and the images by name."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(path), size_guidance={"scalars": 0, "tensors": 0, "images": 0}).Reload()
    rows = {}
    for tag in events.Tags()["scalars"]:
        for event in events.Scalars(tag):
            assert tag not in rows.setdefault(event.step, {}), "a point is there twice"
            rows[event.step][tag] = event.value
    texts = {tag: events.Tensors(tag)[-1].tensor_proto.string_val[0].decode() for tag in events.Tags()["tensors"]}
    images = {tag: events.Images(tag)[-1].encoded_image_string for tag in events.Tags()["images"]}
    return rows, {tag.removesuffix("/text_summary"): text for tag, text in texts.items()}, images


def as_float32(rows):
    """TensorBoard keeps scalars as float32."""
    return {epoch: {name: float(np.float32(value)) for name, value in row.items()} for epoch, row in rows.items()}


def read_trackio(project, start):
    """The rows and the other entries of the only run of a project, whose name starts so."""
    from trackio.sqlite_storage import SQLiteStorage

    (name,) = SQLiteStorage.get_runs(project)
    assert name.startswith(start)
    rows, others = {}, {}
    for log in SQLiteStorage.get_logs(project, name):
        step = log.pop("step")
        del log["timestamp"]
        if "update" in log:
            assert step not in rows
            rows[step] = log
        else:
            others |= log
    return rows, others


@pytest.mark.parametrize("live", [True, False])
def test_tensorboard_reads_what_the_folder_has(tmp_path, live):
    short = experiment("rnn, rtrl, adamw", **SHORT, epochs=3)
    short.run(tmp_path, tracker=TensorBoard() if live else None)
    if not live:
        short.run(tmp_path, tracker=TensorBoard())
    rows, texts, images = read_tensorboard(tmp_path / "tensorboard")
    assert rows == as_float32(rows_kept(tmp_path))
    assert texts["config"].replace("\n    ", "\n").removeprefix("    ") == (tmp_path / "config.toml").read_text()
    assert texts["samples"].count("\n") == (tmp_path / "samples.txt").read_text().count("\n")
    assert images == {"history": PNG}
    files = list((tmp_path / "tensorboard").iterdir())
    short.run(tmp_path, tracker=TensorBoard())
    assert list((tmp_path / "tensorboard").iterdir()) == files


def test_tensorboard_drops_epochs_that_are_trained_again(tmp_path):
    run = experiment("rnn, rtrl, adamw", **SHORT, epochs=4).run(tmp_path)
    killed = Mirror(TensorBoard(), tmp_path, 0)
    killed.update([row | {"seconds": -1.0} for row in run.metrics[:3]])
    killed.session.writer.close()  # which adds nothing: each row is flushed
    killed.abandon()
    mirror = Mirror(TensorBoard(), tmp_path, 2)
    mirror.account["epochs"] = 2
    mirror.update(run.metrics)
    mirror.close()
    rows, texts, images = read_tensorboard(tmp_path / "tensorboard")
    want = as_float32(rows_kept(tmp_path))
    want[1]["seconds"] = want[2]["seconds"] = -1.0
    assert rows == want
    assert set(texts) == {"config", "samples"}
    assert images == {"history": PNG}


@pytest.mark.parametrize("live", [True, False])
def test_trackio_reads_what_the_folder_has(tmp_path, project, live):
    path = tmp_path / "my" / "run"
    short = experiment("rnn, rtrl, adamw", **SHORT, epochs=3)
    short.run(path, tracker=Trackio(project) if live else None)
    for _ in range(2):
        short.run(path, tracker=Trackio(project))
        rows, others = read_trackio(project, "my/run")
        assert rows == rows_kept(path)
        assert others["config"]["_value"].replace("\n    ", "\n").strip() == (path / "config.toml").read_text().strip()
        assert set(others) == {"config", "samples", "history"}
    (image,) = (Path(os.environ["TRACKIO_DIR"]) / "media" / project).rglob("*.png")
    assert image.read_bytes() == PNG


def test_trackio_prints_nothing(tmp_path, project, capsys):
    """It has colours, which are control characters."""
    Trackio(project).open(tmp_path, {}, 0).close()
    assert capsys.readouterr().out == ""


def test_trackio_logs_no_epoch_twice(tmp_path, project):
    """After a kill, the account of what was sent may be older than the last rows."""
    path = tmp_path / "run"
    short = experiment("rnn, rtrl, adamw", **SHORT, epochs=3)
    run = short.run(path)
    killed = Mirror(Trackio(project), path, 0)
    killed.update(run.metrics[:2])
    killed.close()
    (path / folder.TRACKING / "tracked.json").unlink()
    short.run(path, tracker=Trackio(project))
    rows, _ = read_trackio(project, f"{tmp_path.name}/run")
    assert rows == rows_kept(path)


@pytest.mark.parametrize(
    ("tracker", "module", "package"),
    [(TensorBoard(), "tensorboardX.event_file_writer", "tensorboard"), (Trackio(), "trackio", "trackio")],
)
def test_a_missing_library_is_named(tmp_path, monkeypatch, tracker, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(Error, match=rf"pip install 'seqjax\[{package}\]'"):
        tracker.open(tmp_path, {}, 0)
