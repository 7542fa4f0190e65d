"""Figures: the data in them, their labels and legends."""

import copy
import math
import subprocess
import sys
from types import SimpleNamespace

import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from seqjax import Error
from seqjax.report import plot


class Run(SimpleNamespace):
    """The part of a run that a figure needs."""

    def metric(self, name):
        if name not in self.metrics[0]:
            raise Error(f"unknown metric {name!r}")
        return np.array([row[name] for row in self.metrics], np.float64)


class Runs(dict):
    """The part of `Runs` that a figure needs."""

    @property
    def variants(self):
        variants = {}
        for name, run in self.items():
            variants.setdefault(name.rpartition(", seed=")[0], []).append(run)
        return variants


def run(seed=0, epochs=4, level=1.0, tokens=True, evaluate_every=1):
    rows = []
    for epoch in range(1, epochs + 1):
        loss = level + 0.1 * seed + 1 / epoch
        heldout = loss + 1 if epoch % evaluate_every == 0 else math.nan
        row = {"epoch": epoch, "update": 8 * epoch, "tokens": 8000 * epoch, "seconds": epoch * (1 + seed**2)}
        row |= {"train_loss": loss, "heldout_loss": heldout, "grad_norm": 1.0, "tokens_per_second": 8000.0}
        if tokens:
            row |= {"train_perplexity": math.exp(loss), "heldout_perplexity": math.exp(heldout)}
        rows.append(row)
    return Run(metrics=rows, experiment=SimpleNamespace(seed=seed))


def sweep(seeds=3, **kwargs):
    levels = {"full": 1.0, "8 steps": 2.0}
    return Runs({f"{v}, seed={s}": run(s, level=level, **kwargs) for v, level in levels.items() for s in range(seeds)})


def legend(figure):
    return [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


def visible(figure):
    return [line for line in figure.axes[0].lines if not line.get_label().startswith("_")]


def labels(figure):
    return figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()


def ticks(figure):
    """The visible ticks along x."""
    figure.draw_without_rendering()
    low, high = figure.axes[0].get_xlim()
    return [tick for tick in figure.axes[0].get_xticks() if low <= tick <= high]


def test_a_variant_is_shown_as_its_median_within_its_range():
    runs = sweep()
    figure = plot.runs(runs)
    assert legend(figure) == ["full (3 seeds)", "8 steps (3 seeds)"]
    assert labels(figure) == ("updates", "training loss (nats)")
    for line, variant in zip(visible(figure), ("full", "8 steps"), strict=True):
        middle = runs[f"{variant}, seed=1"]  # the losses grow with the seed
        np.testing.assert_array_equal(line.get_xdata(), [8, 16, 24, 32])
        np.testing.assert_array_equal(line.get_ydata(), middle.metric("train_loss"))
    for variant, band in zip(("full", "8 steps"), figure.axes[0].collections, strict=True):
        corners = {tuple(np.round(point, 9)) for point in band.get_paths()[0].vertices}
        for seed in (0, 2):
            run = runs[f"{variant}, seed={seed}"]
            assert set(zip(run.metric("update"), run.metric("train_loss").round(9), strict=True)) <= corners
        edges = {line.get_label(): line for line in figure.axes[0].lines}
        for seed, edge in ((0, "lowest"), (2, "highest")):
            line = edges[f"_{variant} (3 seeds), {edge}"]
            np.testing.assert_array_equal(line.get_ydata(), runs[f"{variant}, seed={seed}"].metric("train_loss"))


def test_the_median_of_two_seeds_is_their_mean():
    runs = Runs({"a, seed=0": run(0), "a, seed=1": run(1)})
    (line,) = visible(plot.runs(runs))
    np.testing.assert_allclose(line.get_ydata(), run(0).metric("train_loss") + 0.05)


def test_points_are_at_the_median_time_of_the_seeds():
    figure = plot.runs(sweep(), x="seconds")
    assert labels(figure)[0] == "time (s)"
    for line in visible(figure):
        np.testing.assert_array_equal(line.get_xdata(), [2, 4, 6, 8])  # of 1, 2 and 5 seconds an epoch


def test_one_seed_has_no_band():
    figure = plot.runs(sweep(seeds=1), x="epoch")
    assert legend(figure) == ["full (1 seed)", "8 steps (1 seed)"]
    assert len(figure.axes[0].lines) == 2
    assert not figure.axes[0].collections


def test_runs_by_name_are_variants_of_their_own():
    figure = plot.runs({"a": run(0), "b": run(1)})
    assert legend(figure) == ["a (1 seed)", "b (1 seed)"]


def test_a_sweep_over_seeds_alone_has_one_variant_without_a_name():
    assert legend(plot.runs(Runs({", seed=0": run(0), ", seed=1": run(1)}))) == ["2 seeds"]


def test_epochs_that_were_not_evaluated_are_left_out():
    runs = sweep(epochs=6, evaluate_every=3)
    figure = plot.runs(runs, x="epoch", y="heldout_perplexity")
    line = visible(figure)[0]
    np.testing.assert_array_equal(line.get_xdata(), [3, 6])
    np.testing.assert_array_equal(line.get_ydata(), runs["full, seed=1"].metric("heldout_perplexity")[[2, 5]])
    assert labels(figure) == ("epoch", "held-out perplexity")
    mixed = Runs({"a, seed=0": run(0), "a, seed=1": run(1, evaluate_every=2)})
    (line,) = visible(plot.runs(mixed, x="epoch", y="heldout_loss"))
    np.testing.assert_array_equal(line.get_xdata(), [2, 4])


def test_perplexity_is_on_a_log_axis_with_plain_numbers():
    figure = plot.runs(sweep(), y="train_perplexity")
    assert figure.axes[0].get_yscale() == "log"
    figure.draw_without_rendering()
    low, high = figure.axes[0].get_ylim()
    axis = figure.axes[0].yaxis
    texts = [tick.label1.get_text() for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks())]
    numbers = [float(text) for text in texts if text]
    assert sum(low <= number <= high for number in numbers) >= 2
    assert plot.runs(sweep()).axes[0].get_yscale() == "linear"


