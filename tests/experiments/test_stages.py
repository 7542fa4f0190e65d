"""The stages of the referee: what is chosen, what is kept, and what is refused."""

import importlib
import json
import shutil
from dataclasses import replace

import jax
import numpy as np
import pytest
from protocol import compute
from protocol.baselines import Frozen, Twin, WrongSign
from protocol.compute import Settings, best_rates, refusal, search
from protocol.editions import LONG, SHORT, WORDS
from protocol.problems import Question, problems_of
from protocol.scores import score
from protocol.stages import Stages, encode
from protocol.tasks import TASKS, InfluenceBalancing, OnDataset, read_tasks
from protocol.training import BLOCKS, compile_run, tail

import seqjax
from seqjax.datasets import Add, CuedCopy, Digits, Dyck, Henon, MarkovChain
from seqjax.gradients import Batch, Full, Immediate, SnAp, Truncated, init_memory
from seqjax.models import GRU, RNN
from seqjax.plugin import registry
from seqjax.testing.quick_jit import quick_jit

SETTINGS = Settings(rates=(0.001, 0.003), clips=(), optimizer="adam", seeds=(0, 1, 2, 3))
MODEL = RNN(hidden=4, initializer="uniform")
BASELINES = {"frozen": Frozen(), "twin": Twin(), "wrong-sign": WrongSign()}


def stages(folder, strategies=None, settings=SETTINGS, task=None, **fields):
    """Stages of one problem, in windows of 20 steps."""
    strategies = strategies or {"full": Full(), "immediate": Immediate()}
    fields = {"updates": 20, "has_errors": True} | fields
    question = Question("covered", ("balance",), {"rnn": tuple(strategies)}, **fields)
    problems = problems_of(question, settings, {"balance": task or InfluenceBalancing(window=20)}, {"rnn": MODEL})
    return Stages(folder, problems, BASELINES | strategies)


def stage(chosen, kind, *strategies):
    """The stage of this kind with these strategies."""
    (one,) = [each for each in chosen.all if each.kind == kind and (kind == "errors" or each.strategies == strategies)]
    return one


class Refuses(Full):
    def init(self, problem, params, state, x=None):
        raise seqjax.Error("takes no problem at all")


STRATEGIES = {"full": Full(), "immediate": Immediate(), "refuses": Refuses()}


@pytest.fixture(scope="module")
def computed(tmp_path_factory):
    """The folder of the stages of `full`."""
    folder = tmp_path_factory.mktemp("computed")
    chosen = stages(folder, STRATEGIES)
    for kind in ("price", "runs"):
        chosen.compute(stage(chosen, kind, "full"))
    return folder


@pytest.fixture(scope="module")
def all_computed(computed):
    """The folder of all stages of these strategies."""
    chosen = stages(computed, STRATEGIES)
    for each in chosen.all:
        chosen.compute(each)
    return computed


RESULT = {"refused": None, "seeds": [0, 1, 2], "runs": [{"rate": 0.003, "blocks": [[0.5, 0.25], [1e-05, None]]}]}

MADE = {"machine": "here"}


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[:-3],
        lambda data: data.replace(b"0.25", b"0.26"),
        lambda data: data.replace(b"[0, 1, 2]", b"[0, 1, 3]"),
        lambda data: data.replace(b", ", b",", 1),
        lambda data: encode("runs-other.json", RESULT, MADE),
        lambda data: json.dumps(RESULT).encode(),
        lambda data: data.replace(b"here", b"there"),
        lambda data: b'{"refused": null}',
        lambda data: b'{"result": {"refused": null}, "sha256": null}',
        lambda data: b"[]",
        lambda data: b"[" * 100_000,
        lambda data: b"\xff",
        lambda data: b"",
    ],
)
def test_a_file_that_is_damaged_edited_or_renamed_is_an_error_that_says_what_to_do(tmp_path, change):
    chosen = stages(tmp_path)
    one = stage(chosen, "runs", "full")
    file = chosen.file(one)
    file.write_bytes(encode(file.name, RESULT, MADE))
    assert chosen.result(one) == RESULT
    file.write_bytes(change(file.read_bytes()))
    words = f"{file.name} is damaged, or was edited or renamed.*Delete it, and type the same command again"
    with pytest.raises(seqjax.Error, match=words) as caught:
        chosen.compute(one)
    assert caught.value.exit_code == 4


