"""The packages in which the plugins of a kind are found by class name, such as `seqjax.gradients.Truncated`."""

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lazy_loader

from seqjax.errors import nearest
from seqjax.plugin import registry


def attach(package: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__` and `__all__` of the package of a kind of plugin.

    The package has its own names, which its stub imports from its files, and the classes of the installed plugins. A
    plugin is imported when its name is read. The stub also names the built-in plugins, for type checkers and editors.

    Args:
        package: the name of the package, which is the entry-point group of the kind.
        file: the file of the package, beside its stub.
    """
    (kind,) = (kind for kind, group in registry.GROUPS.items() if group == package)
    stub = ast.parse(Path(file).with_suffix(".pyi").read_text("utf-8"))
    own: dict[str, list[str]] = {}
    for node in stub.body:
        if isinstance(node, ast.ImportFrom) and node.level:  # imports of plugins are for type checkers alone
            own.setdefault(str(node.module), []).extend(alias.name for alias in node.names)
    get_own, _, names = lazy_loader.attach(package, submod_attrs=own)

    def get(name: str) -> Any:
        if name in names:
            return get_own(name)
        if entry := registry.of_class(kind, name):
            return registry.load(entry)
        elsewhere = registry.import_line(name)
        advice = f"; it is in another package: {elsewhere}" if elsewhere else nearest(name, listed())
        raise AttributeError(f"{package} has no attribute {name!r}{advice}")

    def listed() -> list[str]:
        return sorted({*names, *registry.class_names(kind)})

    return get, listed, names
