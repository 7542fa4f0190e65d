"""The rules of the house, read from the source."""

import ast
import graphlib
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from seqjax.plugin import config, registry

ROOT = Path(__file__).parents[1]
CORE = sorted((ROOT / "seqjax").rglob("*.py"))
PLUGINS = sorted((ROOT / "plugins").rglob("*.py"))
PACKAGES = {path.name for path in (ROOT / "plugins").iterdir() if path.is_dir()} - {"__pycache__"}
BOTTOM = {"seqjax.errors", "seqjax.plugin", "seqjax.unroll", "seqjax.specs", "seqjax.dataset"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
POINTS = [point for group in registry.GROUPS.values() for point in PROJECT["entry-points"][group].items()]


def name(file: Path) -> str:
    """The dotted name of a module of ours."""
    base = ROOT / "plugins" if file.is_relative_to(ROOT / "plugins") else ROOT
    return ".".join(file.relative_to(base).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name(file): file for file in [*CORE, *PLUGINS]}


def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def at_import(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes that run when a module is imported: not the bodies of functions, nor what is for type checkers."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        yield child
        yield from at_import(child)


def stub(package: str) -> dict[str, str]:
    """Which module a lazy name of a package comes from."""
    file = MODULES[package].with_suffix(".pyi")
    if not file.exists():
        return {}
    nodes = [node for node in ast.parse(file.read_text()).body if isinstance(node, ast.ImportFrom)]
    return {alias.name: f"{package}.{node.module}" for node in nodes for alias in node.names}


def imported(nodes: Iterator[ast.AST], module: str) -> set[str]:
    """The modules that import statements name; of a lazy package the modules behind the names."""
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level <= 1
            package = module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]
            base = ".".join(filter(None, [package if node.level else "", node.module or ""]))
            lazy = stub(base) if base in MODULES else {}
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                found.add(inner if inner in MODULES else lazy.get(alias.name, base))
    return found


EVER = {module: imported(ast.walk(tree(file)), module) for module, file in MODULES.items()}
AT_IMPORT = {module: imported(at_import(tree(file)), module) for module, file in MODULES.items()}


def top(module: str) -> str:
    return module.partition(".")[0]


def test_the_core_imports_no_plugin_package():
    found = {(m, i) for m, imports in EVER.items() if top(m) == "seqjax" for i in imports if top(i) in PACKAGES}
    assert found == set()


def test_a_plugin_package_imports_the_core_and_itself():
    for module, imports in EVER.items():
        if top(module) in PACKAGES:
            ours = {top(i) for i in imports if top(i) in PACKAGES | {"seqjax", "tests", "experiments"}}
            assert ours <= {"seqjax", top(module)}, module


@pytest.mark.parametrize("module", ["errors", "plugin", "unroll", "specs", "dataset", "registry", "contracts"])
def test_the_foundations_import_nothing_above_them(module):
    assert {i for i in AT_IMPORT[f"seqjax.{module}"] if top(i) in PACKAGES | {"seqjax"}} <= BOTTOM
    if module == "errors":
        assert AT_IMPORT["seqjax.errors"] <= {"difflib", "numbers", "collections.abc", "typing"}


def test_there_is_no_cycle_at_import():
    ours = {m: {i for i in imports if i in MODULES} for m, imports in AT_IMPORT.items()}
    order = list(graphlib.TopologicalSorter(ours).static_order())  # raises CycleError
    assert order.index("seqjax.errors") < order.index("seqjax.plugin") < order.index("seqjax.cli.run")


# --- names of built-in plugins --------------------------------------------------------------------------


def docstrings(module: ast.Module) -> set[int]:
    """Constants that are documentation: docstrings, and the texts under fields and constants."""
    bodies = [node.body for node in ast.walk(module) if isinstance(getattr(node, "body", None), list)]
    return {
        id(statement.value)
        for body in bodies
        for statement in body
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    }


def mentions(file: Path) -> set[str]:
    """Built-in plugins that the code of a file names: classes, and strings that are a name, an id, a module."""
    classes = {target.partition(":")[2] for _, target in POINTS}
    strings = {form for short, _ in POINTS for form in (short, f"seqjax/{short}")} | classes
    module = tree(file)
    ignored = docstrings(module)
    if file == ROOT / "seqjax" / "config.py":
        for node in module.body:
            target = getattr(node, "target", None) or next(iter(getattr(node, "targets", ())), None)
            if isinstance(target, ast.Name) and target.id in ("DEFAULTS", "DEFAULT_TOKENIZER", "TEXT_FILE"):
                ignored |= {id(inner) for inner in ast.walk(node)}
    found = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in ignored:
            words = {word.strip("\"'`:,.") for word in node.value.split()}
            found |= strings & {node.value, *(word for word in words if "/" in word)}
            found |= {package for package in PACKAGES if package in node.value}
        elif isinstance(node, ast.Name | ast.Attribute | ast.alias):
            word = getattr(node, "id", None) or getattr(node, "attr", None) or getattr(node, "name", "")
            found |= classes & {word.rpartition(".")[2]}
    return found


DISTRIBUTIONS = {"initializers.py": {"uniform"}}
"""Words that are no plugins' names where they stand."""


def test_the_core_names_no_built_in_plugin_but_the_defaults():
    found = {file.name: mentions(file) - DISTRIBUTIONS.get(file.name, set()) for file in CORE}
    assert {name: words for name, words in found.items() if words} == {}
    ids = [*(table["plugin"] for table in config.DEFAULTS.values()), config.DEFAULT_TOKENIZER]
    kinds = [*config.DEFAULTS, "tokenizer"]
    assert [registry.find(kind, full_id).id for kind, full_id in zip(kinds, ids, strict=True)] == ids


def test_the_plugins_are_named_where_they_are():
    """Otherwise the test above could not fail."""
    for short, target in POINTS:
        file = ROOT / "plugins" / f"{target.partition(':')[0].replace('.', '/')}.py"
        assert short in mentions(file)


def test_only_packages_lie_under_plugins():
    for path in (ROOT / "plugins").iterdir():
        if path.name != "__pycache__":
            assert {"__init__.py", "__init__.pyi", "py.typed"} <= {file.name for file in path.iterdir()}, path
            assert path.name.startswith("seqjax_")


def test_a_file_of_a_plugin_package_holds_one_plugin():
    files = sorted(m for m in MODULES if top(m) in PACKAGES and "." in m and not m.rpartition(".")[2].startswith("_"))
    assert files == sorted(target.partition(":")[0] for _, target in POINTS)


# --- safety and size ------------------------------------------------------------------------------------

UNSAFE_MODULES = {"pickle", "joblib", "marshal", "shelve", "dill", "cloudpickle", "yaml", "code", "codeop"}
UNSAFE_CALLS = {"eval", "exec", "compile", "__import__"}


@pytest.mark.parametrize("module", MODULES)
def test_nothing_loads_pickle_or_evaluates_text(module):
    assert not {top(i) for i in EVER[module]} & UNSAFE_MODULES
    nodes = list(ast.walk(tree(MODULES[module])))
    calls = {node.func.id for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert not calls & UNSAFE_CALLS
    assert not {node.arg for node in nodes if isinstance(node, ast.keyword)} & {"allow_pickle", "shell"}
    # Code is brought in by a name at three places: an entry point, a file given with --load, a verb.
    dynamic = {"import_module", "spec_from_file_location", "exec_module", "load_module", "run_path"}
    if module not in ("seqjax.registry", "seqjax.cli.command"):
        assert not {node.attr for node in nodes if isinstance(node, ast.Attribute)} & dynamic


def lines_of_docs(node: ast.AST) -> int:
    first = node.body[0]
    documented = isinstance(first, ast.Expr) and isinstance(getattr(first.value, "value", None), str)
    return first.end_lineno - first.lineno + 1 if documented else 0


@pytest.mark.parametrize("module", MODULES)
def test_files_and_functions_are_short(module):
    file = MODULES[module]
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 300, f"{file}: split it"
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.FunctionDef):
            length = node.end_lineno - node.lineno + 1 - lines_of_docs(node)
            assert length <= 50, f"{file}:{node.lineno} {node.name} has {length} lines: split it"