def test_without_tokens_the_loss_is_a_squared_error():
    figure = plot.runs(sweep(tokens=False), x="tokens", y="heldout_loss")
    assert labels(figure) == ("targets", "held-out mean squared error")
    assert labels(plot.runs(sweep(), x="tokens", y="tokens_per_second")) == ("tokens", "tokens per second")
    assert labels(plot.runs(sweep(tokens=False), y="grad_norm"))[1] == "gradient norm"


@pytest.mark.parametrize("epochs", [1, 2, 3, 7])
@pytest.mark.parametrize("x", ["epoch", "update"])
def test_epochs_and_updates_have_whole_ticks(epochs, x):
    found = ticks(plot.runs(sweep(epochs=epochs), x=x))
    assert found
    np.testing.assert_array_equal(found, np.round(found))


def test_runs_that_ended_early_are_counted_and_left_out():
    runs = Runs({f"a, seed={seed}": run(seed, epochs=epochs) for seed, epochs in enumerate((3, 2, 3, 0))})
    runs["b, seed=0"] = run(0, epochs=0)
    figure = plot.runs(runs, x="epoch")
    assert legend(figure) == ["a (2 seeds, 2 ended early)", "b (0 seeds, 1 ended early)"]
    a, b = visible(figure)
    np.testing.assert_allclose(a.get_ydata(), run(1, epochs=3).metric("train_loss"))  # midway between seeds 0 and 2
    assert len(b.get_xdata()) == 0


def test_one_epoch_shows_the_range():
    figure = plot.runs(sweep(epochs=1))
    edges = [line for line in figure.axes[0].lines if line.get_label().startswith("_")]
    assert len(edges) == 4
    assert {edge.get_marker() for edge in edges} == {"_"}
    assert {line.get_marker() for line in visible(figure)} == {"."}


@pytest.mark.parametrize(
    ("runs", "kwargs", "words"), [(Runs(), {}, "no runs"), (sweep(), {"y": "train_los"}, "unknown metric 'train_los'")]
)
def test_runs_that_cannot_be_drawn(runs, kwargs, words):
    with pytest.raises(Error, match=words):
        plot.runs(runs, **kwargs)


