"""A sweep: many runs, as data. Train what a folder does not hold yet, and store each run as
it ends.

    configs = expand({"rule": ["l2", "lrd"], "fraction": [0.3, 0.4], "steps": 2000})
    for run in sweep(configs, "runs", workers=2):
        print(run.label(), run.first_step())

A store is a folder with one file per run, named after its config. A sweep that is killed,
at any moment, goes on when it is started again: finished runs are stored, and a long one
goes on from its last checkpoint. Several processes, on one machine or on many that see the
same folder, may sweep into one store: each run is locked while it is trained.
"""

import errno
import hashlib
import json
import os
import threading
import time
import warnings
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import count, product
from pathlib import Path
from typing import Any
from weakref import WeakSet

import torch
from filelock import FileLock, Timeout

from lrdlib._check import check_bool, check_integer, shown
from lrdlib.training.backend import onednn_in_use, use_onednn
from lrdlib.training.checkpoint import checkpoint_configs
from lrdlib.training.config import SHARED, TrainConfig, config_list, plain
from lrdlib.training.packs import load_runs, pack_configs
from lrdlib.training.runs import Run, compact, load_run, runs_of, save_run
from lrdlib.training.store import checked_path
from lrdlib.training.train import Training, train

CHECKPOINT_SECONDS = 30  # between checkpoints of a stack in training
CLUSTER_SECONDS = 60  # between looks whether a cluster has workers, which warn if not
PARENT_SECONDS = 1  # between looks of a worker whether its parent process is there
DEFAULTS = plain(TrainConfig())


