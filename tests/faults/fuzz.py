"""Input that nobody expects: changed files of runs, odd configs, odd command lines, each in a process of its own.

No case may end in a traceback, a signal or a hang, with an exit code that is not documented or is not the right one,
unpickle anything, or change a file that it must not change.
"""

import contextlib
import hashlib
import importlib
import itertools
import multiprocessing
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from faults.part import Part, part

CODES = (0, 2, 3, 4, 5, 6)
"""The documented exit codes of commands that no signal ends."""
COUNTS = {"changed": 900, "adopted": 350, "signed": 350, "config": 300, "line": 600}
"""The number of cases of each sort."""
QUICK = {"changed": 12, "adopted": 4, "signed": 4, "config": 8, "line": 12}
SORTS = {
    "changed": "a changed file of a run, and a verb",
    "adopted": "the same, adopted first",
    "signed": "the same, with hashes that are right",
    "config": "a config with odd values",
    "line": "a command line with odd values",
}


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
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        yield from pool.submit(_parts, quick).result()


def _parts(quick):
    """The parts, in a process that has not imported jax."""
    root = Path(tempfile.mkdtemp(prefix="fuzz"))
    os.environ |= {
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": "1",
        "JAX_COMPILATION_CACHE_DIR": f"{root}/compiled",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "XDG_CACHE_HOME": f"{root}/user",
        "HF_HUB_OFFLINE": "1",
    }
    _import_all()
    from faults.made import make_runs

    try:
        made = root / "made"
        made.mkdir()
        runs = make_runs(made, quick)
        counts = QUICK if quick else COUNTS
        found: dict[str, list[str | None]] = {sort: [] for sort in counts}
        cases = [case for sort in counts for case in _draw(sort, counts[sort], made, runs)]
        for case, problem in _try(cases, made, root / "cases"):
            found[case.sort].append(problem and f"{case}: {problem}")
        return [part(SORTS[sort], found[sort]) for sort in counts]
    finally:
        shutil.rmtree(root)


def _import_all():
    """Imports what commands import, so that no child has to."""
    from seqjax.cli.command import VERBS
    from seqjax.plugin import registry

    for verb in VERBS:
        importlib.import_module(f"seqjax.cli.{verb}")
    for name in ("matplotlib.pyplot", "seqjax.runs.sweep", "seqjax.diagnostics", "seqjax.cli.dry_run", "tensorboardX"):
        importlib.import_module(name)
    for name in (
        "seqjax.sweeps.page",
        "seqjax.training.join",
        "seqjax.testing.check",
        "tokenizers",
        "seqjax.runs.adopt",
    ):
        importlib.import_module(name)
    for kind in registry.GROUPS:
        for entry in registry.entries(kind):
            registry.load(entry)


def _draw(sort: str, count: int, made: Path, runs: list[str]) -> list[Case]:
    """Cases that hypothesis draws, the same ones each time."""
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import strategies as st

    found: list[Case] = []
    make = {"config": _config, "line": _line}.get(sort, _changed)

    @settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=[*HealthCheck],
    )
    @given(st.data())
    def draw(data):
        found.append(make(data.draw, sort, made, runs))

    draw()
    return found[:count]


def _changed(draw: Callable, sort: str, made: Path, runs: list[str]) -> Case:
    """A changed file of a run, and a verb that reads the run."""
    from hypothesis import strategies as st

    from faults.changes import changes

    run = draw(st.sampled_from(runs))
    files = sorted(file for file in (made / run).rglob("*") if file.is_file() and file.suffix != ".png")
    # Those with a structure are drawn more often.
    often = [file for file in files if file.suffix in (".json", ".toml", ".jsonl") for _ in range(2)]
    file = draw(st.sampled_from([*files, *often]))
    name = str(file.relative_to(made))
    words = draw(st.sampled_from(_verbs(run, file.parent.name)))
    return Case(sort, words, [run], name, draw(changes(name, file.read_bytes())))


