"""`seqjax new`: writes a plugin to start from."""

import importlib.machinery
import importlib.metadata
import importlib.resources
import importlib.util
import keyword
import sys
from collections.abc import Sequence
from pathlib import Path

from seqjax.cli.parser import Parser
from seqjax.errors import Error
from seqjax.files import disk_errors
from seqjax.plugin import registry
from seqjax.terminal.shell import argument, program
from seqjax.terminal.stream import line

DESCRIPTION = """Write a plugin to start from: a file with a plugin that works, or with --package a folder that pip can
install, with an entry point, tests, a README and a workflow for CI. The plugin passes its checks before a line is
changed; docs/plugins.md explains what to change.

  {seqjax} new model my-cell                 writes my_cell.py
  {seqjax} new model my-lru --base elementwise
  {seqjax} new gradient my-rule --base influence
  {seqjax} new model my-cell --package       writes my-cell/"""

TEMPLATES = importlib.resources.files("seqjax") / "templates"
"""A working plugin of each kind, called `my-model` and so on, and the files of a package."""
BASES = {"model": ("cell", "elementwise"), "gradient": ("weighted-edges", "wrapping", "influence")}
"""Kind of plugin -> its base classes, each of which has a template; the first one has the template of the kind."""


def main(argv: Sequence[str]) -> int:
    """Writes the files, and prints what to type next."""
    parser = Parser(prog=f"{program()} new", description=DESCRIPTION.format(seqjax=program()))
    parser.add_argument("kind", choices=registry.GROUPS, help=f"one of {', '.join(registry.GROUPS)}", metavar="KIND")
    parser.add_argument("name", metavar="NAME", help="the plugin's name, such as my-cell")
    bases = (
        "the base class of a model: cell (the default), with recurrent weights, or elementwise; of a gradient: "
        "weighted-edges (the default), wrapping, around another strategy, or influence, a relative of RTRL"
    )
    parser.add_argument("--base", choices=[base for kind in BASES.values() for base in kind], help=bases)
    parser.add_argument("--package", action="store_true", help="write a package that pip can install")
    parser.add_argument("--out", metavar="DIR", default=".", help="the folder to write to; default: the current one")
    args = parser.read(argv)
    bases_of_kind = BASES.get(args.kind, ())
    if args.base and args.base not in bases_of_kind:
        advice = f"take one of: {', '.join(bases_of_kind)}" if bases_of_kind else "leave it out"
        raise Error(f"--base {args.base} is no base class of a {args.kind}; {advice}")
    registry.check_name(args.kind, args.name)
    taken = [entry for entry in registry.entries(args.kind) if entry.name == args.name]
    if taken:
        raise Error(f"{args.kind} {args.name!r} is the name of {taken[0].id}; choose another name")
    if _is_installed(args.name):
        raise Error(
            f"{args.name!r} is the name of an installed package or module, which would be replaced; choose another"
        )
    template = args.base if args.base in bases_of_kind[1:] else args.kind
    files = (package if args.package else one_file)(args.kind, args.name, template)
    write(Path(args.out), files)
    for name in files:
        line("wrote", Path(args.out) / name)
    if args.package:
        # An environment that uv has made has no pip, and the pip of another one would install the package elsewhere.
        pip = "pip" if importlib.util.find_spec("pip") else "uv pip"
        line("next", f"{pip} install -e {argument(Path(args.out) / args.name)}")
        line("", f"{program()} check {args.kind} {args.name}")
    else:
        file = argument(Path(args.out) / next(iter(files)))
        line("next", f"{program()} check {args.kind} {args.name} --load {file}")
    return 0


def _is_installed(name: str) -> bool:
    """Whether a distribution has this name, or a module that can be imported."""
    module = module_name(name)
    # Unlike importlib.util.find_spec, the path finder does not find what this process has imported from elsewhere.
    found = module in sys.builtin_module_names or importlib.machinery.PathFinder.find_spec(module) is not None
    names = {dist.name.lower().replace("_", "-") for dist in importlib.metadata.distributions() if dist.name}
    return found or name in names


def module_name(name: str) -> str:
    """The module of a plugin: `my_cell` of `my-cell`. A name that Python does not allow gets a prefix."""
    module = name.replace("-", "_")
    return module if module.isidentifier() and not keyword.iskeyword(module) else f"seqjax_{module}"


def class_name(name: str) -> str:
    """The class of a plugin: `MyCell` of `my-cell`."""
    joined = "".join(part.capitalize() for part in name.split("-"))
    return joined if joined.isidentifier() and not keyword.iskeyword(joined) else f"Plugin{joined}"


def one_file(kind: str, name: str, template: str) -> dict[str, str]:
    """The file of a plugin, by its path."""
    text = (TEMPLATES / f"{template}.py").read_text("utf-8")
    return {f"{module_name(name)}.py": _named(text, f"my-{kind}", name)}


def package(kind: str, name: str, template: str) -> dict[str, str]:
    """The files of a package, by their paths."""
    module = module_name(name)
    files = {
        **one_file(kind, name, template),
        "pyproject.toml": _part("pyproject.toml", kind, name),
        "README.md": _part("README.md", kind, name),
        f"tests/test_{module}.py": _part("test.py.txt", kind, name),
        ".github/workflows/test.yml": _part("ci.yml", kind, name),
    }
    return {f"{name}/{path}": text for path, text in files.items()}


def write(folder: Path, files: dict[str, str]) -> None:
    """Writes files, none of which may exist.

    Raises:
        Error: one exists. Nothing was written.
    """
    there = [folder / name for name in files if (folder / name).exists()]
    if there:
        raise Error(f"{there[0]} exists, and nothing was written; choose another name, or another folder with --out")
    for name, text in files.items():
        path = folder / name
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")


def _part(file: str, kind: str, name: str) -> str:
    """The text of a file of a package."""
    text = (TEMPLATES / "package" / file).read_text("utf-8").replace("KIND", kind)
    return _named(text, "my-kind", name)


def _named(text: str, old: str, name: str) -> str:
    """A text with the names of the plugin in place of the names in the template."""
    for form in (str, module_name, class_name):
        text = text.replace(form(old), form(name))
    return text
