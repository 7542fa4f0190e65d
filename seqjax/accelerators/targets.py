"""Devices that programs can be compiled for on a machine that has none of them."""

import os
import re
from typing import Any, NamedTuple

import numpy as np
from jax.experimental import topologies

from seqjax.errors import Error

H100 = """
gpu_device_info {
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: 233472
  threads_per_core_limit: 2048
  core_count: 132
  fpus_per_core: 128
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000
  l2_cache_size: 52428800
  clock_rate_ghz: 1.98
  device_memory_size: 84929347584
  shared_memory_per_block_optin: 232448
  cuda_compute_capability { major: 9 }
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 8 }
runtime_version { major: 13 minor: 0 patch: 0 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""
"""What XLA has to know of an H100, as a text of its `GpuTargetConfigProto`."""


class Target(NamedTuple):
    """Devices to compile for.

    Args:
        name: as the user writes it, such as `h100` or `v5e:2x4`.
        platform: `cuda` or `tpu`, which is also the extra of seqjax with its compiler.
        devices: the devices, which execute nothing.
    """

    name: str
    platform: str
    devices: Any

    def compile(self, function: Any, *shapes: Any, **static: Any) -> Any:
        """The compiled program of a jitted function.

        Args:
            function: what `jax.jit` returned.
            shapes: arguments as shapes and dtypes, with shardings on the devices of this target.
            static: the static arguments, by name.
        """
        lowered = function.trace(*shapes, **static).lower(lowering_platforms=(self.platform,))
        return lowered.compile()


def target(name: str) -> Target:
    """The devices with this name: `h100`, one card; `v5e`, one chip; `v5e:2x4`, a slice of eight chips.

    Raises:
        Error: there is no such target, or its compiler is not installed.
    """
    chips = re.fullmatch(r"v5e(?::(\d+)x(\d+))?", name)
    if name != "h100" and not chips:
        raise Error(f"target {name!r}: there are h100, v5e, and slices of v5e such as v5e:2x4")
    platform = "tpu" if chips else "cuda"
    # The compiler would ask the metadata server of the cloud for its chips.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    try:
        if chips:
            # The smallest slice has four chips.
            wanted = (int(chips[1] or 1), int(chips[2] or 1))
            shape = wanted if chips[1] else (2, 2)
            found = topologies.get_topology_desc(platform="tpu", topology_name=f"v5e:{shape[0]}x{shape[1]}")
            return Target(name, platform, found.devices[: int(np.prod(wanted))])
        found = topologies.get_topology_desc(platform="cuda", target_config=H100, topology="1x1x1")
        return Target(name, platform, found.devices)
    except (RuntimeError, ValueError) as fault:
        raise Error(
            f"target {name}: its compiler is not installed, or does not know it ({str(fault).splitlines()[0]:.120})\n"
            f"Type: pip install 'seqjax[{platform}]'"
        ) from fault
