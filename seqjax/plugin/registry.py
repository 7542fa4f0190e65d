"""The registry of plugins: kind -> name -> class.

Built-in plugins, installed packages, loaded files and notebook cells all use the decorator `register`. Installed
plugins are found by the metadata of their entry points, so that a plugin is imported only when it is used.
"""

import ast
import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import os
import re
import sys
import traceback
from collections.abc import Callable
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, NamedTuple

from seqjax.errors import Error, check_type, nearest
from seqjax.plugin.base import check_hints

GROUPS = {
    "dataset": "seqjax.datasets",
    "tokenizer": "seqjax.tokenizers",
    "sampler": "seqjax.samplers",
    "model": "seqjax.models",
    "gradient": "seqjax.gradients",
    "optimizer": "seqjax.optimizers",
    "tracker": "seqjax.trackers",
    "launcher": "seqjax.launchers",
}
"""The kinds of plugin and the entry-point group of each."""

LOCAL = "local"
"""The distribution of a plugin that was defined in a file, a notebook or `__main__`."""


BUILT_IN = "seqjax"
"""The distribution of the built-in plugins."""


class Entry(NamedTuple):
    """The origin of a plugin. `target` is `module:Class`; `source` is its file, if known."""

    kind: str
    name: str
    distribution: str
    version: str
    target: str
    source: str | None

    @property
    def id(self) -> str:
        """The full id, `<distribution>/<name>`."""
        return f"{self.distribution}/{self.name}"


_registered: dict[tuple[str, str], tuple[Entry, type]] = {}
"""(kind, id) -> entry and class of a registered plugin."""


def register(kind: str, name: str) -> Callable[[type], type]:
    """Class decorator that makes a plugin known; returns the same class.

    Place it outermost, above `@dataclass(frozen=True)`. Running it again for the same module and class replaces the
    earlier one.

    >>> from dataclasses import dataclass
    >>> import seqjax as sj
    >>> @sj.register("gradient", "mine")
    ... @dataclass(frozen=True)
    ... class Mine(sj.RandomCuts):
    ...     n: int = 10
    ...     def hazard(self, age, shared):
    ...         return 1 / self.n
    >>> sj.create("gradient", "mine", n=20)
    Mine(n=20)

    Args:
        kind: one of the keys of `GROUPS`, such as `model`.
        name: short kebab-case name, such as `"artbp"`.

    Raises:
        Error: unknown kind, malformed name, a class that is not a frozen dataclass, or a name that another local class
            has.
    """
    check_name(kind, name)

    def add(cls: type) -> type:
        check_type(f"{kind} {name!r}", cls, type, "a class: write @register above it")
        params = cls.__dict__.get("__dataclass_params__")
        if not is_dataclass(cls) or params is None or not params.frozen:
            raise Error(f"{kind} {name!r}: write @dataclass(frozen=True) between @register and class {cls.__name__}")
        if "plugin" in cls.__dataclass_fields__:
            raise Error(f"{kind} {name!r}: no field may be called 'plugin', which stands for the name in a table")
        check_hints(cls)
        target = f"{cls.__module__}:{cls.__qualname__}"
        entry = next((e for e in _installed()[kind] if (e.name, e.target) == (name, target)), None)
        if entry is None:
            source = getattr(sys.modules.get(cls.__module__), "__file__", None)
            entry = Entry(kind, name, LOCAL, "", target, source)
        known, _ = _registered.get((kind, entry.id), (entry, cls))
        if known.target != target:
            raise Error(f"{kind} {entry.id!r} is already registered by {known.target}; {target} needs another name")
        _registered[kind, entry.id] = entry, cls
        return cls

    return add


def check_name(kind: str, name: str) -> None:
    """Checks the kind and the form of a name.

    Raises:
        Error: unknown kind, malformed name.
    """
    _check_kind(kind)
    check_type(f"the name of a {kind}", name, str, f"a text, such as 'my-{kind}'")
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise Error(f"{kind} name {name!r}: use lower-case letters, digits and single dashes, such as 'my-{kind}'")


def entries(kind: str) -> list[Entry]:
    """Every known plugin of one kind, sorted by name. Imports no plugin."""
    _check_kind(kind)
    local = [entry for entry, _ in _registered.values() if (entry.kind, entry.distribution) == (kind, LOCAL)]
    return sorted([*_installed()[kind], *local], key=lambda entry: (entry.name, entry.id))


