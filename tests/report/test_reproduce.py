"""Experiments that are run once, and the pages of what they found."""

import html.parser
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from seqjax import Error
from seqjax.cli import main
from seqjax.report.page import counted
from seqjax.report.reproduce import Finding, found, reproduce
from seqjax.training.devices import num_cores

SCRIPT = '''"""{title}   python experiments/{name}.py

Because it is *asked*.
"""

from pathlib import Path

import seqjax as sj


def main(n: int = 3) -> sj.Report:
    with Path("count").open("a") as file:
        file.write("{name} ")
    report = sj.Report(__file__)
    report.row("{name} | sum", n * (n - 1) / 2, "= 3")
    report.row("seeds", [1.0, 2.0, 6.0], "~ 5 (4 to 6)")
    report.table("numbers", sj.Table(["a"], [[1.25]]))
    report.figure("line", sj.plot.lines({{"x": [1, 2]}}))
    return report


if __name__ == "__main__":
    sj.script(main)
'''


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of two experiments, the working folder beside it."""
    monkeypatch.chdir(tmp_path)
    Path("experiments").mkdir()
    for name, title in (("one", "How many? (8.10)"), ("two", "Why so many? (8.2, 8.3)")):
        Path("experiments", f"{name}.py").write_text(SCRIPT.format(name=name, title=title))
    return Path("experiments")


class Page(html.parser.HTMLParser):
    """What a page refers to, its open tags and the text of its cells."""

    def __init__(self, text):
        super().__init__()
        self.sources, self.ids, self.cells, self.open = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.sources += [found[name] for name in ("src", "href") if name in found]
        self.ids += [found["id"]] if "id" in found else []
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "td":
            self.cells.append(data)


def test_each_is_run_once_and_again_when_it_has_changed(folder, capsys):
    command = ["reproduce", "experiments", "--markdown", "docs/all.md", "--page", "docs/all.html", "--table", "all.md"]
    Path("docs").mkdir()
    assert main(command) == 0
    assert Path("count").read_text() == "one two "
    assert "1 of 2 as expected" in capsys.readouterr().out
    assert main(command) == 0
    assert Path("count").read_text() == "one two "
    (folder / "two.py").write_text((folder / "two.py").read_text().replace("n: int = 3", "n: int = 4"))
    assert main([*command, "--only", "two"]) == 0
    assert Path("count").read_text() == "one two two "
    assert "How many?" in Path("docs/all.md").read_text(), "what was found before is on the page too"


def test_the_pages(folder):
    Path("docs").mkdir()
    files = ["--markdown", "docs/all.md", "--page", "docs/all.html", "--table", "all.md", "--title", "All & more"]
    assert main(["reproduce", "experiments", *files]) == 0
    text = Path("docs/all.md").read_text()
    assert text.startswith(
        "# All & more\n\n2 of 4 results lie where they are expected, of several seeds their median. "
        "All took 0 minutes on "
    )
    assert text.index("## Why so many? (8.2, 8.3)") < text.index("## How many? (8.10)"), "by section"
    assert "| one \\| sum | 3 | = 3 | yes |" in text
    assert "| seeds | 2.000 (1.000 to 6.000, n = 3) | ~ 5 (4 to 6) | no |" in text
    assert "csv" not in text
    assert "![line](all/two-line.png)" in text
    assert (Path("docs/all/two-line.png")).read_bytes() == Path("reports/two/line.png").read_bytes()
    page = Page(Path("docs/all.html").read_text())
    assert page.open == []
    assert page.ids == ["two", "one"]
    assert all(source.startswith(("#", "data:image/png;base64,")) for source in page.sources), "it needs no other file"
    assert sum(source.startswith("data:") for source in page.sources) == 2
    assert [cell for cell in page.cells if "sum" in cell] == ["two | sum", "one | sum"]
    table = Path("all.md").read_text()
    assert "| Why so many? (8.2, 8.3) | python experiments/two.py | two \\| sum | 3 | = 3 | yes | 0." in table
    assert "|  |  | seeds | 2.000 (1.000 to 6.000, n = 3) | ~ 5 (4 to 6) | no |  |" in table


def test_what_fails_is_told_and_what_was_found_is_kept(folder, capsys):
    whole = (folder / "one.py").read_text()
    (folder / "one.py").write_text(whole.replace("report.row(", "raise sj.Error('no luck')\n    report.row(", 1))
    assert main(["reproduce", "experiments", "--out", "out", "--table", "all.md"]) == 2
    assert "one.py ended with 2: seqjax: no luck; see out/one/log.txt" in capsys.readouterr().err
    assert "Why so many?" in Path("all.md").read_text(), "the other one was run, and is on the page"
    (folder / "one.py").write_text(whole)
    reproduce(sorted(folder.glob("*.py")), Path("out"))
    assert Path("count").read_text().split().count("two") == 1


def test_a_script_without_a_report_is_told_and_not_remembered(folder):
    (folder / "one.py").write_text("print('nothing')")
    for _ in range(2):
        with pytest.raises(Error, match=r"one\.py left no report: it should end with sj\.script\(main\)"):
            reproduce([folder / "one.py"], Path("out"))


def test_it_is_run_with_the_flags_that_it_names(folder):
    script = folder / "one.py"
    script.write_text(script.read_text().replace("experiments/one.py", "experiments/one.py --n 5"))
    reproduce([script], Path("out"))
    (finding,) = found([script], Path("out"))
    assert finding.rows[0]["got"] == "10.0"
    assert finding.command == "python experiments/one.py --n 5"
    assert f"    {finding.command}\n" in finding.report


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system does not pin processes to cores")
def test_two_at_a_time_run_at_once_each_on_a_core_of_its_own(folder):
    wait = """
    import os, time
    Path(f"{name} is there").touch()
    began = time.monotonic()
    while len(list(Path().glob("* is there"))) < 2:
        assert time.monotonic() < began + 60, "the other one does not run"
        time.sleep(0.01)
    Path(f"{name} is on").write_text(str(sorted(os.sched_getaffinity(0))))