def _verbs(run: str, inner: str) -> list[list[str]]:
    """The command lines that read a run, or the run in a folder of a sweep."""
    from faults.made import COMMANDS, OF_TEXT
    from seqjax.cli.command import VERBS

    one = f"{run}/{inner}" if run == "sweep" and inner != "sweep" else run
    again = {"unfinished": ["run", *OF_TEXT], "memory": ["evaluate", one]}.get(run) or COMMANDS[run]
    found = [
        *[[*again, *([] if run == "memory" else ["--out", run])]] * 4,
        *[["evaluate", one, "--part", "heldout"], ["evaluate", one, "--text", "text.txt"]] * 2,
        ["evaluate", one, "--which", "best"],
        *[["generate", one, "--length", "5", "--temperature", "1"]] * 2,
        *[["compare", run], ["compare", run, "--page", "page.html"], ["status", run]] * 2,
        ["compare", run, "--figure", "figure.svg"],
        ["lags", one, "--max-lag", "2", "--steps", "4", "--rows", "2"],
        ["measure", one, "--draws", "2", "--windows", "1"],
        ["track", run, "--to", "tensorboard"],
        *[["adopt", one], ["verify", one]] * 2,
        ["run", *OF_TEXT, "--init-from", one, "--dry-run"],
        *[["run", "--config", f"{one}/config.toml", flag] for flag in ("--dry-run", "--print-config", "--help")],
    ]
    found = [words for words in found if words[0] in VERBS]
    return [[*words, "--load", "halves.py"] if run == "halves" and "--load" not in words else words for words in found]


def _config(draw: Callable, sort: str, made: Path, runs: list[str]) -> Case:
    from hypothesis import strategies as st

    from faults.lines import configs
    from faults.made import OF_TEXT

    flags = draw(st.sampled_from([[], OF_TEXT[:4], OF_TEXT, ["--model.hidden", "3", "--heldout", "text-file:path=x"]]))
    flags = [*flags, draw(st.sampled_from(["--dry-run", "--dry-run", "--print-config", "--help"]))]
    return Case(sort, ["run", "--config", "odd.toml", *flags], [], text=draw(configs()))


def _line(draw: Callable, sort: str, made: Path, runs: list[str]) -> Case:
    from faults.lines import configs, lines

    words = draw(lines(runs))
    return Case(sort, words, [run for run in runs if run in words], text=draw(configs()) if "odd.toml" in words else "")


def _try(cases: list[Case], made: Path, folder: Path) -> Iterator[tuple[Case, str | None]]:
    """Each case with its problem; None if it held."""
    from faults.children import outcomes

    before: dict[int, dict[str, Any]] = {}
    changed: dict[int, Case] = {}

    def tasks():
        for n, case in enumerate(cases):
            place = folder / str(n)
            changed[n] = _make(case, made, place)
            before[n] = _contents(place)
            yield n, place, lambda case=case: _carry_out(case)

    for n, outcome in outcomes(tasks()):
        place = folder / str(n)
        yield cases[n], _problem(changed.pop(n), outcome, before.pop(n), _contents(place))
        shutil.rmtree(place)


def _make(case: Case, made: Path, place: Path) -> Case:
    """Makes the folder of a case. Returns the case, without its change if this changes nothing."""
    from faults.changes import copy
    from faults.lines import make_files

    place.mkdir(parents=True)
    for name in ("text.txt", "halves.py"):
        shutil.copy(made / name, place)
    (place / "elsewhere").write_text("mine")
    for run in case.runs:
        copy(made / run, place / run)
    if case.sort == "line":
        make_files(place)
    if case.text:
        (place / "odd.toml").write_text(case.text)
    if case.file:
        kept = _binding(place / case.runs[0])
        case.change.make(place / case.file)
        # A folder has no hash, and reading a pipe would wait for ever.
        if case.sort == "signed" and case.change.keeps_file:
            with contextlib.suppress(
                Exception
            ):  # a sweep has no hashes, and a changed file may have no form that has one
                sign(place / case.file, kept)
        if case.change.keeps_file and case.sort == "changed":
            is_same = (place / case.file).read_bytes() == (made / case.file).read_bytes()
            return case._replace(change=None) if is_same else case
    return case


def _carry_out(case: Case) -> int:
    from seqjax.cli import main

    if case.sort == "adopted":
        code = main(["adopt", str(_run_of(Path(case.file)))])
        if code:
            return code
    return main(case.words)