def names(kind: str) -> list[str]:
    """The sorted short names of one kind. Imports no plugin.

    >>> import seqjax as sj
    >>> [name for name in sj.names("gradient") if name.startswith("r")]
    ['randomized', 'rflo', 'rolling', 'rtrl']
    """
    return sorted({entry.name for entry in entries(kind)})


def find(kind: str, name: str) -> Entry:
    """The entry with this short name or full id. Imports no plugin.

    A short name that a built-in plugin has means the built-in plugin, whatever packages are installed.

    Raises:
        Error: no plugin has this name; several have it, none of which is built in, or one of which is local.
    """
    known = entries(kind)
    check_type(f"the name of a {kind}", name, str, f"a text, one of seqjax.names({kind!r})")
    matches = [entry for entry in known if name in (entry.name, entry.id)]
    # A package cannot take a name from the built-in plugins: its own plugin has the full id alone.
    installed = [entry for entry in matches if entry.distribution != LOCAL]
    built_in = [entry for entry in installed if entry.distribution == BUILT_IN]
    if built_in and len(installed) == len(matches):
        return built_in[0]
    if len(matches) == 1:
        return matches[0]
    if matches:
        ids = ", ".join(repr(entry.id) for entry in matches)
        raise Error(f"{kind} {name!r} is the name of several plugins; write the full id, one of: {ids}")
    if name.startswith(f"{LOCAL}/"):
        raise Error(f"unknown {kind} {name!r}; load the file that registers it: --load FILE")
    other = meant(kind, name)
    hint = f"; did you mean {kind} {other.name}?" if other else nearest(name, [*names(kind), *(e.id for e in known)])
    misplaced = "".join(f"\n{fault}" for fault in misplaced_groups())
    raise Error(
        f"unknown {kind} {name!r}{hint}\nknown: {', '.join(names(kind)) or 'none'}; one in a file needs --load FILE, "
        f"and one in a package needs the package to be installed{misplaced}"
    )


def meant(kind: str, name: str) -> Entry | None:
    """The plugin that a name of another library means, such as the model `lstm` by `nn.LSTMCell`. Imports no plugin.

    It is the plugin with this name, except for case, dashes and the suffix of a class, or with this name in
    `also_called`.
    """
    word = _as_word(name)
    for entry in entries(kind):
        if word in map(_as_word, (entry.name, *_also_called(entry))):
            return entry
    return None


def class_names(kind: str) -> list[str]:
    """The names of the classes of the installed plugins of one kind, sorted. Imports no plugin."""
    return sorted({_class_name(entry) for entry in _installed()[kind]})


def of_class(kind: str, name: str) -> Entry | None:
    """The installed plugin of one kind whose class has this name; None: there is none. Imports no plugin.

    As with `find`, a package cannot take a name from the built-in plugins.

    Raises:
        Error: several packages have a plugin whose class has this name, none of which is built in.
    """
    found = [entry for entry in _installed()[kind] if _class_name(entry) == name]
    built_in = [entry for entry in found if entry.distribution == BUILT_IN]
    if len(found) > 1 and not built_in:
        choices = "\n".join(f"  from {entry.target.partition(':')[0]} import {name}" for entry in found)
        packages = " and ".join(entry.distribution for entry in found)
        raise Error(
            f"{GROUPS[kind]}.{name} is a class of the packages {packages}; import it from one of them:\n{choices}"
        )
    return next(iter(built_in or found), None)


def import_line(name: str) -> str | None:
    """The statement that imports the class of this name of an installed plugin; None if there is none."""
    kinds = [kind for kind in GROUPS if name in class_names(kind)]
    return f"from {GROUPS[kinds[0]]} import {name}" if kinds else None


def _class_name(entry: Entry) -> str:
    """The name of the class of a plugin, without the names of its module and of outer classes."""
    return entry.target.rpartition(":")[2].rpartition(".")[2]


def _as_word(name: str) -> str:
    """The letters and digits of a name, without the module and the suffix of a class: `nn.LSTMCell` is `lstm`."""
    last = re.sub("[^a-z0-9]", "", name.rpartition(".")[2].lower())
    return re.sub("(?<=.)(cell|sampler|tokenizer)$", "", last)


def _also_called(entry: Entry) -> list[str]:
    """The attribute `also_called` of a plugin, read from its source without importing it; empty if there is none."""
    return _texts_of(entry, "also_called")


def extra_of(entry: Entry) -> str:
    """The attribute `extra` of a plugin, read from its source without importing it; empty if there is none."""
    return "".join(_texts_of(entry, "extra"))


