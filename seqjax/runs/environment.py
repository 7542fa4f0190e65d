"""`Environment`: what a run depends on besides its config: versions, devices, data, objects and plugins."""

import contextlib
import dataclasses
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import jax
from annotated_types import Interval
from pydantic import TypeAdapter

from seqjax.array_files.saved_file import from_json, read
from seqjax.runs.files.folder import ENVIRONMENT
from seqjax.runs.fingerprint import Fingerprint
from seqjax.runs.plugin_files import PluginRecord

OPTIONS = ("enable_x64", "default_matmul_precision", "default_prng_impl", "threefry_partitionable")
"""The options of JAX that change the bits of a result."""
OPTIONAL = ("flax", "tokenizers")
"""The packages whose versions matter where they are installed."""
MACHINE = ("backend", "device", "devices", "processes")
"""The entries about the machine, which change at most the last bits of a result."""
Count = Annotated[int, Interval(ge=1, lt=2**31)]


@dataclass(frozen=True)
class Environment:
    """What a run depends on besides its config. `environment.json` has one entry for each field."""

    python: str
    versions: dict[str, str]
    platform: str
    device: str
    backend: str
    enable_x64: bool
    default_matmul_precision: str | None
    default_prng_impl: str
    threefry_partitionable: bool
    xla_flags: str
    devices: Count
    """The number of devices over which rows are sharded."""
    processes: Count
    git_commit: str | None
    data_sha256: dict[str, str]
    """The hashes of the data by the field of the experiment that has them."""
    initial_params_sha256: str | None
    """The hash of initial parameters that were given; None: there are none."""
    objects: dict[str, Fingerprint]
    """The fingerprints of the objects of Python in the experiment, by field."""
    plugins: list[PluginRecord]

    @classmethod
    def from_json(cls, data: bytes) -> "Environment":
        """The environment in the bytes of its file; a `ValueError` if its entries are other ones."""
        return from_json(_FORM, data)

    def to_json(self) -> bytes:
        """The bytes of its file."""
        return (json.dumps(dataclasses.asdict(self), indent=2) + "\n").encode()

    def differences(self, now: "Environment", but: Iterable[str] = ()) -> list[str]:
        """What may change the bits of a result, one line each.

        Args:
            now: another environment.
            but: names of entries that are left out.
        """
        there, here = self._entries(), now._entries()
        # What one of the two environments does not have, the run does not use.
        but = {*but, *(name for name in OPTIONAL if not (name in there and name in here))}
        return [
            f"{name}: then {there.get(name)}, now {here.get(name)}"
            for name in {**there, **here}
            if there.get(name) != here.get(name) and name not in but
        ]

    def _entries(self) -> Mapping[str, Any]:
        """What `differences` compares, by name."""
        names = (*MACHINE, "xla_flags", "initial_params_sha256", *OPTIONS)
        return (
            {name: getattr(self, name) for name in names}
            | self.versions
            | {f"{each['kind']} {each['id']}": f"{each['version']} {each['sha256']}" for each in self.plugins}
            | {field: one["program"][:12] for field, one in self.objects.items()}
        )


_FORM = TypeAdapter(Environment)


def read_environment(path: Path) -> Environment:
    """The environment of the run in a folder.

    Raises:
        Error: exit code 4: its file is missing or damaged.
    """
    return read(path / ENVIRONMENT, Environment.from_json)


def installation() -> dict[str, Any]:
    """The fields of an environment that are the same for all runs of this process."""
    versions = {name: importlib.metadata.version(name) for name in ("seqjax", "jax", "jaxlib", "numpy", "optax")}
    for name in OPTIONAL:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return {
        "python": platform.python_version(),
        "versions": versions,
        "platform": platform.platform(),
        "device": str(jax.local_devices()[0].device_kind),
        "backend": jax.default_backend(),
        **{name: getattr(jax.config, f"jax_{name}") for name in OPTIONS},
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "processes": jax.process_count(),
        "git_commit": _git_commit(),
    }


def _git_commit() -> str | None:
    """The commit of the working folder; None outside a git checkout or without git."""
    git = shutil.which("git")
    done = git and subprocess.run([git, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done and done.returncode == 0 else None
