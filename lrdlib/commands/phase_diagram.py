"""python -m lrdlib phase-diagram: train a grid of runs, as far as it is not recorded, and
draw the paper's Figure 1."""

import argparse
import json
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import fields
from pathlib import Path
from typing import Any

from lrdlib._check import check_integer
from lrdlib.commands.common import (
    MAX_WORKERS,
    Subparsers,
    add_command,
    add_compile,
    add_only,
    check_folder,
    command_line,
    make_folder,
    only,
    printable,
    reason,
)
from lrdlib.evidence.grids import GRIDS
from lrdlib.training.backend import use_onednn
from lrdlib.training.config import TrainConfig, plain
from lrdlib.training.runs import Run
from lrdlib.training.sweep import expand, recorded, seconds, sweep

DESCRIPTION = """\
Train one transformer per cell of a grid (data fraction x strength of decay, for each rule
and seed) and draw where it generalises: the paper's Figure 1. A cell counts as a success if
its test accuracy exceeds 0.95 at some record.

presets:
  smoke      a small model modulo 23: a minute, to see that everything works
  paper      p = 97, 11 fractions x 6 strengths, L2, LRD and elastic, lambda with and
             without the learning rate, 3 seeds
  published  the first public code's grid: p = 113, 6 x 6, LRD on query and key matrices
             only; its L2 runs have ten times the strength that it draws them at
  fair       L2, LRD and elastic over the same effective strengths (learning rate x lambda),
             three learning rates, fractions from 0.2; success is judged on pairs of which
             neither order was trained on

Look before you start: --dry-run says how many runs there are and about how long they take
here. To train a part of a grid, name it: --only seed=0 rule=l2,lrd fraction=0.3,0.4. For a
grid of your own, --grid FILE, a JSON list of blocks:
  [{"rule": ["l2", "lrd"], "weight_decay": [0.01, 0.1], "p": 59, "steps": 1000}]
where a list is an axis and the names are TrainConfig's.

Each run is stored in OUT/runs as soon as it ends, and the same command goes on where it was
stopped; several may work on one folder at once. Figures: OUT/phase-diagram.html,
seed-agreement.html, frontier.html.
"""

MAX_BYTES = 2**24  # of a grid file
MAX_RUNS = 100_000  # of a grid


def add(commands: Subparsers) -> None:
    """Add the command to the command line's grammar."""
    summary = "train a grid of runs and draw Figure 1"
    command = add_command(commands, "phase-diagram", summary, DESCRIPTION, phase_diagram)
    option, source = (
        command.add_argument,
        command.add_mutually_exclusive_group().add_argument,
    )
    source("--preset", choices=list(GRIDS), default="smoke", help="which grid (smoke)")
    source("--grid", type=Path, metavar="FILE", help="a grid of your own, as JSON")
    add_only(command)
    out = Path("phase-diagram")
    option("--out", type=Path, default=out, metavar="DIR", help=f"folder to write ({out})")
    option(
        "--runs", type=Path, metavar="DIR", help="folder of the recorded runs (OUT/runs)"
    )
    option(
        "--dry-run",
        action="store_true",
        help="say how many runs and how long; train nothing",
    )
    option(
        "--workers",
        type=int,
        metavar="N",
        help="processes (one per core, as -1; 1 on a GPU)",
    )
    option(
        "--dask",
        metavar="ADDRESS",
        help="train on the Dask cluster there, which must see the folder of runs",
    )
    option("--device", default="cpu", help="where to train: cpu or cuda (cpu)")
    option(
        "--stack-size",
        type=int,
        metavar="N",
        help="runs in one batched model (1; on a GPU what fits)",
    )
    add_compile(command)
    option(
        "--full",
        action="store_true",
        help="keep every spectrum and the final QK matrices: 16 times the size",
    )


