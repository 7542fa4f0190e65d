"""What statements import, each in a process that is forked from an interpreter of its own."""

import json
import sys

from seqjax.plugin import registry
from support.shell import run

PACKAGES = [f"seqjax_{kind}s" for kind in registry.GROUPS]
PROGRAM = """
import json, os, sys
{base}
for n, statement in enumerate(json.load(open("statements.json"))):
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        continue
    exec(statement, {{}})
    jax_backends = getattr(sys.modules.get("jax._src.xla_bridge"), "_backends", {{}})
    with open(f"{{n}}.json", "w") as file:
        json.dump([sorted(sys.modules), sorted(jax_backends)], file)
    os._exit(0)  # without the end of Python, which takes longer than most statements
"""
"""A statement that fails prints its traceback, and leaves no file."""


def imported(statements: list[str], tmp_path, base: str = "") -> list[tuple[set[str], list[str]]]:
    """The modules that an interpreter has after `base` and one of the statements, and the backends that jax started."""
    (tmp_path / "statements.json").write_text(json.dumps(statements))
    done = run([sys.executable, "-c", PROGRAM.format(base=base)], cwd=tmp_path)
    files = [tmp_path / f"{n}.json" for n in range(len(statements))]
    assert all(file.exists() for file in files), done.stderr
    return [(set(modules), backends) for modules, backends in (json.loads(file.read_text()) for file in files)]


def plugin_modules(modules: set[str]) -> set[str]:
    """The files of plugin packages among these modules, without their folders."""
    folders = {name.rpartition(".")[0] for name in modules}
    return {name for name in modules - folders if name.partition(".")[0] in PACKAGES and "." in name}