"""
    for script in folder.glob("*.py"):
        text = script.read_text()
        script.write_text(text.replace("    report = ", f"    name = {script.stem!r}{wait}    report = "))
    reproduce(sorted(folder.glob("*.py")), Path("out"), jobs=2)
    cores = [json.loads(Path(f"{name} is on").read_text()) for name in ("one", "two")]
    findings = found(sorted(folder.glob("*.py")), Path("out"))
    assert [finding.made_with.partition(" core")[0] for finding in findings] == [str(len(on)) for on in cores]
    if len(os.sched_getaffinity(0)) > 1:
        assert not set(cores[0]) & set(cores[1])


@pytest.mark.parametrize("jobs", [1, 2])
def test_one_that_cannot_be_started_keeps_no_other_from_it(folder, jobs):
    for name in ("bad", "worse"):
        Path(folder, f"{name}.py").write_text(f'"""Is it?   python {name}.py --n \'n"""')
    scripts = sorted(folder.glob("*.py"))
    with pytest.raises(Error, match=r"(?s)bad\.py.*worse\.py"):
        reproduce(scripts, Path("out"), jobs)
    assert [finding.script.stem for finding in found(scripts, Path("out"))] == ["one", "two"]


def test_more_jobs_than_scripts_leave_no_core_idle(folder):
    reproduce([folder / "one.py"], Path("out"), jobs=num_cores())
    (finding,) = found([folder / "one.py"], Path("out"))
    assert finding.made_with.startswith(f"{num_cores()} core")


@pytest.mark.parametrize("jobs", [0, 1.5])
def test_no_such_number_of_jobs(folder, jobs):
    with pytest.raises(Error, match=r"jobs = .* must be a whole number, at least 1"):
        reproduce([], Path("out"), jobs)


def test_a_command_that_cannot_be_read_is_told(folder):
    script = folder / "one.py"
    script.write_text(script.read_text().replace("experiments/one.py", "experiments/one.py --name 'n"))
    with pytest.raises(Error, match=r"one\.py: the command .* --name 'n`, cannot be read: No closing quotation"):
        reproduce([script], Path("out"))


def test_a_command_that_is_not_pythons_is_told(folder):
    script = folder / "one.py"
    script.write_text(script.read_text().replace("python experiments", "python3 experiments"))
    with pytest.raises(Error, match=r"`python3 experiments/one\.py`, does not begin with python"):
        reproduce([script], Path("out"))