def phase_diagram(options: argparse.Namespace) -> None:
    """Train what is missing, show progress, write the figures."""
    import joblib  # it, plotly and tqdm are extras: the library itself does without
    import tqdm  # noqa: F401

    import lrdlib.figures.page
    import lrdlib.figures.phase  # noqa: F401

    workers = options.workers
    if workers is None:
        workers = -1 if options.device == "cpu" else 1
    workers = joblib.cpu_count() if workers == -1 else workers
    check_integer("--workers", workers)
    if workers > MAX_WORKERS * joblib.cpu_count():
        raise ValueError(
            f"--workers must be at most {MAX_WORKERS} per core, which is "
            f"{MAX_WORKERS * joblib.cpu_count()} here, got {workers}"
        )
    check_integer("--stack-size", 1 if options.stack_size is None else options.stack_size)
    grid = read_grid(options.grid) if options.grid else expand(*GRIDS[options.preset]())
    configs, store = only(grid, options.only), options.runs or options.out / "runs"
    check_folder("--runs" if options.runs else "--out", store, new=True)
    commands = remakes(grid, options)
    use_onednn()
    if options.dry_run:
        return dry_run(configs, recorded(configs, store), workers, compile=options.compile)
    with nullcontext() if options.dask is None else cluster(options.dask):
        todo: Any = sweep(
            configs,
            store,
            workers=-1 if options.dask else workers,
            stack_size=options.stack_size,
            device=options.device,
            compile=options.compile,
            full=options.full,
            commands=commands,
        )
        with closing(todo):  # whatever stops this process, the workers end with it
            make_folder("--out", options.out)
            follow(todo, configs, recorded(configs, store))
    runs = recorded(grid, store)
    report(runs, grid)
    fair = options.preset == "fair"
    for path in write_figures(list(runs.values()), grid, options.out, commands, fair=fair):
        print(f"figure: {path}")


def read_grid(path: Path) -> list[TrainConfig]:
    """The configs of a grid in a JSON file.

    Raises ValueError if it cannot be read, is not a list of blocks, or has a run that
    TrainConfig refuses, none at all, or more than MAX_RUNS.
    """
    given = f"got {str(path)!r}"
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ValueError(f"it has more than {MAX_BYTES} bytes")
        blocks = json.loads(content.decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"--grid must be a JSON file, {given}: {reason(error)}") from error
    if (
        not isinstance(blocks, list)
        or not blocks
        or not all(isinstance(b, dict) for b in blocks)
    ):
        raise ValueError(f"--grid must hold a list of blocks such as [{{...}}], {given}")
    runs = sum(
        math.prod(len(axis) for axis in block.values() if isinstance(axis, list))
        for block in blocks
    )
    if not 1 <= runs <= MAX_RUNS:
        raise ValueError(
            f"--grid must describe at least one run and at most {MAX_RUNS}, {given}, which "
            f"describes {runs if runs < 10**9 else 'far more'}"
        )
    try:
        return expand(*blocks)
    except (ArithmeticError, TypeError, ValueError) as error:
        raise ValueError(
            f"--grid must hold runs that can be trained, {given}: {error}"
        ) from error


def remakes(
    grid: Sequence[TrainConfig], options: argparse.Namespace
) -> dict[TrainConfig, str]:
    """The command that makes each run of the grid again, alone: the grid, and what sets the
    run apart in it."""
    source = ["--grid", str(options.grid)] if options.grid else ["--preset", options.preset]
    names = [f.name for f in fields(TrainConfig)]
    apart = [name for name in names if len({getattr(c, name) for c in grid}) > 1]

    def one(config: TrainConfig) -> str:
        values = {name: plain(config)[name] for name in apart}
        conditions = [
            f"{name}={value if isinstance(value, str) else json.dumps(value)}"
            for name, value in values.items()
        ]
        only = ["--only", *conditions] if conditions else []
        return command_line("phase-diagram", *source, *only)

    return {config: one(config) for config in grid}


