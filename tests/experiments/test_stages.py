"""The stages of the referee: what is chosen, what is kept, and what is refused."""

import importlib
import itertools
import json
import shutil
from dataclasses import replace

import jax
import numpy as np
import pytest
from protocol import compute
from protocol.baselines import Frozen
from protocol.compute import Settings, beyond, choose, refusal
from protocol.scores import bounded, relative, score
from protocol.stages import Stage, Stages, encode
from protocol.tasks import TASKS, InfluenceBalancing, OnDataset, read_tasks
from protocol.training import BLOCKS, Trained, compile_run, tail

import seqjax
from seqjax.datasets import IID, Add, CuedCopy, Digits, Dyck, Henon, MarkovChain
from seqjax.gradients import Batch, Full, Immediate, SnAp, Truncated, init_memory
from seqjax.models import GRU, RNN
from seqjax.testing.quick_jit import quick_jit

SETTINGS = Settings(updates=20, rates=(0.001, 0.003, 0.01), untuned=0.003, tuning_seeds=(90, 91), seeds=(0, 1, 2))
MODEL = RNN(hidden=4, initializer="uniform")


def stages(folder, strategies=None, settings=SETTINGS, tasks=None):
    tasks = tasks or {"balance": InfluenceBalancing(window=20)}
    return Stages(folder, settings, tasks, {"rnn": MODEL}, strategies or {"full": Full(), "immediate": Immediate()})


class Refuses(Full):
    def init(self, problem, params, state, x=None):
        raise seqjax.Error("takes no problem at all")


STRATEGIES = {"full": Full(), "immediate": Immediate(), "refuses": Refuses()}


@pytest.fixture(scope="module")
def computed(tmp_path_factory):
    """The folder of all stages of these strategies."""
    folder = tmp_path_factory.mktemp("computed")
    chosen = stages(folder, STRATEGIES)
    for stage in [*chosen.measures, *chosen.runs]:
        chosen.compute(stage)
    return folder


RESULT = {"refused": None, "rate": 0.003, "seeds": [0, 1, 2], "tuned": [[0.5, 0.25], [1e-05, None]]}


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[:-3],
        lambda data: data.replace(b"0.25", b"0.26"),
        lambda data: data.replace(b"[0, 1, 2]", b"[0, 1, 3]"),
        lambda data: data.replace(b", ", b",", 1),
        lambda data: encode("runs-other.json", RESULT),
        lambda data: json.dumps(RESULT).encode(),
        lambda data: b'{"refused": null}',
        lambda data: b'{"result": {"refused": null}, "sha256": null}',
        lambda data: b"[]",
        lambda data: b"[" * 100_000,
        lambda data: b"\xff",
        lambda data: b"",
    ],
)
def test_a_file_that_is_damaged_edited_or_renamed_is_an_error_that_says_what_to_do(tmp_path, change):
    chosen, stage = stages(tmp_path), Stage("runs", "balance", "", "full")
    file = chosen._file(stage)
    file.write_bytes(encode(file.name, RESULT))
    assert chosen.result(stage) == RESULT
    file.write_bytes(change(file.read_bytes()))
    words = f"{file.name} is damaged, or was edited or renamed.*Delete it, and type the same command again"
    with pytest.raises(seqjax.Error, match=words) as caught:
        chosen.compute(stage)
    assert caught.value.exit_code == 4


def curves(*tails):
    """Losses of runs that end with these values."""
    return [[1.0] * (BLOCKS - 4) + [value] * 4 for value in tails]


def test_a_seed_cannot_tune_and_count():
    with pytest.raises(seqjax.Error, match=r"the seeds \[2, 3\] choose a learning rate and count as well"):
        Settings(updates=20, rates=(0.1,), untuned=0.1, tuning_seeds=(2, 3, 4), seeds=(1, 2, 3))


def test_the_tail_is_the_median_of_the_last_blocks_and_a_run_that_diverged_has_none():
    blocks = np.ones((3, BLOCKS))
    blocks[0, -4:] = [9, 2, 4, 3]
    blocks[1, 5] = np.nan
    assert tail(blocks).tolist() == [3.5, np.inf, 1]


