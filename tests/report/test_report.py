"""Reports: their text, and the files that they are saved as."""

import csv
import io
import json
import math
import re
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

import seqjax
from seqjax import Error, Report
from seqjax.report import Table, plot

SCRIPT = '''"""Does it forecast? (8.1)   python forecast.py --seeds 5

With four lags
it does.
"""
raise SystemExit("a report is of a script that it does not run")
'''


@pytest.fixture
def file(tmp_path):
    file = tmp_path / "forecast.py"
    file.write_text(SCRIPT, encoding="utf-8")
    return file


def full(file):
    """A report with everything in it."""
    report = Report(file)
    report.row("a4", 28, 28)
    report.row("MSE", [0.0471, 0.0538, 0.0617], 0.0538, low=0.0471, high=0.0617)
    report.row("sample", "the <unk>")
    report.table("held_out", Table(["variant", "loss"], [["full", 0.1 + 0.2], ["8 steps", math.nan]]))
    report.figure("steps", plot.lines({"data": [1.0, math.nan, 0.25], "late": ([2, 3], [5.0, 6.0])}))
    report.figure("cosine", plot.heatmap([[1.0, -0.5], [math.nan, 1.0]], ["a", "b"]))
    return report


def read_csv(path):
    return list(csv.reader(io.StringIO(path.read_bytes().decode("utf-8"), newline="")))


def test_the_docstring_is_read_and_the_script_is_not_run(file):
    report = Report(file)
    assert report.title == "Does it forecast? (8.1)"
    assert report.command == "python forecast.py --seeds 5"
    assert report.text == "With four lags\nit does."
    assert Report(str(file)).title == report.title
    file.write_text("'A question?   python x.py  --seeds 5'")
    assert Report(file).command == "python x.py  --seeds 5"


def test_a_report_without_a_script_has_its_own_title_and_text(tmp_path):
    report = Report(title="Does it\n  rain?   Often!", text="\nIn *most* years.\n")
    assert (report.title, report.command, report.text) == ("Does it rain? Often!", "", "In *most* years.")
    assert report.folder == Path("reports", "does-it-rain-often")
    assert report.to_markdown() == "# Does it rain? Often!\n\nIn *most* years.\n"
    assert Report(title="¿?").folder == Path("reports", "report")
    assert Report(title="../../" + "x" * 300).folder == Path("reports", "x" * 60)
    assert Report(None, tmp_path, title="x").save() == tmp_path
    report.row("a4", 28, 28)
    assert repr(report) == "Report('Does it rain? Often!', results 1, tables 0, figures 0)"


def test_a_report_has_one_title_and_one_text(file):
    for arguments in ({}, {"text": "x"}, {"file": file, "title": "x"}, {"file": file, "text": "x"}):
        with pytest.raises(Error, match=r"Report\(__file__\); or it is given both: Report\(title="):
            Report(**arguments)


def test_a_script_without_a_docstring_has_its_name_for_a_title(tmp_path):
    (tmp_path / "copy.py").write_text("x = 1\n")
    report = Report(tmp_path / "copy.py")
    assert (report.title, report.command, report.text) == ("copy", "", "")
    assert (report.to_markdown(), str(report)) == ("# copy\n", "copy")


@pytest.mark.parametrize(("content", "words"), [(None, "No such file"), (b"def", "Python"), (b"\xff", "Python")])
def test_a_file_that_cannot_be_read_as_python(tmp_path, content, words):
    file = tmp_path / "x.py"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(Error, match=words) as caught:
        Report(file)
    assert str(file) in str(caught.value)


def test_several_seeds_are_shown_as_their_median_and_range(file):
    report = Report(file)
    seeds = np.array([3.0, 1.0, 2.0, 10.0])
    for got in (seeds, list(seeds), jnp.asarray(seeds), tuple(seeds)):
        report.row("x", got, remark="about 2.5")
    assert set(report.results.rows) == {("x", 2.5, 1.0, 10.0, 4, None, None, None, "about 2.5", "")}
    assert "2.500 (1.000 to 10.00, n = 4)  about 2.5" in str(report)
    assert "| x | 2.500 (1.000 to 10.00, n = 4) | about 2.5 |" in report.to_markdown()
    report.row("y", [0.5])
    assert report.results.rows[-1] == ("y", 0.5, 0.5, 0.5, 1, None, None, None, "", "")
    report.row("z", [1.0, math.nan, 2.0])
    assert "nan (nan to nan, n = 3)" in str(report), "a seed that is nan is not hidden"


