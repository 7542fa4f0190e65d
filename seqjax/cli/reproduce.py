"""`seqjax reproduce`: runs the scripts of a folder, and writes the pages with their reports."""

import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from seqjax.cli.parser import Parser
from seqjax.errors import Error

DESCRIPTION = """Run all scripts of a folder that return a report, each in its own process and with the flags of the
command in its docstring. With --page, --markdown or --table, also write their reports to one file. A script is run
again if its code or these flags have changed; the rest of its docstring may change. If something else has changed, such
as seqjax, remove the folder of the report first. A page shows all scripts that were run, and names the others."""


def main(argv: Sequence[str]) -> int:
    """Runs the scripts that are new or have changed, and writes the requested pages."""
    parser = Parser(prog="seqjax reproduce", description=DESCRIPTION)
    parser.add_argument("folder", metavar="FOLDER", help="the folder of the scripts, which end with sj.script(main)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="run only these scripts; default: all")
    parser.add_argument("--out", default="reports", metavar="DIR", help="folder of the reports; default: reports")
    text = "number of scripts that run at a time, each on its share of the cores; default: 1"
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help=text)
    parser.add_argument("--title", default="What the experiments found", help="the title of the pages")
    parser.add_argument("--markdown", metavar="FILE", help="all reports as one Markdown file, with figures beside it")
    parser.add_argument("--page", metavar="FILE", help="all reports as one HTML page that needs no other file")
    parser.add_argument("--table", metavar="FILE", help="a table of all results, as Markdown")
    args = parser.read(argv)
    scripts = {file.stem: file for file in sorted(Path(args.folder).glob("*.py"))}
    names = args.only or list(scripts)
    missing = [name for name in names if name not in scripts]
    if missing or not scripts:
        known = ", ".join(scripts) or "none"
        raise Error(f"{args.folder} has no script {', '.join(missing) or 'at all'} (scripts: {known})")

    from seqjax.files import write
    from seqjax.report import page
    from seqjax.report.finding import found
    from seqjax.report.reproduce import reproduce

    failed = None
    # SIGTERM raises an exception, as Ctrl-C does, so that running scripts are killed; the exit code is 143.
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        reproduce([scripts[name] for name in names], Path(args.out), args.jobs)
    except Error as fault:
        failed = fault
    finally:
        signal.signal(signal.SIGTERM, before)
    findings = sorted(found(scripts.values(), Path(args.out)), key=page.order)
    missing = sorted(scripts.keys() - {finding.script.stem for finding in findings})
    if findings:
        if args.markdown:
            page.write_markdown(findings, Path(args.markdown), args.title, missing)
        if args.page:
            page.write_html(findings, Path(args.page), args.title, missing)
        if args.table:
            parts = f"# {args.title}", page.conclusion(findings, missing), page.summary(findings).to_markdown()
            write(Path(args.table), "\n\n".join(parts))
        for file in filter(None, (args.markdown, args.page, args.table)):
            print(f"saved    {file}")
    if failed:
        raise failed
    return 0
