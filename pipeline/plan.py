"""What a run will do, before any data is read: passes, blocks, tasks, bytes, and peak memory per worker.

Not here: doing it (`fitting.py`, `apply.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from pipeline.block import Tiling, axes_of, block_step, step_of_fewest_reads
from pipeline.errors import ConfigError
from pipeline.executor import MERGE_FAN_IN, Workers, blocks_per_task
from pipeline.normalize.memory import ParameterBytes
from pipeline.normalize.step import Step
from pipeline.source.held import HeldSource
from pipeline.source.lazy import LazySource
from pipeline.source.source import Source
from pipeline.statistics.covariance import covariance_bytes
from pipeline.statistics.float_histogram import ENTRY_BYTES, float_histogram_bytes
from pipeline.statistics.histogram import bin_count

HISTOGRAM_BYTES_AT_MOST = 16 * 2**20
MOMENTS_BYTES_PER_FEATURE = 400
COUNT_BYTES = 8
GATHERED_AS = {"moments": "moments", "distribution": "float_histogram", "covariance": "covariance"}
FROM_HISTOGRAM = frozenset({"moments", "distribution"})
MOMENTS_ONLY = frozenset({"moments"})
SHARING_COSTS_AT_MOST = 4
DEVIATIONS = ("deviations",)
DERIVING = 8
QUANTILES = 12
SAVING = 6
SUMMARIES_A_THREAD = 3  # what it merges, with what, and into what; one of each tree waits
BLOCK_TO_SUMMARIES = 8
SMALL_BLOCK_BYTES = 4 * 2**20
BLOCKS_AT_LEAST = 16
TREES_AT_MOST = 512
PROCESS_BYTES = 400 * 2**20
UNITS_DECODED_AT_ONCE = 10
NORMALIZING_BYTES = 20 * 2**20
NO_PARAMETERS = ParameterBytes()


@dataclass(frozen=True)
class Pass:
    """One read of the source for statistics.

    Parameters
    ----------
    at : int
        The statistics are those of the values that reach this step; the steps before it run inside the read. Where what a
        step observes is summarized: the number after that step's, since its observer runs in its place.
    per : tuple of str
        The dims that are kept, in the order in which the steps before it leave them.
    summaries : tuple of str
        Which summaries are kept, keys of `SUMMARIES`.
    fits : tuple of int
        The steps that are fitted from it, the later ones by derivation.
    observes : str
        What the values are turned into before they are summarized, where the step that is fitted observes.
    sizes : tuple of (str, int)
        The dims of which steps before it keep a part, or which they make, with their sizes.
    """

    at: int
    per: tuple[str, ...]
    summaries: tuple[str, ...]
    fits: tuple[int, ...]
    observes: str = ""
    sizes: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Phase:
    """One pass over blocks, as figures.

    Parameters
    ----------
    name : str
        `read`, `fit` or `apply`.
    block_shape : tuple of int
        The largest block.
    blocks, tasks : int
        Tasks are those of the Dask graph: the blocks, several to a task where there are many, and the merges of their
        summaries. Threads of one process take the blocks without it.
    bytes_read, bytes_written : int
        Decoded bytes; a chunk that has to be read twice counts twice, and what is held in memory is not read.
    peak_bytes_per_worker : int
        Predicted resident memory of a worker process.
    parameter_bytes : int
        What of that is parameters of fitted steps.
    """

    name: str
    block_shape: tuple[int, ...]
    blocks: int
    tasks: int
    bytes_read: int
    bytes_written: int
    peak_bytes_per_worker: int
    parameter_bytes: int = 0


@dataclass(frozen=True)
class Plan:
    """Everything that a run will do.

    Parameters
    ----------
    passes : tuple of Pass
        Reads of the source for statistics, in order.
    phases : tuple of Phase
        Every pass over blocks, in order, the writing one last.
    threads_per_worker : int
        What the prediction of memory supposes.
    """

    passes: tuple[Pass, ...]
    phases: tuple[Phase, ...]
    threads_per_worker: int

    @property
    def is_held(self) -> bool:
        """Whether the input is read into memory first, and from there by every other phase."""
        return any(phase.name == "read" for phase in self.phases)

    @property
    def bytes_read(self) -> int:
        return sum(phase.bytes_read for phase in self.phases)

    @property
    def bytes_written(self) -> int:
        return sum(phase.bytes_written for phase in self.phases)

    @property
    def peak_bytes_per_worker(self) -> int:
        return max((phase.peak_bytes_per_worker for phase in self.phases), default=PROCESS_BYTES)

    @property
    def parameter_bytes(self) -> int:
        """Those of all steps, once they are fitted."""
        return max((phase.parameter_bytes for phase in self.phases), default=0)

    def beside(self, held_bytes: int) -> Plan:
        """The same where so many bytes more are held all the while."""
        phases = (replace(phase, peak_bytes_per_worker=phase.peak_bytes_per_worker + held_bytes) for phase in self.phases)
        return replace(self, phases=tuple(phases))

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON types."""
        return {
            "fit_passes": len(self.passes),
            "reads": 1 if self.is_held else len(self.phases),
            "blocks": sum(phase.blocks for phase in self.phases),
            "tasks": sum(phase.tasks for phase in self.phases),
            "bytes_read": self.bytes_read,
            "bytes_written": self.bytes_written,
            "peak_bytes_per_worker": self.peak_bytes_per_worker,
            "threads_per_worker": self.threads_per_worker,
            "passes": [asdict(each) for each in self.passes],
            "phases": [asdict(phase) for phase in self.phases],
        }


