"""Input that nobody expects: changed files of runs, odd configs, odd command lines, each in a process of its own.

No case may end in a traceback, a signal or a hang, with an exit code that is not documented or is not the right one,
unpickle anything, print a control character, or change a file that it must not change.
"""

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from faults.children import UNPICKLED, import_all, in_new_process, outcomes
from faults.part import Part, control_character, part

CODES = (0, 2, 3, 4, 5, 6)
"""The documented exit codes of commands that no signal ends."""
SORTS = {
    "changed": ("a changed file of a run, and a verb", 1000, 16),
    "signed": ("the same, with hashes that are right", 600, 4),
    "config": ("a config with odd values", 300, 8),
    "line": ("a command line with odd values", 600, 12),
}
"""Sort of case -> what it is, and the number of cases: all, and those of the quick part."""
RUNS = ("rnn", "ngram", "series", "sweep of two", "local plugin", "diverges", "keep best, stop after")
"""The kinds of run whose files are changed."""
WRITTEN = re.compile(r"(^|/)(\.lock|tracking|tensorboard|runs|events\.[^/]*)($|/)|^(made/|figure)")
"""The files that a command may make or change although it fails, or although it only reads a run."""


class Case(NamedTuple):
    """A case.

    Args:
        sort: one of `SORTS`.
        words: the command line.
        runs: the runs that it needs.
        file: the file that is changed, below the folder of the case; empty: none.
        change: the change of the file.
        text: the text of the config `odd.toml`.
    """

    sort: str
    words: list[str]
    runs: list[str]
    file: str = ""
    change: Any = None
    text: str = ""

    def __str__(self) -> str:
        where = f"{self.file}: {self.change.what}; " if self.file else f"{self.text!r:.200}; " if self.text else ""
        return f"{self.sort}: {where}seqjax {' '.join(word[:80] for word in self.words)!r}"


def parts(quick: bool) -> Iterator[Part]:
    """All cases; quick: a few of them. They are forked from a new process, in which JAX has not started."""
    yield from in_new_process(_parts, quick)


def _parts(quick):
    """The parts, in a process that has not imported jax."""
    root = Path(tempfile.mkdtemp(prefix="fuzz"))
    os.environ |= {"JAX_NUM_CPU_DEVICES": "1", "HF_HUB_OFFLINE": "1"}
    import_all()
    try:
        made = root / "made"
        commands = make_runs(made, quick)
        found: dict[str, list[str | None]] = {sort: [] for sort in SORTS}
        cases = [case for sort in SORTS for case in draw_cases(sort, SORTS[sort][2 if quick else 1], made, commands)]
        for case, problem in _try(cases, made, root / "cases"):
            found[case.sort].append(problem and f"{case}: {problem}")
        return [part(SORTS[sort][0], found[sort]) for sort in SORTS]
    finally:
        shutil.rmtree(root)


def make_runs(made: Path, quick: bool) -> dict[str, list[str]]:
    """Makes runs in a folder. Returns their names, and the command that makes each, and opens it again."""
    from support.crash import forget_results

    from faults.kinds import BY_NAME, OF_TEXT, RNN, make_data, of_series
    from seqjax.cli import main

    make_data(BY_NAME["rnn"], made)
    words = {name: BY_NAME[name].words for name in RUNS if not quick or name == "rnn"}
    if not quick:
        flags = ("--tokenizer", "bpe:vocab-size=260", "--optimizer", "adam", "--metrics", "accuracy")
        words["byte pairs"] = (*RNN, *flags)
        words["pairs"] = ("run", "--dataset", "add", *OF_TEXT[5:], "--model.hidden", "3")
        words["tracked"] = (*RNN, "--tracker", "tensorboard")
    commands = {name: [word.replace("DATA/", "") for word in found] for name, found in words.items()}
    works = {name: lambda name=name: main([*commands[name], "--out", name]) for name in words}
    if not quick:
        works["memory"] = lambda: of_series(made).run("memory") and 0
        commands["memory"] = []
    for name, outcome in outcomes((name, made, works[name]) for name in works):
        assert outcome.code == (3 if name == "diverges" else 0), (name, outcome)
    shutil.copytree(made / "rnn", made / "unfinished")
    forget_results(made / "unfinished")
    return {**commands, "unfinished": commands["rnn"]}