def test_the_rate_with_the_lowest_mean_is_chosen_and_none_that_diverges():
    tuning = {0.1: curves(0.5, 0.7), 0.3: curves(0.2, 0.8), 1.0: [[None] * BLOCKS, *curves(0.0)]}
    assert choose(tuning) == 0.3
    assert choose({0.1: curves(0.5), 0.3: curves(0.5)}) == 0.1, "of equal ones the smaller"


@pytest.mark.parametrize(("best", "expected"), [(1.0, 1 / 3), (3.0, None), (9.0, 27.0)])
def test_the_grid_is_extended_beyond_a_best_rate_at_its_edge(best, expected):
    assert beyond(best, dict.fromkeys([1.0, 3.0, 9.0])) == (expected if expected is None else pytest.approx(expected))


def test_a_stage_is_computed_once_and_read_afterwards(computed, tmp_path, monkeypatch):
    stage = Stage("runs", "balance", "", "full")
    assert stages(tmp_path).result(stage) is None
    (file,) = computed.glob("runs-balance-full-*")
    shutil.copy(file, tmp_path)
    found = stages(tmp_path).result(stage)
    monkeypatch.setattr(compute, "compile_run", None)
    assert stages(tmp_path).compute(stage) == found
    assert [each.name for each in tmp_path.iterdir()] == [file.name]
    assert found["seeds"] == [0, 1, 2]
    assert len(found["tuned"]) == len(found["untuned"]) == 3
    assert all(len(losses) == 2 for _, losses in found["tuning"])


@pytest.mark.parametrize(
    "change",
    [
        {"settings": Settings(updates=40, rates=(0.001, 0.003), untuned=0.003, tuning_seeds=(90,), seeds=(0, 1))},
        {"strategies": {"full": Truncated(steps=3)}},
        {"tasks": {"balance": InfluenceBalancing(window=21)}},
    ],
    ids=["settings", "strategy", "task"],
)
def test_a_result_belongs_to_its_settings(computed, change):
    stage = Stage("runs", "balance", "", "full")
    assert stages(computed).result(stage) is not None
    assert stages(computed, **change).result(stage) is None