def _texts_of(entry: Entry, attribute: str) -> list[str]:
    """The literal texts of an attribute of a plugin's class, read from its source."""
    try:
        body = _class_node(entry).body
    except Error:
        return []
    values = [node.value for node in body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == attribute]
    values += [
        node.value
        for node in body
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == attribute and node.value
    ]
    words = [word.value for value in values for word in ast.walk(value) if isinstance(word, ast.Constant)]
    return [word for word in words if isinstance(word, str)]


def misplaced_groups() -> list[str]:
    """The entry points in groups `seqjax.*` that seqjax does not read, one line each."""
    return [
        f"{_name_and_version(point)[0]} offers {point.name!r} in the group {point.group!r}, which seqjax does not read"
        f"{nearest(point.group, GROUPS.values())}"
        for point in _entry_points()
        if point.group.startswith("seqjax.") and point.group not in GROUPS.values()
    ]


def get(kind: str, name: str) -> type:
    """The plugin class with this short name or full id; imports its module. Unknown and broken plugins are `Error`s."""
    return load(find(kind, name))


def load(entry: Entry) -> type:
    """The class of an entry; imports its module if necessary."""
    key = (entry.kind, entry.id)
    if key not in _registered:
        module, _, attribute = entry.target.partition(":")
        origin = f"{entry.kind} {entry.id!r} (distribution {entry.distribution} {entry.version}, {entry.target})"
        try:
            cls: Any = functools.reduce(getattr, attribute.split("."), importlib.import_module(module))
        except (Exception, SystemExit) as cause:
            if is_of_jax(cause):
                raise
            raise Error(
                f"{origin} fails to import: {type(cause).__name__}: {cause}{_line_of(cause, _locate(module))}\n"
                f"The other plugins are not affected. Repair it or uninstall it: pip uninstall {entry.distribution}"
            ) from cause
        local = _registered.get((entry.kind, f"{LOCAL}/{entry.name}"))
        if key not in _registered and local and local[1] is cls:  # the entry point names a re-export
            del _registered[entry.kind, f"{LOCAL}/{entry.name}"]
            _registered[key] = entry, cls
        if key not in _registered:
            decorator = f'@seqjax.register("{entry.kind}", "{entry.name}")'
            raise Error(f"{origin} imports, but registers no such plugin: its class needs {decorator}")
    return _registered[key][1]


def class_of(entry: Entry) -> type | None:
    """The class of an entry, if its module was imported."""
    known = _registered.get((entry.kind, entry.id))
    return known and known[1]


def entry_of(plugin: object) -> Entry:
    """The entry of a plugin instance or class."""
    cls = plugin if isinstance(plugin, type) else type(plugin)
    for entry, known in _registered.values():
        if known is cls:
            return entry
    raise Error(f'{cls.__name__} is not registered; put @seqjax.register("<kind>", "<name>") above its class')


def name_of(plugin: object) -> str:
    """The short name of a plugin instance; the name of its class if it is not registered."""
    names = [entry.name for entry, cls in _registered.values() if cls is type(plugin)]
    return names[0] if names else type(plugin).__name__


