"""Figures: the data in them, their labels and legends."""

import math
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import Error
from seqjax.datasets import Copy
from seqjax.gradients import Full
from seqjax.models import RNN
from seqjax.report import plot
from seqjax.report.plot_style import PAPERS
from seqjax.samplers import Sequential


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
    plugins = {"dataset": Copy(), "model": RNN(hidden=8), "gradient": Full(), "optimizer": None}
    plugins["sampler"] = Sequential(num_steps=12)
    return Run(metrics=rows, ending="", experiment=SimpleNamespace(seed=seed, **plugins))


def sweep(seeds=3, **kwargs):
    levels = {"full": 1.0, "8 steps": 2.0}
    return Runs({f"{v}, seed={s}": run(s, level=level, **kwargs) for v, level in levels.items() for s in range(seeds)})


def legend(figure):
    return [text.get_text() for text in figure.axes[0].get_legend().get_texts() if text.get_text()]


def caption(figure):
    return figure.axes[0].get_legend().get_title().get_text().replace("\u202f", " ").split("\n")


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
    figure = plot.runs(runs, average="median", band="range")
    assert legend(figure) == ["full", "8 steps"]
    assert caption(figure) == ["median of 3 seeds; band: lowest to highest"]
    assert labels(figure) == ("updates", "training loss (nats),\nmean during the epoch")
    for line, variant in zip(visible(figure), ("full", "8 steps"), strict=True):
        middle = runs[f"{variant}, seed=1"]  # the losses grow with the seed
        np.testing.assert_array_equal(line.get_xdata(), [8, 16, 24, 32])
        np.testing.assert_array_equal(line.get_ydata(), middle.metric("train_loss"))
    lines = {line.get_label(): line.get_ydata() for line in figure.axes[0].lines}
    for variant, band in zip(("full", "8 steps"), figure.axes[0].collections, strict=True):
        corners = {tuple(np.round(point, 9)) for point in band.get_paths()[0].vertices}
        for seed, edge in ((0, "lowest"), (2, "highest")):
            losses = runs[f"{variant}, seed={seed}"].metric("train_loss")
            np.testing.assert_array_equal(lines[f"_{variant}, {edge}"], losses)
            assert set(zip([8, 16, 24, 32], losses.round(9), strict=True)) <= corners


@pytest.mark.parametrize("average", ["mean", "median"])
def test_the_default_band_is_a_bootstrap_interval(average):
    figure = plot.runs(runs := sweep(seeds=9), y="heldout_loss", average=average)
    assert " ".join(caption(figure)) == f"{average} of 9 seeds; band: 95 % bootstrap interval of the {average}"
    found = {line.get_label(): line.get_ydata() for line in figure.axes[0].lines}
    losses = np.stack([runs[f"full, seed={seed}"].metric("heldout_loss") for seed in range(9)])
    np.testing.assert_allclose(found["full"], getattr(np, average)(losses, 0))
    ends = [found[f"_full, 95 % interval of the {average}, {end}"] for end in ("low", "high")]
    resampled = getattr(np, average)(losses[np.random.default_rng(5).integers(9, size=(9, 4000))], 0)
    expected = np.percentile(resampled, [2.5, 97.5], axis=0)
    np.testing.assert_allclose(ends, expected, atol=0.101 if average == "median" else 0.02)


def test_two_fields_are_shown_by_colour_and_by_line_style():
    names = [f"{gradient}, optimizer.learning_rate={lr}" for gradient in ("full", "cut", "rtrl") for lr in (0.5, 2.0)]
    figure = plot.runs(Runs({f"{name}, seed={s}": run(s, level=n) for n, name in enumerate(names) for s in (0, 1, 2)}))
    assert legend(figure) == ["full", "cut", "rtrl", "learning_rate=0.5", "learning_rate=2.0"]
    lines = {line.get_label(): line for line in visible(figure)}
    assert list(lines) == names, "the data of the lines keep the whole names"
    for line_style, lr in (("-", "0.5"), ("--", "2.0")):
        alike = [lines[name] for name in names if name.endswith(lr)]
        assert {line.get_linestyle() for line in alike} == {line_style}
        assert len({line.get_color() for line in alike}) == 3
        assert alike[0].get_linewidth() > alike[1].get_linewidth() > alike[2].get_linewidth()
    for name in names[::2]:
        other = name.replace("0.5", "2.0")
        assert lines[name].get_color() == lines[other].get_color()
    handles = figure.axes[0].get_legend().legend_handles
    assert (handles[1].get_color(), handles[-1].get_linestyle()) == (lines[names[2]].get_color(), "--")


