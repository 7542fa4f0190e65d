"""`seqjax compare`: the table and the page of runs in folders, and whether two of them are equal."""

import base64
import json

from support.html_page import HTMLPage
from support.shell import call

from seqjax import Runs
from seqjax.runs.files.folder import HISTORY, SAMPLES


def test_the_page_has_the_metrics_samples_and_figures_of_the_folder(run_, tmp_path):
    file = tmp_path / "page.html"
    done = call("compare", run_, "--metric", "train_loss", "--page", file)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(f"page     {file}\n")
    found = HTMLPage(file.read_text("utf-8"))
    data = json.loads(found.texts["script"][0])
    assert data["metric"] == "train_loss"
    (variant,) = data["variants"]
    rows = [json.loads(line) for line in (run_ / "metrics.jsonl").read_text().splitlines()]
    assert variant["metrics"]["train_loss"]["middle"] == [float(f"{row['train_loss']:.5g}") for row in rows]
    assert variant["along"]["update"] == [row["update"] for row in rows]
    # The last "pre" is that of the samples; what a terminal would interpret is escaped.
    assert found.texts["pre"][-1].splitlines()[0] == "--- greedy ---"
    assert found.texts["pre"][-1].count("quick") == (run_ / SAMPLES).read_text("utf-8").count("quick")
    assert found.attributes("src") == [
        f"data:image/png;base64,{base64.b64encode((run_ / HISTORY).read_bytes()).decode()}"
    ]
    assert "text-file" in found.texts["h1"][0]
    assert "Made with seqjax" in found.texts["p"][0]


def test_the_table_is_printed_as_text_latex_or_markdown(run_):
    flags = ("--metric", "train_loss", "--which", "last")
    table = Runs.open(run_).compare("train_loss", which="last")
    head = "train_loss, last epoch: mean over seeds, without an interval, which takes two seeds"
    for form, text in {
        "text": f"{head}\n{table}\n",
        "latex": table.to_latex(),
        "markdown": table.to_markdown(),
    }.items():
        assert call("compare", run_, *flags, "--format", form).stdout == text
    assert "--page" in call("compare", run_, "--format", "latex", "--page", "x").stderr


def test_the_last_line_says_whether_two_runs_are_equal(run_, tmp_path):
    config = ("run", "--config", run_ / "config.toml")
    for name, flags in {"again": [], "other": ["--seed", 7]}.items():
        assert call(*config, *flags, "--out", tmp_path / name).returncode == 0
    equal = call("compare", run_, tmp_path / "again", "--figure", tmp_path / "curves.png")
    assert (equal.returncode, equal.stdout.splitlines()[-1]) == (0, "equal to the bit: parameters, metrics")
    other = call("compare", run_, tmp_path / "other")
    assert (other.returncode, other.stdout.splitlines()[-1][:44]) == (0, "not equal: metrics differ from epoch 1 on (t")
    for paths in ([run_], [run_, tmp_path / "again", tmp_path / "other"]):
        assert "equal" not in call("compare", *paths).stdout
