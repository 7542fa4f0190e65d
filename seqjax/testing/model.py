"""Checks of a model: its step is a pure function of one sequence, and `unroll` is the scan of the step."""

import functools
import math
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from seqjax.data.spec import Spec, Tokens, Values
from seqjax.data.stream import Stream, next_stream
from seqjax.errors import Error
from seqjax.gradients.contract.problem import Params, Problem
from seqjax.gradients.contract.rows import init_memory, one_input
from seqjax.gradients.contract.window import Batch
from seqjax.gradients.reverse.edges import check_edge_weights
from seqjax.gradients.steps.dependence import depends_on
from seqjax.gradients.steps.precision import cast_float
from seqjax.models.cell import Cell
from seqjax.models.check import check_model, check_steps
from seqjax.models.check_cell import check_layer
from seqjax.models.elementwise import Elementwise
from seqjax.models.layered import Layered
from seqjax.models.model import CountBasedModel, Model, unroll_model
from seqjax.plugin.author import advising, cause
from seqjax.plugin.registry import BUILT_IN, entries, load
from seqjax.testing.compare import BOUND, Failed, Skipped, assert_close, relative_error
from seqjax.testing.elementwise import check_affine, check_complex, check_feeds, check_stable, check_units
from seqjax.testing.line import Check, Found
from seqjax.testing.quick_jit import quick_jit
from seqjax.training.devices import ROWS, make_mesh

T, B = 6, 4
COUNTED_STEPS = 200
"""The length of the stream on which a count-based model is counted."""
SPECS = {
    "tokens": Spec(Tokens(5)), "values": Spec(Values(2)), "pairs": Spec(Values(3), Tokens(4)),
    "one value": Spec(Values(1)), "tokens to values": Spec(Tokens(5), Values(2)),
}  # fmt: skip
"""Inputs and targets on which a model is checked: the first three, or the others if it takes none of the first
three."""
MAIN_SPECS = 3
"""The number of specs that every model is checked on."""
SINGLE_BOUND, HALF_BOUND = 1e-4, 0.3
"""The largest relative errors of losses in float32 and in bfloat16."""


class Sample(NamedTuple):
    """Arguments on which a model is checked.

    Args:
        params: random parameters; for a count-based model they are counted.
        state: the state of B rows, with noise.
        inputs: random inputs, leaves [T, B, ...].
        targets: random targets, leaves [T, B, ...].
    """

    params: Any
    state: Any
    inputs: Any
    targets: Any


def checks(model: Model) -> Sequence[Check]:
    """The checks of a model; the first one is that its methods fit together. A count-based model has no gradient."""
    kinds = ((CountBasedModel, COUNTED), (Cell, CELL), (Elementwise, UNITS))
    chosen = next((checks for kind, checks in kinds if isinstance(model, kind)), TRAINED)
    return [each._replace(function=functools.partial(_in_double, each.function)) for each in chosen]


def check_shapes(model: Model) -> Found:
    """Checks the structures, shapes and dtypes of what the methods return."""
    usable, refused = _usable(model)
    return Found(note=", ".join(usable) + "".join(f"; not {name}: {why}" for name, why in refused.items()))


def check_elementwise(model: Cell) -> Found:
    """Checks that some units have the same new state when the numbers of the other units change.

    In round k the numbers of the units change whose index has bit k. The indices of two units differ in some bit, so
    that each pair of units is separated in some round.
    """
    hidden, rng = model.hidden, np.random.default_rng(7)
    if hidden == 1:
        raise Skipped("it has one unit")

    def arguments(seed):
        draw = lambda *shape: jnp.asarray(rng.normal(size=shape))
        state = model.State(*[draw(hidden) for _ in model.State._fields])
        return draw(model.blocks, hidden), draw(model.blocks, hidden), state, _varied_params(model, seed)

    @quick_jit
    def cell(u, v, state, own):
        return model.cell(u.ravel(), v.ravel(), state, **own)

    one, other = arguments(0), arguments(1)
    want = [cell(*args) for args in (one, other)]
    for bit in range((hidden - 1).bit_length()):
        is_other = (jnp.arange(hidden) >> bit & 1).astype(bool)
        got = cell(*jax.tree.map(lambda a, b, at=is_other: jnp.where(at, b, a), one, other))
        expected = jax.tree.map(lambda a, b, at=is_other: jnp.where(at, b, a), *want)
        assert_close(got, expected, "the new state of some units, when the states of other units change, ")
    unread = [name for name, read in _reads(model, one).items() if not read]
    return Found(note=f"cell does not read {', '.join(unread)}" if unread else "")


