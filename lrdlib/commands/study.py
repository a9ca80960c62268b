"""python -m lrdlib study: run what the studies ask for and nothing has recorded yet."""

import argparse
import hashlib
import json
import math
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

from lrdlib._check import check_choice, check_real
from lrdlib.commands.common import Subparsers, add_command, check_folder, make_folder
from lrdlib.evidence.results import as_table, results
from lrdlib.evidence.studies import (
    ARMS,
    PARTS,
    SEEDS,
    STUDIES,
    TUNED_AT,
    WORTH,
    Known,
    choice,
    first_choice,
    generalised,
    missing,
    part_choice,
)
from lrdlib.training.config import SHARED, TrainConfig
from lrdlib.training.packs import load_runs, save_runs
from lrdlib.training.runs import Run, compact
from lrdlib.training.stacks import train_stack
from lrdlib.training.store import written_whole
from lrdlib.training.sweep import sweep

DESCRIPTION = """Run what the studies ask for and the folder does not hold yet.

Tuning runs come first; what they choose is written into plan.json, with the date, before
the first run that judges. Started again, it goes on.

    python -m lrdlib study E1 --dry-run
    python -m lrdlib study E1 E2 --table
    python -m lrdlib study all --device cuda --minutes 9
    python -m lrdlib study --take-in results
"""
FOLDER = Path("book/runs/studies")
STACK = 144  # runs that train together on a GPU
PLAN = "plan.json"
GUESS = {True: 0.017, False: 0.01}  # seconds a step of a full stack, with low-rank decay
COMPILING = 60.0  # seconds, once per model


def add(commands: Subparsers) -> None:
    """Add the command to the command line's grammar."""
    command = add_command(
        commands, "study", "run the studies E0 to E10", DESCRIPTION, run_study
    )
    command.add_argument("names", nargs="*", metavar="STUDY", help="E0 ... E10, or all")
    command.add_argument("--out", type=Path, default=FOLDER, help="where runs are kept")
    command.add_argument("--device", default="cpu")
    command.add_argument("--minutes", type=float, help="stop before")
    command.add_argument("--workers", type=int, default=1, help="processes, on a CPU")
    command.add_argument("--dry-run", action="store_true", help="say what is missing")
    command.add_argument("--table", action="store_true", help="what the runs give")
    command.add_argument("--take-in", type=Path, metavar="FOLDER", help="add its runs")


def run_study(options: argparse.Namespace) -> None:
    """Check the line, then take in, tell, or run."""
    names = list(WORTH) if "all" in options.names else options.names
    for name in names:
        check_choice("STUDY", name, (*STUDIES, "all"))
    if not names and options.take_in is None:
        raise ValueError(f"STUDY must be one of {', '.join(STUDIES)}, or all, got none")
    if options.minutes is not None:
        check_real("--minutes", options.minutes, above=0)
    check_folder("--out", options.out, new=True)
    if options.take_in is not None:
        check_folder("--take-in", options.take_in)
        make_folder("--out", options.out)
        take_in(options.take_in, options.out)
    runs = studied(options.out)
    known = {config: generalised(run) for config, run in runs.items()}
    if options.table:
        for name in names:
            print(f"{name}: {STUDIES[name].question}\n\n{as_table(results(name, runs))}\n")
        return
    report(names, known)
    if names and not options.dry_run:
        make_folder("--out", options.out)
        left = math.inf if options.minutes is None else 60 * options.minutes
        end = time.monotonic() + left
        if options.device == "cpu":
            on_cpu(names, known, options.out, options.workers, end)
        else:
            on_gpu(names, known, options.out, options.device, end)
        report(names, known)


def studied(folder: Path) -> dict[TrainConfig, Run]:
    """All runs of the studies that the folder holds, in files of many and of one."""
    found: dict[TrainConfig, Run] = {}
    for path in sorted(folder.glob("*.npz")):
        found |= {TrainConfig(**run.config): run for run in load_runs(path)}
    return found


def report(names: Sequence[str], known: Known) -> None:
    """Say of each study how much of what it asks for so far is known."""
    for name in names:
        asked = dict.fromkeys(STUDIES[name].configs(known))
        there = sum(config in known for config in asked)
        print(f"{name:4} {there:5} of {len(asked):5} runs   {STUDIES[name].question}")


def take_in(source: Path, folder: Path) -> None:
    """Copy the packed runs of `source` that `folder` does not hold. What cannot be read is
    one error before anything is copied."""
    held = studied(folder)
    files = {path: load_runs(path) for path in sorted(source.glob("*.npz"))}
    for path, runs in files.items():
        new = [run for run in runs if TrainConfig(**run.config) not in held]
        held |= {TrainConfig(**run.config): run for run in new}
        if new:
            save_runs(new, folder / name_of(new))
        print(f"{path.name}: {len(new)} of {len(runs)} runs are new")
    if (plan := source / PLAN).exists():
        _merge_plan(json.loads(plan.read_text(encoding="utf-8")), folder / PLAN)


