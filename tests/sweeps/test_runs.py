"""`Runs`: names, variants, columns, and comparisons against numpy and brute force."""

import dataclasses
import itertools
import json
import math
import shlex
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from support.quick import AXES, BASE, TEXT, refused
from support.tiny import replace_file

from seqjax import Error, Run, Runs, Spec, Text, Tokens, sweep
from seqjax.runs.files.folder import ENVIRONMENT
from seqjax.sweeps.index import IndexEntry, read_index, write_index
from seqjax.sweeps.runs import main_metric, paired_difference


def made(seed, values, epochs=None, **fields):
    """A run with these held-out losses, without any training."""
    e = dataclasses.replace(BASE, seed=seed, epochs=epochs or max(len(values), 1), **fields)
    rows = [{"epoch": n + 1, "heldout_loss": value, "train_loss": 2 * value} for n, value in enumerate(values)]
    return Run(e, None, Spec(Tokens(2)), metrics=rows)


def runs_of(values):
    """Runs with these last losses: variant -> one loss per seed."""
    runs, variants = {}, {}
    for variant, losses in values.items():
        for seed, loss in enumerate(losses):
            runs[f"{variant}, seed={seed}"] = made(seed, [9.0, loss])
            variants[f"{variant}, seed={seed}"] = variant
    return Runs(runs, variants)


LOSSES = {"full": [1.0, 1.5, 1.1, 4.0], "short": [2.0, 2.25, 2.5, 2.0], "other": [0.0, 1.0, 2.0, 3.0]}


def test_runs_are_a_mapping_in_the_order_in_which_they_were_made():
    runs = runs_of(LOSSES)
    assert list(runs) == [f"{variant}, seed={seed}" for variant in LOSSES for seed in range(4)]
    assert runs.first is runs["full, seed=0"] is next(iter(runs.values()))
    assert (len(runs), runs.get("short"), list(runs.variants)) == (12, None, list(LOSSES))
    assert all([run.experiment.seed for run in found] == [0, 1, 2, 3] for found in runs.variants.values())


def test_names_with_commas_are_quoted_and_long_lists_are_cut():
    runs = runs_of({"full": np.ones(30)})
    with pytest.raises(KeyError, match="did you mean 'full, seed=0'"):
        runs["fulll, seed=0"]
    beginning = "'full, seed=0', 'full, seed=1', 'full, seed=2', "
    with pytest.raises(KeyError, match=f"no run 'x'; there are {beginning}.*'full, seed=11' and 18 more"):
        runs["x"]
    with pytest.raises(Error, match=r"no variant 'x'; there are 'a, b', 'c'$"):
        runs_of({"a, b": [1.0], "c": [1.0]}).compare("heldout_loss", against="x")
    assert repr(runs) == f"Runs(30: {beginning}'full, seed=3' and 26 more)"


def test_a_column_of_every_run_is_an_array_padded_with_nan():
    runs = Runs(
        {"a": made(0, [3.0, 2.0, 1.0]), "b": made(1, [5.0], epochs=3), "c": made(2, [], epochs=3)},
        dict.fromkeys("abc", ""),
    )
    found = runs.metric("train_loss")
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, [[6, 4, 2], [10, math.nan, math.nan], [math.nan] * 3])


def test_what_there_is_not_is_an_error_with_the_nearest():
    runs = runs_of(LOSSES)
    twice = Runs({"a": made(3, [1.0]), "b": made(3, [2.0])}, {"a": "", "b": ""})
    for ask, *words in (
        (lambda: runs.metric("heldoutloss"), "heldoutloss", "'heldout_loss'"),
        (lambda: runs.compare("trainloss"), "trainloss", "'train_loss'"),
        (lambda: runs.compare("train_loss", against="ful"), "no variant 'ful'", "'full'", "short"),
        (lambda: runs.compare("heldout_loss", which="first"), "which = 'first': choose 'last', 'best' or 'both'"),
        (lambda: Runs({"c": made(0, [])}, {"c": ""}).metric("train_loss"), "no metrics"),
        (lambda: Runs({"a": made(0, [1.0]), "b": made(1, [1.0])}, {"a": ""}), "these have no variant: 'b'"),
        (lambda: twice.compare("heldout_loss"), "seeds 3, 3"),  # only one of them would count
    ):
        with refused(*words):
            ask()


def test_a_comparison_has_mean_and_interval_of_the_last_and_of_the_best_epoch():
    """The best epoch of each run is the second one, but for the last seed of "full" that of `made`, whose loss is 9."""
    lasts = {**LOSSES, "full": [1.0, 1.5, 1.1, 14.0]}
    bests = {**LOSSES, "full": [1.0, 1.5, 1.1, 9.0]}
    table = runs_of(lasts).compare("heldout_loss")
    assert table.columns == ("variant", "runs", "last", "last from", "last to", "best", "best from", "best to")
    for row, variant in zip(table.rows, LOSSES, strict=True):
        assert row[:2] == (variant, 4)
        for shown, losses in ((row[2:5], lasts[variant]), (row[5:], bests[variant])):
            assert shown[0] == pytest.approx(np.mean(losses))
            assert_interval_of_all_resamples(losses, *shown[1:])