def draw_cases(sort: str, count: int, made: Path, commands: dict[str, list[str]]) -> list[Case]:
    """Cases that hypothesis draws, the same ones each time."""
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import strategies as st

    found: list[Case] = []
    make = {"config": _config, "line": _line}.get(sort, _changed)

    same = {"derandomize": True, "database": None, "phases": [Phase.generate]}

    @settings(max_examples=count, deadline=None, suppress_health_check=[*HealthCheck], **same)
    @given(st.data())
    def draw(data):
        found.append(make(data.draw, sort, made, commands))

    draw()
    return found[:count]


def _changed(draw: Callable, sort: str, made: Path, commands: dict[str, list[str]]) -> Case:
    """A changed file of a run, and a verb that reads the run."""
    from hypothesis import strategies as st

    from faults.changes import changes

    run = draw(st.sampled_from([*commands]))
    files = sorted(file for file in (made / run).rglob("*") if file.is_file() and file.suffix != ".png")
    # Those with a structure are drawn more often.
    often = [file for file in files if file.suffix in (".json", ".toml", ".jsonl") for _ in range(2)]
    file = draw(st.sampled_from([*files, *often]))
    name = str(file.relative_to(made))
    words = draw(st.sampled_from(_verbs(run, file.parent.name, commands[run])))
    return Case(sort, words, [run], name, draw(changes(name, file.read_bytes())))


def _verbs(run: str, inner: str, command: list[str]) -> list[list[str]]:
    """The command lines that read a run, or the run in a folder of a sweep."""
    from faults.kinds import RNN

    one = f"{run}/{inner}" if command[:1] == ["sweep"] and inner != run else run
    found = [
        *[[*command, "--out", run]] * (4 if command else 0),
        *[["evaluate", one, "--part", "heldout"], ["evaluate", one, "--text", "text.txt"]] * 2,
        ["evaluate", one, "--which", "best"],
        *[["generate", one, "--length", "5", "--temperature", "1"]] * 2,
        *[["compare", run], ["status", run], ["verify", one]] * 2,
        ["compare", run, "--figure", "figure.svg"],
        [*(word.replace("DATA/", "") for word in RNN), "--init-from", one, "--dry-run"],
        *[["run", "--config", f"{one}/config.toml", flag] for flag in ("--dry-run", "--print-config", "--help")],
    ]
    loads = ["--load", "halves.py"] if "halves" in command else []
    return [words if "--load" in words else [*words, *loads] for words in found]


def _config(draw: Callable, sort: str, made: Path, commands: dict[str, list[str]]) -> Case:
    from hypothesis import strategies as st

    from faults.lines import configs

    of_text = commands["rnn"][1:]
    flags = draw(st.sampled_from([[], of_text[:4], of_text, ["--model.hidden", "3", "--heldout", "text-file:path=x"]]))
    flags = [*flags, draw(st.sampled_from(["--dry-run", "--dry-run", "--print-config", "--help"]))]
    return Case(sort, ["run", "--config", "odd.toml", *flags], [], text=draw(configs()))


def _line(draw: Callable, sort: str, made: Path, commands: dict[str, list[str]]) -> Case:
    from faults.lines import lines

    words = draw(lines([*commands]))
    return Case(sort, words, [run for run in commands if run in words])


def _try(cases: list[Case], made: Path, folder: Path) -> Iterator[tuple[Case, str | None]]:
    """Each case with its problem; None if it held."""
    from seqjax.cli import main

    before: dict[int, dict[str, Any]] = {}
    changed: dict[int, Case] = {}

    def tasks():
        for n, case in enumerate(cases):
            place = folder / str(n)
            changed[n] = _make(case, made, place)
            before[n] = _contents(place)
            yield n, place, lambda case=case: main(case.words)

    for n, outcome in outcomes(tasks()):
        place = folder / str(n)
        yield cases[n], problem_of(changed.pop(n), outcome, before.pop(n), _contents(place))
        shutil.rmtree(place)


