"""python -m lrdlib phase-diagram: train a grid of runs, as far as it is not recorded, and
draw the paper's Figure 1."""

import argparse
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from lrdlib.commands.common import Subparsers, add_command, command_line
from lrdlib.evidence.grids import GRIDS
from lrdlib.training.backend import use_onednn
from lrdlib.training.config import TrainConfig, plain
from lrdlib.training.runs import Run
from lrdlib.training.sweep import expand, recorded, seconds, sweep

DESCRIPTION = """\
Train one transformer per cell of a grid (data fraction x strength of decay, for each rule and seed) and draw where it
generalises: the paper's Figure 1. A cell counts as a success if its test accuracy exceeds 0.95 at some record.

presets:
  smoke      a small model modulo 23: a minute, to see that everything works
  paper      p = 97, 11 fractions x 6 strengths, L2, LRD and elastic, lambda with and without the learning rate, 3 seeds
  published  the first public code's grid: p = 113, 6 x 6, LRD on query and key matrices only; its L2 runs have ten
             times the strength that it draws them at
  fair       L2, LRD and elastic over the same effective strengths (learning rate x lambda), three learning rates,
             fractions from 0.2; success is judged on pairs of which neither order was trained on

Look before you start: --dry-run says how many runs there are and about how long they take here. To train a part of a
grid, name it: --only seed=0 rule=l2,lrd fraction=0.3,0.4. For a grid of your own, --grid FILE, a JSON list of blocks:
  [{"rule": ["l2", "lrd"], "weight_decay": [0.01, 0.1], "fraction": [0.3, 0.5], "p": 59, "steps": 1000}]
where a list is an axis and the names are TrainConfig's.

Each run is stored in OUT/runs as soon as it ends, and the same command goes on where it was stopped; several may work
on one folder at once. Figures: OUT/phase-diagram.html, seed-agreement.html, frontier.html.
"""


def add(commands: Subparsers) -> None:
    """Add the command to the command line's grammar."""
    c = add_command(
        commands,
        "phase-diagram",
        "train a grid of runs and draw Figure 1",
        DESCRIPTION,
        phase_diagram,
    )
    source = c.add_mutually_exclusive_group()
    source.add_argument(
        "--preset", choices=list(GRIDS), default="smoke", help="which grid (smoke)"
    )
    source.add_argument(
        "--grid", type=Path, metavar="FILE", help="a grid of your own, as JSON"
    )
    c.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="FIELD=VALUE[,VALUE]",
        help="the part of the grid to train",
    )
    c.add_argument(
        "--out",
        type=Path,
        default=Path("phase-diagram"),
        metavar="DIR",
        help="folder to write (phase-diagram)",
    )
    c.add_argument(
        "--runs", type=Path, metavar="DIR", help="folder of the recorded runs (OUT/runs)"
    )
    c.add_argument(
        "--dry-run",
        action="store_true",
        help="say how many runs and how long, and train nothing",
    )
    c.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="processes side by side (one per core; 1 on a GPU)",
    )
    c.add_argument(
        "--dask",
        metavar="ADDRESS",
        help="train on the Dask cluster there, which must see the folder of runs",
    )
    c.add_argument("--device", default="cpu", help="where to train: cpu or cuda (cpu)")
    c.add_argument(
        "--stack-size",
        type=int,
        metavar="N",
        help="runs in one batched model (1; on a GPU what fits)",
    )
    c.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="torch.compile the forward pass: 1.4 times as fast after half a minute (off)",
    )
    c.add_argument(
        "--full",
        action="store_true",
        help="keep every spectrum and the final QK matrices: 16 times the size",
    )


def phase_diagram(options: argparse.Namespace) -> None:
    """Train what is missing, show progress, write the figures."""
    import joblib  # it, plotly and tqdm are extras: the library itself does without

    import lrdlib.figures.page
    import lrdlib.figures.phase  # noqa: F401

    grid = read_grid(options.grid) if options.grid else expand(*GRIDS[options.preset]())
    configs, store = only(grid, options.only), options.runs or options.out / "runs"
    commands = remakes(configs, grid, options)
    workers = (
        (1 if options.device != "cpu" else -1)
        if options.workers is None
        else options.workers
    )
    workers = joblib.cpu_count() if workers == -1 else workers
    use_onednn()
    if options.dry_run:
        return dry_run(configs, recorded(configs, store), workers, compile=options.compile)
    with cluster(options.dask):
        todo = sweep(
            configs,
            store,
            workers=-1 if options.dask else workers,
            stack_size=options.stack_size,
            device=options.device,
            compile=options.compile,
            full=options.full,
            commands=commands,
        )
        follow(todo, configs, recorded(configs, store))
    runs = recorded(grid, store)
    report(runs, grid)
    for path in write_figures(
        list(runs.values()), grid, options.out, commands, fair=options.preset == "fair"
    ):
        print(f"figure: {path}")


