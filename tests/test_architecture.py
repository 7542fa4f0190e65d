"""The rules of the architecture, read from the source."""

import ast
import functools
import graphlib
import re
import tomllib
from pathlib import Path

from seqjax.data.preparing import DEFAULT_TOKENIZER
from seqjax.plugin import registry
from seqjax.runs import settings

ROOT = Path(__file__).parents[1]
CORE = sorted((ROOT / "seqjax").rglob("*.py"))
PLUGINS = sorted((ROOT / "plugins").rglob("*.py"))
PACKAGES = {path.name for path in (ROOT / "plugins").iterdir() if path.is_dir()} - {"__pycache__"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
POINTS = [point for group in registry.GROUPS.values() for point in PROJECT["entry-points"][group].items()]

LAYERS = {
    "errors": set(),
    "extras": {"errors"},
    "accelerators": {"errors"},
    "memory": {"errors"},
    "parse": set(),
    "columns": set(),
    "terminal": {"errors"},
    "signals": {"errors", "terminal"},
    "files": {"errors", "memory"},
    "user_cache": {"errors", "files", "parse"},
    "plugin": {"errors", "files", "parse"},
    "datasets": {"plugin"},
    "tokenizers": {"plugin"},
    "samplers": {"plugin"},
    "optimizers": {"plugin"},
    "trackers": {"plugin"},
    "launchers": {"plugin"},
    "report": {"errors", "extras", "columns", "terminal", "files", "parse", "plugin"},
    "gradients": {"errors", "plugin"},
    "diagnostics": {"errors", "memory", "terminal", "plugin", "report", "gradients"},
    "data": {"errors", "extras", "files", "user_cache", "plugin", "gradients"},
    "models": {"errors", "extras", "plugin", "gradients", "data"},
    "training": {
        *("errors", "memory", "columns", "files", "parse", "user_cache", "plugin"),
        *("gradients", "data", "models"),
    },
    "array_files": {"errors", "files", "parse", "gradients"},
    "streams": {"errors", "files", "parse", "plugin", "gradients", "data", "models", "training", "array_files"},
    "analysis": {"errors", "plugin", "report", "data"},
    "runs": {
        *("errors", "extras", "accelerators", "columns", "terminal", "signals", "files", "parse", "plugin", "report"),
        *("gradients", "diagnostics", "data", "models", "training", "array_files"),
    },
    "sweeps": {
        *("errors", "extras", "terminal", "signals", "files", "parse", "plugin", "report"),
        *("gradients", "data", "training", "array_files", "runs"),
    },
    "testing": {
        *("errors", "plugin", "report", "gradients", "data", "models", "training", "analysis"),
        *("array_files", "runs", "sweeps"),
    },
    "templates": {"data", "models", "training", "runs", "sweeps"},
}
"""Layer -> the layers that its files may import, besides its own. The command line may import all of them."""
LAYERS["cli"] = {*LAYERS}


def name(file: Path) -> str:
    """The dotted name of a module of ours."""
    base = ROOT / "plugins" if file.is_relative_to(ROOT / "plugins") else ROOT
    return ".".join(file.relative_to(base).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name(file): file for file in [*CORE, *PLUGINS]}


@functools.cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def stub(package: str) -> dict[str, str]:
    """Which module a lazy name of a package comes from."""
    file = MODULES[package].with_suffix(".pyi")
    if not file.exists():
        return {}
    nodes = [node for node in tree(file).body if isinstance(node, ast.ImportFrom)]
    sources = {node: f"{package}.{node.module}" if node.level else str(node.module) for node in nodes}
    return {alias.name: source for node, source in sources.items() for alias in node.names}


def imported(module: str) -> set[str]:
    """The modules that the import statements of a module name; of a lazy package the modules behind the names."""
    found = set()
    for node in ast.walk(tree(MODULES[module])):
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


@functools.cache
def ever() -> dict[str, set[str]]:
    """What each module of ours imports."""
    return {module: imported(module) for module in MODULES}


def top(module: str) -> str:
    return module.partition(".")[0]


def layer(module: str) -> str:
    """The layer of a module of the core: its folder, or its file."""
    return module.split(".")[1] if "." in module else ""


def forbidden(imports: dict[str, set[str]]) -> set[tuple[str, str]]:
    """(module, imported module) for each import of the core that its layer does not allow."""
    return {
        (module, other)
        for module, others in imports.items()
        for other in others
        if top(module) == top(other) == "seqjax"
        and layer(module) in LAYERS
        and layer(other) in LAYERS
        and layer(other) not in {layer(module), *LAYERS[layer(module)]}
    }


def test_every_file_of_the_core_lies_in_a_layer():
    assert {layer(module) for module in MODULES if top(module) == "seqjax"} == {*LAYERS, "", "__main__"}


def test_layers_import_the_layers_that_the_table_allows():
    assert forbidden(ever()) == set()


def test_a_forbidden_import_is_found():
    planted = ever() | {
        "seqjax.gradients.contract.gradient": ever()["seqjax.gradients.contract.gradient"] | {"seqjax.data.spec"}
    }
    assert forbidden(planted) == {("seqjax.gradients.contract.gradient", "seqjax.data.spec")}


def test_the_table_of_layers_has_no_cycle():
    list(graphlib.TopologicalSorter(LAYERS).static_order())  # raises CycleError


def test_there_is_no_cycle_of_imports():
    """Imports inside functions count, too."""
    ours = {module: others & {*MODULES} for module, others in ever().items()}
    list(graphlib.TopologicalSorter(ours).static_order())  # raises CycleError


def test_the_core_imports_no_plugin_package():
    of_core = {m: imports for m, imports in ever().items() if top(m) == "seqjax" and layer(m) != "templates"}
    assert {(m, i) for m, imports in of_core.items() for i in imports if top(i) in PACKAGES} == set()


def private_imports(file: Path) -> list[str]:
    """What a file imports of the core beside the public names of `seqjax` and of its layers."""
    found = []
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.startswith("seqjax.")]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and top(node.module or "") == "seqjax":
            package = str(node.module)
            is_public = package == "seqjax" or (package.count(".") == 1 and layer(package) in LAYERS)
            is_package = is_public and MODULES[package].name == "__init__.py"
            names = stub(package) if is_package else ()
            # Layers of one file, whose names are all public.
            if package in ("seqjax.errors", "seqjax.extras", "seqjax.user_cache"):
                continue
            found += [f"{package}.{alias.name}" for alias in node.names if alias.name not in names]
    return found