def _varied_params(model: Cell, seed: int) -> Params:
    """Parameters of a cell as `init_cell` draws them; constant ones are changed, since they may hide a fault."""
    rng = np.random.default_rng(seed)

    def varied(a):
        return jnp.asarray(a) + (0.1 * rng.normal(size=a.shape) if np.ptp(a) == 0 else 0)

    return jax.tree.map(varied, model.init_cell(jax.random.key(seed)))


def _reads(model: Cell, arguments: tuple) -> dict[str, bool]:
    """For each parameter of a cell, whether the new state depends on it."""
    u, v, state, own = arguments
    are_read = depends_on(lambda own: model.cell(u.ravel(), v.ravel(), state, **own), own)
    # The leaves of a dict are in the order of its sorted keys.
    return dict(zip(sorted(own), are_read, strict=True))


def check_init(model: Model) -> Found:
    """Checks that the initial parameters are a function of the key, and finite."""
    sizes = {}
    for name, spec in _usable(model)[0].items():
        first, again, other = (model.init(jax.random.key(seed), spec) for seed in (0, 0, 1))
        leaves = jax.tree.leaves(first)
        if not _same(first, again):
            raise Failed(f"{name}: init returns different parameters for one key")
        constant = all(np.ptp(a) == 0 for a in map(_bits, leaves) if a.size)  # zeros, for a linear model
        if not constant and _same(first, other):
            raise Failed(f"{name}: init returns the same parameters for different keys")
        if not all(bool(jnp.isfinite(a).all()) for a in leaves):
            raise Failed(f"{name}: the initial parameters are not finite")
        sizes[name] = sum(a.size for a in leaves)
    fixed = [
        jax.tree_util.keystr(path, simple=True, separator="/")
        for (path, a), b in zip(jax.tree.leaves_with_path(first), jax.tree.leaves(other), strict=True)
        if a.size and np.ptp(_bits(a)) > 0 and _same(a, b)
    ]
    note = "parameters: " + ", ".join(f"{size:,} ({name})" for name, size in sizes.items())
    return Found(note=f"{note}; the same for all keys: {', '.join(fixed)}" if fixed else note)


def check_count(model: CountBasedModel) -> Found:
    """Checks that counting twice gives the same parameters."""
    for name, spec in _usable(model)[0].items():
        if not _same(_counted(model, spec), _counted(model, spec)):
            raise Failed(f"{name}: count returns different parameters for one stream")
    return Found()


def check_pure(model: Model) -> Found:
    """Checks that a step gives the same results when it is called again, compiled or not."""
    worst = 0.0
    for name, (params, state, inputs, _) in _samples(model):
        args = params, jax.tree.map(lambda a: a[0], state), inputs[0, 0]
        first = model.step(*args)
        if not _same(first, model.step(*args)):
            raise Failed(f"{name}: a second call of step, with the same arguments, returns something else")
        worst = max(worst, assert_close(quick_jit(model.step)(*args), first, f"{name}: step, compiled, "))
    return Found(worst)