def name_of(runs: Sequence[Run]) -> str:
    """A file name for a stack of runs: what it is at a glance, and a digest."""
    text = json.dumps([run.config for run in runs], sort_keys=True)
    kind = "low-rank" if TrainConfig(**runs[0].config).low_rank else "plain"
    return f"{len(runs)}-{kind}-{hashlib.sha256(text.encode()).hexdigest()[:10]}.npz"


def choices(known: Known) -> dict[str, object]:
    """All that tuning has chosen so far."""
    found: dict[str, object] = {}
    for name in ARMS:
        found[f"E1 first {name}"] = first_choice(name, known)
        found[f"E1 {name}"] = choice(name, known)
        found |= {f"E1 {name} f={f:g}": choice(name, known, f) for f in TUNED_AT}
    found |= {f"E2 {name}": part_choice(name, known) for name in PARTS}
    return {key: value for key, value in found.items() if value is not None}


def note_choices(known: Known, path: Path) -> None:
    """Write into the plan what has been chosen since, with today's date. Raises ValueError
    if a choice is another than the plan's."""
    new = {
        key: {"chosen": json.loads(json.dumps(value)), "date": date.today().isoformat()}
        for key, value in choices(known).items()
    }
    _merge_plan(new, path)


def _merge_plan(new: dict[str, dict[str, object]], path: Path) -> None:
    plan = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for key, entry in new.items():
        if key in plan and plan[key]["chosen"] != entry["chosen"]:
            raise ValueError(
                f"{path} must hold the choices of its runs, got {plan[key]['chosen']} for "
                f"{key}, which now would be {entry['chosen']}"
            )
    merged = new | plan
    if merged != plan:
        with written_whole(path) as file:
            file.write(json.dumps(merged, indent=1, sort_keys=True).encode() + b"\n")


def thin(run: Run) -> Run:
    """The run as it is kept: spectra of the first judging seed at fraction 0.4 only."""
    shown = run.config["seed"] == SEEDS[0] and run.config["fraction"] == 0.4
    small = compact(run)
    return small if shown else replace(small, spectra={}, fourier={})


def on_cpu(
    names: Sequence[str],
    known: dict[TrainConfig, float],
    folder: Path,
    workers: int,
    end: float,
) -> None:
    """One run at a time in each of the workers; each is stored when it ends."""
    while time.monotonic() < end and (todo := missing(names, known)):
        note_choices(known, folder / PLAN)
        command = f"python -m lrdlib study {' '.join(names)}"
        runs = sweep(
            todo, folder / "single", workers=workers, commands=dict.fromkeys(todo, command)
        )
        try:
            for run in runs:
                config = TrainConfig(**run.config)
                known[config] = generalised(run)
                save_runs([thin(run)], folder / name_of([run]))
                print(f"{run.label()}, seed {config.seed}: {known[config]:g}", flush=True)
                if time.monotonic() > end:
                    break
        finally:
            runs.close()  # type: ignore[attr-defined]


def next_stack(todo: Sequence[TrainConfig], size: int) -> list[TrainConfig]:
    """The first run that is missing, and those that can train with it."""

    def kind(c: TrainConfig) -> tuple[object, ...]:
        return *(getattr(c, name) for name in SHARED), c.low_rank

    return [c for c in todo if kind(c) == kind(todo[0])][:size]


def on_gpu(
    names: Sequence[str],
    known: dict[TrainConfig, float],
    folder: Path,
    device: str,
    end: float,
) -> None:
    """Stack after stack, each stored when it ends, as long as the time allows."""
    paces: dict[tuple[bool, bool], float] = {}
    put_off: set[TrainConfig] = set()
    while todo := [c for c in missing(names, known) if c not in put_off]:
        note_choices(known, folder / PLAN)
        stack = next_stack(todo, STACK)
        steps, low = stack[0].steps, stack[0].low_rank
        full = 3 * len(stack) > STACK or steps >= 10_000
        size = STACK if full and steps < 10_000 else len(stack)
        pace = paces.get((low, full), GUESS[low])
        need = steps * pace + (COMPILING if full and (low, full) not in paces else 5)
        if time.monotonic() + need > end:
            print(
                f"no time for {len(stack)} runs of {steps} steps: {need:.0f} s", flush=True
            )
            put_off |= set(stack)
            continue
        begin = time.monotonic()
        runs = train_stack(
            stack,
            device=device,
            compile=full,
            size=size,
            until=end,
            command=f"python -m lrdlib study {' '.join(names)} --device {device}",
        )
        if runs is None:
            print(f"{len(stack)} runs were not done in time", flush=True)
            return
        took = time.monotonic() - begin
        paces[low, full] = min(took / steps, paces.get((low, full), math.inf))
        small = [thin(run) for run in runs]
        known |= {config: generalised(run) for config, run in zip(stack, runs, strict=True)}
        save_runs(small, path := folder / name_of(small))
        won = sum(math.isfinite(known[c]) for c in stack)
        print(
            f"{path.name}: {len(stack)} runs of {steps} steps in {took:.1f} s, "
            f"{won} generalise, {os.path.getsize(path) / 1e6:.2f} MB",
            flush=True,
        )
    note_choices(known, folder / PLAN)
