"""Scripts that are run once, and the pages of what they found."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.html_page import HTMLPage

from seqjax import Error, Report
from seqjax.cli import main
from seqjax.report import Table, between, exactly, plot
from seqjax.report.finding import Finding, found
from seqjax.report.page.findings import MARK_MARKDOWN, conclusion
from seqjax.report.page.template import MARK
from seqjax.report.reproduce import reproduce

QUICK = '''"""{title}   python experiments/{name}.py --n 3

Because it is *asked*.
"""
import argparse
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--n", type=int)
parser.add_argument("--out", type=Path)
args = parser.parse_args()
with Path("count").open("a") as file:
    file.write("{name} ")
# work
(args.out / "line.png").write_bytes(b"")
(args.out / "rows.csv").write_text(f"what,shown,expected,met\\nsum,{{args.n}},= 3,yes\\n")
head = "# {title}\\n\\n    python experiments/{name}.py --n 3\\n\\nBecause it is *asked*.\\n"
(args.out / "report.md").write_text(head + f"\\n{{args.n}}\\n\\n![line](line.png)\\n")
'''
"""A script that writes the files of a report itself, since importing seqjax takes longer than all other work here."""

TITLES = {"one": "How many? (8.10)", "two": "Why so many? (8.2, 8.3)"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of two scripts, inside the working folder."""
    monkeypatch.chdir(tmp_path)
    Path("experiments").mkdir()
    for name, title in TITLES.items():
        Path("experiments", f"{name}.py").write_text(QUICK.format(name=name, title=title))
    return Path("experiments")


def edit(script, old, new):
    text = script.read_text()
    assert old in text
    script.write_text(text.replace(old, new))


def runs():
    """The names of the scripts that ran, in order."""
    return Path("count").read_text().split()


def test_the_pages(folder):
    edit(
        folder / "two.py",
        "# work",
        "import shutil, sys; shutil.copytree('made', args.out, dirs_exist_ok=True); sys.exit()",
    )
    report = Report(folder / "two.py", "made")
    report.row("two | sum", 3, exactly(3))
    report.row("seeds", [1.0, 2.0, 6.0], between(4, 6, about=5))
    report.table("numbers", Table(["a", "is it?"], [[1.25, "no"]]))
    report.figure("line", plot.lines({"x": [1, 2]}))
    report.save()
    Path("docs").mkdir()
    files = ["--markdown", "docs/all.md", "--page", "docs/all.html", "--table", "all.md", "--title", "All & more"]
    assert main(["reproduce", "experiments", *files]) == 0
    text = Path("docs/all.md").read_text()
    assert re.match(
        r"# All & more\n\n<!-- made by `seqjax reproduce` -->\n\n"
        r"2 of 3 results are as expected \(with several seeds, the median counts\)\. "
        r"The scripts took \d+ minutes on \d+ cores?, seqjax \d",
        text,
    )
    assert text.index("## Why so many? (8.2, 8.3)") < text.index("## How many? (8.10)"), "by section"
    assert "| two \\| sum | 3 | = 3 | yes |" in text
    assert "| seeds | 2.000 (1.000 to 6.000, n = 3) | ~ 5 (4 to 6) | no |" in text
    assert "csv" not in text
    assert "![line](all/two-line.png)" in text
    assert (Path("docs/all/two-line.png")).read_bytes() == Path("reports/two/line.png").read_bytes()
    page = HTMLPage(Path("docs/all.html").read_text())
    assert page.attributes("id") == ["two", "two-heading", "one", "one-heading"]
    sources = [*page.attributes("src"), *page.attributes("href")]
    assert [source[:22] for source in sources if source[0] != "#"] == ["data:image/png;base64,"] * 2, "no other file"
    assert page.texts["td"].count("two | sum") == 1
    assert page.texts["td"].count("no") == 2
    assert page.attributes("class").count("no") == 1, "a table of the script's own is not coloured"
    table = Path("all.md").read_text()
    first = r"| Why so many? (8.2, 8.3) | python experiments/two.py --n 3 | two \| sum | 3 | = 3 | yes | "
    assert re.search(rf"^{re.escape(first)}\d+\.\d \|$", table, re.M)
    assert "|  |  | seeds | 2.000 (1.000 to 6.000, n = 3) | ~ 5 (4 to 6) | no |  |" in table


def test_the_pages_name_the_scripts_that_were_not_run(folder):
    pages = [Path("all.md"), Path("all.html"), Path("table.md")]
    command = ["reproduce", "experiments", "--markdown", "all.md", "--page", "all.html", "--table", "table.md"]
    (folder / "one.py").write_text("1 / 0")
    marks = [MARK_MARKDOWN, MARK, MARK_MARKDOWN]
    for page, mark in zip(pages, marks, strict=True):
        page.write_bytes(mark)
    assert main([*command, "--jobs", "0"]) == 2
    assert main([*command, "--only", "one"]) == 2
    assert [page.read_bytes() for page in pages] == marks, "without results they are left alone"
    assert main([*command, "--only", "two"]) == 0
    assert all("Not run: one." in page.read_text() for page in pages)


