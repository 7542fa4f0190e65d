import csv

import matplotlib.cbook
import numpy as np
import pytest
from support.shell import call

from seqjax import Error, Experiment, Pairs, Series, Text
from seqjax.datasets import CSV, NPY, NoisySine, Stocks
from seqjax.optimizers import SGD, Adam
from seqjax.runs.settings import resolve
from seqjax.samplers import Random, Sequential


def test_a_noisy_sine_is_a_sine_with_noise_of_its_size():
    series = NoisySine().load()
    assert isinstance(series, Series)
    assert series.values.shape == (1000, 1)
    noise = series.values[:, 0] - np.sin(0.01 * np.arange(1, 1001))
    # The sum of squares over the variance is chi-square of 1,000 degrees; z < 5 either way.
    assert abs((noise**2).sum() / 0.04 - 1000) < 5 * np.sqrt(2000)
    assert abs(noise.mean()) < 5 * 0.2 / np.sqrt(1000)
    assert abs((noise[1:] * noise[:-1]).mean()) < 5 * 0.04 / np.sqrt(999), "noise without memory"


def test_without_noise_two_lags_suffice():
    """x_t = 2 cos ω x_{t-1} - x_{t-2}."""
    x = NoisySine(noise=0, frequency=0.3, num_steps=50).load().values[:, 0]
    assert x[0] == np.sin(0.3)
    np.testing.assert_allclose(x[2:], 2 * np.cos(0.3) * x[1:-1] - x[:-2], atol=1e-12)


def test_the_noise_depends_on_the_seed_alone():
    values = NoisySine(seed=3).load().values
    assert (values == NoisySine(seed=3).load().values).all()
    assert (values[:10] == NoisySine(seed=3, num_steps=10).load().values).all(), "a longer series goes on"
    assert (values != NoisySine(seed=4).load().values).all()


def column(name):
    """The prices on the first of each month, read independently."""
    with open(matplotlib.cbook.get_sample_data("Stocks.csv", asfileobj=False), encoding="utf-8") as file:
        rows = list(csv.reader(line for line in file if line[0] != "#"))
    at = rows[0].index(name)
    return [(row[0], float(row[at])) for row in rows[1:] if row[at] and row[0] != "2022-06-28"]


@pytest.mark.parametrize(("name", "months", "first"), [("^GSPC", 390, "1990-01-01"), ("DELL", 70, "2016-09-01")])
def test_stocks_are_the_monthly_prices_since_a_company_was_listed(name, months, first):
    dates, prices = zip(*column(name), strict=True)
    series = Stocks(column=name, form="prices").load()
    assert dates[0] == first
    assert series.values.shape == (months, 1)
    assert series.values[:, 0].tolist() == list(prices)
    assert series.names == (name,)
    returns = Stocks(column=name).load().values
    assert returns.shape == (months - 1, 1)
    np.testing.assert_allclose(prices[0] * np.exp(np.cumsum(returns)), prices[1:], rtol=1e-12)


def test_an_unknown_column_is_an_error_that_lists_them():
    with pytest.raises(Error, match=r"no column 'GSPC'; did you mean '\^GSPC'") as caught:
        Stocks(column="GSPC").load()
    assert "IBM, AAPL" in str(caught.value)
    with pytest.raises(Error, match="no column 'Date'"):
        Stocks(column="Date").load()


def test_a_gap_is_an_error_that_says_where(tmp_path, monkeypatch):
    file = tmp_path / "Stocks.csv"
    file.write_text("# from\nDate,A\n2000-01-01,\n2000-02-01,1\n2000-02-15,\n2000-03-01,\n2000-04-01,2\n")
    monkeypatch.setattr(matplotlib.cbook, "get_sample_data", lambda name, asfileobj: str(file))
    with pytest.raises(Error, match="A has no price for 2000-03-01;"):
        Stocks(column="A").load()


