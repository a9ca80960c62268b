"""A sweep: many runs, as data. Train what a folder does not hold yet, and store each run as
it ends.

    configs = expand({"rule": ["l2", "lrd"], "fraction": [0.3, 0.4], "seed": [0, 1],
    "steps": 2000}) for run in sweep(configs, "runs", workers=2):
        print(run.label(), run.first_step())

A store is a folder with one file per run, named after its config. A sweep that is killed,
at any moment, goes on when it is started again: finished runs are stored, and a long one
goes on from its last checkpoint. Several processes, on one machine or on many that see the
same folder, may sweep into one store: each run is locked while it is trained.
"""

import hashlib
import json
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from lrdlib._check import check_bool, check_integer
from lrdlib.training.backend import onednn_in_use, use_onednn
from lrdlib.training.config import LOW_RANK, PER_RUN, TrainConfig, plain
from lrdlib.training.runs import Run, compact, load_run, runs_of, save_run
from lrdlib.training.train import Training, checkpoint_configs, train

CHECKPOINT_SECONDS = 30  # between checkpoints of a stack in training
DEFAULTS = plain(TrainConfig())


def expand(*blocks: Mapping[str, Any]) -> list[TrainConfig]:
    """The configs of a grid: every combination of each block's lists, block after block,
    each config once.

    A block maps fields of TrainConfig to a value, or to a list of values, which is an axis;
    the last axis varies fastest. Two rules with axes of their own are two blocks. Raises
    TypeError for a field that TrainConfig does not have, and as TrainConfig for a value
    that it refuses.

    >>> [(c.rule, c.seed) for c in expand({"rule": "l2", "seed": [0, 1]}, {"rule": ["l2", "lrd"]})]
    [('l2', 0), ('l2', 1), ('lrd', 0)]
    """
    configs: dict[TrainConfig, None] = {}
    for block in blocks:
        unknown = sorted(set(block) - set(DEFAULTS))
        if unknown:
            raise TypeError(
                "blocks must map fields of TrainConfig, got "
                f"{', '.join(map(repr, unknown))}"
            )
        axes = [
            values if isinstance(values, list) else [values] for values in block.values()
        ]
        configs |= dict.fromkeys(
            TrainConfig(**dict(zip(block, point, strict=True))) for point in product(*axes)
        )
    return list(configs)


def file_name(config: TrainConfig) -> str:
    """The name of a run's file in a store: what tells the run at a glance, and a digest of
    its whole config.

    The digest is of the fields that are not default, so that a field added to TrainConfig
    one day renames nothing. Equal configs have one name: a strength of 3 is one of 3.0.

    >>> file_name(TrainConfig(rule="l2", weight_decay=3.0))
    'l2-3-f0.4-seed0-01d1cf37ea.npz'
    """
    own = {
        name: _real(value, DEFAULTS[name])
        for name, value in plain(config).items()
        if value != DEFAULTS[name]
    }
    c, digest = (
        config,
        hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()[:10],
    )
    return f"{c.rule}-{c.weight_decay:.6g}-f{c.fraction:.6g}-seed{c.seed}-{digest}.npz"


def _real(value: Any, default: Any) -> Any:
    """The value, as a float where the default is one, and so in a list."""
    if isinstance(default, list):
        return [_real(v, d) for v, d in zip(value, default, strict=True)]
    return float(value) if isinstance(default, float) else value


def recorded(configs: Iterable[TrainConfig], store: str | Path) -> dict[TrainConfig, Run]:
    """Those of the runs that the store holds, in the order of `configs`. Other files in the
    folder are left alone.

    Raises ValueError, naming each file, if one of them is damaged or is not the run that
    its name says. A field that TrainConfig has got since a run was stored is at its default
    there.
    """
    runs: dict[TrainConfig, Run] = {}
    problems = []
    for config in _checked(configs):
        path = Path(store) / file_name(config)
        try:
            run, wanted = load_run(path), plain(config)
            run = replace(run, config=DEFAULTS | run.config)
            wrong = [
                f"{k} = {v!r}"
                for k, v in run.config.items()
                if k not in wanted or wanted[k] != v
            ]
            if wrong:
                raise ValueError(
                    f"it must hold the run that its name says, got {', '.join(wrong)}"
                )
            runs[config] = run
        except FileNotFoundError:
            continue
        except ValueError as error:
            problems.append(f"{path}: {error}")
    if problems:
        raise ValueError(
            f"store must hold whole runs, got {len(problems)} that cannot be read (the "
            "others can); delete what is "
            "listed here to have it trained again:\n  " + "\n  ".join(problems)
        )
    return runs


@dataclass(frozen=True)
class _Job:
    """How a worker trains a stack: what goes to another process beside the configs."""

    store: Path
    device: str
    compile: bool
    full: bool
    onednn: bool


