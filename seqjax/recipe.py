"""Recipes in the folders of runs: written, read and compared."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path

from seqjax import config, folder
from seqjax.environment import missing_plugins
from seqjax.errors import Error
from seqjax.experiment import Experiment


def recipe_file(experiment: Experiment) -> bytes:
    """What a run keeps of its recipe; an `Error` for one that no file can keep."""
    text = experiment.to_toml()
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as fault:
        line = text[: fault.end].rpartition("\n")[2]
        raise Error(f"the recipe cannot be kept in a file, which is UTF-8: {line!a}…; give it another name") from fault


def read_recipe(path: Path) -> Experiment:
    """The recipe of the run in a folder."""
    if not (path / folder.CONFIG).is_file():
        raise Error(f"{path} holds no run: it has no {folder.CONFIG}; choose another folder")
    missing = missing_plugins(path)
    if missing:
        loads = " ".join(f"--load {file}" for file in missing)
        raise Error(
            f"{path} needs local plugins that are not loaded; it keeps a copy of their files\n"
            f"Read them, since loading runs them, and then add: {loads}"
        )
    recipe = folder.read(path / folder.CONFIG, lambda data: config.from_toml(data.decode("utf-8")))
    try:
        return Experiment(**config.resolve(folder.with_data(recipe, path)))
    except Error as fault:
        raise Error(f"{path / folder.CONFIG}: {fault}", exit_code=fault.exit_code) from fault


def differences(kept: Experiment, asked: Experiment, varied: Iterable[str] = ()) -> list[str]:
    """What is not the same in two recipes, a line each, leaving out the fields in `varied`, such as `model.hidden`."""
    default = config.create("tokenizer", config.DEFAULT_TOKENIZER)
    if {kept.tokenizer, asked.tokenizer} == {None, default}:
        asked = dataclasses.replace(asked, tokenizer=kept.tokenizer)
    if kept == asked:
        return []
    tables = config.to_config(kept), config.to_config(asked)
    for table in tables:
        for field in varied:
            _leave_out(table, *field.split("."))
    return [
        f"{key}: there {tables[0].get(key)}, asked for {tables[1].get(key)}"
        for key in {**tables[0], **tables[1]}
        if tables[0].get(key) != tables[1].get(key)
    ]


def _leave_out(table, name, *inner):
    if not inner:
        table.pop(name, None)
    elif isinstance(table.get(name), dict):
        _leave_out(table[name], *inner)