@pytest.mark.parametrize("which", ["last", "best"])
def test_one_epoch_alone_has_the_numbers_of_both(which):
    """In two runs the first epoch, with the loss 9, is the best one."""
    runs = runs_of({"full": [1.0, 14.0, 1.1], "short": [2.0, 2.5, 30.0]})
    both, one = (runs.compare("heldout_loss", "full", choice) for choice in ("both", which))
    assert [name for name in both.columns if name in ("variant", "runs") or name.startswith(which)] == [*one.columns]
    assert all(one[name] == both[name] for name in one.columns)
    assert (one.intervals, one.best) == ((which, f"{which} difference"), {which: "lowest"})


def test_the_last_value_is_the_last_that_was_measured():
    runs = Runs({"a": made(0, [3.0, 2.0, math.nan])}, {"a": ""})
    assert runs.compare("heldout_loss", which="last").rows == (("all", 1, 2.0, None, None),), "one seed has no interval"
    runs = Runs({"a": made(0, [math.nan, math.nan])}, {"a": ""})
    assert runs.compare("heldout_loss").columns == ("variant", "runs", "last", "last from", "last to"), "no best epoch"


def test_a_run_that_is_not_finished_has_no_value_and_is_counted():
    runs = dict(runs_of({"full": [1.0, 2.0, 3.0]}))
    for seed, rows in enumerate([[9.0, 9.0, 5.0], [0.5], []]):
        runs[f"wild, seed={seed}"] = made(seed, rows, epochs=3)
    runs["wild, seed=1"].diverged = True
    table = Runs(runs, {name: name.partition(",")[0] for name in runs}).compare("heldout_loss", "full", "last")
    assert table["diverged"] == [0, 1]
    assert table["unfinished"] == [0, 1]
    assert table["runs"] == [3, 1]
    assert (table["last"][1], table["last difference"][1]) == (5.0, 4.0), "the pairs that are left"
    for name in list(runs)[3:]:
        runs[name] = made(runs[name].experiment.seed, [], epochs=3)
    table = Runs(runs, {name: name.partition(",")[0] for name in runs}).compare("heldout_loss", against="full")
    assert table["unfinished"] == [0, 3]
    assert str(table.rows[1][2:8]) == str((math.nan, None, None) * 2)


def test_the_best_epoch_of_each_run_is_that_with_its_lowest_held_out_loss():
    """Every metric is taken there: train_loss is twice the held-out loss of the same epoch."""
    curves = {"a": [[3.0, 1.0, 2.0], [5.0, 6.0, 7.0]], "b": [[math.nan, 4.0, 4.0], [9.0, 8.0, 2.5]]}
    runs = {f"{v}, seed={n}": made(n, curve) for v, pair in curves.items() for n, curve in enumerate(pair)}
    runs |= {"c, seed=0": made(0, [1.0, 2.0], epochs=3), "c, seed=1": made(1, [math.nan, math.nan], epochs=3)}
    runs["c, seed=2"] = made(2, [math.nan] * 3)
    found = Runs(runs, {name: name[0] for name in runs})
    table = found.compare("train_loss", which="best")
    assert [row[:3] for row in table.rows[:2]] == [("a", 2, 6.0), ("b", 2, 6.5)]
    assert table.rows[2][1] == 0, "two are unfinished, and one was never evaluated"
    assert found.compare("heldout_loss")["last"][:2] == [4.5, 3.25]


def test_differences_are_paired_by_the_seeds_that_both_have_in_whatever_order_the_runs_come():
    """Pairs differ by exactly 1, but seeds differ by hundreds, so that an unpaired interval would be wide."""
    losses = {"full": {0: 100.0, 1: 900.0, 2: 400.0, 3: 200.0}, "short": {1: 901.0, 2: 401.0, 3: 201.0, 4: 7.0}}
    runs = {f"{v}, seed={n}": made(n, [loss]) for v, of_seed in losses.items() for n, loss in of_seed.items()}
    names = list(runs)
    for order, expected in (
        *(
            (order, (1.0, 1.0, 1.0))
            for order in (names, names[:4] + names[:3:-1], [names[i] for i in (6, 0, 3, 5, 1, 7, 2, 4)])
        ),
        (["full, seed=0", "short, seed=4"], (math.nan, None, None)),
    ):
        mixed = Runs({name: runs[name] for name in order}, {name: name.partition(",")[0] for name in order})
        rows = {row[0]: row[5:] for row in mixed.compare("heldout_loss", "full", "last").rows}
        assert str(rows["short"]) == str(expected)
        assert rows["full"] == (None, None, None)


def assert_interval_of_all_resamples(d, low, high):
    """The quantiles of the mean over all n^n resamples, each equally likely.

    With 10,000 draws the level of a quantile has a standard error of .0016; 5 standard errors are allowed.
    """
    means = np.mean([*itertools.product(d, repeat=len(d))], axis=1)
    for found, level in ((low, 0.025), (high, 0.975)):
        error = 5 * math.sqrt(level * (1 - level) / 10_000)
        lowest, highest = np.quantile(means, [level - error, level + error], method="inverted_cdf")
        assert lowest <= found <= highest


