"""`quick_jit`: `jax.jit` for programs that run once or twice."""

import functools

import jax

# The programs of checks are so small that nearly all their time is compiling, half of which would be optimisation.
quick_jit = functools.partial(
    jax.jit, compiler_options={"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
)