def test_a_run_that_ended_early_is_counted_at_its_own_variant():
    names = [f"{gradient}, model.hidden={size}" for gradient in ("full", "cut") for size in (8, 16)]
    runs = {f"{name}, seed={s}": run(s) for name in names for s in (0, 1)}
    runs["cut, model.hidden=16, seed=1"] = run(1, epochs=2)
    found = legend(plot.runs(Runs(runs)))
    assert found[0] == "full, hidden=8"
    assert found[3] == "cut, hidden=16 (1 seed, 1 left out)"


def test_the_title_has_what_all_runs_share():
    assert plot.runs(sweep()).get_suptitle() == "copy · rnn, hidden 8 · full · windows of 12 steps"
    assert plot.runs(sweep(), title="T").get_suptitle() == "T"
    assert plot.runs(sweep(), title="").get_suptitle() == ""
    shared = Runs({f"{name}, epochs=4, seed=0": run() for name in ("a", "b")})
    assert plot.runs(shared).get_suptitle() == "copy · rnn, hidden 8 · full · windows of 12 steps · epochs 4"


def test_a_dollar_sign_in_a_name_is_no_formula():
    figure = plot.runs({r"a $\frac$ b": run(0), r"$\oops{": run(1)})
    figure.draw_without_rendering()
    assert legend(figure)[1] == r"\$\oops{"
    assert visible(figure)[1].get_label() == r"$\oops{"


@pytest.mark.parametrize(
    "style", ["paper", *(pytest.param(name, marks=pytest.mark.slow) for name in PAPERS if name != "paper")]
)
def test_a_figure_of_a_paper_has_names_alone_and_nothing_is_clipped(style):
    """The names and labels are long, the numbers are large, and each function of the module is called."""
    long = [f"k={n}, a variant of which the user_gave a name that is rather long, {'W' * 70}" for n in (4, 8)]
    labels = {"x_label": "tokens that were trained since the beginning of this experiment and of the ones before it"}
    labels |= {"y_label": "a quantity with a name that is longer than the axis is high (nats per token)", "title": "T"}
    series = {name: (np.arange(20) * 100_000, np.arange(20.0) * 10**8) for name in long}
    k = np.arange(21.0)
    with plot.style(style):
        figures = {
            "history": plot.history(steep(1.0).metrics, "T"),
            "runs": plot.runs({name: steep(level) for level, name in enumerate(long)}, x="tokens"),
            "lines": plot.lines(series, **labels),
            "averages": plot.averages({name: (x, [y, y + 1e8, y]) for name, (x, y) in series.items()}, **labels),
            "points": plot.points({name: (0.0, 1e-9 * n) for n, name in enumerate(long)}, **labels),
            "heatmap": plot.heatmap(np.diag([1e6, -1]), long, long, label=labels["y_label"], **labels),
            "by_lag": plot.by_lag(0.5**k, 0.9 ** k[1:], np.where((k > 1) & (k < 20), 0.5**k, np.nan), "T"),
        }
        figures["lines in panels"] = plot.lines(series, panels=True, **labels)
        figures["heatmap of other columns"] = plot.heatmap([[1.0, 2.0]], ["truncated steps=8"], ["a b c " * 4, "d"])
        for name, figure in figures.items():
            figure.draw_without_rendering()
            (left, bottom), (right, top) = figure.get_tightbbox().get_points()
            width, height = figure.get_size_inches()
            assert width == PAPERS[style][0]
            assert min(left, bottom, width - right, height - top) > -0.01, name
            axes = [axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)]
            legends = [axes.get_legend() for axes in figure.axes if axes.get_legend()]
            words = [axis.get_offset_text() for axis in axes] + [legend.get_title() for legend in legends]
            assert {figure.get_suptitle(), *(text.get_text() for text in words)} == {""}
            shown = {"".join(text.get_text().split()) for each in legends for text in each.get_texts()}
            names = {"".join(name.split()) for name in (*long, "part of the gradient from lag k")}
            assert shown <= names | {"training", "heldout", "fit"}
            assert "T." in figure.caption or name in ("runs", "heatmap of other columns")
    assert {name.partition(" ")[0] for name in figures} == {*plot.__all__} - {"style"}