def _binding(run: Path) -> Any:
    """The binding of a run before it is changed."""
    from seqjax.runs.binding import binding

    from seqjax import Error

    try:
        return binding(run)
    except Error:  # a sweep
        return None


def _run_of(file: Path) -> Path:
    """The folder of the run to which a file belongs."""
    return file.parent.parent if file.parent.name in ("checkpoints", "plugins", "tracking") else file.parent


def sign(file: Path, kept: Any) -> None:
    """Gives the files of a run hashes that are right after one of them was changed, as somebody could on purpose."""
    from seqjax.runs import folder, rows
    from seqjax.runs.files.manifest import Manifest, write_manifest

    run = _run_of(file)
    if file.parent.name == folder.CHECKPOINTS:
        sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
        file.rename(file.with_name(f"{file.name[:11]}{sha256}.safetensors"))
    chained, before = [], rows.first_hash(run)
    for line in (run / folder.METRICS).read_bytes().splitlines():
        text = re.sub(rb', "hash": "[0-9a-f]{16}"\}$', b"", line)
        before = rows._hash(text, before)
        chained.append(text + rows._tail(before) + b"\n")
    (run / folder.METRICS).write_bytes(b"".join(chained))
    if file.name == folder.MANIFEST:
        return
    names = [each for each in run.iterdir() if each.is_file() and each.name not in (folder.LOCK, folder.MANIFEST)]
    hashes = {each.name: [hashlib.sha256(each.read_bytes()).hexdigest()] for each in names}
    write_manifest(run, Manifest(hashes, [], [kept] if kept else []))


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


WRITTEN = re.compile(r"(^|/)(\.lock|lags\.png|tracking|tensorboard|runs|events\.[^/]*)($|/)|^(made/|page|figure)")
"""The files that a command may make or change although it fails, or although it only reads a run."""


def _problem(case: Case, outcome: Any, before: dict[str, Any], after: dict[str, Any]) -> str | None:
    """What does not hold; None if all does."""
    from faults.children import UNPICKLED

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
    expected = _expected(case)
    if expected and outcome.code not in expected:
        return f"exit code {outcome.code} in place of {' or '.join(map(str, expected))}: {last}"
    # With exit code 3, a run that has diverged was trained again.
    is_writing = case.words[0] in ("run", "sweep") and "--dry-run" not in case.words and outcome.code in (0, 3)
    changed = [name for name in before if after.get(name) != before[name] and not WRITTEN.search(name)]
    if case.sort == "adopted" or case.words[0] == "adopt":
        changed = [name for name in changed if not name.endswith(("manifest.json", "metrics.jsonl"))]
    if is_writing:
        changed = [name for name in changed if not any(name.startswith(f"{run}/") for run in case.runs)]
    return f"it changed {', '.join(changed)} (exit code {outcome.code})" if changed else None


def _fails(words: list[str]) -> bool:
    """Whether a file that is loaded fails, or the plugin in it fails when it is used."""
    from faults.lines import KIND_OF, PLUGINS

    pairs = {*itertools.pairwise(words)}
    loaded = {value for flag, value in pairs if flag == "--load"} & {*PLUGINS}
    if any(not name.startswith("bad_") for name in loaded):
        return True
    used = {KIND_OF[name.removeprefix("bad_").removesuffix(".py")] for name in loaded}
    is_used = not {"--help", "--print-config"} & {*words}
    return is_used and any((f"--{kind}", "bad") in pairs for kind in used)


def _expected(case: Case) -> tuple[int, ...]:
    """The exit codes that a case may have; (): any of `CODES`."""
    words = case.words
    if case.sort == "line" and words[0] in ("run", "sweep") and _fails(words):
        return (2,)
    if case.sort != "changed" or case.change is None or words[0] == "status" or "--config" in words:
        return ()
    name = case.file.rpartition("/")[2]
    parts = case.file.split("/")
    is_checked = "checkpoints" not in parts and "tracking" not in parts and "sweep" not in parts
    is_checked &= name in ("config.toml", "codec.json", "environment.json", "params.safetensors", "best.safetensors")
    if not is_checked or words[0] == "adopt":
        return ()
    return (2, 4, 6) if name == "config.toml" and not case.change.keeps_file else (4, 6)
