"""`seqjax reproduce`: trains a run again, or runs the scripts of a folder and writes the pages with their reports."""

from collections.abc import Sequence
from pathlib import Path

from seqjax.cli.parser import Parser, whole
from seqjax.errors import Error
from seqjax.terminal.shell import program
from seqjax.terminal.stream import line

DESCRIPTION = """Given the folder of a run: train it again from its config in another folder, and say whether the
results are bitwise equal, equal within tolerance, or different. The exit code is 4 if they are different.

Given a folder of scripts: run all that return a report, each in its own process and with the flags of the command in
its docstring. With --page, --markdown or --table, also write their reports to one file. A script is run again if its
code or these flags have changed; the rest of its docstring may change. If something else has changed, such as seqjax,
remove the folder of the report first. A page shows all scripts that were run, and names the others."""

OF_SCRIPTS = ("only", "jobs", "title", "markdown", "page", "table")
"""The flags for a folder of scripts alone."""


def main(argv: Sequence[str]) -> int:
    """Runs the scripts that are new or have changed, and writes the requested pages."""
    parser = Parser(prog=f"{program()} reproduce", description=DESCRIPTION)
    text = "the folder of a run, or a folder of scripts, which end with sj.script(main)"
    parser.add_argument("folder", metavar="FOLDER", help=text)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="run only these scripts: a b, or a,b; default: all")
    text = "folder of the reports; default: reports; of the run that is trained again; default: one that is removed"
    parser.add_argument("--out", metavar="DIR", help=text)
    text = "number of scripts that run at a time, each on its share of the cores; default: 1"
    parser.add_argument("--jobs", type=whole, default=1, metavar="N", help=text)
    parser.add_argument("--title", default="What the experiments found", help="the title of the pages")
    parser.add_argument("--markdown", metavar="FILE", help="all reports as one Markdown file, with figures beside it")
    parser.add_argument("--page", metavar="FILE", help="all reports as one HTML page that needs no other file")
    parser.add_argument("--table", metavar="FILE", help="a table of all results, as Markdown")
    args = parser.read(argv)
    from seqjax.runs.files.folder import INDEX, is_run

    if (Path(args.folder) / INDEX).is_file() or is_run(Path(args.folder)):
        given = [f"--{name}" for name in OF_SCRIPTS if getattr(args, name) != parser.get_default(name)]
        if given:
            raise Error(f"{args.folder} holds a run, and {', '.join(given)} are for folders of scripts: leave them out")
        from seqjax.cli.reproduce_run import reproduce_run

        return reproduce_run(args, argv)
    args.out = args.out or "reports"
    scripts = {file.stem: file for file in sorted(Path(args.folder).glob("*.py")) if file.is_file()}
    names = [name for text in args.only or scripts for name in text.split(",")]
    missing = [name for name in names if name not in scripts]
    if missing or not scripts:
        known = ", ".join(scripts) or "none"
        raise Error(f"{args.folder} has no script {', '.join(missing) or 'at all'} (scripts: {known})")

    from seqjax.files import check_replaceable, replace
    from seqjax.report.finding import found
    from seqjax.report.page.findings import MARK_MARKDOWN, conclusion, order, summary, write_html, write_markdown
    from seqjax.report.page.template import MARK
    from seqjax.report.reproduce import reproduce
    from seqjax.report.table import markdown

    marks = {args.markdown: MARK_MARKDOWN, args.page: MARK, args.table: MARK_MARKDOWN}
    for name, mark in marks.items():
        if name:
            check_replaceable(Path(name), mark)
    failed = None
    try:
        reproduce([scripts[name] for name in names], Path(args.out), args.jobs)
    except Error as fault:
        failed = fault
    findings = sorted(found(scripts.values(), Path(args.out)), key=order)
    missing = sorted(scripts.keys() - {finding.script.stem for finding in findings})
    if findings:
        if args.markdown:
            write_markdown(findings, Path(args.markdown), args.title, missing)
        if args.page:
            write_html(findings, Path(args.page), args.title, missing)
        if args.table:
            parts = [f"# {markdown(args.title)}", MARK_MARKDOWN.decode(), markdown(conclusion(findings, missing))]
            text = "\n\n".join([*parts, summary(findings).to_markdown()])
            replace(Path(args.table), text.encode(), MARK_MARKDOWN)
        for file in filter(None, (args.markdown, args.page, args.table)):
            line("saved", file)
    if failed:
        raise failed
    return 0