def test_series_against_their_index_or_an_x():
    x = np.sin(np.arange(100))
    ahead = (range(60, 100), x[60:, None])
    figure = plot.lines({"data": x[:, None], "from 60": ahead, "jax": jnp.asarray([1.0, 2.0])}, y_label="x")
    assert labels(figure) == ("time step", "x")
    assert legend(figure) == ["data", "from 60", "jax"]
    data, late, short = figure.axes[0].lines
    np.testing.assert_array_equal(data.get_xydata(), np.stack([np.arange(100), x], 1))
    np.testing.assert_array_equal(late.get_xydata(), np.stack([np.arange(60, 100), x[60:]], 1))
    np.testing.assert_array_equal(short.get_xydata(), [[0, 1], [1, 2]])


def test_a_pair_of_numbers_is_a_series_of_two():
    (line,) = plot.lines({"a": (3.0, 4.0)}).axes[0].lines
    np.testing.assert_array_equal(line.get_xydata(), [[0, 3], [1, 4]])


def test_each_column_is_a_line():
    values = np.arange(6.0).reshape(3, 2)
    figure = plot.lines({"h": values})
    assert legend(figure) == ["h, 0", "h, 1"]
    for n, line in enumerate(figure.axes[0].lines):
        np.testing.assert_array_equal(line.get_ydata(), values[:, n])


def test_gaps_stay_and_a_single_point_has_a_marker():
    values = np.arange(100.0)
    values[[0, 2, 50, 99]] = np.nan  # leaves 1 alone
    values[97] = np.nan  # and 98
    (line,) = plot.lines({"a": values}).axes[0].lines
    np.testing.assert_array_equal(line.get_ydata(), values)
    assert line.get_marker() == "."
    assert line.get_markevery() == [1, 98]
    (short,) = plot.lines({"a": values[:20]}).axes[0].lines
    assert short.get_markevery() is None


