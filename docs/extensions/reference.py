"""The pages of the reference: one for each public module, and one for each kind of plugin."""

import ast
import functools
import importlib
import inspect
import itertools
import pkgutil
import types
from collections.abc import Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from docstrings import escape, to_rst

import seqjax
from seqjax.plugin import registry
from seqjax.plugin.base import Field, Plugin, fields_of

ONE_FILE = ("seqjax.errors", "seqjax.extras", "seqjax.user_cache")
"""The public modules that are a file, and that no package exports."""


@functools.cache
def modules() -> dict[str, types.ModuleType]:
    """The public modules by name: `seqjax`, its packages that export names, and the modules among these names."""
    names = ["seqjax", *(f"seqjax.{found.name}" for found in pkgutil.iter_modules(seqjax.__path__) if found.ispkg)]
    packages = [importlib.import_module(name) for name in names]
    packages = [package for package in packages if hasattr(package, "__all__")]
    exported = [getattr(package, name) for package in packages for name in package.__all__]
    files = [importlib.import_module(name) for name in ONE_FILE]
    found = [*packages, *(value for value in exported if inspect.ismodule(value)), *files]
    return {module.__name__: module for module in sorted(found, key=lambda module: module.__name__)}


def public(module: types.ModuleType) -> dict[str, Any]:
    """The public names of a module, and their values: those that it exports, or those that are defined in its file."""
    if hasattr(module, "__all__"):
        return {name: getattr(module, name) for name in sorted(module.__all__, key=str.lower)}
    own = {name: value for name, value in vars(module).items() if not name.startswith("_")}
    return {name: value for name, value in own.items() if getattr(value, "__module__", "") == module.__name__}


def is_ours(value: Any) -> bool:
    """Whether a value is a class or function of seqjax, not a type alias or an array."""
    return callable(value) and getattr(value, "__module__", "").partition(".")[0].startswith("seqjax")


@functools.cache
def homes() -> dict[int, str]:
    """The id of a public class or function -> the full name under which it is documented, its shortest one."""
    found: dict[int, str] = {}
    for full, value in sorted(named().items(), key=lambda item: (item[0].count("."), item[0])):
        if is_ours(value):
            found.setdefault(id(value), full)
    return found


@functools.cache
def named() -> dict[str, Any]:
    """Every public name of every public module, in full, and its value."""
    return {f"{name}.{inner}": value for name, module in modules().items() for inner, value in public(module).items()}


def home(full: str) -> str:
    """The full name under which a public name is documented."""
    value = named()[full]
    return value.__name__ if inspect.ismodule(value) else homes().get(id(value), full)


@functools.cache
def links() -> dict[str, str]:
    """What a name in backticks means in a docstring: classes by their names, other names only in full."""
    found = {full: home(full) for full in named()}
    found |= {home(full).rpartition(".")[2]: home(full) for full, value in named().items() if inspect.isclass(value)}
    for kind in registry.GROUPS:
        for entry in built_in(kind):
            found[class_name(entry).rpartition(".")[2]] = class_name(entry)
    return found


def built_in(kind: str) -> list[registry.Entry]:
    """The plugins of a kind that come with seqjax."""
    return [entry for entry in registry.entries(kind) if entry.distribution == registry.BUILT_IN]


def class_name(entry: registry.Entry) -> str:
    """The name under which a built-in plugin is imported, such as `seqjax.gradients.RTRL`."""
    return f"{registry.GROUPS[entry.kind]}.{entry.target.partition(':')[2]}"


def pages() -> dict[str, str]:
    """The reference: file -> its text."""
    found = {f"{name}.rst": module_page(name) for name in modules()}
    found |= {f"plugins-{kind}.rst": plugin_page(kind) for kind in registry.GROUPS}
    return found | {"index.rst": index_page()}


def write(folder: Path) -> None:
    """Writes the pages into a folder, and deletes pages that are not made any more. Equal files stay as they are."""
    folder.mkdir(exist_ok=True)
    wanted = pages()
    for file in folder.iterdir():
        if file.name not in wanted:
            file.unlink()
    for name, text in wanted.items():
        file = folder / name
        if not file.exists() or file.read_text("utf-8") != text:
            file.write_text(text, "utf-8")


def index_page() -> str:
    """The contents of the reference."""
    rows = [f":doc:`{name}`\n   {first_line(module)}" for name, module in modules().items()]
    kinds = [(f":doc:`{kind} <plugins-{kind}>`", f"``{registry.GROUPS[kind]}``", len(built_in(kind))) for kind in KINDS]
    return page(
        "Reference",
        "Every public name. ``import seqjax as sj`` gives the names of :doc:`seqjax`; other modules are imported by "
        "their names. Shapes are written as in jaxtyping: T steps, B rows.",
        "\n\n".join(rows),
        heading("Plugins", "-"),
        "The plugins that come with seqjax, by kind. ``seqjax list`` prints them with plugins that you have installed.",
        table(("kind", "entry points", "built in"), kinds),
        toctree([*modules(), *(f"plugins-{kind}" for kind in KINDS)]),
    )