def check_causal(model: Model) -> Found:
    """Checks that an output depends on no later input."""
    for name, (params, state, inputs, _) in _samples(model):
        changed = jnp.concatenate([inputs[: T // 2], _changed(name, inputs)[T // 2 :]])
        got, want = (_unroll(model, params, state, xs)[1][: T // 2] for xs in (changed, inputs))
        assert_close(got, want, f"{name}: outputs of the steps before the first changed input, ")
    return Found()


def check_reads(model: Model) -> Found:
    """Checks that an output depends on the input of its own step."""
    for name, (params, state, inputs, _) in _samples(model):
        _, outputs = _unroll(model, params, state, inputs)
        _, others = _unroll(model, params, state, _changed(name, inputs))
        if np.array_equal(outputs, others):
            raise Failed(f"{name}: the outputs are the same for other inputs")
    return Found()


def check_rows(model: Model) -> Found:
    """Checks that the other rows of a batch change nothing."""
    worst = 0.0
    for name, (params, state, inputs, _) in _samples(model):
        new, outputs = _unroll(model, params, state, inputs)
        for rows in (np.array([2, 0, 3, 1]), np.array([0, 1])):
            got = _unroll(model, params, jax.tree.map(lambda a, rows=rows: a[rows], state), inputs[:, rows])
            want = jax.tree.map(lambda a, rows=rows: a[rows], new), outputs[:, rows]
            worst = max(worst, assert_close(got, want, f"{name}: the rows {rows.tolist()} of {B}, "))
    return Found(worst)


def check_chunks(model: Model) -> Found:
    """Checks that two halves of a window, with the state carried, equal the whole."""
    worst = 0.0
    for name, (params, state, inputs, _) in _samples(model):
        middle, first = _unroll(model, params, state, inputs[: T // 2])
        end, second = _unroll(model, params, middle, inputs[T // 2 :])
        got = end, jnp.concatenate([first, second])
        worst = max(worst, assert_close(got, _unroll(model, params, state, inputs), f"{name}: two halves, "))
    return Found(worst)


def check_scan(model: Model) -> Found:
    """Checks that `unroll` is the scan of `step`: states, losses and gradients, under edge weights as well.

    With weights [T, B], second derivatives are compared, too.
    """
    if model.unroll is None:
        return Found(0.0, "unroll is the scan of step")
    rng, worst = np.random.default_rng(7), 0.0
    weights_T, weights_TB = rng.uniform(-1, 2, T), rng.uniform(-1, 2, (T, B))
    weights_T[2] = weights_TB[3, 1] = 0  # cuts
    for name, sample in _samples(model):
        problem = model.problem(SPECS[name])
        check_edge_weights(problem, sample.params, sample.state, sample[2:])
        for edge_weights in (None, jnp.asarray(weights_T), jnp.asarray(weights_TB)):
            got, want = (_differentiated(each, sample, edge_weights) for each in (problem, Problem(problem.step)))
            shown = "None" if edge_weights is None else list(edge_weights.shape)
            worst = max(worst, assert_close(got, want, f"{name}: unroll, edge weights {shown}, "))
    return Found(worst, "edge weights None, [T] and [T, B]")


def check_finite(model: Model) -> Found:
    """Checks that the gradient at the start of a training is finite, for inputs that are zero as well."""
    for name, spec in _usable(model)[0].items():
        problem, params, sample = model.problem(spec), model.init(jax.random.key(0), spec), _sample(model, spec)

        def loss(params, inputs, problem=problem, targets=sample.targets):
            return problem.unroll(params, problem.init_rows(params, B), (inputs, targets))[1].sum()

        for what, inputs in (("some", sample.inputs), ("zero", jnp.zeros_like(sample.inputs))):
            for path, leaf in jax.tree.leaves_with_path(quick_jit(jax.grad(loss))(params, inputs)):
                if not bool(jnp.isfinite(leaf).all()):
                    where = jax.tree_util.keystr(path)
                    raise Failed(f"{name}: the gradient by {where} is not finite at the start, for {what} inputs")
    return Found()


def check_devices(model: Model) -> Found:
    """Checks that rows on two devices give the same as on one device."""
    if len(jax.devices()) < 2:
        raise Skipped("there is one device only")
    worst = 0.0
    for name, (params, state, inputs, _) in _samples(model):
        whole, by_row, by_step = PartitionSpec(), PartitionSpec(ROWS), PartitionSpec(None, ROWS)
        sharded = jax.shard_map(
            functools.partial(unroll_model, model), mesh=make_mesh(B, 2), in_specs=(whole, by_row, by_step),
            out_specs=(by_row, by_step), check_vma=False,
        )  # fmt: skip
        got = quick_jit(sharded)(params, state, inputs)
        worst = max(worst, assert_close(got, _unroll(model, params, state, inputs), f"{name}: two devices, "))
    return Found(worst)


def check_seeds(model: Model) -> Found:
    """Checks that it can be mapped over parameters, as runs side by side are."""
    worst = 0.0
    for name, (params, state, inputs, _) in _samples(model):
        if not jax.tree.leaves(params):
            raise Skipped("it has no parameters")
        both = jax.tree.map(lambda a: jnp.stack([a, a]), params)
        got = quick_jit(jax.vmap(functools.partial(unroll_model, model), (0, None, None)))(both, state, inputs)
        got = jax.tree.map(lambda a: a[1], got)
        worst = max(worst, assert_close(got, _unroll(model, params, state, inputs), f"{name}: vmap, "))
    return Found(worst)


def check_dtypes(model: Model) -> Found:
    """Checks float32 and bfloat16 against float64."""
    errors: dict[str, float] = {}
    for dtype, bound in (("float32", SINGLE_BOUND), ("bfloat16", HALF_BOUND)):
        for name, (params, state, *xs) in _samples(model):
            spec = SPECS[name]

            def run(precision="float32", dtype=None, arguments=(params, state, tuple(xs)), spec=spec):
                arguments = arguments if dtype is None else cast_float(arguments, dtype)
                return quick_jit(model.problem(spec, precision=precision).unroll)(*arguments)[1]

            what = f"step in {dtype}: mix no dtypes, and let constants have the dtype of the parameters"
            with advising(what):
                got = run("bfloat16") if dtype == "bfloat16" else run(dtype=dtype)
            if not bool(jnp.isfinite(got).all()):
                raise Failed(f"{name}: a loss in {dtype} is not finite")
            if _is_random(state):  # it draws other numbers in another dtype
                errors[dtype] = math.nan
                continue
            error = relative_error(got, run())
            if not error <= bound:
                raise Failed(f"{name}: losses in {dtype}: relative error {error:.1e} > {bound:.0e}", error)
            errors[dtype] = max(error, errors.get(dtype, 0.0))
    shown = {dtype: "finite, and random" if math.isnan(error) else f"{error:.0e}" for dtype, error in errors.items()}
    return Found(note=", ".join(f"{dtype}: {text}" for dtype, text in shown.items()))


def check_strategies(model: Model) -> Found:
    """Checks that it can be traced with every gradient strategy, or that the strategy says why not."""
    refused, num_usable = [], 0
    name, spec = next(iter(_usable(model)[0].items()))
    problem, sample = model.problem(spec), _sample(model, spec)
    batch = Batch(sample[2:], jnp.full((T, B), 1 / (T * B)), jnp.zeros(B, bool), jnp.arange(B, dtype=jnp.int32))

    def estimate(strategy):
        memory = init_memory(strategy, problem, sample.params, sample.state, B, one_input(batch.xs))
        return strategy(problem, sample.params, sample.state, memory, batch, jax.random.key(0))

    for entry in entries("gradient"):
        if entry.distribution != BUILT_IN:
            continue
        try:
            strategy = load(entry)()
            jax.eval_shape(functools.partial(estimate, strategy))
        except Error as why:
            refused.append(f"{entry.name}: {textwrap.shorten(why.message.partition('\n')[0], 100, placeholder=' …')}")
        except Exception as fault:
            raise Failed(f"{name}: with the strategy {entry.name!r} it raises {cause(model, fault)}") from fault
        else:
            num_usable += 1
    return Found(note=f"{num_usable} strategies" + "".join(f"; not {why}" for why in refused))


SHAPES = Check(
    "shapes and dtypes", check_shapes,
    "init(key, spec), init_state(params, spec, key) and step(params, state, x) are written for one sequence. A model "
    "for tokens alone raises seqjax.Error in init for another spec",
)  # fmt: skip
STEPS = (
    Check(
        "step is pure", check_pure,
        "a step depends on its arguments and on the fields alone; a random model keeps a key in its state", BOUND,
    ),
    Check("causal", check_causal, "an output may depend on inputs up to its own step: no flip, no mean over time"),
    Check("rows are independent", check_rows, "no mean over rows: normalise over units", BOUND),
    Check("halves equal the whole", check_chunks, "what a step must know of earlier steps is in the state", BOUND),
    Check("two devices", check_devices, "write pure functions of arrays, which know nothing of devices", BOUND),
)  # fmt: skip
ELEMENTWISE = Check(
    "elementwise", check_elementwise,
    "unit i reads index i of the blocks of u and v, of the state and of the parameters. Units act on each other "
    "through W_hh alone; for a mean, a norm or another product over units, derive from seqjax.Model",
)  # fmt: skip
COUNTED = (SHAPES, Check("count", check_count, "count is a function of the stream"), *STEPS)
"""The checks of a count-based model."""
TRAINED = (
    SHAPES,
    Check("init", check_init, "draw the initial weights from the key, each from a key of its own (jax.random.split)"),
    *STEPS,
    Check("reads its input", check_reads, "compute the output from x, or from a state that x has changed"),
    Check(
        "unroll is the scan of step", check_scan,
        "unroll computes the values and gradients of step, and multiplies the tangent of the state that enters step t "
        "by edge_weights[t], with seqjax.gradients.weigh_edge; without an unroll of your own, step is scanned", BOUND,
    ),
    Check(
        "finite gradients", check_finite,
        "the derivative of sqrt and of a norm is infinite at 0: add a small number below the root",
    ),
    Check("vmap over parameters", check_seeds, "write pure functions of arrays", BOUND),
    Check("float32 and bfloat16", check_dtypes, "compute in the dtype of the parameters"),
    Check(
        "gradient strategies", check_strategies,
        "strategies call step for one sequence and unroll for many, and differentiate both",
    ),
)  # fmt: skip
"""The checks of a model that is trained."""
CELL = (
    SHAPES._replace(meaning="cell(u, v, state) is written for any leading axes, and returns self.State(...)"),
    ELEMENTWISE, *TRAINED[1:],
)  # fmt: skip
"""The checks of a `Cell`."""
UNITS = (
    SHAPES._replace(meaning="cell(u, state) is written for any leading axes, and returns self.State(...)"),
    Check(
        "units read themselves alone", check_units,
        "entry i of the new state may depend on u and on the entries i of the old state only", BOUND,
    ),
    Check(
        "units do not share what they read", check_feeds,
        "entry i of u and of a parameter may feed the units i mod hidden only; else declare shares = True", BOUND,
    ),
    Check(
        "affine recurrence", check_affine,
        "affine = True means A s + b, where A and b depend on u and the parameters only", BOUND,
    ),
    Check(
        "complex state", check_complex,
        "re, im = a re - b im, b re + a im is the product with a + b i; another order is another function", BOUND,
    ),
    Check("stable recurrence", check_stable, "keep eigenvalues below 1, such as by exp(-exp(nu))"),
    *TRAINED[1:],
)  # fmt: skip
"""The checks of an `Elementwise`."""


def _in_double(function: Callable, model: Model) -> Found:
    """Makes the check in float64."""
    with jax.enable_x64(True):
        return function(model)


def _usable(model: Model) -> tuple[dict[str, Spec], dict[str, str]]:
    """The specs that the model takes, and why it refuses the others."""
    usable: dict[str, Spec] = {}
    refused: dict[str, str] = {}
    if isinstance(model, Layered):
        check_layer(model)
    for number, (name, spec) in enumerate(SPECS.items()):
        if number >= MAIN_SPECS and usable:
            break
        try:
            params = _initial(model, spec)
        except Error as why:
            refused[name] = why.message.partition("\n")[0]
            continue
        if isinstance(model, CountBasedModel):
            check_steps(model, spec, params)
        else:
            check_model(model, spec)
        usable[name] = spec
    if not usable:
        raise Failed("it takes no spec: " + "; ".join(f"{name}: {why}" for name, why in refused.items()))
    return usable, refused


def _initial(model: Model, spec: Spec) -> Any:
    """The initial or the counted parameters."""
    if isinstance(model, CountBasedModel):
        return _counted(model, spec)
    return model.init(jax.random.key(0), spec)


def _counted(model: CountBasedModel, spec: Spec) -> Any:
    """The parameters that are counted on a random stream."""
    rng, bounds = np.random.default_rng(3), np.array([0, COUNTED_STEPS])
    inputs, targets = (np.asarray(_values(rng, side, (COUNTED_STEPS,))) for side in (spec.inputs, spec.targets))
    # As in a text or a series, each entry predicts the next one.
    stream = next_stream(inputs, bounds) if spec.inputs == spec.targets else Stream(inputs, targets, bounds)
    return jax.tree.map(jnp.asarray, model.count(stream, spec))


def _samples(model: Model) -> list[tuple[str, Sample]]:
    """A sample for each spec that the model takes."""
    return [(name, _sample(model, spec)) for name, spec in _usable(model)[0].items()]


def _sample(model: Model, spec: Spec) -> Sample:
    rng = np.random.default_rng(7)

    def noisy(a):
        return a + 0.5 * rng.normal(size=a.shape) if jnp.issubdtype(a.dtype, jnp.floating) else a

    params = _initial(model, spec)
    if not isinstance(model, CountBasedModel):
        params = jax.tree.map(noisy, params)
    # Training gives each row a key, which the state of a random model holds.
    keys = jax.random.split(jax.random.key(1), B)
    init_state = lambda key: model.init_state(params, spec, key)
    state = jax.tree.map(noisy, jax.vmap(init_state)(keys))
    sample = Sample(params, state, *(_values(rng, side, (T, B)) for side in (spec.inputs, spec.targets)))
    is_counted = isinstance(model, CountBasedModel)
    if not is_counted and not bool(jnp.isfinite(_unroll(model, params, state, sample.inputs)[1]).all()):
        raise Failed(
            "outputs are not finite when numbers from N(0, 0.25) are added to the initial parameters and states\n"
            "Training may reach any real parameters: map them into their range, such as with jax.nn.softplus or sigmoid"
        )
    return sample


def _changed(name: str, inputs: Any) -> Any:
    """Other inputs, all of which differ."""
    is_ids = jnp.issubdtype(inputs.dtype, jnp.integer)
    return (inputs + 1) % SPECS[name].inputs.width if is_ids else inputs + 1


def _values(rng: np.random.Generator, side: Tokens | Values, shape: tuple[int, ...]) -> Any:
    """Random values of one side of a spec."""
    if isinstance(side, Tokens):
        return jnp.asarray(rng.integers(0, side.size, shape), jnp.int32)
    return jnp.asarray(rng.normal(size=(*shape, side.dim)))


@functools.partial(quick_jit, static_argnums=0)
def _unroll(model, params, state, inputs):
    return unroll_model(model, params, state, inputs)


@functools.partial(quick_jit, static_argnums=0)
def _differentiated(problem: Problem, sample: Sample, edge_weights: Any) -> Any:
    """Losses, states and gradient. Each loss has a weight of its own, so that no two of them can be exchanged.

    With weights [T, B] on the edges, also the derivative of the squared norm of the gradient.
    """

    def loss(params):
        after, losses = problem.unroll(params, sample.state, tuple(sample[2:]), edge_weights)
        return jnp.sum(losses * jnp.cos(jnp.arange(T * B, dtype=losses.dtype)).reshape(T, B)), (losses, after)

    def squared_norm(params):
        (_, results), grads = jax.value_and_grad(loss, has_aux=True)(params)
        return sum(jax.tree.leaves(jax.tree.map(jnp.vdot, grads, grads))), (results, grads)

    if edge_weights is None or edge_weights.ndim < 2:
        return squared_norm(sample.params)[1]
    return jax.grad(squared_norm, has_aux=True)(sample.params)


def _is_random(state: Any) -> bool:
    return any(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in jax.tree.leaves(state))


def _same(one: Any, other: Any) -> bool:
    """Whether two trees have the same bits; NaN equals NaN."""
    return str(jax.tree.structure(one)) == str(jax.tree.structure(other)) and all(
        np.array_equal(a, b, equal_nan=True)
        for a, b in zip(*(jax.tree.leaves(jax.tree.map(_bits, tree)) for tree in (one, other)), strict=True)
    )


def _bits(leaf: Any) -> np.ndarray:
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf)
