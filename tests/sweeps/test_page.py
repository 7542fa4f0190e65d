"""The page of several runs: its numbers against those of the runs, and its texts."""

import json
import math

import pytest
from support.crash import NoFigure
from support.html_page import HTMLPage
from support.made_runs import EPOCHS, GRADIENTS, SCRIPT, loss, made_run, made_runs

from seqjax import Error, Runs
from seqjax.report import plot
from seqjax.sweeps import page
from seqjax.sweeps.page import curves

LABELS = dict.fromkeys(made_run(0, 0).metrics[0], "a label")


def opened(runs, tmp_path, **options) -> HTMLPage:
    runs.page(tmp_path / "page.html", **options)
    return HTMLPage((tmp_path / "page.html").read_text("utf-8"))


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    return opened(made_runs(), tmp_path_factory.mktemp("page"))


def test_the_curves_are_the_means_over_the_seeds(content):
    data = json.loads(content.texts["script"][0])
    assert data["metric"] == "heldout_perplexity"
    assert data["labels"]["heldout_perplexity"] == "held-out perplexity"
    assert [variant["name"] for variant in data["variants"]] == list(GRADIENTS)
    for n, variant in enumerate(data["variants"]):
        assert variant["legend"] == f"{variant['name']} (3 seeds)"
        assert variant["along"]["epoch"] == list(range(1, EPOCHS + 1))
        assert variant["along"]["tokens"] == [123_457 * epoch for epoch in range(1, EPOCHS + 1)], "these are exact"
        for epoch in range(1, EPOCHS + 1):
            losses = [loss(n, seed, epoch) for seed in range(3)]
            drawn = {key: values[epoch - 1] for key, values in variant["metrics"]["train_loss"].items()}
            expected = {"middle": sum(losses) / 3, "low": min(losses), "high": max(losses)}
            assert drawn == pytest.approx(expected, rel=1e-4)
            perplexity = sum(math.exp(value + 0.5) for value in losses) / 3 if epoch % 2 == 0 else None
            drawn = variant["metrics"]["heldout_perplexity"]["middle"][epoch - 1]
            assert drawn == (perplexity and pytest.approx(perplexity, rel=1e-4))


def test_the_page_needs_no_other_file_and_has_every_section(content):
    assert all(source.startswith("data:image/png;base64,") for source in content.attributes("src"))
    links, ids = content.attributes("href"), content.attributes("id")
    assert len(set(ids)) == len(ids)
    assert {link.removeprefix("#") for link in links} <= set(ids)
    assert content.texts["h2"] == ["Result", "Curves", "Experiments side by side", "Runs", "Figures"]
    assert content.texts["h1"] == ["9 runs of rnn on Text"]
    assert len(content.attributes("src")) == 3, "the learning curve of one run of each variant"
    assert all("alt" in attributes for tag, attributes in content.elements if tag == "img")


def test_a_name_is_shown_as_it_is(content):
    assert f"{SCRIPT}, seed=0" in content.texts["th"]
    assert SCRIPT in content.texts["th"]
    assert [name for _, attributes in content.elements for name in attributes if name.startswith("on")] == []
    assert len(content.texts["script"]) == 2


def test_the_table_of_results_is_that_of_compare(content, tmp_path):
    runs = made_runs()
    expected = runs.compare("heldout_perplexity")
    assert content.texts["table"][0].startswith("The held-out perplexity of each variant")
    shown = [cell for row in expected.shown_rows() for cell in row[1:]]
    assert content.texts["td"][: len(shown)] == shown, "a mean and its interval are one cell"
    values = [float(value) for value in content.attributes("data-value")][: len(shown)]
    assert values == [number for _, runs, last, _, _, best, *_ in expected.rows for number in (runs, last, best)]
    against = opened(runs, tmp_path, metric="train_loss", against="full")
    assert json.loads(against.texts["script"][0])["metric"] == "train_loss"
    assert set(runs.compare("train_loss", "full").shown_columns) <= set(against.texts["th"])


def test_fields_that_differ_are_marked(content, tmp_path):
    """The reference has the strategy `full`; both others are `truncated`, with other numbers of steps."""
    assert content.texts["mark"] == ["truncated", "truncated", "5", "2"]
    assert {"gradient", "gradient.steps", "gradient.checkpoint"} <= set(content.texts["th"])
    shared = content.texts["details"][1]
    assert ("model.hidden3" in shared, "gradient.steps" in shared) == (True, False)
    found = opened(made_runs(1), tmp_path, against="long & short")
    assert found.texts["mark"] == ["full", "False", "None", "None", "5"]


def test_unfinished_runs_are_left_out_and_counted_and_a_single_run_has_no_band():
    group = [made_run(0, 0), made_run(0, 1), made_run(0, 2, epochs=3)]
    (variant,) = curves({"a": group}, "train_loss", LABELS)["variants"]
    assert variant["legend"] == "a (2 seeds, 1 left out)"
    assert variant["metrics"]["train_loss"]["middle"][2] == pytest.approx((loss(0, 0, 3) + loss(0, 1, 3)) / 2, rel=1e-4)
    (variant,) = curves({"a": [made_run(0, 0)]}, "train_loss", LABELS)["variants"]
    assert variant["legend"] == "a (1 seed)"
    assert list(variant["metrics"]["train_loss"]) == ["middle"]


def test_of_a_long_run_evaluated_epochs_are_kept(monkeypatch):
    monkeypatch.setattr(page, "MOST_EPOCHS", 3)
    (variant,) = curves({"a": [made_run(0, 0)]}, "heldout_loss", LABELS)["variants"]
    assert variant["along"]["epoch"] == [2, 6, 12]
    assert None not in variant["metrics"]["heldout_loss"]["middle"]


def test_figures_for_which_there_is_no_room_are_counted(tmp_path, monkeypatch):
    class Large(NoFigure):
        def savefig(self, file, format, dpi):
            file.write(bytes(3000))  # 4,000 characters in base64, and a few before them

    monkeypatch.setattr(plot, "history", Large)
    for room, shown, left_out in ((12_300, 3, ""), (11_000, 2, "1 more figure"), (8_000, 1, "2 more figures")):
        monkeypatch.setattr(page, "MOST_BYTES", room)
        found = opened(made_runs(1), tmp_path)
        assert len(found.attributes("src")) == shown
        assert left_out in found.texts["section"][-1]
        assert ("more figure" in found.texts["section"][-1]) == bool(left_out)


def test_runs_without_an_epoch_have_no_curves(tmp_path):
    found = opened(Runs({"a": made_run(0, 0, epochs=0)}, {"a": "a"}), tmp_path)
    assert "No run has finished its first epoch." in found.texts["p"]
    assert found.texts["h1"] == ["1 run of rnn on Text"]


def test_a_variant_may_have_any_name(tmp_path):
    """Also that of a column, and one that UTF-8 cannot encode."""
    runs = {name: made_run(0, n) for n, name in enumerate(["", "field", "variant", "\ud800", "label, last epoch"])}
    found = opened(Runs(runs, {name: name for name in runs}), tmp_path)
    assert {"field", "variant", "\\ud800"} <= set(found.texts["th"])
    with pytest.raises(Error, match="did you mean 'train_loss'"):
        made_runs(1).page(tmp_path / "another.html", metric="trainloss")
    assert not (tmp_path / "another.html").exists()
