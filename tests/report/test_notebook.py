"""HTML for notebooks: well-formed, escaped, and shown whatever an object holds."""

import dataclasses
import math
import re

import jax
import numpy as np
from support.html_page import HTMLPage
from support.made_runs import SCRIPT, made_run, made_runs

import seqjax
from seqjax import Experiment, Report, Text
from seqjax.diagnostics import Jacobians, Measures
from seqjax.gradients import Full
from seqjax.models import RNN, NGram
from seqjax.report import Table, at_most, notebook, plot
from seqjax.samplers import Sequential
from seqjax.testing.quick_jit import quick_jit

EVIL = '<script>alert("1")</script>&amp;"><img src=x onerror=alert(1)>`a`|b'
EXPERIMENT = Experiment(
    dataset=Text("the cat sat on the mat. " * 30, EVIL),
    sampler=Sequential(batch_size=4, num_steps=12),
    model=RNN(hidden=3),
    epochs=3,
    metrics=("accuracy",),
)


def page(shown):
    """The page of an object or of HTML, which has no script and no part that could not be shown."""
    text = shown if isinstance(shown, str) else shown._repr_html_()
    found = HTMLPage(text)
    assert not names(found) & {"script", "style", "iframe", "object"}
    assert not {name for _, attrs in found.elements for name in attrs if name.startswith("on")}
    assert "cannot be shown" not in text
    return found


def names(found):
    return {tag for tag, _ in found.elements}


def texts(found):
    """The texts of all elements, also of those within others."""
    return [text for inside in found.texts.values() for text in inside]


def columns_of(html):
    """The cells of each row of a table, read back from its HTML."""
    rows = re.findall(r"<tr>(.*?)</tr>", html, re.S)
    return [[re.sub(r"<[^>]*>", "", cell) for cell in re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row)] for row in rows]


def test_a_table_has_the_cells_of_its_text():
    table = Table(["variant", "loss"], [["full", 0.25], ["8 steps", math.nan], ["a\nb", None]])
    assert columns_of(table._repr_html_()) == [["variant", "loss"], ["full", "0.2500"], ["8 steps", "nan"], ["ab", ""]]
    sides = [attrs["style"].rpartition(" ")[2] for tag, attrs in page(table).elements if tag in ("td", "th")]
    assert sides == ["left", "right"] * 4


def test_a_long_table_shows_its_ends():
    rows = columns_of(Table(["n"], [[n] for n in range(1000)])._repr_html_())
    assert [row[0] for row in rows[1:31]] == [str(n) for n in range(30)]
    assert rows[31] == ["… 940 more rows …"]
    assert [row[0] for row in rows[32:]] == [str(n) for n in range(970, 1000)]
    assert columns_of(Table(["n"], [])._repr_html_()) == [["n"]]


def test_what_data_hold_is_text():
    found = page(Table([EVIL], [[EVIL + "\x1b[31m"]]))
    assert (found.texts["th"], found.texts["td"]) == ([EVIL], [EVIL + r"\x1b[31m"])


def test_an_experiment_shows_its_plugins_and_what_differs_from_the_defaults():
    found = dict(columns_of(EXPERIMENT._repr_html_())[1:])
    assert EVIL in "".join(texts(page(EXPERIMENT)))
    assert found["model"] == "rnn hidden=3"
    assert found["sampler"] == "sequential batch_size=4 num_steps=12"
    assert found["epochs"] == "3"
    assert found["metrics"] == "accuracy"
    assert not {"keep", "stop_after", "loss"} & set(found)
    counted = Experiment(dataset=Text("so it goes " * 20), model=NGram(order=2), loss=None)
    assert "optimizer" not in dict(columns_of(counted._repr_html_()))
    own = dataclasses.replace(EXPERIMENT, loss=lambda output, target: 0.0, keep="best")
    assert dict(columns_of(own._repr_html_()))["keep"] == "best"
    assert dict(columns_of(own._repr_html_()))["loss"] == "&lt;lambda&gt;"


def test_a_run_shows_its_last_and_its_best_epoch():
    run = made_run(1, 0)
    run.metrics[6]["heldout_loss"], run.metrics[-1]["heldout_loss"] = 0.25, math.nan
    head, *rows = columns_of(run._repr_html_().partition("<details>")[0])
    assert head == ["", "last epoch, 12", "best epoch, 7"]
    found = {name: values for name, *values in rows}
    assert found["held-out loss"] == ["nan", "0.2500"]
    assert found["training loss"] == [f"{run.metrics[n]['train_loss']:#.4g}" for n in (11, 6)]
    assert {"svg", "details"} <= names(page(run))


