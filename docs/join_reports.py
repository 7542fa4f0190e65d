"""Joins the reports of the experiments to docs/chapter.md and to the table of experiments/README.md.

`make reproduce` runs the experiments, then this script. A report whose script has changed since it was run is named.
With `--stale`, the script only prints the commands of the experiments that have no report or a stale one, a line each.
"""

import argparse
import json
import re
import shutil
from pathlib import Path

import seqjax as sj
from seqjax.report import Table

ROOT = Path(__file__).parents[1]
TITLE = "The chapter, reproduced"
IMAGE = re.compile(r"!\[(.*)\]\((.*\.png)\)")


def main() -> None:
    """Joins the reports, or lists what has to be run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scripts", nargs="+", type=Path, help="the experiments")
    parser.add_argument("--reports", type=Path, default=ROOT / "reports", help="the folder of their reports")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="the folder of chapter.md")
    parser.add_argument("--table", type=Path, default=ROOT / "experiments" / "README.md", help="the file of the table")
    parser.add_argument("--stale", action="store_true", help="print what has to be run")
    args = parser.parse_args()
    scripts = {script: sj.Report(script) for script in args.scripts}
    found = {script: results_of(args.reports / script.stem) for script in scripts}
    stale = [script for script in scripts if found[script].get("sha256") != scripts[script].sha256]
    if args.stale:
        print("".join(f"{script.stem} {scripts[script].command}\n" for script in stale), end="")
        return
    known = sorted((script for script in scripts if found[script]), key=lambda script: order(scripts[script].title))
    everything = {"results": [row for script in known for row in found[script]["results"]]}
    minutes = sum(found[script]["seconds"] for script in known) / 60
    machine = "; ".join(dict.fromkeys(found[script]["made_with"] for script in known))
    summary = (
        f"{as_expected(everything)} results are as expected (with several seeds, the median counts). The scripts took "
        f"{minutes:.0f} minutes together, on {machine}."
    )
    if stale:
        summary += f" Not run since they were changed: {', '.join(script.stem for script in stale)}."
        print(f"stale    {' '.join(map(str, stale))}")
    (args.docs / "chapter").mkdir(exist_ok=True)
    parts = [section(scripts[script], args.reports / script.stem, args.docs / "chapter") for script in known]
    (args.docs / "chapter.md").write_text("\n\n".join([f"# {TITLE}", summary, *parts]) + "\n", "utf-8")
    table = Table(
        ("question", "command", "results as expected", "minutes"),
        [
            (scripts[script].title, scripts[script].command, as_expected(found[script]), found[script]["seconds"] / 60)
            for script in known
        ],
        digits=2,
    )
    args.table.write_text(f"# {TITLE}\n\n{summary}\n\n{table.to_markdown()}", "utf-8")


def results_of(folder: Path) -> dict:
    """The results of a report; empty if there is no report."""
    file = folder / "results.json"
    return json.loads(file.read_text("utf-8")) if file.is_file() else {}


def as_expected(report: dict) -> str:
    """How many results of those of which something is expected are as expected, such as "5 of 6"."""
    met = [row["met"] for row in report["results"] if row["met"]]
    return f"{met.count('yes')} of {len(met)}"


def order(title: str) -> tuple[bool, list[int], str]:
    """The key by which reports are sorted: the first section that the title names, as in "... (8.5, 8.6)"."""
    named = re.search(r"\((\d+)\.(\d+)", title)
    return named is None, [int(number) for number in named.groups()] if named else [], title


def section(report: sj.Report, folder: Path, figures: Path) -> str:
    """A report under the present docstring of its script, with headings one level lower; its figures are copied."""
    _, *parts = (folder / "report.md").read_text("utf-8").partition("\n## ")
    text = report.to_markdown() + "".join(parts)
    for _, name in IMAGE.findall(text):
        shutil.copyfile(folder / name, figures / f"{folder.name}-{name}")
    text = IMAGE.sub(rf"![\1](chapter/{folder.name}-\2)", text)
    lines = [line for line in text.splitlines() if not line.startswith(("In full: ", "Also: "))]
    lower = [f"#{line}" if line.startswith("#") else line for line in lines]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lower)).strip()


if __name__ == "__main__":
    main()
