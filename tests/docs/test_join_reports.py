"""The reports of scripts are joined to one page and one table, and those whose script has changed are named."""

import subprocess
import sys
from pathlib import Path

import pytest

import seqjax as sj

JOIN = Path(__file__).parents[2] / "docs" / "join_reports.py"
SCRIPT = '''"""Is {name} so? ({section})   python {name}.py --n 2

Perhaps.
"""
'''


@pytest.fixture
def folder(tmp_path):
    """Two scripts, of which the first belongs to the later section; both have a report."""
    for name in ("docs", "reports"):
        (tmp_path / name).mkdir()
    for name, section, got in (("a", "8.10", 3), ("b", "8.2", 4)):
        (tmp_path / f"{name}.py").write_text(SCRIPT.format(name=name, section=section))
        report = sj.Report(tmp_path / f"{name}.py")
        report.row("x", got, 3)
        report.figure("curve", sj.plot.lines({"x": [1.0, 2.0]}))
        report.seconds = 90.0
        report.save(tmp_path / "reports" / name)
    return tmp_path


def join(folder, *flags):
    command = [sys.executable, JOIN, "a.py", "b.py", "--reports", "reports", "--docs", "docs", "--table", "table.md"]
    return subprocess.run([*command, *flags], cwd=folder, capture_output=True, text=True, check=True).stdout


def test_the_reports_are_joined_by_their_sections(folder):
    assert join(folder) == join(folder, "--stale") == ""
    page = (folder / "docs" / "chapter.md").read_text("utf-8")
    assert "\n\n1 of 2 results are as expected" in page
    assert "took 3 minutes together" in page
    begin = "## Is b so? (8.2)\n\n    python b.py --n 2\n\nPerhaps.\n\n### results\n\n| what | got | expected | met |\n"
    assert page.index(begin) < page.index("## Is a so? (8.10)")
    assert "\n### curve\n\n![curve](chapter/b-curve.png)\n" in page
    assert "csv" not in page
    assert (folder / "docs" / "chapter" / "b-curve.png").is_file()
    assert "\n| Is b so? (8.2) | python b.py --n 2 | 0 of 1 | 1.5 |\n" in (folder / "table.md").read_text("utf-8")


def test_a_report_whose_script_has_changed_is_stale_and_its_present_words_are_shown(folder):
    file = folder / "a.py"
    file.write_text(file.read_text().replace("Perhaps.", "Yes."))
    assert join(folder) == ""
    assert "\nYes.\n" in (folder / "docs" / "chapter.md").read_text("utf-8")
    file.write_text(file.read_text() + "x = 1\n")
    assert join(folder, "--stale") == "a python a.py --n 2\n"
    assert join(folder) == "stale    a.py\n"
    assert "Not run since they were changed: a." in (folder / "docs" / "chapter.md").read_text("utf-8")
