"""Checkpoint files: their content, damage and crashes."""

import contextlib
import dataclasses
import hashlib
import os
import re
import subprocess
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from faults.calls import watched
from seqjax.runs.binding import binding
from seqjax.runs.params_file import read_params, write_params
from support.crash import NoFigure, crash_after, results

from seqjax import Error, Experiment, Problem, Run, Spec, Text, Tokens
from seqjax.gradients.base import Memory
from seqjax.runs import checkpoint, execute, folder
from seqjax.runs.files.arrays import load_arrays, save_arrays
from seqjax.training import TrainingSetup, feed
from seqjax.training.epoch import TrainState
from seqjax.training.loop import Progress, init_train_state
from seqjax_gradients import RTRL, Randomized
from seqjax_models import GRU, LSTM, RNN
from seqjax_optimizers import SGD, Adam
from seqjax_samplers import Sequential

TINY = Experiment(
    dataset=Text("abcd" * 30), model=RNN(hidden=1), sampler=Sequential(2, 4), optimizer=SGD(0.5), epochs=2
)


@pytest.fixture(autouse=True)
def several_chunks(monkeypatch):
    """Three chunks per epoch of the tiny experiment."""
    monkeypatch.setattr(feed, "CHUNK_STEPS", 40)
    monkeypatch.setattr(Run, "plot", NoFigure)


def files(path):
    return sorted((path / "checkpoints").glob("*.safetensors"))


def hand_made(x64):
    """A train state with every kind of leaf."""
    params = {
        "float32": jnp.array([[1.5, jnp.nan, -0.0], [jnp.inf, 1e-45, 3.0]]).T,
        "bfloat16": jnp.array([1.5, -jnp.inf], jnp.bfloat16),
        "none": jnp.zeros((0, 3)),
        "scalar": jnp.float32(0.1),
        "outer": {"inner": {"deep": jnp.arange(3, dtype=jnp.float32)}},
    } | ({"float64": jnp.array([0.1, 1e300])} if x64 else {})
    schedule = optax.cosine_decay_schedule(0.1, 10)
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.inject_hyperparams(optax.adam)(learning_rate=schedule))
    carry = (
        {"empty": (), "ids": jnp.arange(4, dtype=jnp.int32), "bools": jnp.array([True, False])},
        [
            jnp.array([65504, 6e-8], jnp.float16),
            jnp.array([255, 0], jnp.uint8),
            jnp.int8(-128),
            jax.random.split(jax.random.key(3), 2),
        ],
    )
    memory = Memory(shared=(), rows=jax.random.key(7, impl="rbg"))
    with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
        opt_state = tx.init(params)
    return TrainState(params, opt_state, carry, memory, jax.random.key(1), jnp.int32(12))


def of_an_experiment(model, gradient, optimizer):
    setup = TrainingSetup(sampler=Sequential(2, 4), gradient=gradient, optimizer=optimizer, epochs=1, seed=5)
    return init_train_state(Problem.of(model, Spec(Tokens(3))), setup, 20)


STATES = {
    "every kind": lambda: hand_made(False),
    "float64": lambda: hand_made(True),
    "dropout": lambda: of_an_experiment(LSTM(hidden=2, dropout=0.5), Randomized(), Adam(schedule="cosine")),
    "rtrl": lambda: of_an_experiment(RNN(hidden=2), RTRL(), SGD(clip_norm=1.0, warmup=0.5)),
}
PROGRESS = Progress(3, False, {name: np.array([0.1, np.nan]) for name in ("loss", "tokens", "grad_norm")}, 0.1, 0.2, 7)


def bits(leaf):
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return str(leaf.dtype), leaf.shape, np.asarray(jax.random.key_data(leaf) if is_key else leaf).tobytes()


def blank(leaf):
    """A leaf of zeros with the same shape and dtype."""
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return leaf if is_key else jnp.zeros_like(leaf)


def save(path, state, progress=PROGRESS):
    path.mkdir(exist_ok=True)
    for name in ("metrics.jsonl", *folder.BOUND):
        (path / name).touch()
    checkpoint.save(path, state, progress, binding(path))