def test_a_run_without_metrics_or_curve_is_shown():
    run = made_run(0, 0, epochs=1)
    assert "0 of 12 epochs" in "".join(texts(page(dataclasses.replace(run, metrics=[]))))
    first = page(dataclasses.replace(run, diverged=True))
    assert "svg" not in names(first)
    assert "diverged" in "".join(texts(first))


def test_runs_show_their_comparison():
    runs = made_runs(seeds=2)
    found = columns_of(runs._repr_html_())
    assert found == columns_of(runs.compare("heldout_perplexity")._repr_html_())
    assert SCRIPT in texts(page(runs))


def test_jacobians_and_measures_are_shown():
    jacobians = Jacobians(np.array([0.5, 0.2]), np.array([0.9, 0.3]), 0.7, np.log([0.25, 0.1]), 9, 2)
    assert "growth per step ρ           0.25" in "".join(texts(page(jacobians)))
    arrays = {name: np.ones(1) for name in Measures.__annotations__}
    arrays |= {"strategies": {EVIL: Full()}, "shape": (1, 12, 4), "norms": {"window": 1.0, "history": 1.0}}
    measures = Measures(**arrays)
    assert {EVIL, "windows 1 · steps 12 · rows 4"} <= {*texts(page(measures))}
    assert columns_of(measures._repr_html_())[0] == list(measures.columns)


def test_lags_of_one_scan_are_shown_of_several_or_without_a_gradient_not():
    lags = lambda state: seqjax.lags(
        lambda p, s, x: (p * s + x, (p * s) ** 2), np.float32(0.5), state, np.ones(9, np.float32), 4
    )
    together = quick_jit(jax.vmap(lags))(np.array([1.0, math.nan], np.float32))
    assert repr(together) == "Lags(norms: float32[2, 5])"
    assert together._repr_html_() is None
    one, undefined = (jax.tree.map(lambda a, n=n: np.asarray(a)[n], together) for n in (0, 1))
    assert [tag for tag, _ in page(one).elements].count("img") == 1
    assert columns_of(one._repr_html_())[: len(one.table.rows) + 1] == columns_of(one.table._repr_html_())
    assert "the gradient is zero or not finite" in texts(HTMLPage(undefined._repr_html_()))


def test_a_report_shows_its_parts():
    report = Report(title=f"Is it {EVIL}?", text=f"*So* {EVIL}\n\nit goes.")
    report.row(f"loss {EVIL}", 3.0, at_most(2))
    report.table("held_out", Table([EVIL], [[1]]))
    report.figure("steps", plot.lines({EVIL: [1.0, 2.0]}))
    found = page(report)
    assert {"h3", "em", "table", "img"} <= names(found)
    assert found.texts["h3"] == [f"Is it {EVIL}?"]
    assert {f"loss {EVIL}", EVIL} <= {*found.texts["td"], *found.texts["th"]}


def test_a_part_that_fails_says_why_and_the_others_are_shown():
    def fails():
        raise ZeroDivisionError(EVIL)

    found = HTMLPage(notebook.show(lambda: notebook.text("before"), fails, lambda: notebook.text("after")))
    shown = ["before", f"This part cannot be shown: ZeroDivisionError: {EVIL}", "after"]
    assert [text for text in texts(found) if text in shown] == shown


def test_curves_are_drawn_to_scale():
    """The ends of a curve lie at the edges, and equal steps of values are equal steps on the screen."""
    html = notebook.curves({"a": [4.0, math.nan, 2.0, 0.0], EVIL: [1.0, 1.0, math.inf, 1.0]})
    found = page(html)
    assert EVIL in texts(found)
    first, second = found.attributes("points")
    points = np.array([list(map(float, point.split(","))) for point in first.split()])
    np.testing.assert_allclose(points[:, 0] / points[-1, 0], [2 / 298, (2 + 296 * 2 / 3) / 298, 1], atol=1e-3)
    np.testing.assert_allclose(points[:, 1], [2, 2 + 86 / 2, 88])
    assert {point.split(",")[1] for point in second.split()} == {"66.5"}
    assert notebook.curves({"a": [1.0], "b": [math.nan, 2.0]}) == ""


def test_a_curve_of_many_values_has_as_many_points_as_there_is_room_for():
    values = np.linspace(3.0, 1.0, 100_001)
    (points,) = (points.split() for points in page(notebook.curves({"a": values})).attributes("points"))
    assert 150 <= len(points) <= 301
    assert points[0] == "2.0,2.0"
    assert points[-1] == "298.0,88.0"