def test_a_script_that_changed_while_it_ran_is_run_again(folder):
    script = folder / "one.py"
    script.write_text(
        script.read_text().replace(
            '    with Path("count")', '    Path(__file__).open("a").write("#")\n    with Path("count")'
        )
    )
    reproduce([script], Path("out"))
    assert found([script], Path("out")) == []


@pytest.mark.parametrize(
    "done", ["", "[]", '{"seconds": 1}', '{"words": "", "began": 0, "seconds": 1, "made_with": ""}']
)
def test_one_whose_mark_is_damaged_is_run_again(folder, done):
    reproduce([folder / "one.py"], Path("out"))
    Path("out/one/done.json").write_text(done)
    assert found([folder / "one.py"], Path("out")) == []


def test_one_whose_figure_is_gone_is_run_again(folder):
    reproduce([folder / "one.py"], Path("out"))
    Path("out/one/line.png").unlink()
    assert found([folder / "one.py"], Path("out")) == []
    reproduce([folder / "one.py"], Path("out"))
    assert len(found([folder / "one.py"], Path("out"))) == 1


def test_a_conclusion_may_be_written_later(folder):
    """Words of the docstring change what the pages say, and not what was found."""
    script = folder / "one.py"
    words = lambda text: text.replace("Because it is *asked*.", "Three,\n\nas it\nturns out.").replace("many", "few")
    reproduce([script], Path("out"))
    (before,) = found([script], Path("out"))
    text = script.read_text()
    script.write_text(words(text))
    reproduce([script], Path("out"))
    (after,) = found([script], Path("out"))
    assert Path("count").read_text() == "one "
    assert after.title == "How few? (8.10)"
    assert after.report == words(before.report)
    script.write_text(text.replace("experiments/one.py", "experiments/one.py --n 5"))
    assert found([script], Path("out")) == [], "flags are no mere words"


def test_results_of_a_former_run_are_not_those_of_this_one(folder):
    script = folder / "one.py"
    reproduce([script], Path("out"))
    script.write_text("\n".join(line for line in script.read_text().splitlines() if "report.row(" not in line))
    reproduce([script], Path("out"))
    (finding,) = found([script], Path("out"))
    assert finding.rows == []


def test_the_pages_name_what_was_not_run_and_are_left_alone_where_nothing_was(folder):
    pages = [Path("all.md"), Path("all.html"), Path("table.md")]
    command = ["reproduce", "experiments", "--markdown", "all.md", "--page", "all.html", "--table", "table.md"]
    (folder / "one.py").write_text("1 / 0")
    for page in pages:
        page.write_text("what was here")
    assert main([*command, "--jobs", "0"]) == 2
    assert main([*command, "--only", "one"]) == 1
    assert [page.read_text() for page in pages] == ["what was here"] * 3
    assert main([*command, "--only", "two"]) == 0
    assert all("Not run: one." in page.read_text() for page in pages)


def test_the_time_is_that_of_the_clock():
    finding = lambda began, seconds: Finding(Path("x.py"), Path("nowhere"), "", began, seconds, "1 core")
    minutes = lambda *findings: counted(findings).partition("All took ")[2].partition(" minutes")[0]
    assert minutes(finding(0, 600), finding(60, 120)) == "10", "one within the other"
    assert minutes(finding(300, 600), finding(0, 600)) == "15", "one overlaps the other"
    assert minutes(finding(0, 600), finding(100_000, 600)) == "20", "with a pause between"


def test_sigterm_ends_the_scripts_as_well(folder):
    text = "import os, pathlib, time\npathlib.Path('pid of {}').write_text(f'{{os.getpid()}} ')\ntime.sleep(600)"
    pids = [Path(f"pid of {name}") for name in ("one", "two")]
    for name in ("one", "two"):
        (folder / f"{name}.py").write_text(text.format(name))
    command = [sys.executable, "-m", "seqjax", "reproduce", "experiments", "--jobs", "2"]
    process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": ""})
    while not all(pid.is_file() and pid.read_text().endswith(" ") for pid in pids):
        assert process.poll() is None
    process.terminate()
    assert process.wait(60) == 143
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid.read_text()), 0)


def test_what_is_not_there_is_told(folder, capsys):
    assert main(["reproduce", "experiments", "--only", "three"]) == 2
    assert "has no script three (scripts: one, two)" in capsys.readouterr().err
    os.mkdir("empty")
    assert main(["reproduce", "empty"]) == 2
    assert "has no script at all" in capsys.readouterr().err