def plan_passes(steps: Sequence[Step], source: Source, describe: bool = False) -> tuple[Pass, ...]:
    """The fewest reads that fit `steps`.

    A pass is begun for the first fitted step that nothing gathered so far determines. Its summaries also serve every later
    fitted step whose input's statistics follow from them: through affine steps, or, from an exact histogram, through any
    elementwise steps.

    Parameters
    ----------
    steps : sequence of Step
        Bound to the source.
    source : Source
    describe : bool
        Whether a chain with nothing to fit gathers the statistics of its output all the same.
    """
    fitted = [index for index, step in enumerate(steps) if step.fitted_per is not None]
    if not fitted and describe:
        return (_base(steps, source, len(steps), (), MOMENTS_ONLY),)
    passes: list[Pass] = []
    while fitted:
        found = _observing(steps, source, fitted[0]) or (_longest(steps, source, fitted),)
        fitted = [index for index in fitted if index not in found[-1].fits]
        passes.extend((*found, *_deviating(steps, source, found[-1])))
    return tuple(passes)


def _pass(
    steps: Sequence[Step],
    source: Source,
    at: int,
    per: Iterable[str],
    summaries: tuple[str, ...],
    fits: tuple[int, ...] = (),
    observes: str = "",
) -> Pass:
    """The pass over what the first `at` of `steps` put out, with the dims `per` in their order."""
    wanted, before = set(per), dict(zip(source.dims, source.shape, strict=True))
    left = output_sizes(steps[:at], source)
    sizes = tuple((dim, size) for dim, size in left.items() if before.get(dim) != size)
    return Pass(at, tuple(dim for dim in left if dim in wanted), summaries, fits, observes, sizes)


def _deviating(steps: Sequence[Step], source: Source, means: Pass) -> Iterator[Pass]:
    """The reads of |x − mean| for the steps that are fitted to that, once `means` has given the means."""
    for index in means.fits if means.summaries != ("histogram",) else ():
        if steps[index].needs_deviation:
            yield _pass(steps, source, index, steps[index].fitted_per or (), DEVIATIONS, (index,))


def output_sizes(steps: Sequence[Step], source: Source) -> dict[str, int]:
    """The dims, in order, and sizes of what `steps`, bound to `source`, put out."""
    sizes = dict(zip(source.dims, source.shape, strict=True))
    for step in steps:
        sizes = step.output_sizes(sizes)
    return sizes


def _observing(steps: Sequence[Step], source: Source, index: int) -> tuple[Pass, ...]:
    """The passes for a step that observes, one for each stage that is fitted; none for any other step."""
    stages = observed_stages(steps[index])
    return tuple(
        _pass(steps, source, index + 1, stage.fitted_per or (), _gathered(stage.needs), (index,), observer.summary)
        for observer, stage in pairwise(stages)
    )


def observed_stages(step: Step) -> tuple[Step, ...]:
    """What a step observes, what that observes and so on, the last one first, and at last the step itself."""
    return (step,) if step.observes is None else (*observed_stages(step.observes), step)