def test_the_caption_of_a_figure_has_what_the_figure_of_a_paper_leaves_out():
    runs = sweep() | {"b_1, seed=0": run()}
    factors = Runs({f"model={a}, {b}, seed=0": run() for a in ("rnn", "gru") for b in ("k=4", "k=8")})
    with plot.style("paper"):
        handles = plot.runs(factors).axes[0].get_legend().legend_handles
        assert len({line.get_linewidth() for line in [*visible(plot.runs(factors)), *handles]}) == 1
        assert legend(plot.runs(factors)) == ["rnn", "gru", "k=4", "k=8"]
        figures = plot.runs(Runs(runs)), plot.history(steep(1.0).metrics, r"5 % · \$_")
        norms = 0.5 ** np.arange(9.0)
        lags = plot.by_lag(norms, norms[1:], norms)
    assert labels(figures[0])[1] == "training loss (nats)"
    shared = "copy; rnn, hidden 8; full; windows of 12 steps"
    assert [figure.caption for figure in (*figures, lags)] == [
        f"{shared}. Training loss (nats): mean during the epoch. Mean of 3 seeds; band: 95\\,\\% "
        "bootstrap interval of the mean. Variant b\\_1: 1 seed.",
        "5 \\%; \\$\\_. Training: mean during the epoch; held out: after the epoch. "
        "Start outside the axis: up to 2,980.",
        "Fit to lags 0 to 8: $\\times$0.5 a step, within 25\\,\\% from lag 0 to 7.",
    ]
    assert plot.runs(Runs(runs)).caption.startswith(f"{shared}. Mean of 3"), "in any style"


def steep(level):
    """The losses of 20 epochs, which fall from 8 to about `level`."""
    made = run(0, epochs=20)
    for row in made.metrics:
        row["train_loss"] = level + 7 * 0.4 ** (row["epoch"] - 1)
        row["train_perplexity"] = math.exp(row["train_loss"])
    return made


def test_the_end_of_training_fills_the_axis():
    runs = {"a": steep(1.0), "b": steep(1.1)}
    figure = plot.runs(runs)
    low, high = figure.axes[0].get_ylim()
    assert 0.9 < low < 1.0 < 1.1 < high < 1.2
    assert caption(figure)[-1] == "start outside the axis: up to 8.1"
    np.testing.assert_array_equal(visible(figure)[0].get_ydata(), runs["a"].metric("train_loss"))
    whole = plot.runs(runs, whole=True)
    assert whole.axes[0].get_ylim()[1] > 8
    assert "outside" not in caption(whole)[-1]
    figure = plot.runs(runs, y="train_perplexity")  # on a logarithmic axis
    np.testing.assert_allclose(np.log(figure.axes[0].get_ylim()), (low, high), rtol=1e-6)


def test_lags_without_a_gradient_through_time_have_an_empty_panel():
    figure = plot.by_lag(np.array([1.0, 0.0, 0.0]), np.zeros(2), None)
    figure.draw_without_rendering()
    assert [axes.get_yscale() for axes in figure.axes] == ["log", "linear"]


def test_points_are_at_the_median_time_of_the_seeds():
    figure = plot.runs(sweep(), x="seconds")
    assert labels(figure)[0] == "time (s)"
    for line in visible(figure):
        np.testing.assert_array_equal(line.get_xdata(), [2, 4, 6, 8])  # of 1, 2 and 5 seconds an epoch


def test_one_seed_has_no_band_and_seeds_alone_have_no_name():
    figure = plot.runs(sweep(seeds=1), x="epoch")
    assert legend(figure) == ["full", "8 steps"]
    assert caption(figure) == ["1 seed"]
    assert (len(figure.axes[0].lines), len(figure.axes[0].collections)) == (2, 0)
    figure = plot.runs(Runs({", seed=0": run(0), ", seed=1": run(1)}))
    assert legend(figure) == []
    assert [line.get_label() for line in visible(figure)] == ["2 seeds"]


def test_epochs_that_were_not_evaluated_are_left_out():
    figure = plot.runs(sweep(epochs=6, evaluate_every=3), x="epoch", y="heldout_perplexity")
    line = visible(figure)[0]
    np.testing.assert_array_equal(line.get_xdata(), [3, 6])
    assert np.isfinite(line.get_ydata()).all()
    assert labels(figure) == ("epoch", "held-out perplexity")
    mixed = Runs({"a, seed=0": run(0), "a, seed=1": run(1, evaluate_every=2)})
    (line,) = visible(plot.runs(mixed, x="epoch", y="heldout_loss"))
    np.testing.assert_array_equal(line.get_xdata(), [2, 4])