def test_the_tail_is_the_median_of_the_last_blocks_and_a_run_that_diverged_has_none():
    blocks = np.ones((3, BLOCKS))
    blocks[0, -4:] = [9, 2, 4, 3]
    blocks[1, 5] = np.nan
    assert tail(blocks).tolist() == [3.5, np.inf, 1]


def test_the_loss_after_some_blocks_is_the_median_of_their_last_fifth():
    blocks = np.array([8.0, 4, 5, 3, 2, 0.9, 0.7, 0.8, 0.1, 0.3, *[0.2] * 9, np.nan])
    assert [tail(blocks, number) for number in (1, 6, 19, 20)] == [8.0, 0.9, 0.2, np.inf]
    assert tail(blocks, 10) == pytest.approx(0.2), "of .1 and .3"


def losses(*tails):
    """What is found with a rate: blocks for each seed."""
    return {"blocks": [[1.0] * (BLOCKS - 4) + [value] * 4 for value in tails]}


def test_each_half_of_the_seeds_has_its_own_best_rate_and_none_that_diverges():
    found = {0.1: losses(0.5, 0.9, 0.7, 0.9), 0.3: losses(0.2, 0.9, 0.8, 0.1), 1.0: losses(0.0, 0.0, None, None)}
    assert best_rates(found) == [0.3, 0.3]
    assert best_rates({0.1: losses(0.5, 0.9, 0.7, 0.1), 0.3: losses(0.7, 0.1, 0.7, 0.1)}) == [0.1, 0.3]
    assert best_rates({0.1: losses(0.5, 0.5), 0.3: losses(0.5, 0.5)}) == [0.1, 0.1], "of equal ones the smaller"


@pytest.mark.parametrize(
    ("best", "tried"),
    [
        ((0.003, 0.003), [0.001, 0.003, 0.009]),
        ((0.03, 0.003), [0.001, 0.003, 0.009, 0.027, 0.081]),
        ((0.003, 0.001), [0.00033, 0.001, 0.003, 0.009]),
        ((1e-9, 1e-9), [0.00011, 0.00033, 0.001, 0.003, 0.009]),
        ((1e-9, 1e9), [0.00011, 0.00033, 0.001, 0.003, 0.009, 0.027, 0.081]),
    ],
)
def test_rates_are_added_beyond_an_edge_that_is_best_for_a_half_of_the_seeds_at_most_twice(best, tried):
    def runs(rate):
        return {"rate": rate} | losses(*[abs(np.log(rate / best[seed % 2])) for seed in range(4)])

    assert [each["rate"] for each in search(runs, (0.009, 0.001, 0.003))] == pytest.approx(tried, rel=0.02)


def test_a_strategy_runs_without_a_clip_if_more_than_5_percent_of_its_updates_are_clipped(tmp_path, monkeypatch):
    for norm, clips in ((1e9, {1e9}), (1e-9, {1e-9, None})):
        chosen = stages(tmp_path, clips=(norm, None), task=OnDataset(Add(), window=4, rows=2))
        found = chosen.compute(stage(chosen, "runs", "full"))
        assert {each["clip"] for each in found["runs"]} == clips
        assert {each["clipped"] for each in found["runs"] if each["clip"] == norm} == {float(norm < 1)}
        assert {each["clipped"] for each in found["runs"] if each["clip"] is None} <= {0.0}


def test_a_stage_is_computed_once_and_read_afterwards(computed, tmp_path, monkeypatch):
    chosen = stages(tmp_path)
    one = stage(chosen, "runs", "full")
    assert chosen.result(one) is None
    (file,) = computed.glob("runs-balance-window-20-full-*")
    shutil.copy(file, tmp_path)
    found = chosen.result(one)
    monkeypatch.setattr(compute, "compile_run", None)
    assert chosen.compute(one) == found
    assert [each.name for each in tmp_path.iterdir()] == [file.name]
    assert found["seeds"] == [0, 1, 2, 3]
    assert all(np.shape(each["blocks"]) == (4, BLOCKS) for each in found["runs"])


