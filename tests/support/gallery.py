"""The scripts of docs/gallery. As a program (`make gallery`), it runs them, and writes their figures and the page."""

import ast
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
    "tasks",
    "referee",
    "text",
    "paper",
    "notebook",
]
"""The names of the scripts, in the order of the page."""
HEAD = """# Gallery

At the end of this page you have seen what seqjax can show, and you can copy the lines behind each figure. Each script
runs alone: `python docs/gallery/lags.py`. The times are measured on two cores, with compiling and importing."""
# Without a sandbox, since root has none; the pages are those of the scripts.
BROWSER = ["chromium", "--headless", "--no-sandbox", "--hide-scrollbars", "--force-device-scale-factor=1.4"]


def text_of(name: str) -> tuple[str, str]:
    """The title and the caption of a script: the first line and the rest of its docstring."""
    docstring = ast.get_docstring(ast.parse((FOLDER / f"{name}.py").read_text("utf-8")))
    title, _, caption = docstring.partition("\n\n")
    return title.removesuffix("."), caption


def code_of(name: str) -> str:
    """A script without its docstring."""
    return (FOLDER / f"{name}.py").read_text("utf-8").split('"""', 2)[2].strip()


def count_of(name: str) -> int:
    """The number of lines of a script that are not blank, without its docstring."""
    return sum(bool(line.strip()) for line in code_of(name).splitlines())


def run(name: str, folder: Path) -> tuple[Path, str, float]:
    """Runs a script in a folder: the figure or the page that it left there, what it printed, and its seconds."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, FOLDER / f"{name}.py"], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{name}.py: {done.stderr}")
    (made,) = [file for file in (folder / f"{name}.png", folder / f"{name}.html") if file.exists()]
    return made, done.stdout.strip(), time.perf_counter() - start


def picture_of(page: Path) -> Path:
    """A picture of the beginning of a page, by Chromium."""
    picture = page.with_suffix(".png")
    command = [*BROWSER, "--window-size=700,900", f"--screenshot={picture}", page.resolve().as_uri()]
    subprocess.run(command, check=True, capture_output=True)
    return picture


def section(name: str, printed: str, seconds: float) -> str:
    """The part of the page about one script."""
    title, caption = text_of(name)
    parts = [f"## {title}", caption, f"![{title}](gallery/{name}.png)"]
    parts += [f"[{name}.py](gallery/{name}.py): {count_of(name)} lines, {seconds:.0f} s"]
    parts += [f"```python\n{code_of(name)}\n```"]
    parts += [f"It prints:\n\n```text\n{printed}\n```"] if printed else []
    return "\n\n".join(parts)


def main() -> None:
    parts = [HEAD]
    for name in ORDER:
        with tempfile.TemporaryDirectory() as folder:
            made, printed, seconds = run(name, Path(folder))
            picture = picture_of(made) if made.suffix == ".html" else made
            shutil.copyfile(picture, FOLDER / f"{name}.png")
        print(f"{name:12}{seconds:6.1f} s", flush=True)
        parts.append(section(name, printed, seconds))
    PAGE.write_text("\n\n".join(parts) + "\n", "utf-8")


if __name__ == "__main__":
    main()