@pytest.mark.parametrize("name", STATES)
def test_every_leaf_comes_back_bit_for_bit(name, tmp_path):
    with jax.enable_x64(name == "float64"):
        state = STATES[name]()
        save(tmp_path, state)
        found = checkpoint.newest(tmp_path)
        other = jax.tree.map(blank, state)
        restored = checkpoint.restore(found, other)
        assert jax.tree.structure(restored) == jax.tree.structure(state)
        assert jax.tree.map(bits, restored) == jax.tree.map(bits, state)
        assert found.bound == binding(tmp_path)
        for name, value in PROGRESS._asdict().items():
            np.testing.assert_equal(getattr(found.progress, name), value)


def test_progress_before_the_first_epoch_comes_back(tmp_path):
    save(tmp_path, STATES["rtrl"](), Progress())
    assert checkpoint.newest(tmp_path).progress == Progress()


def test_the_same_content_is_the_same_file(tmp_path):
    """Twenty times, since an unordered map may have another order each time."""
    for n in range(20):
        save(tmp_path / str(n), hand_made(False))
    assert len({(file.name, file.read_bytes()) for n in range(20) for file in files(tmp_path / str(n))}) == 1
    (file,) = files(tmp_path / "0")
    assert file.name == f"{12:010}-{hashlib.sha256(file.read_bytes()).hexdigest()}.safetensors"


def test_a_leaf_that_a_file_cannot_hold_is_an_error_and_no_file(tmp_path):
    state = hand_made(False)._replace(memory=Memory(rows=jnp.zeros(2, jnp.float8_e5m2)))
    with pytest.raises(Error, match="memory/rows: an array of float8_e5m2"):
        save(tmp_path, state)
    assert files(tmp_path) == []


def test_arrays_are_kept_whatever_their_layout(tmp_path):
    """The library writes the buffer of an array without regard to its strides."""
    arrays = {
        "F": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "step": np.arange(10)[::3],
        "back": np.arange(4)[::-1],
    }
    found, _ = load_arrays(save_arrays(arrays, {}))
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


def test_a_checkpoint_holds_no_code(tmp_path):
    """Its file is in the safetensors format: a JSON header, then numbers."""
    save(tmp_path, hand_made(False))
    (file,) = files(tmp_path)
    arrays, _ = load_arrays(file.read_bytes())
    assert "params/outer/inner/deep" in arrays


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run of the tiny experiment without an interruption."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feed, "CHUNK_STEPS", 40)
        path = tmp_path_factory.mktemp("whole") / "run"
        TINY.run(path)
    return results(path)


@pytest.fixture
def stopped(tmp_path, monkeypatch):
    """The tiny experiment, stopped inside its second epoch, with two checkpoints."""
    with crash_after(monkeypatch, 5):
        TINY.run(tmp_path / "run", checkpoint_seconds=0)
    assert len(files(tmp_path / "run")) == 2
    return tmp_path / "run"


def assert_refused(path, new, good):
    with pytest.raises(Error) as caught:
        checkpoint.newest(path)
    assert caught.value.exit_code == 4
    assert str(new) in str(caught.value)
    assert (good.name if good else "anew") in str(caught.value)


@pytest.mark.slow
def test_no_flipped_byte_is_ever_loaded(stopped, whole):
    good, new = files(stopped)
    data = new.read_bytes()
    for at in range(len(data)):
        flipped = bytearray(data)
        flipped[at] ^= 1 << at % 8
        new.write_bytes(flipped)
        assert_refused(stopped, new, good)
    with pytest.raises(Error, match=good.name):
        TINY.run(stopped)
    new.unlink()  # as the message suggests
    assert TINY.run(stopped).finished
    assert results(stopped) == whole


def test_no_truncated_or_lengthened_file_is_ever_loaded(stopped, whole):
    good, new = files(stopped)
    data = new.read_bytes()
    for damaged in (*(data[:size] for size in range(len(data))), data + b"\x00", data * 2):
        new.write_bytes(damaged)
        assert_refused(stopped, new, good)
    good.write_bytes(b"")
    assert_refused(stopped, new, None)
    for file in (good, new):
        file.unlink()
    TINY.run(stopped)
    assert results(stopped) == whole