def test_the_label_of_a_loss_has_its_unit_unless_there_are_two():
    figure = plot.runs(sweep(1, tokens=False), x="tokens", y="heldout_loss")
    assert labels(figure) == ("targets", "held-out mean squared error")
    assert labels(plot.runs(sweep(1), x="tokens", y="tokens_per_second")) == ("tokens", "tokens per second")
    assert labels(plot.runs(sweep(1, tokens=False), y="grad_norm"))[1] == "gradient norm"
    mixed = Runs(sweep(1) | {"series, seed=0": run(tokens=False)})
    assert labels(plot.runs(mixed, y="heldout_loss"))[1] == "held-out loss"


def test_seeds_that_stopped_early_are_part_of_the_average_up_to_their_end():
    runs = Runs({f"a, seed={seed}": run(seed, epochs=epochs) for seed, epochs in enumerate((3, 6, 5, 2))})
    for each in (runs["a, seed=0"], runs["a, seed=2"]):
        each.ending = "the held-out loss was lowest after epoch 1"
    figure = plot.runs(runs, x="epoch", whole=True)
    (mean,) = visible(figure)
    seeds = [1, 1, 1, 1.5, 1.5, 1]  # seed 3 is left out; seeds 0, 2 and 1 end one after the other
    np.testing.assert_allclose(mean.get_ydata(), [1 + 0.1 * s + 1 / n for n, s in enumerate(seeds, 1)])
    low, high = (line.get_ydata() for line in figure.axes[0].lines if line.get_label().startswith("_a, "))
    np.testing.assert_allclose(high - low, [0.2, 0.2, 0.2, 0.1, 0.1, math.nan], atol=1e-12)
    assert " ".join(caption(figure)) == (
        "mean of 3 seeds, 1 left out; band: 95 % bootstrap interval of the mean (of 2 seeds: lowest to highest) "
        "after a seed ends: average of the others"
    )


def test_runs_that_diverged_are_counted_and_left_out():
    runs = Runs({f"a, seed={seed}": run(seed, epochs=epochs) for seed, epochs in enumerate((3, 2, 3, 0))})
    runs["b, seed=0"] = run(0, epochs=0)
    figure = plot.runs(runs, x="epoch")
    assert legend(figure) == ["a", "b (0 seeds, 1 left out)"]
    assert caption(figure) == ["mean of 2 seeds, 2 left out; band: lowest to highest"]
    a, b = visible(figure)
    assert "_a, highest" in [line.get_label() for line in figure.axes[0].lines]
    np.testing.assert_allclose(a.get_ydata(), run(1, epochs=3).metric("train_loss"))  # midway between seeds 0 and 2
    assert len(b.get_xdata()) == 0


def test_one_epoch_shows_the_range_and_has_whole_ticks():
    figure = plot.runs(sweep(epochs=1))
    edges = [line.get_marker() for line in figure.axes[0].lines if line.get_label().startswith("_")]
    assert edges == ["_"] * 4
    assert {line.get_marker() for line in visible(figure)} == {"."}
    assert ticks(figure) == [8]


def test_series_against_their_index_or_an_x():
    x = np.sin(np.arange(100))
    ahead = (range(60, 100), x[60:, None])
    series = {"data": x[:, None], "from 60": ahead, "jax": jnp.asarray([1.0, 2.0]), "pair": (3.0, 4.0)}
    figure = plot.lines(series | {"h": np.arange(6.0).reshape(3, 2)}, y_label="x")
    assert labels(figure) == ("time step", "x")
    assert legend(figure) == [*series, "h, 0", "h, 1"]
    data, late, short, pair, *columns = [line.get_xydata().T for line in figure.axes[0].lines]
    np.testing.assert_array_equal(data, [np.arange(100), x])
    np.testing.assert_array_equal(late, [np.arange(60, 100), x[60:]])
    np.testing.assert_array_equal([short, pair], [[[0, 1], [1, 2]], [[0, 1], [3, 4]]])
    np.testing.assert_array_equal(columns, [[[0, 1, 2], [0, 2, 4]], [[0, 1, 2], [1, 3, 5]]])