@pytest.mark.parametrize("name", ["noisy-sine", "stocks"])
def test_a_short_dataset_has_a_smaller_default_sampler(name):
    """As typed: `seqjax run --dataset noisy-sine`. The config has the smaller sampler."""
    table = {"dataset": {"plugin": name}, "model": {"hidden": 4}, "epochs": 1}
    experiment = Experiment(**resolve(table))
    assert experiment.sampler == Sequential(batch_size=8, num_steps=10)
    assert "batch_size = 8\nnum_steps = 10" in experiment.to_toml()
    assert Experiment.from_toml(experiment.to_toml()) == experiment
    changed = Experiment(**resolve(table | {"sampler": {"num_steps": 5}}))
    assert changed.sampler == Sequential(batch_size=8, num_steps=5), "the other field keeps the dataset's default"
    named = Experiment(**resolve(table | {"sampler": {"plugin": "random"}}))
    assert named.sampler == Random(), "a sampler that is named has its own defaults"


def test_the_default_sampler_of_a_long_dataset_is_unchanged():
    assert Experiment().sampler == Experiment(**resolve({})).sampler == Sequential(batch_size=32, num_steps=35)


PAIRS = {
    "values of ids": (Pairs(np.arange(300) % 5, np.arange(300.0)), True),
    "ids of values": (Pairs(np.arange(300.0), np.arange(300) % 5), False),
}
"""Name -> pairs, and whether their targets are values."""


@pytest.mark.parametrize(
    ("dataset", "of_values"),
    [(NoisySine(), True), (Text("so it goes " * 200), False), *PAIRS.values()],
    ids=["noisy-sine", "text", *PAIRS],
)  # fmt: skip
def test_the_default_optimizer_depends_on_whether_targets_are_values(dataset, of_values):
    expected = Adam(learning_rate=0.001, clip_norm=1.0) if of_values else SGD(learning_rate=1.0, clip_norm=1.0)
    assert Experiment(dataset=dataset).optimizer == expected
    named = Experiment(dataset=dataset, optimizer=SGD())
    assert named.optimizer == SGD(), "an optimizer that is named has its own defaults"


def test_a_table_without_the_name_of_an_optimizer_changes_the_default_one_of_the_dataset():
    table = {"dataset": {"plugin": "noisy-sine"}, "optimizer": {"b1": 0.8}}
    assert Experiment(**resolve(table)).optimizer == Adam(learning_rate=0.001, b1=0.8, clip_norm=1.0)
    typed = call("run", "--dataset", "noisy-sine", "--optimizer.b1", "0.8", "--print-config").stdout
    assert Experiment.from_toml(typed).optimizer == Adam(learning_rate=0.001, b1=0.8, clip_norm=1.0)
    shown = call("run", "--dataset", "noisy-sine", "--help").stdout
    assert "optimizer seqjax/adam" in shown
    assert "--sampler.batch-size   int >= 1; default 8\n" in shown


@pytest.mark.parametrize(("suffix", "of_values"), [("npy", True), ("csv", False)])
def test_the_default_optimizer_of_a_file_depends_on_its_data(tmp_path, suffix, of_values):
    file = tmp_path / f"x.{suffix}"
    if suffix == "npy":
        np.save(file, np.arange(3000.0))
        dataset = NPY(path=str(file))
    else:
        file.write_text("x,y\n" + "1.5,up\n2.5,down\n" * 1000)
        dataset = CSV(path=str(file), inputs=("x",), targets=("y",), labels=("down", "up"))
    assert dataset.of_values == of_values
    assert isinstance(Experiment(dataset=dataset).optimizer, Adam if of_values else SGD)
    file.unlink()
    assert not dataset.of_values, "the error comes with load"


@pytest.mark.slow
@pytest.mark.parametrize(("dataset", "predictor"), [(NoisySine(), "persistence"), (Stocks(), "mean")])
def test_the_defaults_learn(dataset, predictor):
    """A sine is forecast better than by its last value; returns are noise, and no worse than their mean."""
    run = Experiment(dataset=dataset).run()
    x = dataset.load().values[:, 0]
    n = len(run.prepared.parts["train"])
    last, mean = np.mean((x[n:] - x[n - 1 : -1]) ** 2), np.mean((x[n:] - x[:n].mean()) ** 2)
    bound = 0.75 * last if predictor == "persistence" else 1.05 * mean
    assert run.metrics[-1]["heldout_loss"] < bound
