"""The table of states in `seqjax.runs.refusals`: what a command does with what a folder holds."""

import dataclasses
import shutil

import pytest
from support.crash import contents, count_chunks, crash_after
from support.tiny import FULL, TINY, changed, copy, left, refused

from seqjax import Run, Text, register
from seqjax.models import LSTM, RNN
from seqjax.optimizers import SGD, Adam
from seqjax.plugin.config import decode_toml, to_config, to_toml
from seqjax.runs.experiment import differences
from seqjax.runs.files import folder
from seqjax.runs.refusals import refuse_more_epochs
from seqjax.runs.run import job_of
from seqjax.runs.saved import read_saved
from seqjax.training.loop import Diverged

LONGER = changed(FULL, epochs=3)
DIVERGES = changed(optimizer=Adam(1e38, clip_norm=1.0))
ASKED = {"the same": FULL, "more epochs": LONGER}
EPOCH = 2
"""The chunks of an epoch."""


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """A run of more epochs that were asked for at once."""
    return LONGER.run(tmp_path_factory.mktemp("once") / "run").path


@pytest.fixture(scope="module")
def diverged(tmp_path_factory):
    path = tmp_path_factory.mktemp("diverged") / "run"
    with pytest.raises(Diverged):
        DIVERGES.run(path)
    return path


@pytest.mark.parametrize(("killed", "done", "asked"), [(3, 2, "more epochs"), (1, 0, "the same")])
def test_a_run_that_has_begun_continues_from_its_last_checkpoint(
    whole, once, tmp_path, monkeypatch, killed, done, asked
):
    """Or from its beginning, before the first checkpoint."""
    with crash_after(monkeypatch, killed):
        FULL.run(tmp_path, checkpoint_seconds=0 if done else 1e9)
    assert Run.open(tmp_path).metrics[-1]["epoch"] == 1 if done else not (tmp_path / folder.CHECKPOINTS).exists()
    chunks = count_chunks(monkeypatch, ASKED[asked], tmp_path)
    assert len(chunks) == EPOCH * ASKED[asked].epochs - done
    assert left(tmp_path) == left({"the same": whole.path, "more epochs": once}[asked])


def test_a_run_that_has_ended_is_opened(whole, capsys):
    before = contents(whole.path)
    run = FULL.run(str(whole.path), progress=True)
    assert f"opened   {whole.path}: it is finished, and was not trained again" in capsys.readouterr().out
    assert run.metrics == whole.metrics, "the measured times too"
    assert contents(whole.path) == before


def test_it_is_opened_with_data_of_another_name_and_devices_that_are_not_there(whole):
    renamed = changed(FULL, dataset=Text(FULL.dataset.text, "another name"))
    assert renamed.run(whole.path, devices=64).metrics == whole.metrics


def test_a_copy_of_a_run_that_was_just_trained_reads_its_data(whole):
    assert dataclasses.replace(whole).evaluate() == whole.evaluate()


def test_samples_that_a_callback_has_read_are_not_those_of_the_end(whole, tmp_path):
    assert FULL.run(tmp_path, callback=lambda run: bool(run.samples) and False).samples == whole.samples


def test_a_run_that_has_ended_continues_for_more_epochs(finished, once, monkeypatch):
    assert len(count_chunks(monkeypatch, LONGER, finished)) == EPOCH
    assert left(finished) == left(once)


WOULD_DIFFER = {
    "schedule": ({"optimizer": SGD(0.5, schedule="cosine")}, "depend on the number of epochs, by a schedule"),
    "warm-up": ({"optimizer": SGD(0.5, warmup=0.1)}, "depend on the number of epochs, by a schedule"),
    "evaluation": ({"evaluate_every": 3}, "its last epoch was evaluated, and is no multiple of evaluate_every = 3"),
}


@pytest.mark.parametrize("why", WOULD_DIFFER)
def test_it_does_not_continue_if_more_epochs_at_once_would_give_other_bits(whole, why):
    fields, words = WOULD_DIFFER[why]
    saved, job = read_saved(whole.path), job_of(changed(LONGER, **fields))
    for manifest in (saved.manifest, saved.manifest._replace(ended="")):  # a kill may come before the results
        with refused(f"cannot be continued from 2 to 3 epochs .*{words}", 2):
            refuse_more_epochs(saved._replace(manifest=manifest), job)
    if why == "evaluation":
        refuse_more_epochs(saved._replace(rows=saved.rows[:1]), job)


def test_an_error_before_training_leaves_a_run_that_has_ended_as_it_was(tmp_path):
    uneven = changed(epochs=1, evaluate_every=2)
    path = uneven.run(tmp_path / "run").path
    before = contents(path)
    with refused("no multiple of evaluate_every = 2", 2):
        changed(uneven, epochs=2).run(path)
    assert contents(path) == before