def renamed(path, data, update=99):
    """Writes a file whose name has the right hash."""
    file = path / "checkpoints" / f"{update:010}-{hashlib.sha256(data).hexdigest()}.safetensors"
    file.write_bytes(data)
    return file


def header(progress):
    return save_arrays({"key": np.zeros(2)}, {"progress": progress, "binding": {}})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not safetensors",
        header(None),
        header({}),
        header({"updates": ["loss"]}),
        header({"updates": [], "new": 1}),
    ],
    ids=["empty", "text", "no progress", "no updates", "no array", "unknown field"],
)
def test_other_content_with_the_right_hash_is_exit_4(stopped, data):
    good = files(stopped)[1]
    assert_refused(stopped, renamed(stopped, data), good)


def test_a_checkpoint_that_cannot_be_read_is_exit_4(stopped):
    (stopped / "checkpoints" / f"{99:010}-{'0' * 64}.safetensors").mkdir()
    with pytest.raises(Error, match=f"{99:010}") as caught:
        checkpoint.newest(stopped)
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    "name",
    [
        "0000000099-abc.safetensors",
        f"{99:010}-{'0' * 64}.safetensors.bak",
        f"{99:010}-{'A' * 64}.safetensors",
        f"{99:011}-{'0' * 64}.safetensors",
        f"{99:010}-{'0' * 64}.npz",
        f"x{99:010}-{'0' * 64}.safetensors",
        "notes.txt",
    ],
)
def test_names_that_do_not_match_are_ignored_and_left(stopped, whole, name):
    (stopped / "checkpoints" / name).write_text("mine")
    TINY.run(stopped)
    assert results(stopped) == whole
    assert (stopped / "checkpoints" / name).read_text() == "mine"
    assert len(list((stopped / "checkpoints").iterdir())) == 2, "with the last state of the finished run"


def test_incomplete_files_after_a_kill_are_deleted(stopped, whole):
    part = stopped / "checkpoints" / f"{99:010}-{'0' * 64}.safetensors.part"
    part.write_bytes(files(stopped)[0].read_bytes()[:100])
    TINY.run(stopped)
    assert results(stopped) == whole
    assert list((stopped / "checkpoints").iterdir()) == files(stopped)[-1:]


@pytest.mark.parametrize(
    ("model", "gradient", "optimizer", "word"),
    [
        (RNN(hidden=3), RTRL(), SGD(), "params/layer_0/W_hh: it has float32[2, 2], and needs float32[3, 3]"),
        (GRU(hidden=2), RTRL(), SGD(), "params/layer_0/W_hh: it has float32[2, 2], and needs float32[2, 6]"),
        (RNN(hidden=2), Randomized(), SGD(), "memory/rows: it has float32[2, 2, 21], and needs nothing"),
        (RNN(hidden=2), RTRL(), Adam(), "and needs float32[2, 2]"),
    ],
    ids=["shape", "model", "leaf too many", "leaf too few"],
)
def test_a_checkpoint_of_another_structure_is_exit_4(tmp_path, model, gradient, optimizer, word):
    save(tmp_path, of_an_experiment(RNN(hidden=2), RTRL(), SGD()))
    with pytest.raises(Error, match="does not fit this experiment") as caught:
        checkpoint.restore(checkpoint.newest(tmp_path), of_an_experiment(model, gradient, optimizer))
    assert caught.value.exit_code == 4
    assert word in str(caught.value)


def test_a_checkpoint_of_another_dtype_is_exit_4(tmp_path):
    state = hand_made(False)
    save(tmp_path, state)
    other = state._replace(update=jnp.uint32(0))
    with pytest.raises(Error, match=re.escape("update: it has int32[], and needs uint32[]")):
        checkpoint.restore(checkpoint.newest(tmp_path), other)