def module_page(name: str) -> str:
    """The page of a public module."""
    module = modules()[name]
    elsewhere, here = [], []
    for inner, value in public(module).items():
        full = f"{name}.{inner}"
        if home(full) == full and not inspect.ismodule(value):
            here.append(described(full, value))
        else:
            role = "mod" if inspect.ismodule(value) else "obj"
            elsewhere.append(f":py:{role}:`{inner} <{home(full)}>`")
    also = [f"Also in this module, and documented elsewhere: {', '.join(elsewhere)}."] if elsewhere else []
    text = to_rst(inspect.cleandoc(module.__doc__ or "").splitlines(), links())
    return page(name, f".. py:module:: {name}", "\n".join(text), *also, *here)


def described(full: str, value: Any) -> str:
    """The directive that documents a public name."""
    if inspect.isclass(value) and issubclass(value, Plugin) and is_dataclass(value):
        return plugin_class(full, value)
    if inspect.isclass(value) and is_ours(value):
        return f".. auto{'exception' if issubclass(value, Exception) else 'class'}:: {full}"
    if is_ours(value):
        return f".. autofunction:: {full}"
    module, _, name = full.rpartition(".")
    text = to_rst(constant_doc(module, name).splitlines(), links())
    return "\n".join([f".. py:data:: {name}", "", *(f"   {line}".rstrip() for line in text)])


def constant_doc(package: str, name: str) -> str:
    """The docstring under a constant or a type alias that a package exports; empty if there is none."""
    stub = Path(importlib.import_module(package).__file__ or "").with_suffix(".pyi")
    imports = [node for node in ast.parse(stub.read_text("utf-8")).body if isinstance(node, ast.ImportFrom)]
    source = next(node.module for node in imports if name in {alias.name for alias in node.names})
    file = stub.parent.joinpath(*str(source).split(".")).with_suffix(".py")
    body = ast.parse(file.read_text("utf-8")).body
    for statement, text in itertools.pairwise(body):
        match statement, text:
            case ast.Assign(targets=[ast.Name(id=found)]), ast.Expr(value=ast.Constant(value=str(doc))):
                if found == name:
                    return inspect.cleandoc(doc)
    return ""


def first_line(value: Any) -> str:
    """The first sentence of a docstring as reStructuredText."""
    return escape((inspect.getdoc(value) or "").partition("\n")[0], links())


KINDS: Mapping[str, str] = {
    "dataset": "A dataset provides the data.",
    "tokenizer": "A tokenizer turns the data into the inputs of a model, and back.",
    "sampler": "A sampler chooses the windows of an epoch.",
    "model": "A model computes one step of a sequence.",
    "gradient": "A gradient strategy differentiates the loss of a window through time.",
    "optimizer": "An optimizer turns gradients into updates.",
    "tracker": "A tracker shows runs in a viewer. It does not change a result.",
    "launcher": "A launcher makes the runs of a sweep in other processes. It does not change a result.",
}
"""Kind of plugin -> what it does."""


def plugin_page(kind: str) -> str:
    """The page of a kind: a table of its plugins, then each of them with its fields."""
    entries = built_in(kind)
    rows = [
        (f":py:obj:`{entry.name} <{class_name(entry)}>`", escape(registry.summary(entry), links())) for entry in entries
    ]
    package = registry.GROUPS[kind]
    return page(
        f"Plugins: {kind}s",
        f".. py:currentmodule:: {package}",
        f"{KINDS[kind]} These come with seqjax, and are imported from :doc:`{package}`. ``seqjax list {kind} NAME`` "
        f"prints the same at the command line, and ``seqjax check {kind} NAME`` the checks.",
        table(("name", "what it is"), rows),
        *(plugin_section(entry) for entry in entries),
    )


def plugin_section(entry: registry.Entry) -> str:
    """The section of a built-in plugin."""
    return f"{heading(entry.name, '-')}\n\n{plugin_class(class_name(entry), registry.load(entry), members=False)}"


def plugin_class(full: str, cls: type, members: bool = True) -> str:
    """The directive of a plugin class, and a list of its fields.

    Args:
        full: the name under which it is documented.
        cls: the class.
        members: whether its methods are documented too.
    """
    fields = fields_of(cls)
    options = f"   :exclude-members: {', '.join(fields)}" if members else "   :no-members:"
    lines = [line for field in fields.values() for line in described_field(field)]
    shown = [".. rubric:: Fields", "", *lines] if lines else ["It has no fields."]
    return "\n".join([f".. autoclass:: {full}", options, "", *(f"   {line}".rstrip() for line in shown)])


def described_field(field: Field) -> list[str]:
    """The entry of a field in a definition list."""
    default = "required" if field.required else f"default ``{field.make_default()!r}``"
    return [f"``{field.name}`` : {escape(field.type, {})}; {default}", f"   {escape(field.doc, links())}", ""]


def page(title: str, *parts: str) -> str:
    """A page as reStructuredText."""
    return "\n\n".join([heading(title, "="), *parts]) + "\n"


def heading(text: str, line: str) -> str:
    """A heading, underlined."""
    return f"{text}\n{line * len(text)}"


def table(head: tuple[str, ...], rows: list[tuple]) -> str:
    """A table, whose cells are reStructuredText of one line each."""
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in [head, *rows]:
        lines += [f"   {'*' if n == 0 else ' '} - {cell}".rstrip() for n, cell in enumerate(row)]
    return "\n".join(lines)


def toctree(names: list[str]) -> str:
    """The contents for the sidebar alone."""
    return "\n".join([".. toctree::", "   :hidden:", "", *(f"   {name}" for name in names)])