def test_a_run_that_stopped_early_is_that_of_every_number_of_epochs_after_its_end(tmp_path):
    experiment = changed(FULL, epochs=9, stop_after=1)
    count = len(experiment.run(tmp_path / "run").metrics)
    assert count < 4
    before = contents(tmp_path / "run")
    assert len(changed(experiment, epochs=20).run(tmp_path / "run").metrics) == count
    assert Run.open(tmp_path / "run").experiment.epochs == 20
    with refused("A run can continue for more epochs, and not for fewer", 2):
        experiment.run(tmp_path / "run")
    after = contents(tmp_path / "run")
    assert {name for name in after if after[name] != before[name]} == {folder.CONFIG, folder.MANIFEST}


def test_a_run_that_has_diverged_raises_its_error_again(diverged):
    before = contents(diverged)
    with refused(r"^diverged at update 1 \(epoch 1\)", 3) as caught:
        DIVERGES.run(diverged)
    assert caught.value.run.diverged
    assert str(caught.value).endswith(f"The parameters before it are in {diverged / folder.PARAMS}")
    with refused("with the result of a run of 3: it has diverged", 2):
        changed(DIVERGES, epochs=3).run(diverged)
    assert contents(diverged) == before


@pytest.mark.parametrize(
    ("state", "asked"), [("begun", "the same"), ("ended", "more epochs"), ("diverged", "the same")]
)
def test_a_run_of_another_experiment_is_refused(whole, half, diverged, state, asked):
    path = {"begun": half, "ended": whole.path, "diverged": diverged}[state]
    before = contents(path)
    other = changed(DIVERGES if state == "diverged" else FULL, model=RNN(hidden=9), epochs=ASKED[asked].epochs)
    with refused(f"{path} holds a run of another experiment", 2) as caught:
        other.run(path)
    (problem,) = caught.value.problems
    assert problem == "model.hidden: 8 → 9"
    assert contents(path) == before


def test_differences_are_named_field_by_field():
    """Of two models, the fields that both have."""
    one = changed(FULL, model=RNN(hidden=8), optimizer=SGD(0.5), keep="last")
    other = changed(FULL, model=LSTM(hidden=9), optimizer=SGD(0.5, clip_norm=2.0), heldout=0.25)
    assert differences(to_config(one), to_config(other)) == [
        *("heldout: in-memory → 0.25", "keep: last → best", "model: rnn → lstm", "model.hidden: 8 → 9"),
        "optimizer.clip_norm: none → 2.0",
    ]


@pytest.mark.usefixtures("forget_local_plugins")
def test_a_config_is_equal_to_what_is_read_from_its_file():
    """Also of an earlier version, which lacks a field that has its default."""

    @register("optimizer", "nested")
    @dataclasses.dataclass(frozen=True)
    class Nested(SGD):
        sizes: tuple[tuple[int, ...], ...] = ((1, 2), (3,))

    asked = to_config(changed(optimizer=Nested(learning_rate=0.1)))
    kept = decode_toml(to_toml(asked).encode())
    assert differences(kept, asked) == []
    del kept["keep"], kept["model"]["layers"]
    assert differences(kept, asked) == []
    assert differences(kept, asked | {"keep": "best"}) == ["keep: last → best"]


@pytest.mark.parametrize("beside", ["thesis.tex", f"{folder.CHECKPOINTS}/0000000027.safetensors"])
def test_other_files_are_refused(tmp_path, beside):
    """Parameters and checkpoints without a config may belong to another experiment of the same shapes."""
    (tmp_path / beside).parent.mkdir(exist_ok=True)
    (tmp_path / beside).write_text("precious")
    (tmp_path / folder.CODEC).write_text("{}")
    before = contents(tmp_path)
    with refused(f"holds no run, but {beside.partition('/')[0]}; choose another", 2):
        TINY.run(tmp_path)
    for path in (tmp_path, tmp_path / "missing"):
        with refused("holds no run: it has no config.toml", 2):
            Run.open(path)
    assert contents(tmp_path) == before
    (tmp_path / folder.INDEX).write_text("{}")
    with refused("holds a sweep; name the folder of one of its runs", 2):
        Run.open(tmp_path)


@pytest.mark.parametrize("held", ["nothing", "a run"])
def test_a_folder_that_another_process_has_changed_meanwhile_is_left_to_it(stopped, tmp_path, monkeypatch, held):
    """It is read before it is locked."""
    path, states = stopped if held == "a run" else tmp_path / "new", []
    lock = folder.lock

    def lock_late(path):
        monkeypatch.setattr(folder, "lock", lock)
        FULL.run(path)
        states.append(contents(path))
        return lock(path)

    monkeypatch.setattr(folder, "lock", lock_late)
    with refused(f"{path} was changed by another process just now; type the same command again", 5):
        FULL.run(path)
    assert {**contents(path), folder.LOCK: b""} == {**states[0], folder.LOCK: b""}
    assert FULL.run(path).finished


def test_the_checkpoints_of_a_run_that_has_ended_are_for_more_epochs_alone(whole, tmp_path):
    path = copy(whole.path, tmp_path / "run")
    shutil.rmtree(path / folder.CHECKPOINTS)
    assert FULL.run(path).metrics == whole.metrics
    with refused("the state of its optimizer is not kept", 2):
        LONGER.run(path)