def test_a_checkpoint_of_another_experiment_put_in_its_place_is_exit_4(stopped, tmp_path, monkeypatch):
    with crash_after(monkeypatch, 4):
        dataclasses.replace(TINY, model=RNN(hidden=2)).run(tmp_path / "other", checkpoint_seconds=0)
    for file in files(stopped):
        file.unlink()
    files(tmp_path / "other")[1].rename(stopped / "checkpoints" / files(tmp_path / "other")[1].name)
    with pytest.raises(Error, match=r"config.toml changed .* or checkpoints/\d+ belongs to another run") as caught:
        TINY.run(stopped)
    assert caught.value.exit_code == 4


def test_a_checkpoint_of_another_seed_is_exit_4(stopped, tmp_path, monkeypatch):
    """Its leaves have the same shapes, so that only the hash of the config distinguishes it."""
    with crash_after(monkeypatch, 4):
        dataclasses.replace(TINY, seed=1).run(tmp_path / "other", checkpoint_seconds=0)
    for file in files(stopped):
        file.unlink()
    files(tmp_path / "other")[1].rename(stopped / "checkpoints" / files(tmp_path / "other")[1].name)
    with pytest.raises(Error, match="belongs to another run") as caught:
        TINY.run(stopped)
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    ("name", "old", "new", "fields"),
    [
        ("config.toml", "learning_rate = 0.5", "learning_rate = 0.25", {"optimizer": SGD(0.25)}),
        ("config.toml", "seed = 0", "seed = 1", {"seed": 1}),
        ("codec.json", '"a", "b"', '"b", "a"', {}),
    ],
)
@pytest.mark.parametrize("state", ["interrupted", "finished"])
def test_a_run_whose_files_were_edited_is_exit_4_and_left_as_it_is(stopped, state, name, old, new, fields):
    if state == "finished":
        TINY.run(stopped)
    text = (stopped / name).read_text()
    assert old in text
    (stopped / name).write_text(text.replace(old, new, 1))
    before = {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()}
    edited = dataclasses.replace(TINY, **fields)
    for use in (lambda: edited.run(stopped), lambda: Run.open(stopped)):
        with pytest.raises(Error, match=rf"{name} has changed") as caught:
            use()
        assert caught.value.exit_code == 4
    assert {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()} == before


def test_a_tokenizer_whose_code_changed_is_exit_4(stopped, monkeypatch):
    cls = type(TINY.run().experiment.tokenizer)
    monkeypatch.setattr(cls, "split", lambda self, text: text.replace("a", "b"))
    monkeypatch.setattr(cls, "is_of_characters", False)  # otherwise a table encodes the text
    with pytest.raises(Error, match="its tokenizer no longer gives the ids") as caught:
        TINY.run(stopped)
    assert caught.value.exit_code == 4


def test_at_most_two_are_kept_and_one_is_deleted_only_when_the_new_one_is_in_place(whole, tmp_path, monkeypatch):
    path, log, before = tmp_path / "run", [], []

    def note(call):
        if call.name == "unlink" or (call.name == "fsync" and before[-1]):
            log.append((call.name, before[-1], [file.name for file in files(path)]))

    def look(call):
        before.append([file.name for file in files(path)])

    with watched(path, look, note), crash_after(monkeypatch, 5):
        TINY.run(path, checkpoint_seconds=0)
    deletions = [(before, after) for name, before, after in log if name == "unlink"]
    assert len(deletions) == 3, "five were written"
    for before, after in deletions:
        assert len(before) == 3
        assert after == before[1:], "the oldest went"
        synced = log[[entry[0] == "unlink" and entry[1] == before for entry in log].index(True) - 1]
        assert synced == ("fsync", before, before), "after the folder with the new name was synced"
    assert [int(file.name[:10]) for file in files(path)] == [17, 22]