def sweep(
    configs: Iterable[TrainConfig],
    store: str | Path,
    *,
    workers: int = 1,
    stack_size: int | None = None,
    device: str = "cpu",
    compile: bool = False,
    full: bool = False,
    commands: Mapping[TrainConfig, str] | None = None,
) -> Iterator[Run]:
    """Train the runs that `store` does not hold, store each as it ends, and yield it then.

    workers: processes side by side, -1 for as many as there are cores. They are joblib's,
    so that inside joblib.parallel_config(backend="dask") they are those of a cluster, which
    must see the folder `store`. Each uses one thread on a CPU, so that a run is the same
    whatever the number of workers.
    stack_size: runs that train together as one batched model; by default 1 on a CPU, and on
    a GPU as many as its memory takes. Only runs that differ in nothing but fraction, seed,
    rule, weight_decay and l2 share a stack. One that was interrupted goes on as it was,
    whatever the size now.
    compile: as in lrdlib.training.train.train. full: store what
    lrdlib.training.runs.compact leaves out, at 16 times the size.
    commands: what would make each run again, for its provenance.

    A run that another process has in training is waited for at the end and yielded like the
    others, or trained here if that process dies. Raises, before anything is trained,
    ValueError as `recorded`, and TypeError or ValueError for bad arguments; then whatever
    stops a worker, such as OSError for a full disk: what was stored stays stored.
    """
    configs = _checked(configs)
    check_integer("workers", 1 if workers == -1 else workers)
    check_integer("stack_size", 1 if stack_size is None else stack_size)
    check_bool("full", full)
    job = _Job(Path(store).absolute(), device, compile, full, onednn_in_use())
    present = recorded(configs, store)
    missing = [config for config in configs if config not in present]
    _tidy(present, job.store)
    for config in {(c.task, c.p, c.bits, c.fraction): c for c in missing}.values():
        Training(
            [config], device=device, compile=compile
        )  # raises for a device or a fraction that will not do
    if missing:
        (job.store / ".locks").mkdir(parents=True, exist_ok=True)
    return _sweep(missing, job, workers, stack_size, commands or {})


def _sweep(
    missing: list[TrainConfig],
    job: _Job,
    workers: int,
    stack_size: int | None,
    commands: Mapping[TrainConfig, str],
) -> Iterator[Run]:
    for wait in (False, True):  # first what nobody else has in training
        begun, fresh = _begun(missing, job.store)
        stacks = [
            *begun,
            *stacks_of(fresh, stack_size or default_stack_size(fresh, job.device)),
        ]
        calls = [
            (stack, [commands.get(config, "") for config in stack], job, wait)
            for stack in stacks
        ]
        for done in _parallel(calls, workers):
            missing = [config for config in missing if config not in done]
            yield from (load_run(job.store / file_name(config)) for config in done)
        if not missing:
            return


def _begun(
    missing: Sequence[TrainConfig], store: Path
) -> tuple[list[list[TrainConfig]], list[TrainConfig]]:
    """Stacks of the missing runs that share a checkpoint, and so go on together; and the
    other missing runs."""
    left, stacks = dict.fromkeys(missing), []
    for path in sorted(store.glob(".partial/*.npz")):
        configs = checkpoint_configs(path)
        if configs and configs[0] in left:
            stacks.append([config for config in configs if config in left])
            for config in stacks[-1]:
                del left[config]
    return stacks, list(left)


def stacks_of(configs: Sequence[TrainConfig], size: int) -> list[list[TrainConfig]]:
    """The configs in stacks of at most `size` that can train together, in their order.

    Runs with and without low-rank decay do not share a stack: all of a stack would pay for
    it.
    """
    groups: dict[Any, list[TrainConfig]] = {}
    for config in configs:
        shared = tuple(
            getattr(config, f.name) for f in fields(config) if f.name not in PER_RUN
        )
        groups.setdefault(
            (shared, config.rule in LOW_RANK, config.rule == "proximal"), []
        ).append(config)
    stacks = [
        group[i : i + size] for group in groups.values() for i in range(0, len(group), size)
    ]
    place = {config: i for i, config in enumerate(configs)}
    return sorted(stacks, key=lambda stack: place[stack[0]])


def default_stack_size(configs: Sequence[TrainConfig], device: str) -> int:
    """1 on a CPU, where a run per process is faster; on a GPU as many as three quarters of
    its free memory take."""
    if not configs or torch.device(device).type != "cuda":
        return 1
    free, _ = torch.cuda.mem_get_info(device)
    return max(1, int(0.75 * free / max(run_bytes(kind[0]) for kind in _kinds(configs))))


def run_bytes(config: TrainConfig) -> int:
    """About what one more run in a stack takes in memory while it trains.

    What autograd saves for one step (measured on a CPU), twice, for the gradients that flow
    back; and 12 times the parameters: weights, gradients, two moments, and the decay's own
    copies and products.
    """
    training = Training([config])
    saved: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        training.update()
    return 2 * sum(saved.values()) + 12 * sum(W.nbytes for W in training.params.values())