INNER = {*("calls", "contract", "reverse", "influence", "steps")}
"""The folders of `seqjax.gradients`, from which built-in strategies import what no author outside needs."""


def test_built_in_plugins_import_public_names_alone():
    found = {name(file): private_imports(file) for file in PLUGINS}
    ours = {m: [n for n in names if n.split(".")[2] not in INNER] for m, names in found.items()}
    assert {module: names for module, names in ours.items() if names} == {}
    assert {top(module) for module, names in found.items() if names} == {"seqjax_gradients"}


def test_what_plugins_import_is_in_the_documents():
    documents = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("[!c]*.md"))]
    text = "\n".join(document.read_text() for document in documents)
    code = "\n".join(re.findall(r"```.*?```|`[^`\n]+`", text, re.S))
    imported = {
        alias.name
        for file in PLUGINS
        for node in ast.walk(tree(file))
        if isinstance(node, ast.ImportFrom) and top(node.module or "") == "seqjax" and node.module.count(".") < 2
        for alias in node.names
    }
    assert {"weighted_sum", "bit_patterns"} <= imported
    assert {word for word in imported if not re.search(rf"\b{word}\b", code)} == set()


def test_a_private_import_of_a_plugin_is_found(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from seqjax.gradients.contract.gradient import over_rows\nfrom seqjax import Cell\n"
        "from seqjax.data import Nope\n"
    )
    assert private_imports(file) == ["seqjax.gradients.contract.gradient.over_rows", "seqjax.data.Nope"]


def test_a_plugin_package_imports_the_core_and_itself():
    for module, imports in ever().items():
        if top(module) in PACKAGES:
            ours = {top(i) for i in imports if top(i) in PACKAGES | {"seqjax", "tests", "experiments"}}
            assert ours <= {"seqjax", top(module)}, module


def docstrings(module: ast.Module) -> set[int]:
    """Constants that are documentation: docstrings, and the texts under fields and constants."""
    bodies = [node.body for node in ast.walk(module) if isinstance(getattr(node, "body", None), list)]
    return {
        id(statement.value)
        for body in bodies
        for statement in body
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    }


