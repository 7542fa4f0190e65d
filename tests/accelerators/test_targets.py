"""What a target refuses before it compiles."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import SingleDeviceSharding

from seqjax import Error
from seqjax.accelerators import Target

(DEVICE, *_) = jax.devices()
HERE = Target("here", "cpu", [DEVICE], 0)


@pytest.mark.parametrize("shape", [jax.ShapeDtypeStruct((2,), jnp.float32), 1.0])
def test_an_argument_without_a_device_is_refused(shape):
    with pytest.raises(Error, match="give each argument a sharding on its devices"):
        HERE.compile(jax.jit(jnp.sin), shape)


def test_an_argument_on_the_device_is_compiled():
    shape = jax.ShapeDtypeStruct((2,), jnp.float32, sharding=SingleDeviceSharding(DEVICE))
    assert "sine" in HERE.compile(jax.jit(jnp.sin), shape).as_text()
