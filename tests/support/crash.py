"""Runs that crash after some chunks, and what has to be identical when they go on."""

import contextlib
import itertools
import json

import numpy as np
import pytest

from seqjax import Experiment, Series, Text, create
from seqjax.gradients import RTRL, Full, Randomized, Truncated
from seqjax.models import GRU, LSTM, MLP, RNN
from seqjax.optimizers import SGD, Adam, AdamW
from seqjax.runs import listen
from seqjax.runs.files.folder import RESULTS
from seqjax.runs.files.manifest import read_manifest, write_manifest
from seqjax.samplers import Random, Sequential, Windows

TIMING = ("seconds", "compile_seconds", "tokens_per_second")
TEXT = "the cat sat on the mat and the dog sat on the log. "
SINE = np.sin(np.arange(90) / 3)

EXPERIMENTS = {
    "lstm, dropout, randomized, adam": {
        "model": LSTM(hidden=4, dropout=0.3),
        "gradient": Randomized(keep_prob=0.8),
        "optimizer": Adam(0.01, schedule="cosine", warmup=0.2, clip_norm=1.0),
    },
    "rnn, rtrl, adamw": {"model": RNN(hidden=3), "gradient": RTRL(), "optimizer": AdamW(0.01)},
    "gru, random": {
        "model": GRU(hidden=4),
        "sampler": Random(4, 5),
        "gradient": Truncated(steps=2),
        "optimizer": SGD(0.5, schedule="cosine", clip_norm=1.0),
    },
    "mlp, windows": {
        "dataset": Series(SINE),
        "tokenizer": create("tokenizer", "standardize"),
        "model": MLP(lags=3, hidden=4),
        "sampler": Windows(4, 6),
        "gradient": Full(),
        "optimizer": Adam(0.01),
    },
}


OTHERS = {"dataset": Text(TEXT * 5), "sampler": Sequential(4, 5), "train": 0.8, "heldout": 0.2}


def experiment(name, **fields):
    return Experiment(**{**OTHERS, "epochs": 2, "evaluate_every": 2, **EXPERIMENTS[name], **fields})


def results(path):
    """What has to be identical: the parameters' file, the rows but for the times, the samples."""
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    rows = [{key: value for key, value in row.items() if key not in TIMING} for row in rows]
    samples = path / "samples.txt"
    return rows, samples.read_bytes() if samples.is_file() else None, (path / "params.safetensors").read_bytes()


def contents(path):
    """Name of each file in a folder, and in the folders of it -> its bytes."""
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def forget_results(path, checkpoints=False):
    """Makes the manifest of a finished run that of a run whose results are not complete; `checkpoints`: nor saved."""
    manifest = read_manifest(path)
    gone = {*RESULTS, *(manifest.checkpoints if checkpoints else ())}
    files = {name: content for name, content in manifest.files.items() if name not in gone}
    write_manifest(path, manifest._replace(files=files, ended=""))


class Crash(BaseException):
    """Ends a run as abruptly as an exception can."""


@contextlib.contextmanager
def crash_after(monkeypatch, chunks):
    """Within, training ends in a crash after so many chunks."""
    take, count = listen.Training.take, itertools.count(1)

    def counted(self, outcome):
        ended = take(self, outcome)
        if next(count) == chunks:
            raise Crash
        return ended

    with monkeypatch.context() as patch:
        patch.setattr(listen.Training, "take", counted)
        with pytest.raises(Crash):
            yield


def count_chunks(monkeypatch, experiment, path):
    """Trains to the end; how many chunks there were."""
    take, chunks = listen.Training.take, []

    def noted(self, outcome):
        chunks.append(outcome[1])
        return take(self, outcome)

    with monkeypatch.context() as patch:
        patch.setattr(listen.Training, "take", noted)
        experiment.run(path)
    return chunks


class NoFigure:
    """Stands for `plot.history` and its figure, which takes longer than the training here."""

    caption_text = ""

    def __init__(self, rows=(), **options):
        pass

    def savefig(self, file, format):
        file.write(b"a figure")