def load_file(path: str | Path) -> None:
    """Runs a local Python file, so that the plugins in it register themselves as `local/<name>`.

    The module's name is derived from the path; `sys.path` is not touched.

    Raises:
        Error: the file is missing, fails to run, or registers nothing.
    """
    path = Path(path).resolve()
    if not path.is_file():
        raise Error(f"--load {path}: no such file")
    name = f"seqjax_local_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise Error(f"--load {path}: not a Python file (its name must end in .py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as cause:
        del sys.modules[name]
        for key in [key for key, (_, cls) in _registered.items() if cls.__module__ == name]:
            del _registered[key]
        if is_of_jax(cause):
            raise
        where = _line_of(cause, str(path))
        what = str(cause) if isinstance(cause, Error) else f"{type(cause).__name__}: {cause}{where}"
        if "inherit non-frozen dataclass" in what:
            what += "\nWrite @dataclass(frozen=True) above the class"
        raise Error(f"--load {path}: {what}") from cause
    if not any(cls.__module__ == name for _, cls in _registered.values()):
        raise Error(f"--load {path}: registers no plugin; put @seqjax.register(kind, name) above a class in it")


def is_of_jax(fault: BaseException) -> bool:
    """Whether importing JAX itself has failed, as with an environment variable that it cannot read."""
    files = [frame.filename.replace(os.sep, "/") for frame in traceback.extract_tb(fault.__traceback__)]
    return any(file.endswith("/jax/__init__.py") for file in files)


def _line_of(fault: BaseException, file: str | None) -> str:
    """The line of a file that raised an exception, as the end of a message.

    It is empty if no line of this file raised it, and for a syntax error, whose message has the line.
    """
    frames = [frame for frame in traceback.extract_tb(fault.__traceback__) if frame.filename == file]
    if not frames or isinstance(fault, SyntaxError):
        return ""
    return f"\n{file}, line {frames[-1].lineno}: {frames[-1].line}"


def summary(entry: Entry) -> str:
    """First line of the plugin's docstring, read from its source without importing it."""
    try:
        return (ast.get_docstring(_class_node(entry)) or "").partition("\n")[0]
    except Error as fault:
        return f"({fault.message})"


def _class_node(entry: Entry) -> ast.ClassDef:
    """The syntax tree of a plugin's class.

    Raises:
        Error: its source is unknown, cannot be read, or has no such class.
    """
    if entry.source is None:
        raise Error("source not found")
    name = _class_name(entry)
    try:
        tree = ast.parse(Path(entry.source).read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError) as fault:
        raise Error(f"cannot be read: {type(fault).__name__}: {fault}") from fault
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and node.name == name:
            return node
    raise Error(f"no class {name} in {entry.source}")


def clashes(kind: str) -> list[str]:
    """The short names that several plugins of a kind have, one line each, with what such a name means."""
    lines = []
    for name in names(kind):
        ids = [entry.id for entry in entries(kind) if entry.name == name]
        if len(ids) > 1:
            meaning = f"it means {BUILT_IN}/{name}" if f"{BUILT_IN}/{name}" in ids else "write the full id"
            lines.append(f"{kind} {name!r} is the name of {', '.join(ids)}: {meaning}")
    return lines


def _check_kind(kind: str) -> None:
    if kind not in list(GROUPS):  # `in` of a list also works for unhashable values
        raise Error(f"unknown kind {kind!r}{nearest(kind, GROUPS)}\nkinds: {', '.join(GROUPS)}")


@functools.cache
def _installed() -> dict[str, tuple[Entry, ...]]:
    """The plugins of installed packages, by kind. All kinds are read at once, since one reading takes 30 ms."""
    kinds = {group: kind for kind, group in GROUPS.items()}
    plugins_of: dict[str, dict[tuple[str, str], Entry]] = {kind: {} for kind in GROUPS}
    for point in _entry_points():
        if (kind := kinds.get(point.group)) is None:
            continue
        name, version = _name_and_version(point)
        file = _locate(point.value.partition(":")[0])
        plugins_of[kind][name, point.name] = Entry(kind, point.name, name, version, point.value, file)
    return {kind: tuple(plugins.values()) for kind, plugins in plugins_of.items()}


def _entry_points() -> importlib.metadata.EntryPoints:
    """The entry points of all installed packages.

    Raises:
        Error: the file that lists the entry points of a package is damaged. JAX reads it too, and would not start
            either.
    """
    try:
        return importlib.metadata.entry_points()
    except Exception as cause:
        for dist in importlib.metadata.distributions():
            try:
                list(dist.entry_points)
            except Exception as fault:
                raise Error(
                    f"entry_points.txt of the installed package {dist.name} is damaged: {type(fault).__name__}: {fault}"
                    f"\nInstall it again: pip install --force-reinstall {dist.name}"
                ) from cause
        raise


def _name_and_version(point: importlib.metadata.EntryPoint) -> tuple[str, str]:
    """The name and the version of the package of an entry point. A package without a name gets the name of its module.

    A package without files, which a program has made in memory, is local.
    """
    if point.dist is None:
        return LOCAL, ""
    name, version = _name_and_version_of(point.dist)
    return name or re.split(r"[.:]", point.value)[0], version or ""


@functools.cache
def _name_and_version_of(dist: importlib.metadata.Distribution) -> tuple[str | None, str | None]:
    """The name and the version in METADATA, which each access to them would parse anew."""
    try:
        metadata = dist.metadata
    except (OSError, ValueError):  # it is missing, or no UTF-8
        return None, None
    return metadata.get("Name"), metadata.get("Version")


def _locate(module: str) -> str | None:
    """The file of a module, found without importing its parent packages."""
    top, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None or not rest:
        return spec.origin if spec else None
    bases = [Path(folder).joinpath(*rest) for folder in spec.submodule_search_locations or ()]
    files = [file for base in bases for file in (base.with_suffix(".py"), base / "__init__.py")]
    return next((str(file) for file in files if file.is_file()), None)