@contextmanager
def cluster(address: str) -> Iterator[None]:
    """Within, joblib's processes are those of the Dask cluster at `address`. Raises
    ValueError if no scheduler answers there."""
    from distributed import Client
    from joblib import parallel_config

    try:
        if not address.strip():  # Client would start a cluster of its own
            raise ValueError("it is empty")
        client = Client(address, timeout=20)
    except (OSError, TypeError, ValueError) as error:
        raise ValueError(
            f"--dask must be the address of a Dask scheduler, got {address!r}: {error}"
        ) from error
    with client, parallel_config(backend="dask"):  # joblib takes the latest client
        yield


def dry_run(
    configs: Sequence[TrainConfig],
    runs: dict[TrainConfig, Run],
    workers: int,
    *,
    compile: bool,
) -> None:
    """Print the number of runs, and how long those that are missing take here."""
    from tqdm import tqdm

    missing = [config for config in configs if config not in runs]
    print(f"{len(configs)} runs, {len(runs)} of them recorded")
    if missing:
        took = tqdm.format_interval(seconds(missing, workers=workers, compile=compile))
        processes = f"{workers} process{'es' * (workers > 1)}"
        print(f"{len(missing)} to train: about {took} (h:min:s) with {processes} here")


def follow(todo: Any, configs: Sequence[TrainConfig], runs: dict[TrainConfig, Run]) -> None:
    """Run a sweep to its end under a progress bar: runs done, rate, time left, and the best
    cell so far."""
    from tqdm import tqdm

    best = min(runs.values(), key=merit, default=None)
    kind = {"unit": "run", "dynamic_ncols": True, "smoothing": 0.1}
    with tqdm(todo, total=len(configs), initial=len(runs), **kind) as bar:
        bar.set_postfix_str(printable(praise(best), sys.stderr))
        for run in bar:
            best = run if best is None else min(best, run, key=merit)
            bar.set_postfix_str(printable(praise(best), sys.stderr), refresh=False)


def merit(run: Run) -> tuple[float, float, float]:
    """The best run groks with the least data, then the earliest; among those that do not,
    it has the best accuracy."""
    step = run.first_step()
    best = float(max(run.history["test_accuracy"]))
    return (run.config["fraction"], step, 0.0) if step is not None else (2.0, 0.0, -best)


def praise(run: Run | None) -> str:
    """One line about the best run."""
    if run is None:
        return ""
    step, accuracy = run.first_step(), max(run.history["test_accuracy"])
    success = f"step {step}" if step is not None else f"{accuracy:.0%} test"
    return f"best: {run.label()} at {run.config['fraction']:.0%} of the pairs, {success}"


def write_figures(
    runs: Sequence[Run],
    grid: Sequence[TrainConfig],
    out: Path,
    commands: dict[TrainConfig, str],
    *,
    fair: bool,
) -> list[Path]:
    """The diagram, the agreement of the seeds and the frontier, each as a page of its own.

    The fair grid is drawn over effective strength and judged on orbit-clean pairs.
    """
    from lrdlib.figures.page import write_page
    from lrdlib.figures.phase import agreement_figure, frontier_figure, phase_figure

    view: dict[str, Any] = {}
    if fair:
        view = {"metric": "orbit_clean_accuracy", "axis": "effective"}
    pages = {
        "Phase diagram": phase_figure(
            runs, grid, command=lambda config: commands[TrainConfig(**config)], **view
        ),
        "Seed agreement": agreement_figure(runs, grid, **view),
        "Frontier": frontier_figure(runs, grid, **view),
    }
    return [
        write_page(fig, out / f"{title.lower().replace(' ', '-')}.html", title=title)
        for title, fig in pages.items()
    ]


def report(runs: dict[TrainConfig, Run], grid: Sequence[TrainConfig]) -> None:
    """Print, per rule, how much of the grid is recorded and how much of that groks."""
    for rule in dict.fromkeys((c.rule, c.mode) for c in grid):
        wanted = [c for c in grid if (c.rule, c.mode) == rule]
        there = [runs[c] for c in wanted if c in runs]
        groks = sum(run.first_step() is not None for run in there)
        recorded = f"{len(there)} of {len(wanted)} runs recorded"
        print(f"{' '.join(rule):22} {recorded}, {groks} grok")