def _make(case: Case, made: Path, place: Path) -> Case:
    """Makes the folder of a case. Returns the case, without its change if this changes nothing."""
    from faults.changes import sign
    from faults.lines import make_files

    place.mkdir(parents=True)
    for name in ("text.txt", "halves.py"):
        shutil.copy(made / name, place)
    (place / "elsewhere").write_text("mine")
    for run in case.runs:
        shutil.copytree(made / run, place / run, symlinks=True)
    if case.sort == "line":
        make_files(place)
    if case.text:
        (place / "odd.toml").write_text(case.text)
    if case.file:
        file = place / case.file
        case.change.make(file)
        if case.sort == "signed":
            inner = ("checkpoints", "plugins", "tracking")
            with contextlib.suppress(Exception):  # a sweep has no manifest, and a changed file may be none that is read
                sign(file.parents[1] if file.parent.name in inner else file.parent)
        if case.change.keeps_file and case.sort == "changed":
            is_same = file.read_bytes() == (made / case.file).read_bytes()
            return case._replace(change=None) if is_same else case
    return case


def _contents(place: Path) -> dict[str, Any]:
    """What is in a folder: the hash of each file, the target of each link, and what else there is."""
    found: dict[str, Any] = {}
    for base, folders, files in os.walk(place):
        for name in (*folders, *files):
            path = Path(base, name)
            key = str(path.relative_to(place))
            if path.is_symlink():
                found[key] = os.readlink(path)
            elif path.is_file() and path.stat().st_size < 2**30:
                found[key] = hashlib.sha256(path.read_bytes()).hexdigest()
            elif not path.is_dir():
                found[key] = oct(path.lstat().st_mode)
    return found


def problem_of(case: Case, outcome: Any, before: dict[str, Any], after: dict[str, Any]) -> str | None:
    """What does not hold; None if all does."""
    last = outcome.err.strip().rpartition("\n")[2][:300]
    if outcome.hung:
        return "it hangs"
    if outcome.code == UNPICKLED:
        return "it unpickles"
    if "Traceback (most recent" in outcome.err + outcome.out or "a fault of seqjax" in outcome.err:
        return f"a traceback: {last if 'Traceback' in outcome.err else outcome.err[:400]}"
    if outcome.code not in CODES:
        return f"exit code {outcome.code}: {last}"
    if outcome.code and "seqjax: " not in outcome.err:
        return f"exit code {outcome.code} without a message"
    if raw := control_character(outcome.out + outcome.err):
        return f"it prints a control character: {raw}"
    expected = _expected(case)
    if expected and outcome.code not in expected:
        return f"exit code {outcome.code} in place of {' or '.join(map(str, expected))}: {last}"
    # With exit code 3, a run that has diverged was trained again.
    is_writing = case.words[0] in ("run", "sweep") and "--dry-run" not in case.words and outcome.code in (0, 3)
    changed = [name for name in before if after.get(name) != before[name] and not WRITTEN.search(name)]
    if is_writing:
        changed = [name for name in changed if not any(name.startswith(f"{run}/") for run in case.runs)]
    return f"it changed {', '.join(changed)} (exit code {outcome.code})" if changed else None


def _expected(case: Case) -> tuple[int, ...]:
    """The exit codes that a case may have; (): any of `CODES`."""
    words = case.words
    if words[:1] == ["--version"]:  # it loads nothing
        return ()
    if case.sort == "line" and "--load" in words and {*words} & {"raises.py", "exits.py", "evil.py", "syntax.py"}:
        return (2,)
    if case.sort != "changed" or case.change is None or words[0] == "status" or "--config" in words:
        return ()
    name, parts = os.path.basename(case.file), case.file.split("/")
    is_checked = not {"checkpoints", "tracking", "sweep of two"} & {*parts}
    is_checked &= name in ("config.toml", "codec.json", "environment.json", "params.safetensors", "best.safetensors")
    if not is_checked:
        return ()
    return (2, 4, 6) if name == "config.toml" and not case.change.keeps_file else (4, 6)
