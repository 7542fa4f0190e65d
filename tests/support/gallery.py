"""The scripts of docs/gallery. As a program (`make gallery`), it runs them, and writes their figures and the page."""

import ast
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "docs" / "gallery"
PAGE = FOLDER.with_suffix(".md")
ORDER = [
    "lags",
    "first_nan",
    "truncation",
    "estimators",
    "online",
    "rtrl",
    "sweep",
    "coverage",
    "text",
    "paper",
    "page",
    "notebook",
]
"""The names of the scripts, in the order of the page."""
HEAD = """# Gallery

At the end of this page you have seen what seqjax can show, and you can copy the lines behind each figure. Each script
runs alone, in some seconds: `python docs/gallery/lags.py`. The times are those of two cores. Those marked \\* need
Chromium for the picture of a page.
"""


def text_of(name: str) -> tuple[str, str]:
    """The title and the caption of a script: the first line and the rest of its docstring."""
    docstring = ast.get_docstring(ast.parse((FOLDER / f"{name}.py").read_text("utf-8")))
    title, _, caption = docstring.partition("\n\n")
    return title.removesuffix("."), caption


def code_of(name: str) -> str:
    """A script without its docstring."""
    return (FOLDER / f"{name}.py").read_text("utf-8").split('"""', 2)[2].strip()


def needs_browser(name: str) -> bool:
    return '"chromium"' in code_of(name)


def run(name: str, folder: Path) -> tuple[str, float]:
    """What a script prints in a folder, in which it leaves its figure, and its seconds."""
    start = time.perf_counter()
    # Progress is drawn on stderr, which is shown only if the script fails.
    done = subprocess.run([sys.executable, FOLDER / f"{name}.py"], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{name}.py: {done.stderr}")
    return done.stdout, time.perf_counter() - start


def section(name: str, printed: str, seconds: float) -> str:
    """The part of the page about one script."""
    title, caption = text_of(name)
    code = code_of(name)
    count = sum(bool(line.strip()) for line in code.splitlines())
    parts = [f"## {title}", caption, f"![{title}](gallery/{name}.png)"]
    parts += [f"[{name}.py](gallery/{name}.py): {count} lines, {seconds:.0f} s{' \\*' if needs_browser(name) else ''}"]
    parts += [f"```python\n{code}\n```"]
    parts += [f"It prints:\n\n```text\n{printed.strip()}\n```"] if printed.strip() else []
    return "\n\n".join(parts)


def main() -> None:
    parts = [HEAD.strip()]
    for name in ORDER:
        with tempfile.TemporaryDirectory() as folder:
            printed, seconds = run(name, Path(folder))
            shutil.copyfile(Path(folder) / f"{name}.png", FOLDER / f"{name}.png")
        print(f"{name:12}{seconds:6.1f} s", flush=True)
        parts.append(section(name, printed, seconds))
    PAGE.write_text("\n\n".join(parts) + "\n", "utf-8")


if __name__ == "__main__":
    os.environ.setdefault("COLUMNS", "110")
    main()
