"""Asks for a value that a plugin computes in another process, where sets have another order."""

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from seqjax.data.dataset import Text
from seqjax.errors import Error
from seqjax.plugin import config, registry
from seqjax.plugin.base import Plugin, values_of
from seqjax.testing.compare import Failed, Skipped

SEEDS = "1", "2"
"""Seeds of the hashes of strings in the other process. At least one of them differs from this process's seed."""
LOADED, ANSWER = "seqjax: the file is loaded", "seqjax: the answer is "
"""What the other process prints, among what the plugin may print."""
INSIDE = "SEQJAX_IN_ANOTHER_PROCESS"
"""The environment variable that is set in the other process."""


def in_another_process(plugin: Plugin, question: str, *arguments: Any) -> Any:
    """What a function of `QUESTIONS` returns for the plugin in another process.

    Args:
        plugin: the plugin. It is made again from its table, in a process that imports its file alone.
        question: the name of the function.
        arguments: further arguments, which JSON can hold.

    Raises:
        Skipped: the plugin is not registered, or its file cannot be loaded on its own.
        Failed: the function raises an exception there.
    """
    if INSIDE in os.environ:
        raise Skipped("this is the other process already")  # a file that calls `check` when it is imported
    try:
        entry, table = registry.entry_of(plugin), config.to_table(plugin)
    except Error as why:
        raise Skipped(str(why)) from why
    if entry.source is None:
        raise Skipped(f"the file of {type(plugin).__name__} is not known")
    file = entry.source if entry.distribution == registry.LOCAL else None
    asked = {"file": file, "kind": entry.kind, "table": table, "question": question, "arguments": arguments}
    seed = next(seed for seed in SEEDS if seed != os.environ.get("PYTHONHASHSEED"))
    done = subprocess.run(
        [sys.executable, "-m", "seqjax.testing.process", json.dumps(asked)],
        env=os.environ | {"PYTHONHASHSEED": seed, INSIDE: "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    last = done.stderr.strip().rpartition("\n")[2]
    if LOADED not in done.stdout:
        raise Skipped(f"its file cannot be loaded on its own: {last}")
    answer = re.search(f"^{ANSWER}(.*)$", done.stdout, re.MULTILINE)
    if not answer:
        raise Failed(f"in another process it fails: {last}")
    return json.loads(answer[1])


def backends(plugin: Plugin) -> list[str]:
    """The backends of JAX that have been started."""
    return sorted(getattr(sys.modules.get("jax._src.xla_bridge"), "_backends", {}))


def hash_of_data(plugin: Any) -> str:
    """The hash of a dataset's data."""
    return plugin.load().sha256


def hash_of_ids(plugin: Any, text: str) -> str:
    """The hash of a codec that is fitted to a text, and of the ids that it gives to this text."""
    codec = plugin.fit(Text(text))
    saved = json.dumps([codec.to_dict(), codec.encode(text).tolist()], sort_keys=True)
    return hashlib.sha256(saved.encode("utf-8", "surrogatepass")).hexdigest()


def session_without_close(plugin: Any, run: str, config: Mapping[str, Any]) -> None:
    """Sends a row of a run to a tracker, and does not close the session."""
    plugin.open(Path(run), config, 0).row(1, {"train_loss": 2.0})


def opened_by_making(plugin: Plugin) -> list[str]:
    """What an instance opens when it is made: files that are written, databases, processes, connections."""
    opened: list[str] = []

    def listen(event, args):
        if event == "open" and "__pycache__" not in str(args[0]) and (args[2] or 0) & (os.O_WRONLY | os.O_RDWR):
            opened.append(f"open {args[0]}")
        elif event in ("os.mkdir", "sqlite3.connect", "subprocess.Popen", "socket.connect", "socket.getaddrinfo"):
            opened.append(" ".join(map(str, [event, *args[:1]])))

    sys.addaudithook(listen)
    type(plugin)(**values_of(plugin))
    return list(opened)


def states_of_jobs(plugin: Any, ids: Sequence[str]) -> dict[str, str]:
    """What a launcher says of jobs that another process has started."""
    return dict(plugin.alive(ids))


QUESTIONS: dict[str, Callable] = {
    f.__name__: f
    for f in (backends, hash_of_data, hash_of_ids, session_without_close, opened_by_making, states_of_jobs)
}
"""Name -> function of the plugin and the further arguments."""


def main() -> None:
    """Prints the answer as JSON."""
    asked = json.loads(sys.argv[1])
    if asked["file"]:
        registry.load_file(asked["file"])
    plugin = config.from_table(asked["kind"], asked["table"])
    print(f"\n{LOADED}", flush=True)
    answer = QUESTIONS[asked["question"]](plugin, *asked["arguments"])
    print(f"\n{ANSWER}{json.dumps(answer)}", flush=True)


if __name__ == "__main__":
    main()
