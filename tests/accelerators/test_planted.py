"""What must not be in a program, planted into programs for devices that are not there: `make accelerators`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from seqjax.accelerators import faults, innermost, read, target
from seqjax.errors import Error

pytestmark = pytest.mark.slow


@functools.cache
def devices(name):
    try:
        return target(name)
    except Error as missing:
        if "not installed" not in str(missing):
            raise
        pytest.skip(str(missing))


def compiled(name, f, **options):
    """The text of the program of f(float[4, 8])."""
    spec, mesh = PartitionSpec(), Mesh(np.array(devices(name).devices), ("rows",))
    x = jax.ShapeDtypeStruct((4, 8), jnp.float32, sharding=NamedSharding(mesh, spec))
    if len(devices(name).devices) > 1:
        f = jax.shard_map(f, mesh=mesh, in_specs=(spec,), out_specs=spec, check_vma=False)
    return devices(name).compile(jax.jit(f, **options), x).as_text()


def loop(x, body):
    return jax.lax.scan(lambda s, _: (body(s), None), x, None, length=20)[0]


@pytest.mark.parametrize("name", ["h100", "v5e"])
def test_a_lost_donation_is_found(name):
    f = lambda x: loop(x, jnp.sin)
    assert faults(compiled(name, f, donate_argnums=0), num_donated=1) == []
    assert faults(compiled(name, f), num_donated=1) == ["1 of 1 donated arrays are copied"]


def test_a_program_with_a_callback_on_the_host_does_not_compile():
    """JAX asks the device for its callbacks; `faults` finds one in a text of a machine that has the device."""

    def noisy(x):
        jax.debug.callback(lambda x: None, x[0, 0])
        return jnp.sin(x)

    with pytest.raises(RuntimeError, match="Unknown backend"):
        compiled("h100", lambda x: loop(x, noisy))


def test_float64_is_found():
    with jax.enable_x64(True):
        text = compiled("h100", lambda x: loop(x, lambda s: jnp.sin(s.astype(jnp.float64)).astype(jnp.float32)))
    (found,) = faults(text)
    assert "float64" in found


def test_a_second_all_reduce_is_counted():
    one = lambda s: jax.lax.psum(jnp.sin(s), "rows")
    two = lambda s: jax.lax.psum(jnp.sin(one(s)), "rows")
    for body, count in ((one, 1), (two, 2)):
        text = compiled("v5e:2x2", functools.partial(loop, body=body))
        assert [found.collectives for found in innermost(read(text).loops)] == [count]


def test_a_residual_more_is_a_kernel_more():
    """In the gradient of a loop, whose sine is kept beside its cosine."""

    def kernels(body):
        loops = read(compiled("h100", jax.grad(lambda x: loop(x, body).sum()))).loops
        return next(found.kernels for found in loops if not found.backward)

    assert kernels(lambda s: jnp.sin(s) * jnp.roll(jnp.cos(s), 1)) > kernels(jnp.sin)
