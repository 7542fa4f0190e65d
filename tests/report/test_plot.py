"""Figures: the data in them and in their tables, their captions, and that no text is cut or hides another."""

import io
import math
import re
from types import SimpleNamespace

import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from seqjax import Error
from seqjax.datasets import Copy
from seqjax.gradients import Full
from seqjax.models import RNN
from seqjax.report import plot
from seqjax.samplers import Sequential

COLUMN = (3.25, 2.3)


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
    return [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


def labels(figure):
    return figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()


def caption(figure):
    return figure.caption_text.replace("\u202f", " ")


def of(table, name, column):
    """The numbers of a line in a table."""
    return [row[table.columns.index(column)] for row in table.rows if row[0] == name]


def ticks(figure):
    """The visible ticks along x."""
    figure.draw_without_rendering()
    low, high = figure.axes[0].get_xlim()
    return [tick for tick in figure.axes[0].get_xticks() if low <= tick <= high]


def saved(figure, kind):
    file = io.BytesIO()
    figure.savefig(file, format=kind)
    return file.getvalue()


def test_a_variant_is_shown_as_its_median_within_its_range():
    runs = sweep()
    figure = plot.runs(runs, average="median", band="range")
    assert legend(figure) == ["full", "8 steps"]
    assert labels(figure) == ("updates", "training loss (nats)")
    for line, band, variant in zip(figure.axes[0].lines, figure.axes[0].collections, legend(figure), strict=True):
        low, middle, high = (runs[f"{variant}, seed={seed}"].metric("train_loss") for seed in range(3))
        np.testing.assert_array_equal(line.get_xydata(), np.stack([[8, 16, 24, 32], middle], 1))
        for column, values in {"x": [8, 16, 24, 32], "y": middle, "low": low, "high": high}.items():
            np.testing.assert_array_equal(of(figure.table, variant, column), values)
        corners = {tuple(np.round(point, 9)) for point in band.get_paths()[0].vertices}
        edges = [(x, y) for edge in (low, high) for x, y in zip([8, 16, 24, 32], edge.round(9), strict=True)]
        assert corners >= {*edges}


@pytest.mark.parametrize("average", ["mean", "median"])
def test_the_default_band_is_a_bootstrap_interval(average):
    figure = plot.runs(runs := sweep(seeds=9), y="heldout_loss", average=average)
    assert caption(figure).endswith(f"{average} of 9 seeds; band: 95 % bootstrap interval of the {average}."[1:])
    losses = np.stack([runs[f"full, seed={seed}"].metric("heldout_loss") for seed in range(9)])
    np.testing.assert_allclose(of(figure.table, "full", "y"), getattr(np, average)(losses, 0))
    resampled = getattr(np, average)(losses[np.random.default_rng(5).integers(9, size=(9, 4000))], 0)
    expected = np.percentile(resampled, [2.5, 97.5], axis=0)
    ends = [of(figure.table, "full", end) for end in ("low", "high")]
    np.testing.assert_allclose(ends, expected, atol=0.101 if average == "median" else 0.02)


@pytest.mark.parametrize(
    ("gradients", "shown"),
    [(("full", "cut"), ["full", "cut", "learning_rate=0.5", "learning_rate=2.0"]), (("full", "cut", "rtrl"), None)],
)
def test_two_fields_are_shown_by_colour_and_by_line_style(gradients, shown):
    names = [f"{gradient}, optimizer.learning_rate={lr}" for gradient in gradients for lr in (0.5, 2.0)]
    figure = plot.runs(Runs({f"{name}, seed={s}": run(s, level=n) for n, name in enumerate(names) for s in (0, 1, 2)}))
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert list(lines) == names, "the data of the lines keep the whole names"
    for line_style, lr in (("-", "0.5"), ("--", "2.0")):
        alike = [lines[name] for name in names if name.endswith(lr)]
        assert {line.get_linestyle() for line in alike} == {line_style}
        assert len({line.get_color() for line in alike}) == len(gradients)
    assert lines[names[0]].get_color() == lines[names[1]].get_color()
    if shown:
        assert legend(figure) == shown
        handles = figure.axes[0].get_legend().legend_handles
        assert (handles[1].get_color(), handles[-1].get_linestyle()) == (lines[names[2]].get_color(), "--")
    else:
        assert figure.axes[0].get_legend() is None
        assert len(figure.axes[0].texts) == 6


def test_the_caption_says_what_the_figure_does_not():
    runs = sweep() | {"b_1, seed=0": run()}
    shared = "copy; rnn, hidden 8; full; windows of 12 steps"
    figure = plot.runs(Runs(runs), title="T")
    assert figure.get_suptitle() == "T"
    assert figure.caption == (
        f"Copy{shared[4:]}. Training loss (nats): mean during the epoch. Mean of 3 seeds; band: 95\\,\\% "
        "bootstrap interval of the mean. Variant b\\_1: 1 seed."
    )
    assert caption(plot.history(run().metrics)) == "Training: mean during the epoch; held out: after the epoch."
    same = Runs({f"{name}, epochs=4, seed=0": run() for name in ("a", "b")})
    assert caption(plot.runs(same)).startswith(f"Copy{shared[4:]}; epochs 4. ")


def test_points_are_at_the_median_time_of_the_seeds():
    figure = plot.runs(sweep(), x="seconds")
    assert labels(figure)[0] == "time (s)"
    for line in figure.axes[0].lines:
        np.testing.assert_array_equal(line.get_xdata(), [2, 4, 6, 8])  # of 1, 2 and 5 seconds an epoch


def test_one_seed_has_no_band_and_seeds_alone_have_no_name():
    figure = plot.runs(sweep(seeds=1), x="epoch")
    assert (len(figure.axes[0].lines), len(figure.axes[0].collections)) == (2, 0)
    assert caption(figure).endswith(" 1 seed.")
    assert of(figure.table, "full", "low") == [None] * 4
    figure = plot.runs(Runs({", seed=0": run(0), ", seed=1": run(1)}))
    assert figure.axes[0].get_legend() is None
    assert {row[0] for row in figure.table.rows} == {"2 seeds"}


def test_epochs_that_were_not_evaluated_are_left_out():
    figure = plot.runs(sweep(epochs=6, evaluate_every=3), x="epoch", y="heldout_perplexity")
    line = figure.axes[0].lines[0]
    np.testing.assert_array_equal(line.get_xdata(), [3, 6])
    assert np.isfinite(line.get_ydata()).all()
    assert labels(figure) == ("epoch", "held-out perplexity")
    mixed = Runs({"a, seed=0": run(0), "a, seed=1": run(1, evaluate_every=2)})
    np.testing.assert_array_equal(plot.runs(mixed, x="epoch", y="heldout_loss").axes[0].lines[0].get_xdata(), [2, 4])


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
    figure = plot.runs(runs, x="epoch")
    seeds = [1, 1, 1, 1.5, 1.5, 1]  # seed 3 is left out; seeds 0, 2 and 1 end one after the other
    np.testing.assert_allclose(of(figure.table, "a", "y"), [1 + 0.1 * s + 1 / n for n, s in enumerate(seeds, 1)])
    low, high = (np.array(of(figure.table, "a", end), float) for end in ("low", "high"))
    np.testing.assert_allclose(high - low, [0.2, 0.2, 0.2, 0.1, 0.1, math.nan], atol=1e-12)
    assert caption(figure).endswith(
        "Mean of 3 seeds, 1 left out; band: 95 % bootstrap interval of the mean (of 2 seeds: lowest to highest). "
        "After a seed ends: average of the others."
    )


def test_runs_that_diverged_are_counted_and_left_out():
    runs = Runs({f"a, seed={seed}": run(seed, epochs=epochs) for seed, epochs in enumerate((3, 2, 3, 0))})
    runs["b, seed=0"] = run(0, epochs=0)
    figure = plot.runs(runs, x="epoch")
    assert caption(figure).endswith(
        "Mean of 2 seeds, 2 left out; band: lowest to highest. Variant b: 0 seeds, 1 left out."
    )
    # Midway between seeds 0 and 2.
    np.testing.assert_allclose(of(figure.table, "a", "y"), run(1, epochs=3).metric("train_loss"))
    assert legend(figure) == ["a", "b"]
    assert of(figure.table, "b", "y") == []


def test_a_single_epoch_has_a_marker_and_its_tick():
    figure = plot.runs(sweep(epochs=1))
    assert {line.get_marker() for line in figure.axes[0].lines} == {"."}
    assert ticks(figure) == [8]


def test_series_against_their_index_or_an_x():
    x = np.sin(np.arange(100))
    ahead = (range(60, 100), x[60:, None])
    series = {"data": x[:, None], "from 60": ahead, "jax": jnp.asarray([1.0, 2.0]), "pair": (3.0, 4.0)}
    figure = plot.lines(series | {"h": np.arange(6.0).reshape(3, 2)}, y_label="x")
    assert labels(figure) == ("time step", "x")
    data, late, short, pair, *columns = [line.get_xydata().T for line in figure.axes[0].lines]
    np.testing.assert_array_equal(data, [np.arange(100), x])
    np.testing.assert_array_equal(late, [np.arange(60, 100), x[60:]])
    np.testing.assert_array_equal([short, pair], [[[0, 1], [1, 2]], [[0, 1], [3, 4]]])
    np.testing.assert_array_equal(columns, [[[0, 1, 2], [0, 2, 4]], [[0, 1, 2], [1, 3, 5]]])
    assert figure.table.columns == ("name", "x", "y")
    assert of(figure.table, "from 60", "x") == list(range(60, 100))
    assert of(figure.table, "h, 1", "y") == [1, 3, 5]


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


def test_up_to_four_lines_have_a_legend_and_more_have_names_at_their_ends():
    series = {f"line {n}": np.linspace(0, (n * 3) % 7, 9) for n in range(7)}
    four = plot.lines(dict(list(series.items())[:4]))
    assert legend(four) == list(series)[:4]
    assert not four.axes[0].texts
    figure = plot.lines(series)
    assert figure.axes[0].get_legend() is None
    figure.draw_without_rendering()
    heights = {text.get_text(): text.get_window_extent().y0 for text in figure.axes[0].texts}
    assert sorted(heights, key=heights.get) == sorted(series, key=lambda name: series[name][-1])
    assert {text.get_text(): text.xy for text in figure.axes[0].texts} == {n: (8, y[-1]) for n, y in series.items()}


def test_names_without_room_are_listed_in_the_caption():
    figure = plot.lines({f"name {n}": [0.0, n] for n in range(40)}, figsize=COLUMN)
    assert not figure.axes[0].texts
    assert caption(figure).startswith("Lines: 1: name 0; 2: name 1; ")
    assert caption(figure).endswith("; 40: name 39.")
    assert len({(line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines}) == 20
    long = plot.lines({f"{n}" * 300: [0.0, n] for n in range(2)}, figsize=COLUMN)
    assert legend(long) == ["1", "2"]
    assert caption(long) == f"Lines: 1: {'0' * 300}; 2: {'1' * 300}."


@pytest.mark.parametrize("count", [2, 5])
def test_no_text_is_cut_or_hides_another(count):
    """The names and labels are long, the numbers are large, and each function of the module is called."""
    long = [f"k={4 * n}, a variant of which the user_gave a name that is rather long" for n in range(1, count + 1)]
    texts = {"x_label": "tokens that were trained since the beginning of this experiment and of the ones before it"}
    texts |= {"y_label": "a quantity with a name that is longer than the axis is high (nats per token)"}
    texts |= {"title": "a title which has a few more words than a line of a column has room for", "figsize": COLUMN}
    series = {name: (np.arange(20) * 100_000, np.arange(20.0) * 10**8) for name in long}
    k = np.arange(21.0)
    tall = {"figsize": (3.25, 4.0)}
    figures = {
        "history": plot.history(run(epochs=20).metrics, "T $5", figsize=COLUMN),
        "runs": plot.runs({name: run(level=level) for level, name in enumerate(long)}, x="tokens", figsize=COLUMN),
        "lines": plot.lines(series, **texts),
        "averages": plot.averages({name: (x, [y, y + 1e8, y]) for name, (x, y) in series.items()}, **texts),
        "points": plot.points({name: (0.0, 1e-9 * n) for n, name in enumerate(long)}, **texts),
        "heatmap": plot.heatmap(np.diag([1e6, *[-1] * (count - 1)]), long, long, label=texts["y_label"], **texts),
        "by_lag": plot.by_lag(0.5**k, 0.9 ** k[1:], np.where(k > 1, 0.5**k, np.nan), "T", **tall),
        "lines in panels": plot.lines(series, panels=True, **texts | {"figsize": (3.25, 1.6 * count + 1)}),
        "heatmap without a size": plot.heatmap(np.ones((2, 5)), ["truncated steps=8", "b"], ["a b c " * 3] * 5),
        "large numbers": plot.lines({str(n): (np.array([0, 10**9]), [0, 1e9 * n]) for n in range(3)}, figsize=COLUMN),
    }
    assert {name.partition(" ")[0] for name in figures} >= {*plot.__all__}
    for name, figure in figures.items():
        figure.draw_without_rendering()
        found = [text for text in figure.findobj(matplotlib.text.Text) if text.get_visible() and text.get_text()]
        # Ticks outside the range of an axis are not drawn, but are among the texts.
        drawn = [text for text in found if not is_hidden_tick(figure, text)]
        boxes = [(text.get_text(), matplotlib.text.Text.get_window_extent(text)) for text in drawn]
        left, bottom, right, top = figure.bbox.extents
        for words, box in boxes:
            assert left - 1 <= box.x0 <= box.x1 <= right + 1, (name, words)
            assert bottom - 1 <= box.y0 <= box.y1 <= top + 1, (name, words)
        slanted = {text.get_text() for text in drawn if text.get_rotation() == 45}
        pairs = [
            (a, b) for n, (a, one) in enumerate(boxes) for b, two in boxes[:n] if one.overlaps(two.shrunk(0.9, 0.9))
        ]
        assert [pair for pair in pairs if not {*pair} & slanted] == [], name


def is_hidden_tick(figure, text):
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            shown = {id(label) for tick in axis._update_ticks() for label in (tick.label1, tick.label2)}
            every = {id(label) for tick in (*axis.majorTicks, *axis.minorTicks) for label in (tick.label1, tick.label2)}
            if id(text) in every:
                return id(text) not in shown
    return False


def test_text_of_a_file_stays_text_and_no_setting_of_matplotlib_changes():
    before = dict(matplotlib.rcParams)
    figure = plot.lines({"a $5 & b": [1.0, 2.0]}, y_label="loss in 50% of runs", figsize=(3.487, 2.5))
    svg, pdf = saved(figure, "svg").decode(), saved(figure, "pdf")
    assert {"a $5 &amp; b", "loss in 50% of runs"} <= {*re.findall(r"<text[^>]*>([^<]*)</text>", svg)}
    assert b"/FontFile2" in pdf, "the fonts are TrueType"
    assert float(re.search(rb"/MediaBox \[ 0 0 (\S+)", pdf)[1]) == pytest.approx(3.487 * 72, abs=0.01)
    assert dict(matplotlib.rcParams) == before


def test_the_colours_differ_in_greyscale():
    def lightness(colour):
        """L* of CIE 1976, by the formula of sRGB (IEC 61966-2-1)."""
        rgb = np.array(to_rgb(colour))
        y = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]
        return 116 * np.cbrt(y) - 16 if y > 216 / 24389 else y * 24389 / 27

    figure = plot.lines({str(n): [n, n] for n in range(5)})
    levels = sorted(lightness(line.get_color()) for line in figure.axes[0].lines)
    assert min(np.diff(levels)) >= 11
    assert levels[-1] <= 75, "visible on white"


def test_a_dollar_sign_in_the_name_of_a_run_is_no_formula():
    figure = plot.runs({r"a $\frac$ b": run(0), r"$\oops{": run(1)})
    saved(figure, "svg")
    assert legend(figure)[1] == r"\$\oops{"
    assert figure.axes[0].lines[1].get_label() == r"$\oops{"


@pytest.mark.parametrize(("high", "shown"), [(1e6, r"$\mathdefault{10^{4}}$"), (300, "50"), (1.6, "1.2")])
def test_a_logarithmic_axis_has_numbers_that_people_read(high, shown):
    axes = plot.lines({"a": ([1, 10, 1000], [1.0, 1.2, high])}, x_scale="log", y_scale="log").axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    axes.figure.draw_without_rendering()
    assert shown in [text.get_text() for text in axes.get_yticklabels()]


def test_ticks_are_whole_if_x_is_whole():
    np.testing.assert_array_equal(ticks(plot.lines({"a": [1.0, 2.0, 3.0]})), [0, 1, 2])
    assert any(tick % 1 for tick in ticks(plot.lines({"a": ([0.0, 0.5, 1.0], [1.0, 2.0, 3.0])})))


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
    assert figure.table.rows[:2] == (("a", "1", 1.0), ("a", "2", -0.25))
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
    assert caption(figure) == "Mean of 5 neurons; band: 95 % bootstrap interval of the mean."
    np.testing.assert_allclose(of(figure.table, "n", "y"), values.mean(0) + 1)
    assert legend(figure) == ["v", "n"]


def test_points_have_markers_of_their_own():
    figure = plot.points({"a": (1, 10), "b": (2, 3000), "none": (3, math.nan)}, y_scale="log", x_label="x")
    assert legend(figure) == ["a", "b", "none"]
    assert len({line.get_marker() for line in figure.axes[0].lines}) == 3
    assert [line.get_ydata().item() for line in figure.axes[0].lines[:2]] == [10, 3000]
    assert figure.table.rows[:2] == (("a", 1, 10), ("b", 2, 3000))


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
    assert caption(figure) == "Fit to lags 1 to 19: ×0.5 a step, within 25 % from lag 6 to 19."
    np.testing.assert_allclose(figure.table["norm"][:-1], norms[:-1] / norms[0])
    np.testing.assert_allclose(np.array(figure.table["fit"], float)[6:20], fit[6:20] / norms[0])
    np.testing.assert_allclose(figure.table["bias"][1:], np.linspace(0.9, 0.1, 20))
    np.testing.assert_array_equal(lower.lines[0].get_xydata(), np.stack([range(1, 21), np.linspace(0.9, 0.1, 20)], 1))
    assert upper.get_ylabel() == "norm of part k,\nrelative to part 0"
    assert lower.get_ylabel() == "relative bias if\nonly lags < k are kept"
    assert len(plot.by_lag(norms, np.ones(20)).axes[0].lines) == 1
    assert len(plot.by_lag(norms, np.ones(20), 10 * fit).axes[0].lines) == 1, "this fit holds nowhere"


def test_lags_without_a_gradient_through_time_have_an_empty_panel():
    figure = plot.by_lag(np.array([1.0, 0.0, 0.0]), np.zeros(2), None)
    figure.draw_without_rendering()
    assert [axes.get_yscale() for axes in figure.axes] == ["log", "linear"]


def test_a_history_has_whole_epochs():
    figure = plot.history(rows := run(epochs=3, evaluate_every=3).metrics, "rnn")
    np.testing.assert_array_equal(ticks(figure), range(1, 4))
    assert labels(figure) == ("epoch", "perplexity")
    assert legend(figure) == ["training", "held out"]
    assert figure.get_suptitle() == "rnn"
    assert of(figure.table, "training", "y") == [row["train_perplexity"] for row in rows]
    assert of(figure.table, "held out", "x") == [3]


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
        (lambda: plot.points({"a": (1, 2)}, figsize=(3, "x")), "width and the height in inches"),
        (lambda: plot.heatmap(np.zeros(3)), r"shape \[3\]"),
        (lambda: plot.heatmap(np.zeros((2, 3)), rows=["a"]), "rows: 1 names for 2 rows"),
        (lambda: plot.heatmap(np.zeros((2, 3)), columns=["a"]), "columns: 1 names for 3 columns"),
    ],
)
def test_what_cannot_be_drawn(draw, words):
    with pytest.raises(Error, match=words):
        draw()
