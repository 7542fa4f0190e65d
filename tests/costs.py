"""What the tests cost by folder: seconds, and XLA programs, whose number `make test` bounds by that of programs.toml.

The number of programs does not depend on the machine, nor on what is in the cache of compiled programs: a program that
is read from it counts too. A program that several tests use is counted once in each worker, in the folder that uses it
first there, so that the number of a folder varies a little with the order of the tests. Programs of child processes are
not counted.
"""

import tomllib
from collections import Counter
from pathlib import Path

import jax
import pytest

LIMITS = Path(__file__).with_name("programs.toml")
COMPILED = "/jax/core/compile/backend_compile_duration"
FAILED = pytest.StashKey[list[str]]()

programs: Counter[str] = Counter()
"""By folder: those of this process, and those of its workers that have ended."""
folder = ["imports"]
"""The folder of the test that runs."""


def folder_of(nodeid: str) -> str:
    """tests/models for all tests below it, and tests for the files that are in no other folder."""
    return "/".join(nodeid.partition("::")[0].split("/")[:-1][:2])


def count(event: str, _: float, **__: object) -> None:
    programs[folder[0]] += event == COMPILED


def pytest_addoption(parser):
    parser.addoption("--limit-programs", action="store_true", help=f"fail if there are more than {LIMITS.name} says")


def pytest_configure(config):
    jax.monitoring.register_event_duration_secs_listener(count)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    folder[0] = folder_of(item.nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    programs.update(getattr(node, "workeroutput", {}).get("programs", {}))


def too_many(programs: Counter[str], limits: dict[str, int]) -> list[str]:
    """A sentence for each folder with more programs than its limit, which is 0 for a folder without one."""
    return [
        f"{folder}: the number of compiled programs is {number:,}, and {LIMITS.name} allows {limits.get(folder, 0):,}; "
        "compile fewer (compute oracles in numpy, and cases of one shape in one program), or raise the number"
        for folder, number in programs.items()
        if number > limits.get(folder, 0)
    ]


def pytest_sessionfinish(session):
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["programs"] = dict(programs)
    elif session.config.option.limit_programs:
        session.config.stash[FAILED] = too_many(programs, tomllib.loads(LIMITS.read_text()))
        if session.config.stash[FAILED] and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter):
    seconds = Counter()
    for report in (each for reports in terminalreporter.stats.values() for each in reports):
        if hasattr(report, "duration"):
            seconds[folder_of(report.nodeid)] += report.duration
    terminalreporter.section("seconds and compiled programs by folder")
    for each in sorted(seconds | programs, key=lambda each: -seconds[each]):
        terminalreporter.write_line(f"{seconds[each]:6.0f} {programs[each]:6,}  {each}")
    terminalreporter.write_line(f"{sum(seconds.values()):6.0f} {sum(programs.values()):6,}  together")
    for sentence in terminalreporter.config.stash.get(FAILED, []):
        terminalreporter.write_line(sentence, red=True)