def _longest(steps: Sequence[Step], source: Source, fitted: Sequence[int]) -> Pass:
    """The pass for the first of the steps `fitted` that serves as many of the following ones as it can."""
    best = _serving(steps, source, fitted[:1])
    for count in range(2, len(fitted) + 1):
        longer = _serving(steps, source, fitted[:count])
        alone = _serving(steps, source, fitted[count - 1 : count])
        if not all(_follows(steps, longer, index) for index in longer.fits) or not _worth_sharing(source, best, alone, longer):
            break
        best = longer
    return best


def _worth_sharing(source: Source, best: Pass, alone: Pass, both: Pass) -> bool:
    """Whether one pass for both costs about the memory of two, and keeps no covariance of more dims than it is wanted for."""
    if "covariance" in both.summaries and not all(each.per == both.per for each in (best, alone)):
        return False
    apart = summary_bytes(best, source) + summary_bytes(alone, source)
    return summary_bytes(both, source) <= max(SHARING_COSTS_AT_MOST * apart, SMALL_BLOCK_BYTES)


def _serving(steps: Sequence[Step], source: Source, fits: Sequence[int]) -> Pass:
    """The pass that gathers what all of the steps `fits` need, at the first of them or before it."""
    per = {dim for index in fits for dim in steps[index].fitted_per or ()}
    requires = frozenset().union(*(steps[index].requires for index in fits))
    return replace(_base(steps, source, fits[0], per, requires), fits=tuple(fits))


def _base(steps: Sequence[Step], source: Source, first: int, per: Iterable[str], requires: frozenset[str]) -> Pass:
    wanted = set(per)
    derivable = all(step.elementwise and set(step.fitted_per or ()) <= wanted for step in steps[:first])
    if derivable and requires <= FROM_HISTOGRAM and _histogram_bytes(source, wanted) <= HISTOGRAM_BYTES_AT_MOST:
        return _pass(steps, source, 0, wanted, ("histogram",))
    return _pass(steps, source, first, wanted, _gathered(requires))


def _gathered(requires: frozenset[str]) -> tuple[str, ...]:
    """The summaries from which `requires` follows."""
    return tuple(name for need, name in GATHERED_AS.items() if need in requires)


def _follows(steps: Sequence[Step], base: Pass, index: int) -> bool:
    between = steps[base.at : index]
    if steps[index].observes is not None or not all(set(step.fitted_per or ()) <= set(base.per) for step in between):
        return False
    return all(_derives(step, base) for step in between)


def _derives(step: Step, base: Pass) -> bool:
    """Whether the statistics of what `step` puts out follow from those of its input, as `base` gathers them.

    A covariance is not gathered of features that a selection then leaves out.
    """
    if step.selected_dim is not None:
        return step.selected_dim in base.per and "covariance" not in base.summaries
    return step.elementwise if base.summaries == ("histogram",) else step.is_affine


def _histogram_bytes(source: Source, per: Iterable[str]) -> float:
    bins = bin_count(source.dtype)
    return math.inf if bins is None else feature_count(source, per) * bins * COUNT_BYTES


def feature_count(source: Source, per: Iterable[str]) -> int:
    """How many features there are along the dims `per`."""
    return math.prod(size for dim, size in zip(source.dims, source.shape, strict=True) if dim in set(per))


def whole_axes(steps: Sequence[Step], source: Source, each: Pass | None = None) -> frozenset[int]:
    """Axes along which a block must hold everything, because one of `steps`, or what `each` gathers, looks at whole vectors."""
    whole = {dim for step in steps for dim in step.whole_dims}
    whole.update(each.per if each and "covariance" in each.summaries else ())
    return frozenset(axes_of(source.dims, whole))


def fit_blocks(source: Source, whole: frozenset[int], block_bytes: int, each: Pass, groups: int = 1) -> Tiling:
    """The blocks of the fit pass `each`: whole stored units, so that every chunk is read once.

    They are as small as the source likes, but so large that it takes longer to read one than to merge its summaries. Where
    they cannot be that large they hold many values of few features, as those of other features are not merged with them.
    """
    if isinstance(source, LazySource | HeldSource):
        return source.blocks(whole)
    worth_merging = BLOCK_TO_SUMMARIES * groups * summary_bytes(each, source)
    suited = _suited(source, block_bytes, worth_merging)
    if suited < worth_merging:
        features = axes_of(source.dims, each.per)
        tall = Tiling.regular(source.shape, read_step(source, whole, suited, frozenset(features)))
        if _tree_count(tall, features) <= TREES_AT_MOST:
            return tall
    return Tiling.regular(source.shape, read_step(source, whole, suited))