def test_gaps_stay_and_a_single_point_has_a_marker():
    values = np.arange(100.0)
    values[[0, 2, 50, 99]] = np.nan  # leaves 1 alone
    values[97] = np.nan  # and 98
    (line,) = plot.lines({"a": values}).axes[0].lines
    np.testing.assert_array_equal(line.get_ydata(), values)
    assert line.get_marker() == "."
    assert line.get_markevery() == [1, 98]
    (short,) = plot.lines({"a": values[:12]}).axes[0].lines
    assert short.get_markevery() is None


def test_short_lines_have_markers_of_their_own():
    lines = plot.lines({"a": [1.0, 2.0], "b": ([1, 2], np.ones((2, 2))), "c": np.arange(100.0)}).axes[0].lines
    assert [line.get_marker() for line in lines] == ["o", "s", "^", ""]


def test_more_lines_than_colours_can_be_told_apart():
    figure = plot.lines({str(n): [0.0, n] for n in range(25)})
    looks = {(line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines}
    assert len(looks) == 25


def test_axes_may_be_logarithmic():
    axes = plot.lines({"a": ([1, 10, 1000], [1.0, 2.0, 3.0])}, x_scale="log", y_scale="log").axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert {1, 10, 100, 1000} <= set(axes.xaxis.get_majorticklocs())


def test_ticks_are_whole_if_x_is_whole():
    np.testing.assert_array_equal(ticks(plot.lines({"a": [1.0, 2.0, 3.0]})), [0, 1, 2])
    assert any(tick % 1 for tick in ticks(plot.lines({"a": ([0.0, 0.5, 1.0], [1.0, 2.0, 3.0])})))


def test_a_legend_of_many_long_names_hides_nothing_and_leaves_the_axes_their_size():
    figure = plot.lines({f"{n} " * 99: np.arange(9.0) for n in range(6)})
    figure.draw_without_rendering()
    axes, legend = figure.axes[0].get_window_extent(), figure.axes[0].get_legend().get_window_extent()
    assert legend.x0 >= 0
    assert legend.x1 <= figure.bbox.x1
    assert axes.y1 - 1 <= legend.y0 <= legend.y1 <= figure.bbox.y1 + 1
    assert axes.width > 4.5 * figure.dpi
    assert axes.height > 3 * figure.dpi


def test_a_matrix_with_names_and_numbers():
    matrix = np.array([[1.0, -0.25, np.nan], [0.5, 0.125, -2.0]])
    figure = plot.heatmap(matrix, ["a", "b"], [1, 2, 3], label="cosine", x_label="steps", y_label="variant", title="T")
    axes, bar = figure.axes
    np.testing.assert_array_equal(np.ma.filled(axes.images[0].get_array(), np.nan), matrix)
    figure.draw_without_rendering()
    assert [text.get_text() for text in axes.get_yticklabels()] == ["a", "b"]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["1", "2", "3"]
    assert bar.get_ylabel() == "cosine"
    assert (*labels(figure), figure.get_suptitle()) == ("steps", "variant", "T")
    cells = {text.get_position(): text.get_text() for text in axes.texts}
    assert cells == {(0, 0): "1", (1, 0): "-0.25", (0, 1): "0.5", (1, 1): "0.125", (2, 1): "-2"}
    assert axes.images[0].get_clim() == (-2, 2), "0 is in the middle of the colours"
    assert axes.transData.transform((0, 0))[1] > axes.transData.transform((0, 1))[1], "the first row is on top"


def test_numbers_can_be_read_on_their_cells_if_there_is_room():
    low, high = plot.heatmap([[0.0, 1.0]]).axes[0].texts
    assert (low.get_color(), high.get_color()) == ("white", "black"), "viridis goes from dark to light"
    figure = plot.heatmap(np.arange(600).reshape(20, 30))
    assert not figure.axes[0].texts
    found = ticks(figure)
    np.testing.assert_array_equal(found, np.round(found))
    assert figure.axes[0].images[0].get_clim() == (0, 599)
    assert not plot.heatmap(np.full((2, 2), np.nan)).axes[0].texts


def test_series_in_panels_share_their_axes():
    figure = plot.lines({"a": [1.0, 2.0], "b": [5.0, 9.0]}, panels=True, x_label="t", y_label="v")
    assert [[line.get_label() for line in axes.lines] for axes in figure.axes] == [["a"], ["b"]]
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()
    assert [axes.get_xlabel() for axes in figure.axes] == ["", "t"]
    assert [axes.get_ylabel() for axes in figure.axes] == ["v", "v"]


def test_averages_of_other_things_than_seeds():
    values = np.random.default_rng(0).normal(size=(5, 30))
    figure = plot.averages({"v": (np.arange(30), values), "n": (np.arange(30), values + 1)}, of="neuron")
    assert caption(figure) == ["mean of 5 neurons; band: 95 % bootstrap interval of the mean"]
    assert legend(figure) == ["v", "n"]


def test_points_have_markers_of_their_own():
    figure = plot.points({"a": (1, 10), "b": (2, 3000), "none": (3, math.nan)}, y_scale="log", x_label="x")
    assert legend(figure) == ["a", "b", "none"]
    assert len({line.get_marker() for line in figure.axes[0].lines}) == 3
    assert [line.get_ydata().item() for line in figure.axes[0].lines[:2]] == [10, 3000]


def test_a_fit_is_drawn_where_it_holds():
    k = np.arange(21)
    norms = 5 * 0.5**k
    norms[:6] *= np.array([9, 8, 7, 6, 4, 2])
    fit = np.where((k > 0) & (k < 20), 5 * 0.5**k, np.nan)
    figure = plot.by_lag(norms, np.linspace(0.9, 0.1, 20), fit)
    upper, lower = figure.axes
    part, line = upper.lines
    np.testing.assert_allclose(part.get_ydata(), norms[:-1] / norms[0])
    np.testing.assert_array_equal(line.get_xdata(), range(6, 20))
    np.testing.assert_allclose(line.get_ydata(), fit[6:20] / norms[0])
    text = line.get_label().replace("\u202f", " ")
    assert text == "fit to lags 1 to 19: ×0.5 a step, within 25 % from lag 6 to 19"
    np.testing.assert_array_equal(lower.lines[0].get_xydata(), np.stack([range(1, 21), np.linspace(0.9, 0.1, 20)], 1))
    assert upper.get_ylabel() == "norm of part k,\nrelative to part 0"
    assert lower.get_ylabel() == "relative bias if\nonly lags < k are kept"
    assert len(plot.by_lag(norms, np.ones(20)).axes[0].lines) == 1
    assert len(plot.by_lag(norms, np.ones(20), 10 * fit).axes[0].lines) == 1, "this fit holds nowhere"


def test_a_history_has_whole_epochs_and_leaves_out_its_start():
    figure = plot.history(run(epochs=3).metrics, "rnn")
    np.testing.assert_array_equal(ticks(figure), range(1, 4))
    assert labels(figure) == ("epoch", "perplexity")
    assert legend(figure) == ["training, mean during the epoch", "held out, after the epoch"]
    assert figure.get_suptitle() == "rnn"
    assert "outside" in caption(plot.history(steep(1.0).metrics))[-1]
    assert caption(plot.history(steep(1.0).metrics, whole=True)) == [""]


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (lambda: plot.runs(Runs()), "no runs"),
        (lambda: plot.runs(sweep(1), y="train_los"), "unknown metric 'train_los'"),
        (lambda: plot.runs(sweep(1), average="no"), "average = 'no' must be '"),
        (lambda: plot.runs(sweep(1), band="no"), "band = 'no' must be '"),
        (lambda: plot.lines({}), "no series"),
        (lambda: plot.lines({"cube": np.zeros((2, 2, 2))}), r"cube: values are \[n\]"),
        (lambda: plot.lines({"pair": (np.arange(3), np.arange(4))}), r"pair: x of shape \[3\] for 4 values"),
        (lambda: plot.lines({"words": ["a", "b"]}), "words: cannot be plotted"),
        (
            lambda: plot.averages({"v": ([1, 2], [1.0, 2.0])}),
            r"v: an average .* values \[S, n\], not of \[2\] and \[2\]",
        ),
        (lambda: plot.points({}), "no points"),
        (lambda: plot.heatmap(np.zeros(3)), r"shape \[3\]"),
        (lambda: plot.heatmap(np.zeros((2, 3)), rows=["a"]), "rows: 1 names for 2 rows"),
        (lambda: plot.heatmap(np.zeros((2, 3)), columns=["a"]), "columns: 1 names for 3 columns"),
    ],
)
def test_what_cannot_be_drawn(draw, words):
    with pytest.raises(Error, match=words):
        draw()