def test_more_lines_than_colours_can_be_told_apart():
    figure = plot.lines({str(n): [0.0, n] for n in range(25)})
    looks = {(line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines}
    assert len(looks) == 25


def test_axes_may_be_logarithmic():
    axes = plot.lines({"a": ([1, 10, 1000], [1.0, 2.0, 3.0])}, x_scale="log", y_scale="log").axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert {1, 10, 100, 1000} <= set(axes.xaxis.get_majorticklocs())
    axes = plot.lines({"a": [1.0, 2.0]}).axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("linear", "linear")


def test_ticks_are_whole_if_x_is_whole():
    found = ticks(plot.lines({"a": [1.0, 2.0, 3.0]}))
    np.testing.assert_array_equal(found, [0, 1, 2])
    halves = ticks(plot.lines({"a": ([0.0, 0.5, 1.0], [1.0, 2.0, 3.0])}))
    assert any(tick % 1 for tick in halves)


def test_the_legend_hides_nothing():
    figure = plot.lines({f"a rather long name, number {n}": np.arange(50.0) for n in range(12)})
    figure.draw_without_rendering()
    axes = figure.axes[0]
    box = axes.get_legend().get_window_extent()
    assert box.y0 >= axes.get_window_extent().y1 - 1
    assert box.y1 <= figure.bbox.y1 + 1
    assert axes.get_window_extent().height > 0.5 * figure.dpi * 4


@pytest.mark.parametrize("name", ["optimizer.learning_rate=0.1, model=rnn hidden=64, truncated:steps={}", "{} " * 99])
def test_a_legend_of_many_long_names_leaves_the_axes_their_size(name):
    figure = plot.lines({name.format(*[n] * 99): np.arange(50.0) for n in range(16)})
    figure.draw_without_rendering()
    axes, legend = figure.axes[0].get_window_extent(), figure.axes[0].get_legend().get_window_extent()
    assert legend.x0 >= 0
    assert legend.x1 <= figure.bbox.x1
    assert legend.y1 <= figure.bbox.y1 + 1
    assert axes.width > 4.5 * figure.dpi
    assert axes.height > 3 * figure.dpi


@pytest.mark.parametrize(
    ("series", "words"),
    [
        ({}, "no series"),
        ({"cube": np.zeros((2, 2, 2))}, r"cube: values are \[n\]"),
        ({"one": 3.0}, r"one: values are \[n\]"),
        ({"pair": (np.arange(3), np.arange(4))}, "pair: x of shape \\[3\\] for 4 values"),
        ({"words": ["a", "b"]}, "words: cannot be plotted"),
    ],
)
def test_series_that_cannot_be_drawn(series, words):
    with pytest.raises(Error, match=words):
        plot.lines(series)


def test_a_matrix_with_names_and_numbers():
    matrix = np.array([[1.0, -0.25, np.nan], [0.5, 0.125, -2.0]])
    figure = plot.heatmap(matrix, ["a", "b"], [1, 2, 3], label="cosine", x_label="steps", y_label="variant", title="T")
    axes, bar = figure.axes
    np.testing.assert_array_equal(np.ma.filled(axes.images[0].get_array(), np.nan), matrix)
    figure.draw_without_rendering()
    assert [text.get_text() for text in axes.get_yticklabels()] == ["a", "b"]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["1", "2", "3"]
    assert bar.get_ylabel() == "cosine"
    assert labels(figure) == ("steps", "variant")
    assert figure.get_suptitle() == "T"
    cells = {text.get_position(): text.get_text() for text in axes.texts}
    assert cells == {(0, 0): "1", (1, 0): "-0.25", (0, 1): "0.5", (1, 1): "0.125", (2, 1): "-2"}
    assert axes.images[0].get_clim() == (-2, 2), "0 is in the middle of the colours"
    assert axes.transData.transform((0, 0))[1] > axes.transData.transform((0, 1))[1], "the first row is on top"


def test_numbers_can_be_read_on_their_cells():
    figure = plot.heatmap([[0.0, 1.0]])
    low, high = figure.axes[0].texts
    assert (low.get_color(), high.get_color()) == ("white", "black"), "viridis goes from dark to light"


def test_a_large_matrix_has_no_numbers_in_its_cells():
    figure = plot.heatmap(np.arange(600).reshape(20, 30))
    assert not figure.axes[0].texts
    found = ticks(figure)
    np.testing.assert_array_equal(found, np.round(found))
    assert figure.axes[0].images[0].get_clim() == (0, 599)


def test_a_matrix_without_numbers():
    assert not plot.heatmap(np.full((2, 2), np.nan)).axes[0].texts


@pytest.mark.parametrize(
    ("matrix", "kwargs", "words"),
    [
        (np.zeros(3), {}, r"shape \[3\]"),
        (np.zeros((0, 3)), {}, r"shape \[0, 3\]"),
        (np.zeros((2, 3)), {"rows": ["a"]}, "rows: 1 names for 2 rows"),
        (np.zeros((2, 3)), {"columns": ["a"]}, "columns: 1 names for 3 columns"),
    ],
)
def test_matrices_that_cannot_be_drawn(matrix, kwargs, words):
    with pytest.raises(Error, match=words):
        plot.heatmap(matrix, **kwargs)


@pytest.mark.parametrize("epochs", [1, 3])
def test_a_history_has_whole_epochs(epochs):
    figure = plot.history(run(epochs=epochs).metrics, "rnn")
    np.testing.assert_array_equal(ticks(figure), range(1, epochs + 1))
    assert labels(figure) == ("epoch", "perplexity")
    assert legend(figure) == ["training", "held out"]
    assert figure.get_suptitle() == "rnn"


@pytest.mark.parametrize(
    "draw",
    [
        lambda: plot.runs(sweep(), y="train_perplexity"),
        lambda: plot.lines({"a": [1, 2]}),
        lambda: plot.heatmap([[1, 2]]),
        lambda: plot.history(run().metrics),
    ],
)
def test_a_figure_changes_no_settings_and_writes_nothing(draw, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        before = copy.deepcopy(dict(matplotlib.rcParams))
        assert isinstance(draw(), Figure)
        assert dict(matplotlib.rcParams) == before
    assert list(tmp_path.iterdir()) == []


def test_drawing_needs_no_pyplot():
    code = "import sys, seqjax; seqjax.plot.lines({'a': [1, 2]}); assert 'matplotlib.pyplot' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