def expand(*blocks: Mapping[str, Any]) -> list[TrainConfig]:
    """The configs of a grid: every combination of each block's lists, block after block,
    each config once.

    A block maps fields of TrainConfig to a value, or to a list of values, which is an axis;
    the last axis varies fastest. Two rules with axes of their own are two blocks. Raises
    TypeError for a block that is no mapping and a field that TrainConfig does not have, and
    as TrainConfig for a value that it refuses.

    >>> [(c.rule, c.seed) for c in expand({"rule": "l2", "seed": [0, 1]}, {"rule": ["l2", "lrd"]})]
    [('l2', 0), ('l2', 1), ('lrd', 0)]
    """
    configs: dict[TrainConfig, None] = {}
    for block in blocks:
        if not isinstance(block, Mapping):
            raise TypeError(f"blocks must be mappings, got {shown(block)}")
        unknown = sorted(set(block) - set(DEFAULTS), key=str)
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
    Raises TypeError for another thing than a TrainConfig.

    >>> file_name(TrainConfig(rule="l2", weight_decay=3.0))
    'l2-3-f0.4-seed0-01d1cf37ea.npz'
    """
    if not isinstance(config, TrainConfig):
        raise TypeError(f"config must be a TrainConfig, got {type(config).__name__}")
    own = {
        name: _real(value, DEFAULTS[name])
        for name, value in plain(config).items()
        if value != DEFAULTS[name]
    }
    digest = hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()[:10]
    strength = f"{config.weight_decay:.6g}-f{config.fraction:.6g}"
    return f"{config.rule}-{strength}-seed{config.seed}-{digest}.npz"


def _real(value: Any, default: Any) -> Any:
    """The value, as a float where the default is one, and so in a list."""
    if isinstance(default, list):
        return [_real(v, d) for v, d in zip(value, default or value, strict=True)]
    return float(value) if isinstance(default, float) else value


def recorded(configs: Iterable[TrainConfig], store: str | Path) -> dict[TrainConfig, Run]:
    """Those of the runs that the store holds, in the order of `configs`: in a file each, or
    in one of many runs in its folder `packs`. Other files in the folder are left alone.

    Raises ValueError, naming each file, if one of them is damaged or is not the run that
    its name says, and for a store that is no folder; OSError or MemoryError, as the system
    gives it, for a file that cannot be read. A field that TrainConfig has got since a run
    was stored is at its default there.
    """
    runs: dict[TrainConfig, Run] = {}
    problems = []
    configs, folder = _once(configs), _folder(store)
    packed: dict[TrainConfig, Run] = {}
    for path in sorted(folder.glob("packs/*.npz")):
        try:
            packed |= _packed(path, {*configs} - packed.keys())
        except ValueError as error:
            problems.append(f"{path}: {error}")
    for config in configs:
        if config in packed:
            runs[config] = packed[config]
            continue
        path = folder / file_name(config)
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
            "others can); put away what another version wrote, and delete what is listed "
            "here to have it trained again:\n  " + "\n  ".join(problems)
        )
    return runs


def _packed(path: Path, wanted: Collection[TrainConfig]) -> dict[TrainConfig, Run]:
    """Those of the wanted runs that a file of many holds; it is read only if there are."""
    if not {*pack_configs(path)} & {*wanted}:
        return {}
    runs = {TrainConfig(**run.config): run for run in load_runs(path)}
    return {config: run for config, run in runs.items() if config in wanted}


@dataclass(frozen=True)
class _Job:
    """How a worker trains a stack: what goes to another process beside the configs."""

    store: Path
    device: str
    compile: bool
    full: bool
    onednn: bool
    parent: int = 0  # the process that sweeps


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
    a GPU as many as its memory takes. Only runs of one task, model and number of steps
    share a stack (lrdlib.training.config.SHARED). One that was interrupted goes on as it was,
    whatever the size now.
    compile: as in lrdlib.training.train.train. full: store what
    lrdlib.training.runs.compact leaves out, at 16 times the size.
    commands: what would make each run again, for its provenance.

    A run that another process has in training is waited for at the end and yielded like the
    others, or trained here if that process dies. If this generator is closed or this
    process ends, in whatever way, its worker processes end at once; what they had in
    training goes on from its checkpoint, at most CHECKPOINT_SECONDS old, when the sweep is
    started again. A cluster's workers finish and store what they were given. Where a
    cluster has lost all its workers, a warning says so every CLUSTER_SECONDS, and the sweep
    goes on when some come back.

    A checkpoint of no use (damaged, foreign, newer, of other runs) is kept aside in
    STORE/.partial as NAME.unusable, and the worker that found it warns of it.

    Raises, before anything is trained, ValueError, OSError and MemoryError as `recorded`,
    OSError for a store that cannot be written to, and TypeError or ValueError for bad
    arguments; then whatever stops a worker, such as OSError for a full disk: what was
    stored stays stored.
    """
    configs = _once(configs)
    all_cores = isinstance(workers, int) and workers == -1
    check_integer("workers", 1 if all_cores else workers)
    check_integer("stack_size", 1 if stack_size is None else stack_size)
    check_bool("compile", compile)
    check_bool("full", full)
    if not isinstance(device, str):
        raise TypeError(f"device must be a str, got {shown(device)}")
    commands = {} if commands is None else commands
    if not isinstance(commands, Mapping) or not all(
        isinstance(text, str) for text in commands.values()
    ):
        raise TypeError(f"commands must map configs to str, got {shown(commands)}")
    job = _Job(_folder(store), device, compile, full, onednn_in_use(), os.getpid())
    present = recorded(configs, job.store)
    missing = [config for config in configs if config not in present]
    # a device or a fraction that will not do is refused here
    for config in {(c.task, c.p, c.bits, c.fraction): c for c in missing}.values():
        Training([config], device=device, compile=compile)
    if missing:
        for folder in (job.store, job.store / ".locks", job.store / ".partial"):
            folder.mkdir(parents=True, exist_ok=True)
            if not os.access(folder, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
    _tidy(present, job.store)
    return _sweep(missing, job, workers, stack_size, commands)


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
        with closing(_parallel(calls, workers)) as stored:
            for done in stored:
                if workers != 1:  # now that joblib has workers: its own end comes later
                    _closed_at_exit().add(stored)
                missing = [config for config in missing if config not in done]
                yield from (load_run(job.store / file_name(config)) for config in done)
        if not missing:
            return


def _begun(
    missing: Sequence[TrainConfig], store: Path
) -> tuple[list[list[TrainConfig]], list[TrainConfig]]:
    """Stacks of the missing runs that share a checkpoint, and so go on together; and the
    other missing runs."""
    left, stacks = {file_name(config): config for config in missing}, []
    for path in sorted(store.glob(".partial/*.npz")):
        if path.name not in left:
            continue
        try:
            begun = [file_name(config) for config in checkpoint_configs(path)]
        except (FileNotFoundError, ValueError):
            continue  # it has ended; or who trains its run will see, and say so
        if begun[:1] == [path.name]:
            stacks.append([left.pop(name) for name in begun if name in left])
    return stacks, list(left.values())


def stacks_of(configs: Sequence[TrainConfig], size: int) -> list[list[TrainConfig]]:
    """The configs in stacks of at most `size` that can train together, in their order.

    Runs with and without low-rank decay do not share a stack, as all of it would pay for
    that, nor do those that are cut to a rank and others. Raises TypeError for other things
    than TrainConfigs, and TypeError or ValueError unless size is an integer of at least 1.
    """
    configs = _once(configs)
    check_integer("size", size)
    groups: dict[Any, list[TrainConfig]] = {}
    for config in configs:
        shared = tuple(getattr(config, name) for name in SHARED)
        costs = config.low_rank, config.capped, config.rule == "proximal"
        groups.setdefault((shared, costs), []).append(config)
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

    A kind is what a stack shares, with or without low-rank decay and a cut; runs are
    trained one by one, `workers` at a time. Raises TypeError or ValueError for bad
    arguments.
    """
    configs = _once(configs)
    check_integer("workers", workers)
    check_integer("steps", steps)
    check_bool("compile", compile)
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


def _once(configs: Iterable[TrainConfig]) -> list[TrainConfig]:
    """Each config once, in their order. Raises as `config_list`."""
    return list(dict.fromkeys(config_list(configs)))


def _folder(store: str | Path) -> Path:
    """The store's absolute path. Raises TypeError for another thing than a path, and
    ValueError for a path at which no folder is or can be."""
    folder = checked_path("store", store).absolute()
    if store == "":  # would be the current folder
        raise ValueError("store must name a folder, got ''")
    there = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    if not there.is_dir():
        raise ValueError(
            f"store must be a folder, got {str(store)!r}; {str(there)!r} is none"
        )
    return folder


@lru_cache(maxsize=1)
def _closed_at_exit() -> WeakSet[Any]:
    """Generators that are closed when this process exits: one that a variable still holds
    would have joblib wait until its workers have done what they have begun."""
    generators: WeakSet[Any] = WeakSet()

    def close() -> None:
        for generator in list(generators):
            with suppress(ValueError):  # another thread is in it
                generator.close()

    threading._register_atexit(close)  # type: ignore[attr-defined]
    return generators


def _parallel(calls: list[tuple], workers: int) -> Generator[list[TrainConfig], None, None]:
    """`_train_stack` of each call, in the order of finishing; the workers end with this
    generator."""
    if workers == 1:
        yield from (_train_stack(*call) for call in calls)
        return
    from joblib import Parallel, delayed

    workers = min(workers, max(2, len(calls)))
    parallel = Parallel(n_jobs=workers, return_as="generator_unordered", batch_size=1)
    with _lost_workers_told():
        results = parallel(delayed(_train_stack)(*call) for call in calls)
        try:
            while (done := next(results, None)) is not None:
                yield done
        finally:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # joblib would tell what it cancels
                results.close()


@contextmanager
def _lost_workers_told() -> Iterator[None]:
    """In joblib's Dask backend, warn every CLUSTER_SECONDS while the cluster has no
    workers."""
    from joblib.parallel import get_active_backend

    client: Any = getattr(get_active_backend()[0], "client", None)
    ended = threading.Event()

    def look() -> None:
        lost = 0
        while not ended.wait(CLUSTER_SECONDS):
            try:
                lost = 0 if client.scheduler_info()["workers"] else lost + 1
            except Exception:  # no scheduler, about which the sweep's own error is clearer
                continue
            if lost:  # numbered, as Python shows a warning of the same words once only
                address = client.scheduler.address
                warnings.warn(
                    f"the cluster at {address} has no workers (warning {lost}): start some "
                    f"with `dask worker {address}`, and the sweep goes on; or stop it and "
                    "start it again later. The runs that are stored are kept.",
                    stacklevel=2,
                )

    if client is not None:
        threading.Thread(target=look, daemon=True).start()
    try:
        yield
    finally:
        ended.set()


@lru_cache(maxsize=1)
def _end_with(parent: int, process: int) -> None:
    """If this process, whose id is `process`, is a worker of `parent`, it ends when that
    has ended, also by a kill; what it writes is whole or not there."""

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_SECONDS)
        os._exit(1)

    if os.getppid() == parent:
        threading.Thread(target=look, daemon=True).start()


def _train_stack(
    stack: list[TrainConfig], commands: list[str], job: _Job, wait: bool
) -> list[TrainConfig]:
    """Train and store those runs of the stack that nobody else trains or has stored; the
    configs that are stored now.

    A worker process runs this: everything it needs comes with the call, and everything it
    makes goes to the store.
    """
    _end_with(job.parent, os.getpid())
    command = dict(zip(stack, commands, strict=True))
    mine: list[TrainConfig] = []
    done: list[TrainConfig] = []
    with ExitStack() as held:
        # in one order everywhere, so that no two wait for each other
        for config in sorted(stack, key=file_name):
            lock = job.store / ".locks" / file_name(config)
            try:
                held.enter_context(FileLock(lock, timeout=-1 if wait else 0))
            except Timeout:
                continue
            (done if (job.store / file_name(config)).exists() else mine).append(config)
        if mine:
            trained = list(zip(_trained(mine, job), mine, strict=True))
            for run, config in reversed(trained):  # that of the checkpoint's name at last
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
    # under the name of the stack's first run, whose lock keeps others off
    path = job.store / ".partial" / file_name(stack[0])
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
    """The stack's training, from its checkpoint `path`, or from the start where there is
    none of use.

    Of a checkpoint's runs some may be stored: those of a stack that was killed while it
    stored them. What is of no use to the runs of the stack is put aside, and said.
    """
    training = train(stack, device=job.device, compile=job.compile)
    for kept in (path.with_name(file_name(config)) for config in stack):
        try:
            begun = checkpoint_configs(kept)
            if kept == path:
                if not set(stack) <= set(begun):
                    raise ValueError(f"checkpoint {str(path)!r} is of other runs")
                resumed = train(begun, device=job.device, compile=job.compile)
                resumed.load(path)
                training = resumed
        except FileNotFoundError:
            continue
        except ValueError as error:
            _put_aside(kept, error)
    return training


def _put_aside(path: Path, error: ValueError) -> None:
    """Rename a checkpoint of no use, over no other one, and warn of it."""
    names = (f"{path.name}.unusable{n or ''}" for n in count())
    aside = next(p for name in names if not os.path.lexists(p := path.with_name(name)))
    path.rename(aside)
    warnings.warn(
        f"a checkpoint cannot be used and is kept as {str(aside)!r}; its runs start from "
        f"the beginning: {error}",
        stacklevel=2,
    )


def _tidy(configs: Iterable[TrainConfig], store: Path) -> None:
    """Remove what the training of stored runs has left: checkpoints, and what processes
    that died had half written; not what was put aside."""
    names = {file_name(config) for config in configs}
    for path in (*store.glob(".*.partial"), *store.glob(".partial/*")):
        name, npz, rest = path.name.removeprefix(".").partition(".npz")
        if name + npz in names and not rest.startswith(".unusable"):
            path.unlink(missing_ok=True)