def test_minutes_are_those_of_the_clock():
    finding = lambda began, seconds: Finding(Path("x.py"), Path("nowhere"), "", began, seconds, "1 core")
    minutes = lambda *findings: re.search(r"took (\d+) minutes", conclusion(findings))[1]
    assert minutes(finding(0, 600), finding(60, 120)) == "10", "one within the other"
    assert minutes(finding(300, 600), finding(0, 600)) == "15", "one overlaps the other"
    assert minutes(finding(0, 600), finding(100_000, 600)) == "20", "with a pause between"


def test_a_script_is_run_once_and_again_if_its_code_has_changed(folder, capsys):
    command = ["reproduce", "experiments", "--markdown", "all.md"]
    assert main(command) == 0
    assert "1 of 1 as expected" in capsys.readouterr().out
    edit(folder / "one.py", "# work", "# comments and layout may change\n\n")
    assert main(command) == 0
    assert "done     [2/2]" in capsys.readouterr().out
    assert runs() == ["one", "two"]
    edit(folder / "two.py", "# work", "1 + 1")
    assert main([*command, "--only", "two"]) == 0
    assert runs() == ["one", "two", "two"]
    assert "How many?" in Path("all.md").read_text(), "earlier findings are on the page too"


def test_words_of_the_docstring_may_change_and_the_flags_of_its_command_may_not(folder):
    """The words change the page, and the script is not run again."""
    script = folder / "one.py"
    words = lambda text: text.replace("Because it is *asked*.", "Three,\n\nas it\nturns out.").replace("many", "few")
    reproduce([script], Path("out"))
    (before,) = found([script], Path("out"))
    text = script.read_text()
    docstring, code = text.split("import argparse")
    script.write_text(f"{words(docstring)}import argparse{code}")
    reproduce([script], Path("out"))
    (after,) = found([script], Path("out"))
    assert runs() == ["one"]
    assert after.title == "How few? (8.10)"
    assert after.report == words(before.report)
    script.write_text(text.replace("one.py --n 3", "one.py --n 5", 1))
    assert found([script], Path("out")) == []
    reproduce([script], Path("out"))
    (finding,) = found([script], Path("out"))
    assert (finding.results[0]["shown"], finding.command) == ("5", "python experiments/one.py --n 5")


def test_a_script_that_changed_while_it_ran_is_run_again(folder, capsys):
    script = folder / "one.py"
    edit(script, "# work", "Path(__file__).open('a').write('1 + 1')")
    reproduce([script], Path("out"))
    assert found([script], Path("out")) == []
    words = "experiments/one.py has changed since it was started; the same command runs it again"
    assert capsys.readouterr().out.splitlines()[-1] == f"done     [1/1] out/one: {words}"


def test_a_script_without_a_whole_note_of_its_run_or_its_figure_is_run_again(folder):
    scripts = [folder / "one.py"]
    reproduce(scripts, Path("out"))
    note = Path("out/one/done.json").read_text()
    for done in ("", "[]", '{"seconds": 1}', '{"head": "", "began": 0, "seconds": 1, "made_with": ""}'):
        Path("out/one/done.json").write_text(done)
        assert found(scripts, Path("out")) == []
    Path("out/one/done.json").write_text(note)
    Path("out/one/line.png").unlink()
    assert found(scripts, Path("out")) == []
    reproduce(scripts, Path("out"))
    assert len(found(scripts, Path("out"))) == 1


def test_results_of_an_earlier_run_are_removed(folder):
    script = folder / "one.py"
    reproduce([script], Path("out"))
    assert len(found([script], Path("out"))[0].results) == 1
    edit(script, '(args.out / "rows.csv")', '(args.out / "other.csv")')
    reproduce([script], Path("out"))
    assert found([script], Path("out"))[0].results == []


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system does not pin processes to cores")
def test_two_scripts_run_at_once_on_cores_of_their_own(folder):
    """Each waits for the other one, and writes down its cores at the end."""
    os.mkfifo("meeting")
    for name, mode in {"one": "r", "two": "w"}.items():
        work = f"""
import os
open("meeting", "{mode}").close()
Path("{name} cores").write_text(str(sorted(os.sched_getaffinity(0))))
"""
        edit(folder / f"{name}.py", "# work", work)
    scripts = sorted(folder.glob("*.py"))
    reproduce(scripts, Path("out"), jobs=2)
    cores = [json.loads(Path(f"{name} cores").read_text()) for name in ("one", "two")]
    made_with = [finding.made_with for finding in found(scripts, Path("out"))]
    assert [int(text.partition(" core")[0]) for text in made_with] == [len(share) for share in cores]
    assert all("2 at a time" in text for text in made_with)
    if len(os.sched_getaffinity(0)) > 1:
        assert not set(cores[0]) & set(cores[1])


