"""Reading a compiled program, on a text that is small enough to be counted by hand."""

import importlib.util

import jax
import jax.numpy as jnp
import pytest

from seqjax.accelerators import faults, innermost, known, read, target
from seqjax.errors import Error

TEXT = """\
HloModule jit_f, input_output_alias={ {0}: (0, {}, may-alias), {1}: (1, {}, must-alias) }, entry_computation_layout={}

%step (p: (s32[], f32[3])) -> (s32[], f32[3]) {
  %p = (s32[], f32[3]{0}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %s-start = ((f32[3]{0}), f32[3]{0}, u32[]) fusion-start(%i), kind=kLoop, calls=%fused
  %gemm = f32[3]{0} custom-call(%i), custom_call_target="__cublas$gemm"
  %s-done = f32[3]{0} fusion-done(%s-start)
  ROOT %next = (s32[], f32[3]{0}) tuple(%i, %gemm)
}

%back (p.1: (s32[], f32[3])) -> (s32[], f32[3]) {
  %p.1 = (s32[], f32[3]{0:T(8,128)}) parameter(0)
  ROOT %fusion.1 = (s32[], f32[3]{0:T(8,128)}) fusion(%p.1), kind=kLoop, calls=%fused
}

%kept (k: f32[3]) -> f32[3] {
  ROOT %k = f32[3]{0} parameter(0)
}

%copied (c: f32[3]) -> f32[3] {
  %c = f32[3]{0} parameter(0)
  %copy.1 = f32[3]{0} copy(%c)
  ROOT %copy.2 = f32[3]{0} copy(%copy.1)
}

%update (u: f32[3]) -> f32[3] {
  %u = f32[3]{0} parameter(0)
  %while.1 = (s32[], f32[3]{0}) while(%u), condition=%cond, body=%step, backend_config={"known_trip_count":{"n":"35"}}
  %while.2 = (s32[]) while(%u), body=%back, metadata={op_name="transpose(jvp())"}, config={"known_trip_count":{"n":"7"}}
  %sum-start = f32[3]{0} all-reduce-start(%u), to_apply=%add
  %sum-done = f32[3]{0} all-reduce-done(%sum-start)
  %two = f32[3]{0} conditional(%u, %u, %u), true_computation=%kept, false_computation=%copied
  ROOT %three = f32[3]{0} conditional(%u, %u, %u), branch_computations={%kept, %copied}
}

ENTRY %main (a: f32[3]) -> f32[3] {
  %a = f32[3]{0} parameter(0)
  %call = f32[3]{0} call(%a), to_apply=%copied
  ROOT %while.3 = f32[3]{0} while(%call), condition=%cond, body=%update
}
"""


def test_kernels_of_loops_are_multiplied_by_their_trips():
    program = read(TEXT)
    (updates,) = program.loops
    assert (updates.trips, updates.kernels, updates.collectives) == (None, 35 * 2 + 7 + 1 + 2 + 2, 1)
    assert program.kernels == 2 + updates.kernels
    assert [(loop.trips, loop.kernels, loop.backward) for loop in updates.inner] == [(35, 2, False), (7, 1, True)]
    assert [loop.trips for loop in innermost(program.loops)] == [35, 7]
    assert known(updates.inner)
    assert not known(program.loops)


def test_faults_are_found():
    assert faults(TEXT, num_donated=2) == []
    assert faults(TEXT, num_donated=3) == ["1 of 3 donated arrays are copied"]
    planted = {
        "float64": ("%copy.1 = f32[3]", "%copy.1 = f64[3]"),
        "a callback on the host: xla_ffi_python_gpu_callback": ("__cublas$gemm", "xla_ffi_python_gpu_callback"),
        "to or from the host: outfeed": ("f32[3]{0} copy(%c)", "token[] outfeed(%c)"),
    }
    for fault, (old, new) in planted.items():
        (found,) = faults(TEXT.replace(old, new))
        assert fault in found


def test_a_program_of_this_machine_can_be_read():
    """A matrix product in a loop of five steps, with its reverse pass."""

    def f(w):
        return jax.lax.scan(lambda s, _: (jnp.tanh(w @ s), None), jnp.ones(3), None, length=5)[0].sum()

    program = read(jax.jit(jax.grad(f)).lower(jnp.ones((3, 3))).compile().as_text())
    assert [(loop.trips, loop.backward) for loop in program.loops] == [(5, False), (5, True)]
    assert all(loop.kernels for loop in program.loops)


def test_targets_that_there_are_not():
    with pytest.raises(Error, match=r"'v5e:2x3': there are h100, v5e, and slices of v5e: 2x2, 2x4, 4x4"):
        target("v5e:2x3")


@pytest.mark.skipif(importlib.util.find_spec("jax_cuda13_plugin") is not None, reason="has the compiler for CUDA")
def test_without_a_compiler_it_says_what_to_install():
    with pytest.raises(Error, match=r"pip install 'seqjax\[cuda\]'"):
        target("h100")