def read_step(source: Source, whole: frozenset[int], block_bytes: int, last: frozenset[int] = frozenset()) -> tuple[int, ...]:
    """The box size, in whole stored units, in which a source is read; `whole` and `last` as `block_step` has them."""
    itemsize = source.dtype.itemsize
    return block_step(source.shape, source.read_unit, itemsize, _shared_out(source, itemsize, block_bytes), whole, last)


def apply_step(
    source: Source,
    write_unit: tuple[int, ...],
    output_dtype: np.dtype[Any],
    whole: frozenset[int],
    block_bytes: int,
    output: Mapping[str, int] | None = None,
) -> tuple[int, ...]:
    """The box size of the writing pass: whole stored units of the output, and of the source as well where that fits.

    Where the two grids meet only in boxes larger than `block_bytes`, a source chunk is read by every block that it touches, and
    blocks are such that this happens least often. Along a dim of which the output, whose dims and sizes are `output`, has a
    part or nothing, a block holds everything, and the output's units say nothing.
    """
    if output is not None:
        units = dict(zip(output, write_unit, strict=True))
        own = zip(source.dims, source.shape, source.read_unit, strict=True)
        write_unit = tuple(units[dim] if output.get(dim) == size else read for dim, size, read in own)
    grids = enumerate(zip(source.read_unit, write_unit, source.shape, strict=True))
    unit = tuple(size if axis in whole else min(math.lcm(read, write), size) for axis, (read, write, size) in grids)
    itemsize = max(source.dtype.itemsize, output_dtype.itemsize)
    if math.prod(unit) * itemsize > block_bytes:
        unit = step_of_fewest_reads(source.shape, source.read_unit, write_unit, block_bytes // itemsize, whole)
    return block_step(source.shape, unit, itemsize, _shared_out(source, itemsize, _suited(source, block_bytes)), whole)


def _suited(source: Source, block_bytes: int, at_least: int = 0) -> int:
    """`block_bytes`, or less where `source` is read fastest in smaller blocks, but then `at_least` so many."""
    return min(block_bytes, max(source.block_bytes or block_bytes, at_least))


def _shared_out(source: Source, itemsize: int, block_bytes: int) -> int:
    """`block_bytes`, or less where that would leave workers of a small job without work."""
    total_bytes = math.prod(source.shape) * itemsize
    return min(block_bytes, max(SMALL_BLOCK_BYTES, total_bytes // BLOCKS_AT_LEAST))


def _clipped(unit: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(max(1, min(width, size)) for width, size in zip(unit, shape, strict=True))


def plan_fit(
    each: Pass,
    source: Source,
    blocks: Tiling,
    workers: Workers,
    groups: int = 1,
    parameters: ParameterBytes = NO_PARAMETERS,
    quantile_bytes: int = 0,
) -> Phase:
    """The figures of one fit pass over `blocks`, which keeps the summaries of so many `groups` apart.

    Parameters
    ----------
    parameters : ParameterBytes
        Of all steps that are fitted once it is over, those of every group.
    quantile_bytes : int
        What the parameters of the largest of the steps take that it fits to quantiles, those of one group.
    """
    largest = blocks.largest
    itemsize = source.dtype.itemsize
    in_float64 = 16 if each.summaries == DEVIATIONS else 8 if each.at else 0
    per_thread = math.prod(largest) * (2 * itemsize + in_float64) + _unit_bytes(source, largest)
    per_thread += NORMALIZING_BYTES if each.at else 0
    feature_axes = axes_of(source.dims, each.per)
    trees = _tree_count(blocks, feature_axes)
    leaves = -(-len(blocks) // max(1, trees))
    part = math.prod(largest[axis] for axis in feature_axes) / max(1, feature_count(source, each.per))
    in_tree = workers.scheduled or isinstance(source, LazySource)
    if in_tree:
        summaries = _summaries_of_tree(leaves, workers.threads)
    else:
        summaries = SUMMARIES_A_THREAD * min(workers.threads, len(blocks)) + trees
    at_once = math.ceil(summaries * part) + (trees > 1)
    merging = workers.threads * per_thread + _summaries_bytes(each, source, at_once * groups)
    deriving = _summaries_bytes(each, source, groups) + DERIVING * summary_bytes(each, source) + QUANTILES * quantile_bytes
    peak = max(max(merging, deriving) + parameters.total, SAVING * parameters.stored)
    return Phase(
        name="fit",
        block_shape=largest,
        blocks=len(blocks),
        tasks=trees * _tasks(leaves, blocks_per_task(source, len(blocks), math.prod(largest), workers.all_threads)),
        bytes_read=blocks.size * itemsize,
        bytes_written=0,
        peak_bytes_per_worker=PROCESS_BYTES + peak,
        parameter_bytes=parameters.total,
    )


def plan_apply(
    source: Source,
    block_shape: tuple[int, ...],
    output_dtype: np.dtype[Any],
    workers: Workers,
    output: Mapping[str, int] | None = None,
    parameters: ParameterBytes = NO_PARAMETERS,
    saves: bool = False,
) -> Phase:
    """The figures of the writing pass.

    Parameters
    ----------
    source : Source
    block_shape : tuple of int
        Of the boxes in which it goes.
    output_dtype : numpy.dtype
    workers : Workers
    output : mapping of str to int, optional
        The dims and sizes of the output, those of `source` by default.
    parameters : ParameterBytes
        Of all steps, those of every group.
    saves : bool
        Whether they are saved afterwards.
    """
    blocks = len(Tiling.regular(source.shape, block_shape))
    elements = math.prod(min(width, size) for width, size in zip(block_shape, source.shape, strict=True))
    per_thread = elements * (2 * source.dtype.itemsize + 2 * output_dtype.itemsize) + 2 * _unit_bytes(source, block_shape)
    per_thread += NORMALIZING_BYTES
    saving = SAVING * parameters.stored if saves else 0
    return Phase(
        name="apply",
        block_shape=block_shape,
        blocks=blocks,
        tasks=_tasks(blocks, blocks_per_task(source, blocks, elements, workers.all_threads)),
        bytes_read=_elements_read(source, block_shape) * source.dtype.itemsize,
        bytes_written=math.prod(source.shape if output is None else output.values()) * output_dtype.itemsize,
        peak_bytes_per_worker=PROCESS_BYTES + max(workers.threads * per_thread + parameters.total, saving),
        parameter_bytes=parameters.total,
    )


def plan_held(plan: Plan, source: HeldSource, workers: Workers) -> Plan:
    """`plan`, whose phases read `source`, behind a phase that brings it into the memory of all workers together."""
    total_bytes = math.prod(source.shape) * source.dtype.itemsize
    held_bytes = -(-total_bytes // workers.count)
    elements = math.prod(min(width, size) for width, size in zip(source.step, source.shape, strict=True))
    per_thread = elements * source.dtype.itemsize + _unit_bytes(source, source.step)
    blocks = len(Tiling.regular(source.shape, source.step))
    first = Phase(
        name="read",
        block_shape=source.step,
        blocks=blocks,
        tasks=blocks,
        bytes_read=_elements_read(source, source.step) * source.dtype.itemsize,
        bytes_written=0,
        peak_bytes_per_worker=PROCESS_BYTES + held_bytes + plan.threads_per_worker * per_thread,
    )
    behind = (
        replace(each, bytes_read=0, peak_bytes_per_worker=each.peak_bytes_per_worker + held_bytes) for each in plan.phases
    )
    return replace(plan, phases=(first, *behind))


def _tree_count(blocks: Tiling, feature_axes: tuple[int, ...]) -> int:
    """How many boxes of features there are, the blocks of each of which are merged by themselves."""
    return math.prod(len(blocks.starts[axis]) for axis in feature_axes)


def _summaries_bytes(each: Pass, source: Source, count: int) -> int:
    """About how much memory so many summaries take that are held at once, of values that are not the same ones.

    Each value has a bucket of its own at most, in a summary, in the one it is being merged into and in what they become.
    """
    held = replace(each, summaries=tuple(name for name in each.summaries if name != "float_histogram"))
    buckets = replace(each, summaries=tuple(name for name in each.summaries if name == "float_histogram"))
    own = 3 * math.prod(source.shape) * ENTRY_BYTES
    return count * summary_bytes(held, source) + min(count * summary_bytes(buckets, source), own)


def summary_bytes(each: Pass, source: Source) -> int:
    """About how much memory the summaries of `each` take."""
    sizes = dict(zip(source.dims, source.shape, strict=True)) | dict(each.sizes)
    features = math.prod(sizes[dim] for dim in each.per)
    bytes_of = {
        "histogram": features * (bin_count(source.dtype) or 0) * COUNT_BYTES,
        "moments": features * MOMENTS_BYTES_PER_FEATURE,
        "float_histogram": float_histogram_bytes(features, math.prod(source.shape) // max(1, features)),
        "covariance": covariance_bytes(features),
        "deviations": features * MOMENTS_BYTES_PER_FEATURE,
    }
    return sum(bytes_of[name] for name in each.summaries)


def merges(leaves: int) -> int:
    """How many merge tasks join `leaves` summaries."""
    return sum(width // MERGE_FAN_IN + (width % MERGE_FAN_IN > 1) for width in _widths(leaves))


def _widths(leaves: int) -> Iterator[int]:
    """How many summaries there are on each level of a tree of so many leaves where they are merged, the leaves first."""
    while leaves > 1:
        yield leaves
        leaves = -(-leaves // MERGE_FAN_IN)


def _summaries_of_tree(leaves: int, threads: int) -> int:
    """How many summaries of a tree of so many leaves may be in the memory of one worker.

    Every thread may be merging: what it merges, what it makes, and the last block's. Or all but one of those that are to be
    merged wait on every level, beside what the threads work on.
    """
    levels = len(list(_widths(leaves)))
    merging = threads * (min(MERGE_FAN_IN, max(1, leaves)) + 2)
    return max(merging, 3 * threads + (MERGE_FAN_IN - 1) * levels)


def _tasks(blocks: int, per_task: int) -> int:
    """The tasks of one tree: those that take its blocks, so many each, and those that merge."""
    leaves = -(-blocks // per_task)
    return leaves + merges(leaves)


def _unit_bytes(source: Source, block_shape: tuple[int, ...]) -> int:
    """Decoded bytes of the stored units of a block that are in memory beside it at one time."""
    unit = _clipped(source.read_unit, source.shape)
    units = math.prod(-(-width // size) for width, size in zip(block_shape, unit, strict=True))
    return min(UNITS_DECODED_AT_ONCE, units) * math.prod(unit) * source.dtype.itemsize


def _elements_read(source: Source, block_shape: tuple[int, ...]) -> int:
    """Elements decoded when every block fetches each stored unit that it touches."""
    sizes = zip(source.shape, block_shape, _clipped(source.read_unit, source.shape), strict=True)
    return math.prod(_indices_read(size, width, unit) for size, width, unit in sizes)


def _indices_read(size: int, width: int, unit: int) -> int:
    """Indices along a dim that spans of `width` decode, each all of the units that it touches."""
    if width % unit == 0:
        return size
    return sum(min(-(-min(start + width, size) // unit) * unit, size) - start // unit * unit for start in range(0, size, width))


def require_memory(plan: Plan, workers: Workers) -> None:
    """Raise, before anything is read, where a phase would take more memory than a worker has.

    Parameters
    ----------
    plan : Plan
    workers : Workers
        Nothing is refused where it is not known what memory they have.

    Raises
    ------
    ConfigError
        With what each of the figures is.
    """
    limit_bytes = workers.memory_bytes
    if limit_bytes is None or plan.peak_bytes_per_worker <= limit_bytes:
        return
    index, phase = next((index, phase) for index, phase in enumerate(plan.phases) if phase.peak_bytes_per_worker > limit_bytes)
    summarizing = index < len(plan.passes)
    what = f"{', '.join(plan.passes[index].summaries)} per {list(plan.passes[index].per)}" if summarizing else "writing"
    fewer = "statistics of fewer features (per, dims), " if summarizing else ""
    held = f", with {_shown_bytes(phase.parameter_bytes)} of parameters" if phase.parameter_bytes and not summarizing else ""
    fewer = "parameters of fewer features or groups, " if held else fewer
    raise ConfigError(
        "the run would not fit into memory",
        where=f"{phase.name} pass {index}: {what}" if summarizing else f"{phase.name} pass",
        found=f"{_shown_bytes(phase.peak_bytes_per_worker)} per worker of {plan.threads_per_worker} threads{held}",
        expected=f"at most {_shown_bytes(limit_bytes)}, {workers.whose}",
        remedy=f"{fewer}a smaller block_bytes, fewer workers or threads_per_worker, or more memory",
    )


def _shown_bytes(count: int) -> str:
    return f"{count / 1e9:,.1f} GB"