def seconds(
    configs: Sequence[TrainConfig],
    *,
    workers: int = 1,
    compile: bool = False,
    steps: int = 8,
) -> float:
    """About how long the runs take on this machine's CPU: `steps` steps and a record of
    each kind of run are timed.

    A kind is what a stack shares, with or without low-rank decay; runs are trained one by
    one, `workers` at a time.
    """
    check_integer("workers", workers)
    total = 0.0
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for kind in _kinds(configs):
            first, training = kind[0], Training([kind[0]], compile=compile)
            training.update()  # the first step allocates, and compiles
            begin = time.perf_counter()
            for _ in range(steps):
                training.update()
            middle = time.perf_counter()
            training.measure(torch.zeros(1))
            step, record = (middle - begin) / steps, time.perf_counter() - middle
            total += len(kind) * (
                first.steps * step + (first.steps / first.eval_every + 1) * record
            )
    finally:
        torch.set_num_threads(threads)
    return total / max(1, min(workers, len(configs)))


def _kinds(configs: Sequence[TrainConfig]) -> list[list[TrainConfig]]:
    return stacks_of(configs, max(1, len(configs)))


def _checked(configs: Iterable[TrainConfig]) -> list[TrainConfig]:
    if not isinstance(configs, Iterable):
        raise TypeError(
            f"configs must hold TrainConfigs, got one {type(configs).__name__} alone"
        )
    configs = list(configs)
    for config in configs:
        if not isinstance(config, TrainConfig):
            raise TypeError(f"configs must hold TrainConfigs, got {type(config).__name__}")
    return list(dict.fromkeys(configs))


def _parallel(calls: list[tuple], workers: int) -> Iterator[list[TrainConfig]]:
    """`_train_stack` of each call, in the order of finishing."""
    if workers == 1:
        yield from (_train_stack(*call) for call in calls)
        return
    from joblib import Parallel, delayed

    parallel = Parallel(n_jobs=workers, return_as="generator_unordered", batch_size=1)
    yield from parallel(delayed(_train_stack)(*call) for call in calls)


def _train_stack(
    stack: list[TrainConfig], commands: list[str], job: _Job, wait: bool
) -> list[TrainConfig]:
    """Train and store those runs of the stack that nobody else trains or has stored; the
    configs that are stored now.

    A worker process runs this: everything it needs comes with the call, and everything it
    makes goes to the store.
    """
    command = dict(zip(stack, commands, strict=True))
    mine: list[TrainConfig] = []
    done: list[TrainConfig] = []
    with ExitStack() as held:
        for config in sorted(
            stack, key=file_name
        ):  # in one order everywhere, so that no two wait for each other
            try:
                held.enter_context(
                    FileLock(
                        job.store / ".locks" / file_name(config), timeout=-1 if wait else 0
                    )
                )
            except Timeout:
                continue
            (done if (job.store / file_name(config)).exists() else mine).append(config)
        if mine:
            runs = _trained(mine, job)
            for run, config in reversed(
                list(zip(runs, mine, strict=True))
            ):  # that of the checkpoint's name at last
                run = replace(run, provenance=run.provenance | {"command": command[config]})
                save_run(run if job.full else compact(run), job.store / file_name(config))
        _tidy(done + mine, job.store)
    return done + mine


def _trained(stack: list[TrainConfig], job: _Job) -> list[Run]:
    """The runs of the stack, trained to their end, from their last checkpoint if there is
    one."""
    if job.onednn:
        use_onednn()
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if job.device == "cpu" else threads)
    path = _checkpoint(stack, job)
    try:
        training = _resumed(stack, job, path)
        saved = time.monotonic()
        for _ in training:
            if time.monotonic() - saved > CHECKPOINT_SECONDS:
                training.save(path)
                saved = time.monotonic()
        runs = dict(zip(training.configs, runs_of(training), strict=True))
        return [runs[config] for config in stack]
    finally:
        torch.set_num_threads(threads)


def _resumed(stack: list[TrainConfig], job: _Job, path: Path) -> Training:
    """The stack's training, from its checkpoint, or from the start where there is none of
    use.

    Of a checkpoint's runs some may be stored: those of a stack that was killed while it
    stored them.
    """
    begun = checkpoint_configs(path)
    if set(stack) <= set(begun):
        training = train(begun, device=job.device, compile=job.compile)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # another version of torch wrote it
                training.load(path)
            return training
        except (ValueError, Warning):
            pass
    return train(stack, device=job.device, compile=job.compile)


def _checkpoint(stack: list[TrainConfig], job: _Job) -> Path:
    """Where the state of a stack in training is kept: under the name of its first run,
    whose lock keeps others off."""
    return job.store / ".partial" / file_name(stack[0])


def _tidy(configs: Iterable[TrainConfig], store: Path) -> None:
    """Remove what the training of stored runs has left: checkpoints, and what processes
    that died had half written."""
    names = {file_name(config) for config in configs}
    for path in (*store.glob(".*.partial"), *store.glob(".partial/*")):
        if path.name.partition(".npz")[0].removeprefix(".") + ".npz" in names:
            path.unlink(missing_ok=True)