@pytest.mark.parametrize("d", [[-3.0, 0.5, 10.0], [1.0, 2.0, 3.0, 5.0, 8.0]])
def test_the_interval_is_that_of_all_resamples(d):
    losses, zeros = dict(enumerate(d)), dict.fromkeys(range(len(d)), 0.0)
    mean, low, high = paired_difference(losses, zeros)
    assert mean == pytest.approx(np.mean(d))
    assert_interval_of_all_resamples(d, low, high)
    assert [mean, low, high] == paired_difference(losses, zeros), "the draws are the same ones each time"


def test_single_runs_are_told_apart_by_what_differs(swept):
    _, runs = swept
    folders = [run.path for run in runs.values()]
    opened = Runs.open(*folders)
    assert list(opened) == list(map(str, folders))
    found = {variant: [run.experiment.seed for run in those] for variant, those in opened.variants.items()}
    assert found == {f"optimizer.learning_rate={rate}": [0, 1] for rate in (0.5, 0.1)}
    assert list(Runs.open(*folders[:2]).variants) == ["all"]
    assert opened.compare("train_loss")["last"] == runs.compare("train_loss")["last"]


def test_folders_without_runs_and_a_run_given_twice_are_errors(swept, tmp_path):
    run = swept[0] / "fast-seed-0"
    for paths in ([tmp_path], [tmp_path / "missing"], [run, tmp_path]):
        with refused("holds no run"):
            Runs.open(*paths)
    for twice in (run, swept[0] / "slow-seed-0/../fast-seed-0"):
        with refused("twice"):
            Runs.open(run, twice)


def test_a_folder_in_the_index_must_lie_inside_the_sweep(tmp_path):
    path = tmp_path / "sweep"
    path.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (path / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("../elsewhere", "/etc", "..", ".", "", "a/b", "x" * 101, "link", "-rf", "a\n"):
        write_index(path, {"seed=0": IndexEntry("", 0, name)})
        for attempt in (lambda: Runs.open(path), lambda: sweep(BASE, {"seed": [7]}, path)):
            with refused("not the name of a folder inside", str(path / "sweep.json")):
                attempt()
    assert {file.name for file in path.iterdir()} == {"sweep.json", "link"}


def test_a_damaged_index_is_exit_4(tmp_path):
    """Each flipped bit is found, too, and so is an index without a hash."""
    write_index(tmp_path, {"fast, seed=0": IndexEntry("fast", 0, "fast-seed-0")})
    data = (tmp_path / "sweep.json").read_bytes()
    damaged = [b"", b"\xff", b"[]", b'{"a": {"variant": "", "folder": "a"}}']
    damaged += [data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :] for at in range(len(data))]
    for each in damaged:
        (tmp_path / "sweep.json").write_bytes(each)
        with refused("sweep.json", exit_code=4):
            read_index(tmp_path)


def test_an_unfinished_sweep_says_what_is_missing(copied):
    shutil.rmtree(copied / "slow-seed-1")
    with pytest.raises(Error, match="unfinished: it has no run 'slow, seed=1' yet") as caught:
        Runs.open(copied)
    assert caught.value.exit_code == 2
    command = str(caught.value).partition("name their folders: ")[2]
    assert len(Runs.open(*shlex.split(command))) == 3


def test_runs_of_one_variant_have_one_environment(copied):
    """Another version of jax may give other results. Another machine is no error."""
    run = copied / "slow-seed-0"
    record = json.loads((run / ENVIRONMENT).read_text())
    replace_file(run, ENVIRONMENT, json.dumps(record | {"device": "another"}).encode())
    assert len(Runs.open(copied)) == 4
    other = record | {"versions": record["versions"] | {"jax": "0"}}
    replace_file(run, ENVIRONMENT, json.dumps(other).encode())
    with refused("slow: ", "have different environments; compare them separately:", "jax"):
        Runs.open(copied)
    with refused("was begun in another environment", "jax", exit_code=4):
        sweep(BASE, AXES | {"seed": [2]}, copied)
    assert not (copied / "slow-seed-2").exists()


def test_a_held_out_share_beside_a_held_out_dataset(tmp_path):
    for name, heldout in (("share", 60), ("own", Text(TEXT[:60]))):
        dataclasses.replace(BASE, heldout=heldout).run(tmp_path / name)
    table = Runs.open(tmp_path / "share", tmp_path / "own").compare("train_loss")
    assert len(table.rows) == 2
    assert all("heldout" in variant for variant in table["variant"])


def test_runs_on_tokens_and_runs_on_numbers_are_compared_by_their_loss():
    """Only the first kind has a perplexity."""
    numbers = SimpleNamespace(metrics=[{"heldout_loss": 1.0, "train_loss": 1.0}])
    tokens = SimpleNamespace(metrics=[{**numbers.metrics[0], "heldout_perplexity": 1.0, "train_perplexity": 1.0}])
    assert main_metric([tokens, tokens]) == "heldout_perplexity"
    assert main_metric([tokens, numbers]) == "heldout_loss"
