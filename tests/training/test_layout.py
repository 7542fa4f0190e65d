"""Where a training is computed, chosen by measuring. The times are given, so that no test depends on the machine."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from support.crash import NoFigure

from seqjax import Experiment, Problem, Run, Text, user_cache
from seqjax.data.preparing import prepare
from seqjax.training import layout
from seqjax.training.layout import Choice, Layout, choose_layout
from seqjax_gradients import RTRL, Full
from seqjax_models import RNN
from seqjax_samplers import Sequential

EXPERIMENT = Experiment(
    dataset=Text("the cat sat on the mat. " * 40), model=RNN(hidden=4), sampler=Sequential(4, 5), epochs=2,
    train=1.0, heldout=0,
)  # fmt: skip
DATA = prepare(EXPERIMENT.dataset, 1.0, 0, None)


@pytest.fixture
def timed(monkeypatch, tmp_path):
    """Sets the seconds of each layout; returns the list of the measured candidates."""
    seen, seconds = [], {}

    def measure(candidates, *_):
        seen.append(candidates)
        return [seconds.get(tuple(candidate), 1.0) for candidate in candidates]

    monkeypatch.setattr(layout, "_measure", measure)
    monkeypatch.setattr(layout, "MIN_OPERATIONS", 0)
    monkeypatch.setattr(user_cache, "cache_folder", lambda name: tmp_path / "cache" / name)
    seen.append(seconds)
    return seen


def choose(**changes):
    setup = dataclasses.replace(EXPERIMENT.setup(), **changes)
    return choose_layout(Problem.of(EXPERIMENT.model, DATA.spec), DATA.streams["train"], setup)


@pytest.mark.parametrize(
    ("seconds", "chosen", "says"),
    [
        ({(2, "float32"): 1.0, (1, "float32"): 0.5}, (1, "float32"), "one device with threads: measured 2.00 times as"),
        ({(2, "float32"): 1.0, (1, "float32"): 0.97}, (2, "float32"), ""),
        ({(2, "float32"): 1.0, (1, "float32"): 1.5}, (2, "float32"), ""),
    ],
    ids=["faster", "noise", "slower"],
)
def test_the_fastest_layout_is_chosen_if_it_gains_more_than_noise(timed, seconds, chosen, says):
    timed[0].update(seconds)
    choice = choose()
    assert choice.layout == Layout(*chosen)
    assert str(choice).startswith(says)
    assert bool(str(choice)) == bool(says)
    assert choose() == choice
    assert len(timed) == 2, "it is measured once"


def test_bfloat16_falls_back_where_float32_is_faster(timed):
    timed[0].update({(2, "bfloat16"): 1.0, (2, "float32"): 0.25, (1, "float32"): 2.0, (1, "bfloat16"): 3.0})
    choice = choose(precision="bfloat16")
    assert choice.layout == Layout(2, "float32")
    assert str(choice) == "float32: measured 4.00 times as fast here as bfloat16"
    assert len(timed[1]) == 4
    assert choose(precision="bfloat16", gradient=RTRL()) == Choice(Layout(2, "float32"), Layout(2, "float32"))


def test_short_trainings_and_named_devices_are_not_measured(timed, monkeypatch):
    assert choose(devices=2).layout == Layout(2, "float32")
    monkeypatch.setattr(layout, "MIN_OPERATIONS", 1e20)
    assert choose().layout == Layout(2, "float32")
    assert len(timed) == 1


def test_every_layout_is_measured_as_it_trains(monkeypatch, tmp_path):
    """With real times: the candidates compile, and the caller's state and parameters can still be used."""
    monkeypatch.setattr(layout, "MIN_OPERATIONS", 0)
    monkeypatch.setattr(user_cache, "cache_folder", lambda name: tmp_path / name)
    assert choose().layout.devices in (1, 2)
    (file,) = (tmp_path / "layouts").glob("*.json")
    seconds = json.loads(file.read_text())["value"]
    assert len(seconds) == 2
    assert all(0 < t < 60 for t in seconds)


def test_an_interrupted_run_goes_on_in_the_layout_that_was_chosen_and_printed(timed, tmp_path, monkeypatch, capsys):
    timed[0].update({(1, "float32"): 0.5})
    monkeypatch.setattr(Run, "plot", NoFigure)
    want = EXPERIMENT.run()

    def interrupt(run):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        EXPERIMENT.run(tmp_path / "run", callback=interrupt, checkpoint_seconds=0, progress=True)
    assert "layout   one device with threads: measured 2.00 times as fast here as 2 devices" in capsys.readouterr().out
    record = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert (record["devices"], record["precision"]) == (1, "float32")
    timed[0].update({(1, "float32"): 2.0})
    for file in (tmp_path / "cache" / "layouts").iterdir():
        file.unlink()
    got = EXPERIMENT.run(tmp_path / "run")
    assert (np.asarray(got.params["W_hq"]) == np.asarray(want.params["W_hq"])).all()


def test_operations_count_parameters_and_targets():
    problem, stream = Problem.of(EXPERIMENT.model, DATA.spec), DATA.streams["train"]
    setup = dataclasses.replace(EXPERIMENT.setup(), gradient=Full(), epochs=3)
    size = sum(a.size for a in jax.tree.leaves(jax.eval_shape(problem.init, jax.random.key(0))))
    assert layout.operations(problem, stream, setup) == 6 * size * len(stream.targets) * 3