@pytest.mark.parametrize(
    "change",
    [
        {"updates": 40},
        {"settings": replace(SETTINGS, rates=(0.001, 0.01))},
        {"settings": replace(SETTINGS, seeds=(0, 1))},
        {"settings": replace(SETTINGS, optimizer="sgd")},
        {"clips": (2.0,)},
        {"strategies": {"full": Truncated(steps=3)}},
        {"task": InfluenceBalancing(window=21)},
    ],
    ids=str,
)
def test_a_result_belongs_to_its_settings(computed, change):
    chosen, other = stages(computed), stages(computed, **change)
    assert chosen.result(stage(chosen, "runs", "full")) is not None
    assert other.result(stage(other, "runs", "full")) is None


@pytest.mark.usefixtures("forget_local_plugins")
def test_a_result_does_not_depend_on_the_folder_of_a_loaded_file(tmp_path):
    """Whoever checks a row has the file of its strategy in another folder."""
    text = (
        "from dataclasses import dataclass\nimport seqjax\nfrom seqjax.gradients import Full\n\n"
        "@seqjax.register('gradient', 'mine')\n@dataclass(frozen=True)\nclass Mine(Full):\n    pass\n"
    )

    def file(folder, text):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "my_estimator.py").write_text(text)
        registry.load_file(tmp_path / folder / "my_estimator.py")
        strategy = registry._registered.pop(("gradient", "local/mine"))[1]()
        chosen = stages(tmp_path, {"full": Full(), "mine": strategy})
        return chosen.file(stage(chosen, "runs", "mine")).name

    here = file("here", text)
    assert file("there", text) == here
    assert file("edited", text + "# another one\n") != here


