"""Prints each file of the code with the first line of its docstring: `make tree`."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
PARTS = ("seqjax", "plugins", "experiments")


def purpose(file: Path) -> str:
    """The first line of the docstring of a module."""
    return (ast.get_docstring(ast.parse(file.read_text("utf-8"))) or "").partition("\n")[0]


def lines() -> list[str]:
    """The lines of the tree: each folder, then its files."""
    found = []
    for folder in sorted({file.parent for part in PARTS for file in (ROOT / part).rglob("*.py")}):
        files = sorted(folder.glob("*.py"))
        own = purpose(folder / "__init__.py") if folder / "__init__.py" in files else ""
        found.append(f"{folder.relative_to(ROOT)}/  {own}")
        found += [f"    {file.name:24}{purpose(file)}" for file in files if file.name != "__init__.py"]
    return found


if __name__ == "__main__":
    print("\n".join(lines()))