@pytest.mark.parametrize("got", [None, [], np.zeros((2, 2)), [1, "a"], ["1"], {"a": 1}, [[1], [1, 2]], 1j, object()])
def test_values_that_are_not_results(file, got):
    with pytest.raises(Error, match="row 'x'"):
        Report(file).row("x", got)


def test_anything_with_columns_and_rows_is_a_table(file):
    report = Report(file)
    report.table("m", SimpleNamespace(columns=("a",), rows=((1,),)))
    assert report.tables["m"] == Table(("a",), ((1,),))
    with pytest.raises(Error, match="'x': a dict has no columns and rows"):
        report.table("x", {"a": 1})


BAD_NAMES = ["", "../x", "a/b", ".hidden", "-x", "a b", "é", "x\n", "a" * 101, "/x"]


def test_names_that_are_not_those_of_plain_files_or_are_taken(file):
    report = full(file)
    words = dict.fromkeys(BAD_NAMES, "cannot name files") | dict.fromkeys(
        ["results", "Report", "held_out", "steps", "Steps"], "taken"
    )
    for name, message in words.items():
        for add, part in ((report.table, Table(["a"], [])), (report.figure, Figure())):
            with pytest.raises(Error, match=message):
                add(name, part)


def test_a_report_as_text(file):
    lines = str(full(file)).splitlines()
    assert lines == [
        "Does it forecast? (8.1)",
        "what    got                                  expected                   met",
        "a4      28                                   28                         yes",
        "MSE     0.05380 (0.04710 to 0.06170, n = 3)  0.0538 (0.0471 to 0.0617)  yes",
        "sample  the <unk>",
        *("", "held_out", "variant    loss", "full     0.3000", "8 steps     nan"),
        *("", "figures: steps, cosine"),
    ]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The full report, and the folder in which it was saved, beside another file."""
    place = tmp_path_factory.mktemp("saved")
    (place / "forecast.py").write_text(SCRIPT, encoding="utf-8")
    (place / "deep" / "out").mkdir(parents=True)
    (place / "deep" / "out" / "notes.txt").write_text("mine")
    report = full(place / "forecast.py")
    folder = report.save(place / "deep" / "out")
    assert folder == place / "deep" / "out"
    return report, folder


def test_a_report_as_files(saved):
    report, folder = saved
    text = report.to_markdown()
    head = ["# Does it forecast? (8.1)", "", "    python forecast.py --seeds 5", "", "With four lags", "it does."]
    assert text.splitlines()[:6] == head
    assert "| sample | the \\<unk> |  |  |" in text
    assert "| full | 0.3000 |" in text
    links = re.findall(r"\]\((.*?)\)", text)
    assert {*links, "report.md", "results.json", "notes.txt"} == {path.name for path in folder.iterdir()}
    assert (folder / "notes.txt").read_text() == "mine"
    assert (folder / "report.md").read_text("utf-8") == text
    losses = [["full", "0.30000000000000004"], ["8 steps", "nan"]]
    assert read_csv(folder / "held_out.csv") == [["variant", "loss"], *losses]


def test_the_results_for_a_program(saved):
    report, folder = saved
    found = json.loads((folder / "results.json").read_text("utf-8"))
    assert (found["title"], found["command"]) == (report.title, report.command)
    assert found["made_with"].endswith(f"seqjax {seqjax.__version__}, jax {jax.__version__}")
    assert found["seconds"] is None, "only `sj.script` measures it"
    assert found["results"] == [dict(zip(report.results.columns, row, strict=True)) for row in report.results.rows]
    assert [found["results"][1][name] for name in ("got", "lowest", "low", "met")] == [0.0538, 0.0471, 0.0471, "yes"]
    report = Report(title="x")
    report.row("diverged", math.inf, high=1)
    (row,) = json.loads((report.save(folder / "x") / "results.json").read_text("utf-8"))["results"]
    assert (row["got"], row["met"]) == ("inf", "no")


def test_the_hash_of_a_script_is_that_of_its_code_and_command(file):
    before = Report(file).sha256
    for old, new, changes in [
        ("it does.", "it does not.", False),
        ("Does it forecast?", "Will it forecast?", False),
        ("--seeds 5", "--seeds 6", True),
        ("a report is of", "a report is not of", True),
    ]:
        file.write_text(SCRIPT.replace(old, new), encoding="utf-8")
        assert (Report(file).sha256 != before) == changes, new


def test_the_figures_of_a_report_and_their_data(saved):
    report, folder = saved
    width, height = report.figures["steps"].get_size_inches()
    assert imread(folder / "steps.png").shape[:2] == (int(height * 300), int(width * 300))
    svg = (folder / "steps.svg").read_text("utf-8")
    assert svg.startswith("<?xml")
    assert "dc:date" not in svg
    assert read_csv(folder / "steps.csv") == [
        ["name", "x", "y"],
        *(["data", "0", "1.0"], ["data", "1", "nan"], ["data", "2", "0.25"]),
        *(["late", "2", "5.0"], ["late", "3", "6.0"]),
    ]
    assert read_csv(folder / "cosine.csv") == [
        ["row", "column", "value"],
        *(["a", "0", "1.0"], ["a", "1", "-0.5"], ["b", "0", "nan"], ["b", "1", "1.0"]),
    ]


def test_a_figure_of_matplotlib_has_no_data(file, tmp_path):
    report = Report(file)
    figure = Figure()
    figure.subplots().plot([1, 2], [3, 4])
    report.figure("own", figure)
    folder = report.save(tmp_path / "out")
    assert {path.name for path in folder.iterdir()} == {"report.md", "results.json", "own.png", "own.svg"}
    assert "own.csv" not in report.to_markdown()


def test_the_caption_of_a_figure_is_below_it(file, tmp_path):
    report = Report(file)
    figure = plot.averages({"full": ([1.0, 2.0], [[4.0, 3.0], [5.0, 4.0]])}, of="a_b_")
    report.figure("loss", figure)
    caption = r"Mean of 2 a\_b\_s; band: lowest to highest."
    assert f"](loss.png)\n\n{caption}\n\nAlso: [loss.svg]" in report.to_markdown()


def test_a_folder_that_cannot_be_written(file, tmp_path):
    (tmp_path / "out" / "steps.png").mkdir(parents=True)
    for folder, words in ((file, r"forecast.py.*cannot be written"), (tmp_path / "out", "another folder")):
        with pytest.raises(Error, match=words) as caught:
            full(file).save(folder)
        assert caught.value.exit_code == 6
    assert not (tmp_path / "out" / "results.json").exists(), "the results come last"


def test_a_name_of_several_words_is_a_heading_in_words():
    report = Report(title="Does it rain?")
    report.table("wet_days", Table(("day",), [(1,)]))
    report.figure("by_month", plot.lines({"rain": [1.0, 2.0]}))
    text = report.to_markdown()
    assert "## wet days\n" in text
    assert "(wet_days.csv)" in text
    assert "## by month\n\n![by month](by_month.png)" in text


def test_the_parts_keep_their_order_and_a_folded_one_is_opened_by_the_reader():
    report = Report(title="Does it rain?")
    report.figure("by_month", plot.lines({"rain": [1.0, 2.0]}))
    report.section("how_it_was_measured", "By a **gauge** <script>x</script>.", folded=True)
    report.table("days", Table(("day",), [("Monday",)]), folded=True)
    report.section("remarks", "None.")
    with pytest.raises(Error, match="is taken"):
        report.section("days", "")
    with pytest.raises(Error, match="section 'more' = 1: pass a text"):
        report.section("more", 1)
    text = report.to_markdown()
    headings = re.findall(r"^(?:## (.*)|<summary>(.*)</summary>)$", text, re.MULTILINE)
    assert headings == [("by month", ""), ("", "how it was measured"), ("", "days"), ("remarks", "")]
    assert text.count("<details>") == text.count("</details>") == 2