def test_a_result_belongs_to_the_file_of_a_strategy_and_to_its_helpers(tmp_path, monkeypatch):
    """A strategy that takes a function from a file beside it, which takes a number from a third one."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "far_helper.py").write_text("factor = 1\n")
    (tmp_path / "near_helper.py").write_text("from far_helper import factor\n\ndef scale(x):\n    return factor * x\n")
    (tmp_path / "other.py").write_text("")
    (tmp_path / "own.py").write_text(
        "from near_helper import scale\nfrom seqjax.gradients import Full\n\nclass Own(Full):\n    pass\n"
    )
    chosen = stages(tmp_path / "results", {"own": importlib.import_module("own").Own()})
    before = chosen.file(stage(chosen, "runs", "own"))
    (tmp_path / "other.py").write_text("# changed")
    assert chosen.file(stage(chosen, "runs", "own")) == before
    for name in ("own.py", "near_helper.py", "far_helper.py"):
        text = (tmp_path / name).read_text()
        (tmp_path / name).write_text(f"{text}# changed")
        assert chosen.file(stage(chosen, "runs", "own")) != before, name
        (tmp_path / name).write_text(text)


def test_a_price_belongs_to_the_machine_and_not_to_the_runs(tmp_path, monkeypatch):
    def files(**change):
        chosen = stages(tmp_path, **change)
        return [chosen.file(stage(chosen, kind, "full")) for kind in ("price", "runs")]

    price, runs = files()
    other_price, other_runs = files(settings=replace(SETTINGS, seeds=(5, 6)), updates=40)
    assert other_price == price
    assert other_runs != runs
    monkeypatch.setattr("protocol.stages.machine_key", lambda: "another one")
    assert files()[0] != price
    assert files()[1] == runs


def test_a_result_belongs_to_the_file_of_a_dataset(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "own_task.py"
    file.write_text("from seqjax.datasets import Add\n\nclass OwnTask(Add):\n    pass\n")
    chosen = stages(tmp_path, task=OnDataset(importlib.import_module("own_task").OwnTask()))
    before = chosen.file(stage(chosen, "runs", "full"))
    file.write_text(file.read_text() + "# changed")
    assert chosen.file(stage(chosen, "runs", "full")) != before


ADD = OnDataset(Add(), window=6, rows=2)


@pytest.mark.parametrize("model", [MODEL, pytest.param(GRU(hidden=4), marks=pytest.mark.slow)])
def test_the_baselines_differ_from_full_in_the_recurrence_alone_or_in_the_last_place(model):
    problem, feed = ADD.problem(model), ADD.feed(seed=3, updates=1)

    @quick_jit
    def gradients(key, window):
        params = problem.init(key)
        state, batch = problem.init_rows(params, 2), Batch(*window, np.arange(2, dtype=np.int32))
        memory = init_memory(Full(), problem, params, state, 2)
        strategies = (Full(), Frozen(), WrongSign(), Twin())
        return [strategy(problem, params, state, memory, batch, key).grads for strategy in strategies]

    full, frozen, wrong, twin = gradients(jax.random.key(1), jax.tree.map(lambda a: np.asarray(a)[0], feed))
    for name in ("W_hq", "b_q"):
        np.testing.assert_allclose(frozen[name], full[name], rtol=1e-5, atol=1e-7)
        np.testing.assert_array_equal(wrong[name], full[name])
    for of, factor in ((frozen, 0), (wrong, -1)):
        jax.tree.map(
            lambda a, b, factor=factor: np.testing.assert_array_equal(a, factor * b), of["layer_0"], full["layer_0"]
        )
    assert any((np.asarray(leaf) != 0).any() for leaf in jax.tree.leaves(full["layer_0"]))
    units = jax.tree.map(lambda a, b: np.abs(a - b) / np.spacing(np.abs(b)), twin, full)
    assert all(((np.asarray(a) > 0.4) & (np.asarray(a) < 1.1)).all() for a in jax.tree.leaves(units))


def test_a_dataset_whose_floor_is_not_known_has_a_number_below_it():
    assert OnDataset(MarkovChain()).floor == 0, "each seed has another one"
    assert OnDataset(Add()).floor == Add().floor
    assert OnDataset(Digits()).floor == 0


def test_a_task_has_fields_and_a_wrong_name_is_answered_with_the_flag_and_the_names():
    found = read_tasks(["dyck:kinds=3", "add"])
    assert found["dyck:kinds=3"].dataset == Dyck(kinds=3)
    assert found["add"] is TASKS["add"]
    with pytest.raises(seqjax.Error, match=r"(?s)--tasks nosuch:.*unknown dataset 'nosuch'.*influence-balancing"):
        read_tasks(["nosuch"])


@pytest.mark.slow
def test_a_strategy_that_refuses_a_problem_is_listed_with_its_reason(all_computed):
    chosen = stages(all_computed, STRATEGIES)
    for kind in ("runs", "price"):
        assert chosen.result(stage(chosen, kind, "refuses")) == {"refused": "takes no problem at all"}
    assert "refuses" not in chosen.result(stage(chosen, "errors"))
    (problem,) = score(chosen)
    assert problem.refused == {"refuses": "takes no problem at all"}
    assert set(problem.contenders) == {"frozen", "twin", "wrong-sign", "full", "immediate"}
    assert problem.status == "beside"


def test_an_error_in_the_first_update_is_a_reason_too_and_a_gradient_of_another_shape_is_an_error(tmp_path):
    class RefusesLater(Full):
        def estimate(self, problem, params, start, memory, batch, noise):
            raise seqjax.Error("takes a GRU alone")

    class Short(Full):
        def estimate(self, problem, params, start, memory, batch, noise):
            estimate = super().estimate(problem, params, start, memory, batch, noise)
            return estimate._replace(grads=jax.tree.map(lambda a: a[..., None], estimate.grads))

    chosen = stages(tmp_path, {"full": Full(), "immediate": Immediate(), "refuses": RefusesLater(), "short": Short()})
    assert chosen.compute(stage(chosen, "runs", "refuses")) == {"refused": "takes a GRU alone"}
    for one in (stage(chosen, "runs", "short"), stage(chosen, "price", "short")):
        with pytest.raises(seqjax.Error, match="Short: the gradient does not have the shapes of the parameters"):
            chosen.compute(one)


@pytest.mark.parametrize("task", [*TASKS.values()], ids=[*TASKS])
def test_the_baselines_take_all_tasks(task):
    feed, problem = task.feed(seed=0, updates=20), task.problem(MODEL)
    assert [refusal(strategy, problem, feed) for strategy in BASELINES.values()] == [None] * 3


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
    np.testing.assert_array_equal(boasting(3, 0.01, None, feed).blocks, honest(3, 0.01, None, feed).blocks)


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
    np.testing.assert_allclose(run(3, 0.0, None, feed).blocks, losses, rtol=1e-5)


def test_the_expected_time_of_a_stage_is_its_updates_times_their_price(computed, tmp_path):
    nothing, chosen = stages(tmp_path, STRATEGIES), stages(computed, STRATEGIES)
    assert nothing.expected_seconds(stage(nothing, "runs", "full")) == 0, "nothing is measured yet"
    price = chosen.result(stage(chosen, "price", "full"))
    assert chosen.expected_seconds(stage(chosen, "runs", "full")) == pytest.approx(2 * 4 * 20 * price["seconds"])
    assert 0 < price["core_share"] <= 1
    assert price["carried"] == 4 * (23 + 1), "23 units, and the number of the step"


@pytest.mark.slow
def test_a_result_that_was_edited_is_found(all_computed, tmp_path):
    folder = shutil.copytree(all_computed, tmp_path / "copy")
    chosen = stages(folder, STRATEGIES)
    score(chosen)
    file = next(folder.glob("runs-balance-window-20-full-*.json"))
    content = json.loads(file.read_text())
    content["result"]["runs"][0]["blocks"][0][-1] *= 0.5
    file.write_text(json.dumps(content))
    with pytest.raises(seqjax.Error, match="is damaged, or was edited or renamed"):
        score(chosen)


def test_the_norm_of_a_gradient_is_clipped(run_of_full):
    """With one update of plain gradient descent, the change of the parameters is the gradient times the rate."""
    feed, _ = run_of_full
    one = jax.tree.map(lambda a: np.repeat(np.asarray(a)[:1], BLOCKS, 0), feed)
    run = compile_run(ADD.problem(MODEL), Full(), one, "sgd")
    begun = run(3, 0.0, None, one)
    for clip, share in ((1e6, 0.0), (1e-3, 1.0)):
        ended = run(3, 1e-3, clip, one)
        assert ended.clipped == share
        moved = np.sqrt(
            sum(
                np.square(a - b).sum() for a, b in zip(*map(jax.tree.leaves, (begun.params, ended.params)), strict=True)
            )
        )
        assert (moved < 1.05 * BLOCKS * 1e-6) == (share == 1)


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
    np.testing.assert_allclose(one(3, 0.0, None, feed).blocks, other(3, 0.0, None, feed).blocks, rtol=1e-6)
    assert (one(3, 0.0, None, feed).blocks != one(4, 0.0, None, feed).blocks).all()


def after_add(dataset, x):
    """P(y = 1) for each step of a row, by the inputs of the two lags; NaN where they lie before the row."""
    before = [np.concatenate([np.full(lag, np.nan), x[:-lag]]) for lag in (dataset.t1, dataset.t2)]
    return 0.5 + 0.5 * before[0] - 0.25 * before[1]


def after_words(dataset, x):
    """P(y = 1) for each step of a row, by counting; NaN up to the first end of a word."""
    p, num_a, num_b = np.full(len(x), np.nan), None, 0
    for t, token in enumerate(x):
        if token == 0:
            num_a = num_b = 0
        if num_a is not None:
            num_a, num_b = num_a + (token == 1), num_b + (token == 2)
            more = (dataset.max_n - num_a) / (dataset.max_n - num_a + 1) if num_a else 1
            p[t] = more if num_b == 0 else 0
    return p


@pytest.mark.parametrize(("rows", "window"), [(1, 1), (16, 16)])
@pytest.mark.parametrize(("name", "probability"), [(SHORT, after_add), (LONG, after_add), (WORDS, after_words)])
def test_the_best_prediction_of_a_stream_has_the_loss_of_the_floor_and_a_constant_that_of_chance(
    name, probability, rows, window
):
    """Whatever the windows: what is known of a stream goes from window to window."""
    task = replace(read_tasks((name,))[name], rows=rows, window=window)
    feed = task.feed(3, 320_000 // rows // window)
    assert feed.weights == pytest.approx(1 / rows / window)
    assert not feed.reset[1:].any()
    x, y = (side.transpose(2, 0, 1).reshape(rows, -1) for side in feed.xs)
    p = np.stack([probability(task.dataset, row) for row in x])
    known = ~np.isnan(p)
    # All other targets follow from those before them: a word has as many b as a, and then an end.
    losses = -np.log(np.where(y == 1, p, np.where(p > 0, 1 - p, 1)))[known]
    constant = -np.log(np.bincount(y.ravel())[y] / y.size)[known]
    for found, level in ((losses, task.floor), (constant, task.chance)):
        blocks = [block.mean() for block in np.array_split(found, 50)]
        allowed = 4 * np.std(blocks, ddof=1) / np.sqrt(50)
        assert allowed < 0.02 * level, "the test would find no wrong level"
        assert abs(found.mean() - level) < allowed