NAMING = ("DEFAULTS", "FOR_VALUES", "DEFAULT_TOKENIZER", "TABLE_FILE", "TEXT_FILE", "LAUNCHER")
"""The constants that may name built-in plugins."""


def mentions(file: Path) -> set[str]:
    """Built-in plugins that the code of a file names: classes, and strings that are a name, an id, a module.

    "last" is an ordinary word, such as in `weights="last"`.
    """
    classes = {target.partition(":")[2] for _, target in POINTS}
    strings = {form for short, _ in POINTS for form in (short, f"seqjax/{short}")} - {"last"} | classes
    module = tree(file)
    ignored = docstrings(module)
    if file in (ROOT / "seqjax" / "runs" / "settings.py", ROOT / "seqjax" / "data" / "preparing.py"):
        for node in module.body:
            target = getattr(node, "target", None) or next(iter(getattr(node, "targets", ())), None)
            if isinstance(target, ast.Name) and target.id in NAMING:
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


OTHER_WORDS = {
    "extras.py": {"digits", "tensorboard", "trackio"},
    "initializers.py": {"uniform"},
    "report.py": {"csv"},
    "registry.py": {"local"},
    "join.py": {"slurm"},
    "verify.py": {"ok", "OK"},
    "wrapping.py": {"Full"},
}
"""Words that are no plugins' names where they stand."""


def test_the_core_names_no_built_in_plugin_but_the_defaults():
    found = {file.name: mentions(file) - OTHER_WORDS.get(file.name, set()) for file in CORE}
    assert {name: words for name, words in found.items() if words} == {}
    tables = [*settings.DEFAULTS.items(), *settings.FOR_VALUES.items()]
    ids = [*(table["plugin"] for _, table in tables), DEFAULT_TOKENIZER, settings.LAUNCHER]
    kinds = [*(kind for kind, _ in tables), "tokenizer", "launcher"]
    assert [registry.find(kind, full_id).id for kind, full_id in zip(kinds, ids, strict=True)] == ids


def test_the_plugins_are_named_where_they_are():
    """Otherwise the test above could not fail."""
    for short, target in POINTS:
        assert short == "last" or short in mentions(MODULES[target.partition(":")[0]])


def test_only_packages_lie_under_plugins():
    for path in (ROOT / "plugins").iterdir():
        if path.name != "__pycache__":
            assert {"__init__.py", "__init__.pyi", "py.typed"} <= {file.name for file in path.iterdir()}, path
            assert path.name.startswith("seqjax_")


def test_a_file_of_a_plugin_package_holds_one_plugin():
    modules = {m for m, file in MODULES.items() if top(m) in PACKAGES and file.name != "__init__.py"}
    files = sorted(m for m in modules if not m.rpartition(".")[2].startswith("_"))
    assert files == sorted(target.partition(":")[0] for _, target in POINTS)


def is_long(value: ast.expr | None) -> bool:
    """Whether this is a tuple of more than four values. One with texts is a list of names, such as those of columns."""
    is_tuple = isinstance(value, ast.Tuple) and len(value.elts) > 4
    return is_tuple and not any(isinstance(getattr(element, "value", None), str) for element in value.elts)


def long_tuples(module: ast.Module) -> list[int]:
    """The lines that return or unpack a tuple of more than four values; those should be named."""
    found = []
    for node in ast.walk(module):
        # A tuple of texts, such as the columns of a table, is a list of names and has no positions to confuse.
        if isinstance(node, ast.Return) and not all(
            isinstance(e, ast.Constant) for e in getattr(node.value, "elts", ())
        ):
            tuples = [node.value]
        elif isinstance(node, ast.Assign) and not isinstance(node.value, ast.Tuple):
            tuples = node.targets
        else:
            continue
        found += [node.lineno for value in tuples if is_long(value)]
    return found


VJP_RULES = {"seqjax.models.cell_scan": 1}
"""The rule of a custom VJP returns a tuple with one cotangent for each argument."""


def test_no_function_returns_or_unpacks_a_tuple_of_more_than_four():
    found = {name(file): len(long_tuples(tree(file))) for file in [*CORE, *PLUGINS]}
    assert {file: count for file, count in found.items() if count} == VJP_RULES


def test_a_long_tuple_is_found():
    assert long_tuples(ast.parse("a, b, c, d, e = f()\n\ndef g():\n    return a, b, c, d, e\n")) == [1, 4]


