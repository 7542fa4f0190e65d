"""Devices that programs can be compiled for on a machine that has none of them."""

import os
import warnings
from typing import Any, NamedTuple

import jax
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
SLICES = ("2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
"""The slices of v5e that there are; the smallest has four chips."""
MEMORY = {"cuda": 0.75 * 84_929_347_584, "tpu": 15.75 * 2**30}
"""The bytes of a device that a program can have. JAX takes three quarters of the memory of a GPU, unless the variable
XLA_PYTHON_CLIENT_MEM_FRACTION says otherwise; XLA keeps a part of that of a TPU."""

OF_LIBTPU = {"TPU_SKIP_MDS_QUERY": "1", "TPU_ACCELERATOR_TYPE": "v5litepod-4", "TPU_WORKER_HOSTNAMES": "localhost"}
"""What libtpu would ask the metadata server of the cloud for, and would warn of on a machine without a TPU."""


class Target(NamedTuple):
    """Devices to compile for.

    Args:
        name: as the user writes it, such as `h100` or `v5e:2x4`.
        platform: `cuda` or `tpu`, which is also the extra of seqjax with its compiler.
        devices: the devices, which execute nothing.
        memory: the bytes of a device that a program can have.
    """

    name: str
    platform: str
    devices: Any
    memory: int

    def compile(self, function: Any, *shapes: Any, **static: Any) -> Any:
        """The compiled program of a jitted function.

        Args:
            function: what `jax.jit` returned.
            shapes: arguments as shapes and dtypes, with shardings on the devices of this target.
            static: the static arguments, by name.
        """
        leaves = jax.tree.leaves(shapes)
        if any(getattr(a, "sharding", None) is None or not a.sharding.device_set <= {*self.devices} for a in leaves):
            raise Error(
                f"target {self.name}: give each argument a sharding on its devices, such as "
                "jax.ShapeDtypeStruct(shape, dtype, sharding=jax.sharding.SingleDeviceSharding(target.devices[0])); "
                "without one the program would be compiled for this machine"
            )
        lowered = function.trace(*shapes, **static).lower(lowering_platforms=(self.platform,))
        with warnings.catch_warnings():
            # A program of a device that is not here cannot be loaded from the compilation cache of jax.
            warnings.filterwarnings("ignore", "Error reading persistent compilation cache")
            return lowered.compile()


def target(name: str) -> Target:
    """The devices with this name: `h100`, one card; `v5e`, one chip; `v5e:2x4`, a slice of eight chips.

    Raises:
        Error: there is no such target, or its compiler is not installed.
    """
    if name not in ("h100", "v5e", *(f"v5e:{shape}" for shape in SLICES)):
        raise Error(f"target {name!r}: there are h100, v5e, and slices of v5e: {', '.join(SLICES)}, such as v5e:2x4")
    platform = "cuda" if name == "h100" else "tpu"
    memory = int(MEMORY[platform])
    for variable, value in OF_LIBTPU.items():
        os.environ.setdefault(variable, value)
    try:
        if platform == "tpu":
            found = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2" if name == "v5e" else name)
            return Target(name, platform, found.devices[:1] if name == "v5e" else found.devices, memory)
        found = topologies.get_topology_desc(platform="cuda", target_config=H100, topology="1x1x1")
        return Target(name, platform, found.devices, memory)
    except (RuntimeError, ValueError) as fault:
        if "lockfile" in str(fault):
            raise Error(f"target {name}: another process uses libtpu; wait until it has ended") from fault
        raise Error(
            f"target {name}: its compiler is not installed ({str(fault).splitlines()[0]:.120})\n"
            f"Type: pip install 'seqjax[{platform}]'\n"
            "If it is installed, and this machine has no such device, set JAX_PLATFORMS=cpu before Python starts"
        ) from fault