def read_grid(path: Path) -> list[TrainConfig]:
    """The configs of a grid in a JSON file. Raises ValueError if it is not a list of
    blocks, and as `expand`."""
    try:
        blocks = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"--grid must be a JSON file, got {str(path)!r}: {error}"
        ) from error
    if (
        not isinstance(blocks, list)
        or not blocks
        or not all(isinstance(block, dict) for block in blocks)
    ):
        raise ValueError(
            f"--grid must hold a list of blocks such as [{{...}}], got {str(path)!r}"
        )
    configs = expand(*blocks)
    if not configs:
        raise ValueError(
            f"--grid must describe at least one run, got an empty axis in {str(path)!r}"
        )
    return configs


def only(configs: Sequence[TrainConfig], conditions: Sequence[str]) -> list[TrainConfig]:
    """The configs that meet every condition FIELD=VALUE[,VALUE].

    >>> [c.seed for c in only([TrainConfig(seed=s) for s in range(4)], ["rule=lrd", "seed=1,2"])]
    [1, 2]
    """
    chosen = list(configs)
    for condition in conditions:
        field, equals, values = condition.partition("=")
        if not equals or field not in {f.name for f in fields(TrainConfig)}:
            raise ValueError(
                f"--only must be FIELD=VALUE with a field of TrainConfig, got {condition!r}"
            )
        wanted = _values(values)
        before, chosen = chosen, [c for c in chosen if getattr(c, field) in wanted]
        if not chosen:
            there = sorted({str(getattr(c, field)) for c in before})
            raise ValueError(
                f"--only must leave a run of the grid, got {condition!r}: there is "
                f"{', '.join(there)}"
            )
    return chosen


def _values(text: str) -> list[Any]:
    """Values with commas between them; a list, as of betas, is one value."""
    whole = _value(text)
    return (
        [tuple(whole)]
        if isinstance(whole, list)
        else [_value(part) for part in text.split(",")]
    )


def _value(text: str) -> Any:
    """A number, true, false or null as JSON has them, or else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def remakes(
    configs: Sequence[TrainConfig], grid: Sequence[TrainConfig], options: argparse.Namespace
) -> dict[TrainConfig, str]:
    """The command that makes each run again, alone: the grid, and what sets the run apart
    in it."""
    source = ["--grid", str(options.grid)] if options.grid else ["--preset", options.preset]
    apart = [
        f.name for f in fields(TrainConfig) if len({getattr(c, f.name) for c in grid}) > 1
    ]

    def one(config: TrainConfig) -> str:
        conditions = [f"{name}={_text(config, name)}" for name in apart]
        return command_line(
            "phase-diagram", *source, *(["--only", *conditions] if conditions else [])
        )

    return {config: one(config) for config in grid}


def _text(config: TrainConfig, name: str) -> str:
    value = plain(config)[name]
    return value if isinstance(value, str) else json.dumps(value)


@contextmanager
def cluster(address: str | None) -> Iterator[None]:
    """joblib's processes on the Dask cluster at `address`, or here."""
    if address is None:
        yield
        return
    from distributed import Client
    from joblib import parallel_config

    with (
        Client(address, timeout=20),
        parallel_config(backend="dask"),
    ):  # joblib takes the latest client
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
        print(
            f"{len(missing)} to train: about {took} (h:min:s) with {workers} "
            f"process{'es' * (workers > 1)} here"
        )


def follow(todo: Any, configs: Sequence[TrainConfig], runs: dict[TrainConfig, Run]) -> None:
    """Run a sweep to its end under a progress bar: runs done, rate, time left, and the best
    cell so far."""
    from tqdm import tqdm

    best = min(runs.values(), key=merit, default=None)
    with tqdm(
        todo,
        total=len(configs),
        initial=len(runs),
        unit="run",
        dynamic_ncols=True,
        smoothing=0.1,
    ) as bar:
        bar.set_postfix_str(praise(best))
        for run in bar:
            best = run if best is None else min(best, run, key=merit)
            bar.set_postfix_str(praise(best), refresh=False)


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
    where = f"{run.label()} at {run.config['fraction']:.0%} of the pairs"
    step = run.first_step()
    return f"best: {where}, " + (
        f"step {step}"
        if step is not None
        else f"{max(run.history['test_accuracy']):.0%} test"
    )


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

    view: dict[str, Any] = (
        {"metric": "orbit_clean_accuracy", "axis": "effective"} if fair else {}
    )
    figures = {
        "phase-diagram": phase_figure(
            runs, grid, command=lambda c: commands[TrainConfig(**c)], **view
        ),
        "seed-agreement": agreement_figure(runs, grid, **view),
        "frontier": frontier_figure(runs, grid, **view),
    }
    titles = {name: name.replace("-", " ").capitalize() for name in figures}
    return [
        write_page(fig, out / f"{name}.html", title=titles[name])
        for name, fig in figures.items()
    ]


def report(runs: dict[TrainConfig, Run], grid: Sequence[TrainConfig]) -> None:
    """Print, per rule, how much of the grid is recorded and how much of that groks."""
    for rule in dict.fromkeys((c.rule, c.mode) for c in grid):
        wanted = [c for c in grid if (c.rule, c.mode) == rule]
        there = [runs[c] for c in wanted if c in runs]
        groks = sum(run.first_step() is not None for run in there)
        print(
            f"{' '.join(rule):22} {len(there)} of {len(wanted)} runs recorded, {groks} grok"
        )