DECIDING = [
    file
    for file in [*CORE, *PLUGINS]
    if name(file).startswith(("seqjax.gradients", "seqjax.models", "seqjax_gradients", "seqjax_models"))
]
OF_DATA = {"dtype", "shape", "_fields"}
"""What is asked for of arrays and tuples, which may be something else."""
OTHERS_PROBED = {
    "seqjax.gradients.contract.problem": {"getattr(self, field.name)"},
    # Objects of other libraries declare nothing of ours.
    "seqjax.models.flax_modules": {"hasattr(module, 'initialize_carry')"},
    "seqjax.models.equinox_modules": {"hasattr(module, 'init_state')"},
    "seqjax_models.flax_cell": {"getattr(nnx, name)"},
}
"""Copies of all fields, and objects of other libraries."""


def is_of_class(node: ast.expr) -> bool:
    """Whether this is `type(a).f` or `Class.f`."""
    if not isinstance(node, ast.Attribute):
        return False
    of = node.value
    is_type = isinstance(of, ast.Call) and ast.unparse(of.func) == "type"
    return is_type or (isinstance(of, ast.Name) and of.id[0].isupper() and not of.id.isupper())


def is_probe(node: ast.AST) -> bool:
    """Whether this asks what a class has defined, in place of asking for a value."""
    match node:
        case ast.Compare():
            return any(map(is_of_class, [node.left, *node.comparators]))
        case ast.Attribute():
            return node.attr in ("__dict__", "__mro__", "__func__", "__code__")
        case ast.Call(args=[_, attribute, *_]) if ast.unparse(node.func) in ("hasattr", "getattr"):
            return not isinstance(attribute, ast.Constant) or attribute.value not in OF_DATA
    return False


def probes(module: ast.Module) -> set[str]:
    return {ast.unparse(node) for node in ast.walk(module) if is_probe(node)}


def test_what_an_author_may_write_is_asked_for_by_a_value():
    """None stands for nothing; whether a subclass overrides a method is never asked."""
    found = {name(file): probes(tree(file)) for file in DECIDING}
    assert {module: calls for module, calls in found.items() if calls} == OTHERS_PROBED


def test_a_probe_is_found():
    code = "type(a).f is A.f\nBase.f != self.f\nhasattr(a, 'f')\ngetattr(a, 'f', None)\na.__dict__\ngetattr(a, 'dtype')"
    assert len(probes(ast.parse(code))) == 5


UNSAFE_MODULES = {"pickle", "joblib", "marshal", "shelve", "dill", "cloudpickle", "yaml", "code", "codeop"}
UNSAFE_CALLS = {"eval", "exec", "compile", "__import__"}


DYNAMIC = {"import_module", "spec_from_file_location", "exec_module", "load_module", "run_path"}
BRINGS_CODE = ("seqjax.plugin.registry", "seqjax.cli.command")
"""The modules that bring code in by a name, at three places: an entry point, a file given with --load, a verb."""


def unsafe(module: str) -> set[str]:
    """What a module imports, calls or gives that loads pickle or evaluates text."""
    nodes = list(ast.walk(tree(MODULES[module])))
    calls = {node.func.id for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    attributes = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    found = {top(i) for i in ever()[module]} & UNSAFE_MODULES | calls & UNSAFE_CALLS
    found |= {node.arg for node in nodes if isinstance(node, ast.keyword)} & {"allow_pickle", "shell"}
    return found | (set() if module in BRINGS_CODE else attributes & DYNAMIC)


def test_nothing_loads_pickle_or_evaluates_text():
    assert {module: found for module in MODULES if (found := unsafe(module))} == {}


PRINTING = {"seqjax.testing.process", "seqjax.signals"}
"""Modules that print neither for the command line alone nor by `say`: answers for another process; fixed words."""


def prints(module: str) -> bool:
    """Whether a module prints by itself, or by rich, and not by what escapes control characters."""
    calls = [node.func for node in ast.walk(tree(MODULES[module])) if isinstance(node, ast.Call)]
    names = {getattr(call, "id", "") for call in calls}
    writes = {ast.unparse(call) for call in calls} & {f"sys.{name}.write" for name in ("stdout", "stderr")}
    return "print" in names or bool(writes) or bool(ever()[module] & {"rich", "rich.console", "rich.live"})


def test_only_the_command_line_prints_without_escaping():
    found = {module for module in MODULES if prints(module) and layer(module) not in ("cli", "terminal")}
    assert found <= PRINTING