def test_the_rows_of_a_checkpoint_are_on_the_disk_before_it(tmp_path, monkeypatch):
    """Otherwise a power cut could leave a checkpoint without its rows."""
    order, real = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (order.append(Path(os.readlink(f"/proc/self/fd/{fd}")).name), real(fd)))
    with crash_after(monkeypatch, 3):
        TINY.run(tmp_path / "run", checkpoint_seconds=0)
    written = [n for n, name in enumerate(order) if name.endswith(".part") and name[0].isdigit()]
    assert len(written) == 3
    assert [order[n - 1] for n in written] == ["metrics.jsonl"] * 3
    assert [order[n + 1] for n in written] == ["checkpoints"] * 3


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_is_exit_6_and_the_last_good_checkpoint_is_kept(stopped, whole, monkeypatch, call):
    before = {file.name: file.read_bytes() for file in files(stopped)}

    def full(*args):
        if call == "replace" or os.readlink(f"/proc/self/fd/{args[0]}").endswith(".part"):
            raise OSError(28, "No space left on device", str(stopped))
        return real(*args)

    real = getattr(os, call)
    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(Error, match="No space left on device") as caught:
            checkpoint.save(stopped, STATES["rtrl"](), PROGRESS, {})
    assert caught.value.exit_code == 6
    assert str(stopped) in str(caught.value)
    assert {file.name: file.read_bytes() for file in (stopped / "checkpoints").iterdir()} == before
    TINY.run(stopped)
    assert results(stopped) == whole


def test_a_first_checkpoint_that_cannot_be_written_leaves_no_empty_folder(tmp_path, monkeypatch):
    def full(part, path):
        if "checkpoints" in str(path):
            raise OSError(28, "No space left on device", str(path))
        real(part, path)

    real = os.replace
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(Error, match="No space left on device") as caught:
            TINY.run(tmp_path / "run", checkpoint_seconds=0)
    assert caught.value.exit_code == 6
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.fixture
def small_disk(tmp_path):
    """The folder of a file system of 256 kB."""
    path = tmp_path / "disk"
    path.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", path], capture_output=True).returncode:
        pytest.skip("only root may mount a small file system")
    yield path
    subprocess.run(["umount", path], check=True)


def test_a_disk_that_is_really_full(small_disk, whole, monkeypatch):
    """It fills up after the first checkpoints; when space is free again, the same call resumes."""
    filler, add = small_disk / "filler", checkpoint.save

    def fill(*args):
        add(*args)
        with contextlib.suppress(OSError), filler.open("wb", 0) as file:
            while True:
                file.write(bytes(1024))

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", fill)
        with pytest.raises(Error, match="No space left on device") as caught:
            TINY.run(small_disk / "run", checkpoint_seconds=0)
    assert caught.value.exit_code == 6
    (good,) = files(small_disk / "run")
    assert checkpoint.newest(small_disk / "run").progress.epoch == 0
    assert [file.name for file in (small_disk / "run" / "checkpoints").iterdir()] == [good.name]
    filler.unlink()
    TINY.run(small_disk / "run")
    assert results(small_disk / "run") == whole


def test_a_folder_that_may_only_be_read_is_exit_6_before_anything_is_compiled(small_disk, monkeypatch):
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    monkeypatch.setattr(execute, "open_folder", None)
    with pytest.raises(Error, match="Read-only file system") as caught:
        TINY.run(small_disk / "run")
    assert caught.value.exit_code == 6


def test_a_scalar_parameter_is_kept_as_one(tmp_path):
    params = {"scale": jnp.float32(2.0), "w": jnp.arange(6.0).reshape(2, 3).T}
    for name in folder.BOUND:
        (tmp_path / name).touch()
    write_params(tmp_path, params, binding(tmp_path))
    found = read_params(tmp_path, params)
    assert jax.tree.map(bits, found) == jax.tree.map(bits, params)


def test_a_reader_that_meets_a_deleted_checkpoint_reads_the_newest_one(tmp_path, monkeypatch):
    """The process that trains the run deletes old checkpoints between listing and reading."""
    path = tmp_path / "run"
    with crash_after(monkeypatch, 5):
        TINY.run(path, checkpoint_seconds=0)
    previous, last = files(path)
    data, listed = last.read_bytes(), checkpoint._files
    last.unlink()

    def go_on(run):
        found = listed(run)
        if found == [previous]:
            previous.unlink()
            last.write_bytes(data)
        return found

    monkeypatch.setattr(checkpoint, "_files", go_on)
    assert int(checkpoint.newest(path).arrays["update"]) == int(last.name[:10])
    assert checkpoint.check_all(path) == {f"checkpoints/{last.name}": ""}