def test_a_result_belongs_to_the_file_of_a_strategy_and_to_its_helpers(tmp_path, monkeypatch):
    """A strategy that takes a function from a file beside it, which takes a number from a third one."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "far_helper.py").write_text("factor = 1\n")
    (tmp_path / "near_helper.py").write_text("from far_helper import factor\n\ndef scale(x):\n    return factor * x\n")
    (tmp_path / "other.py").write_text("")
    (tmp_path / "own.py").write_text(
        "from near_helper import scale\nfrom seqjax.gradients import Full\n\nclass Own(Full):\n    pass\n"
    )
    own = importlib.import_module("own").Own()
    chosen, stage = stages(tmp_path / "results", {"own": own}), Stage("runs", "balance", "", "own")
    chosen.compute(stage)
    (tmp_path / "other.py").write_text("# changed")
    assert chosen.result(stage) is not None
    for name in ("own.py", "near_helper.py", "far_helper.py"):
        text = (tmp_path / name).read_text()
        (tmp_path / name).write_text(f"{text}# changed")
        assert chosen.result(stage) is None, name
        (tmp_path / name).write_text(text)


@pytest.mark.parametrize("change", [{"updates": 40}, {"tuning_seeds": (92, 93)}, {"untuned": 0.01}])
def test_what_is_measured_belongs_to_the_run_after_which_it_is_measured(tmp_path, change):
    file = stages(tmp_path)._file(Stage("measures", "balance", ""))
    assert stages(tmp_path, settings=replace(SETTINGS, **change))._file(Stage("measures", "balance", "")) != file
    other = stages(tmp_path, settings=replace(SETTINGS, seeds=(5, 6)))
    assert other._file(Stage("measures", "balance", "")) == file, "the seeds that count have no part in it"


def test_what_is_measured_does_not_depend_on_the_order_of_the_strategies(tmp_path):
    files = [
        stages(tmp_path, dict(strategies))._file(Stage("measures", "balance", ""))
        for strategies in itertools.permutations({"full": Full(), "immediate": Immediate(), "snap": SnAp()}.items())
    ]
    assert len(set(files)) == 1


def test_a_result_belongs_to_the_file_of_a_dataset(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "own_task.py"
    file.write_text("from seqjax.datasets import Add\n\nclass OwnTask(Add):\n    pass\n")
    task = OnDataset(importlib.import_module("own_task").OwnTask())
    before = stages(tmp_path, tasks={"own": task})._file(Stage("runs", "own", "rnn", "full"))
    file.write_text(file.read_text() + "# changed")
    assert stages(tmp_path, tasks={"own": task})._file(Stage("runs", "own", "rnn", "full")) != before


def losses_of(rates, best):
    """Losses for which the rate nearest to `best` is the best one, with a run for each seed; what was run is kept."""
    ran = []

    def compiled(problem, gradient, feed):
        def run(seed, rate, feed):
            ran.append((seed, rate))
            return Trained(np.full(BLOCKS, abs(np.log(rate / best)) + 0.001 * seed), None)

        return run

    return compiled, ran


@pytest.mark.parametrize(
    ("best", "tried", "chosen"),
    [
        (0.003, [0.001, 0.003, 0.01], 0.003),
        (0.03, [0.001, 0.003, 0.01, 0.0333, 0.111], 0.0333),
        (1e-9, [0.000037, 0.000111, 0.000333, 0.001, 0.003, 0.01], 0.000037),
    ],
)
def test_rates_are_added_beyond_the_edge_at_most_three_times(tmp_path, monkeypatch, best, tried, chosen):
    compiled, ran = losses_of(SETTINGS.rates, best)
    monkeypatch.setattr(compute, "compile_run", compiled)
    found = stages(tmp_path).compute(Stage("runs", "balance", "", "full"))
    assert [rate for rate, _ in found["tuning"]] == pytest.approx(tried, rel=0.01)
    assert found["rate"] == pytest.approx(chosen, rel=0.01)
    assert {seed for seed, rate in ran if rate not in (found["rate"], SETTINGS.untuned)} == {90, 91}
    assert [seed for seed, rate in ran if rate == found["rate"]] == [90, 91, 0, 1, 2]


ADD = OnDataset(Add(), window=6, rows=2)


@pytest.mark.parametrize("model", [MODEL, pytest.param(GRU(hidden=4), marks=pytest.mark.slow)])
def test_frozen_is_the_gradient_of_the_read_out_and_zero_elsewhere(model):
    problem, feed = ADD.problem(model), ADD.feed(seed=3, updates=1)

    @quick_jit
    def frozen_and_full(key, window):
        params = problem.init(key)
        state, batch = problem.init_rows(params, 2), Batch(*window, np.arange(2, dtype=np.int32))
        memory = init_memory(Full(), problem, params, state, 2)
        return [strategy(problem, params, state, memory, batch, key).grads for strategy in (Frozen(), Full())]

    frozen, full = frozen_and_full(jax.random.key(1), jax.tree.map(lambda a: np.asarray(a)[0], feed))
    for name in ("W_hq", "b_q"):
        np.testing.assert_allclose(frozen[name], full[name], rtol=1e-5, atol=1e-7)
    assert all((np.asarray(leaf) == 0).all() for leaf in jax.tree.leaves(frozen["layer_0"]))
    assert any((np.asarray(leaf) != 0).any() for leaf in jax.tree.leaves(full["layer_0"]))


def test_a_dataset_whose_seeds_have_different_floors_has_none():
    assert OnDataset(MarkovChain()).floor is None
    assert OnDataset(Add()).floor == Add().floor
    assert OnDataset(Digits()).floor is None


def test_a_task_has_fields_and_a_wrong_name_is_answered_with_the_flag_and_the_names():
    found = read_tasks(["dyck:kinds=3", "add"])
    assert found["dyck:kinds=3"].dataset == Dyck(kinds=3)
    assert found["add"] is TASKS["add"]
    with pytest.raises(seqjax.Error, match=r"(?s)--tasks nosuch:.*unknown dataset 'nosuch'.*influence-balancing"):
        read_tasks(["nosuch"])


def test_a_strategy_that_refuses_a_problem_is_listed_with_its_reason(computed):
    chosen = stages(computed, STRATEGIES)
    assert chosen.result(Stage("runs", "balance", "", "refuses")) == {"refused": "takes no problem at all"}
    assert "refuses" not in chosen.result(chosen.measures[0])
    (problem,) = score(chosen)
    assert problem.refused == {"refuses": "takes no problem at all"}
    assert set(problem.runs) == {"frozen", "full", "immediate"}


def test_an_error_in_the_first_update_is_a_reason_too_and_a_gradient_of_another_shape_is_an_error(tmp_path):
    class RefusesLater(Full):
        def estimate(self, problem, params, start, memory, batch, noise):
            raise seqjax.Error("takes a GRU alone")

    class Short(Full):
        def estimate(self, problem, params, start, memory, batch, noise):
            estimate = super().estimate(problem, params, start, memory, batch, noise)
            return estimate._replace(grads=jax.tree.map(lambda a: a[..., None], estimate.grads))

    chosen = stages(tmp_path, {"full": Full(), "immediate": Immediate(), "refuses": RefusesLater(), "short": Short()})
    assert chosen.compute(Stage("runs", "balance", "", "refuses")) == {"refused": "takes a GRU alone"}
    for stage in (Stage("runs", "balance", "", "short"), Stage("measures", "balance", "")):
        with pytest.raises(seqjax.Error, match="Short: the gradient does not have the shapes of the parameters"):
            chosen.compute(stage)


@pytest.mark.parametrize("task", [*TASKS.values()], ids=[*TASKS])
def test_full_and_frozen_take_all_tasks(task):
    feed, problem = task.feed(seed=0, updates=20), task.problem(MODEL)
    assert [refusal(strategy, problem, feed) for strategy in (Full(), Frozen())] == [None, None]


@pytest.fixture(scope="module")
def run_of_full():
    """Data of 20 updates, and the function that trains on them with the full gradient."""
    feed = ADD.feed(seed=3, updates=20)
    return feed, compile_run(ADD.problem(MODEL), Full(), feed)


def test_what_a_strategy_says_of_its_loss_and_its_state_is_not_used(run_of_full):
    class Boasts(Full):
        def estimate(self, problem, params, start, memory, batch, noise):
            estimate = super().estimate(problem, params, start, memory, batch, noise)
            return estimate._replace(loss=0.9 * estimate.loss, state=jax.tree.map(lambda a: 2 * a, estimate.state))

    feed, honest = run_of_full
    boasting = compile_run(ADD.problem(MODEL), Boasts(), feed)
    np.testing.assert_array_equal(boasting(3, 0.01, feed).blocks, honest(3, 0.01, feed).blocks)


def test_the_losses_of_a_run_are_those_of_full(run_of_full):
    feed, run = run_of_full
    problem, gradient = ADD.problem(MODEL), Full()

    @quick_jit
    def loss_and_state(params, state, window):
        batch, memory = Batch(*window, np.arange(2, dtype=np.int32)), init_memory(gradient, problem, params, state, 2)
        estimate = gradient(problem, params, state, memory, batch, None)
        return estimate.loss, estimate.state

    @quick_jit
    def start(key):
        params = problem.init(jax.random.split(key)[0])
        return params, problem.init_rows(params, 2)

    (params, state), losses = start(jax.random.key(3)), []
    for n in range(20):
        loss, state = loss_and_state(params, state, jax.tree.map(lambda a, n=n: np.asarray(a)[n], feed))
        losses.append(float(loss))
    np.testing.assert_allclose(run(3, 0.0, feed).blocks, losses, rtol=1e-5)


def test_the_expected_time_of_a_stage_is_its_updates_times_their_price(computed, tmp_path):
    nothing, chosen = stages(tmp_path, STRATEGIES), stages(computed, STRATEGIES)
    assert nothing.expected_seconds(Stage("runs", "balance", "", "full")) == 0, "nothing is measured yet"
    prices = chosen.result(chosen.measures[0])
    expected = (3 * 2 + 2 * 3) * 20 * prices["full"]["seconds"]
    assert chosen.expected_seconds(Stage("runs", "balance", "", "full")) == pytest.approx(expected)
    assert prices["full"]["core_share"] > 0


def test_a_result_that_was_tuned_with_seeds_that_count_is_refused(computed, tmp_path):
    folder = shutil.copytree(computed, tmp_path / "copy")
    chosen = stages(folder, STRATEGIES)
    score(chosen)
    file = next(folder.glob("runs-balance-full-*.json"))
    result = json.loads(file.read_text())["result"] | {"tuning_seeds": [90, 1]}
    file.write_bytes(encode(file.name, result))
    with pytest.raises(seqjax.Error, match="full on balance was tuned with seeds that count"):
        score(chosen)


@pytest.mark.parametrize(
    "task",
    [
        OnDataset(Add(), window=5, rows=3),
        OnDataset(CuedCopy(delay=2), window=8, rows=3),
        OnDataset(Henon(), window=5, rows=3),
    ],
    ids=["stream", "documents", "series"],
)
def test_a_feed_reads_each_step_of_the_data_in_order(task):
    """The windows of a row, joined, are consecutive steps of the stream; documents start with the initial state."""
    updates = 6
    feed = task.feed(seed=4, updates=updates)
    x, y = feed.xs
    assert x.shape[:3] == y.shape[:3] == feed.weights.shape == (updates, task.window, 3)
    np.testing.assert_allclose(feed.weights.sum((1, 2)), 1, rtol=1e-6)
    by_documents = isinstance(task.dataset, CuedCopy)
    assert feed.reset.tolist() == [[True] * 3 if n == 0 or by_documents else [False] * 3 for n in range(updates)]
    scored = feed.weights > 0
    assert scored.sum((1, 2)).tolist() == [9 if by_documents else 15] * updates
    stream, _ = task._prepare(task._sized(4, updates))
    inputs, targets = (np.asarray(a).reshape(len(stream.inputs), -1) for a in (stream.inputs, stream.targets))
    for row in range(3):
        read, wanted = (np.asarray(a)[:, :, row].reshape(updates * task.window, -1) for a in (x, y))
        length = task.window if by_documents else updates * task.window
        for begin in range(0, len(read), length):
            at = [
                n
                for n in range(len(inputs) - length + 1)
                if np.allclose(inputs[n : n + length], read[begin : begin + length], atol=1e-6)
                and np.allclose(targets[n : n + length], wanted[begin : begin + length], atol=1e-6)
            ]
            assert at, "these steps follow each other nowhere in the data"


def test_strategies_share_data_and_initial_parameters(run_of_full):
    """With the learning rate 0 all strategies have the same losses, and other seeds others."""
    feed, one = run_of_full
    other = compile_run(ADD.problem(MODEL), SnAp(), feed)
    np.testing.assert_allclose(one(3, 0.0, feed).blocks, other(3, 0.0, feed).blocks, rtol=1e-6)
    assert (one(3, 0.0, feed).blocks != one(4, 0.0, feed).blocks).all()


def test_the_unit_of_a_control_without_anything_to_learn_is_its_floor(tmp_path, monkeypatch):
    monkeypatch.setattr(compute, "compile_run", losses_of(SETTINGS.rates, 0.003)[0])
    monkeypatch.setattr(compute, "measure", lambda *arguments: {})
    chosen = stages(tmp_path, tasks={"iid": OnDataset(IID(), window=4, rows=2, is_control=True)})
    for stage in [*chosen.measures, *chosen.runs]:
        chosen.compute(stage)
    (problem,) = score(chosen)
    assert problem.floor == pytest.approx(0.6616, abs=1e-4)
    assert problem.unit == 2 * problem.floor


def test_a_score_is_at_most_that_of_a_run_that_diverged():
    losses = np.array([0.2, 0.7, 9.0, np.inf, np.nan])
    assert bounded(relative(losses, floor=0.2, unit=1.2)).tolist() == pytest.approx([0, 0.5, 1, 1, 1])