def test_one_script_has_all_cores_however_many_jobs_and_this_process_keeps_its_own(folder):
    edit(folder / "one.py", "# work", "import os\nPath('cores').write_text(str(len(os.sched_getaffinity(0))))")
    cores = os.sched_getaffinity(0)
    reproduce([folder / "one.py"], Path("out"), jobs=8)
    (finding,) = found([folder / "one.py"], Path("out"))
    assert Path("cores").read_text() == str(len(cores))
    assert re.match(rf"{len(cores)} cores?, seqjax", finding.made_with)
    assert os.sched_getaffinity(0) == cores


@pytest.mark.parametrize("jobs", [1, 2])
def test_all_failures_are_reported_with_the_exit_code_of_the_first_and_the_others_run(folder, jobs):
    for name in ("bad", "worse"):
        Path(folder, f"{name}.py").write_text(f'"""Is it?   python {name}.py --n \'n"""')
    edit(folder / "one.py", "# work", "import sys; print('seqjax: no luck', file=sys.stderr); sys.exit(3)")
    scripts = [folder / "one.py", *sorted(folder.glob("[!o]*.py"))]
    with pytest.raises(
        Error, match=r"(?s)one.py ended with 3: seqjax: no luck.*bad\.py: the command .*worse\.py.*No closing"
    ) as caught:
        reproduce(scripts, Path("out"), jobs)
    assert caught.value.exit_code == 3
    assert [finding.script.stem for finding in found(scripts, Path("out"))] == ["two"]


def test_a_script_that_a_signal_ends_says_which_one(folder):
    edit(folder / "one.py", "# work", "import os; os.kill(os.getpid(), 9)")
    with pytest.raises(Error, match=r"one\.py was ended by signal 9; see out/one/log\.txt$"):
        reproduce([folder / "one.py"], Path("out"))


def test_a_script_without_a_report_is_an_error_each_time(folder):
    (folder / "one.py").write_text("print('nothing')")
    for _ in range(2):
        with pytest.raises(Error, match=r"one\.py left no report: it should end with sj\.script\(main\)"):
            reproduce([folder / "one.py"], Path("out"))


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ('"""Is it so?   python3 a.py"""', r"`python3 a\.py`, does not begin with python"),
        ("def", r"one\.py cannot be read as Python"),
    ],
)
def test_a_command_or_a_script_that_cannot_be_read_is_an_error(folder, script, words):
    (folder / "one.py").write_text(script)
    with pytest.raises(Error, match=words):
        reproduce([folder / "one.py"], Path("out"))


def test_names_that_are_not_scripts_are_errors(folder, capsys):
    assert main(["reproduce", "experiments", "--only", "three"]) == 2
    assert "has no script three (scripts: one, two)" in capsys.readouterr().err
    os.mkdir("empty")
    assert main(["reproduce", "empty"]) == 2
    assert "has no script at all" in capsys.readouterr().err


def test_a_signal_kills_all_scripts(folder):
    """A third script, which waits for its turn, is not started."""
    os.mkfifo("pids")
    for name in ("one", "two"):
        text = "import os, time\nopen('pids', 'w').write(f'{os.getpid()}\\n')\ntime.sleep(600)"
        (folder / f"{name}.py").write_text(text)
    (folder / "zero.py").write_text("import pathlib\npathlib.Path('zero ran').touch()")
    command = [sys.executable, "-m", "seqjax", "reproduce", "experiments", "--jobs", "2"]
    process = subprocess.Popen(
        command,
        env=os.environ | {"PYTHONPATH": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    with open(os.open("pids", os.O_RDWR)) as file:
        pids = [int(file.readline()) for _ in range(2)]
    process.terminate()
    try:
        printed, errors = process.communicate(timeout=600)
    finally:
        process.kill()
    assert process.returncode == 143
    assert b"Traceback" not in errors
    failed = [line for line in printed.decode().splitlines() if line.startswith("failed")]
    assert sorted(line.partition("] ")[2] for line in failed) == [
        f"experiments/{name}.py: interrupted; the same command runs it again" for name in ("one", "two")
    ]
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert not Path("zero ran").exists()


def test_each_event_has_a_line_that_counts(folder, capsys):
    edit(folder / "two.py", "# work", "1 / 0")
    command = ["reproduce", "experiments", "--only", "one,two", "--table", "all.md"]
    assert main(command) == 2
    lines = capsys.readouterr().out.splitlines()
    assert re.sub(r"\d+ s$", "0 s", "\n".join(lines)).splitlines() == [
        "runs     experiments/one.py (prints into reports/one/log.txt)",
        "done     [1/2] reports/one: 1 of 1 as expected, 0 s",
        "runs     experiments/two.py (prints into reports/two/log.txt)",
        "failed   [2/2] experiments/two.py ended with 1: ZeroDivisionError: division by zero; see reports/two/log.txt",
        "saved    all.md",
    ]
    assert "How many?" in Path("all.md").read_text(), "the other script was run, and is on the page"
