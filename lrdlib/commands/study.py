"""python -m lrdlib study: run what the studies ask for and nothing has recorded yet."""

import argparse
import hashlib
import json
import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import chain
from pathlib import Path
from typing import Any

from lrdlib._check import check_choice, check_integer, check_real
from lrdlib.commands.common import (
    MAX_WORKERS,
    Subparsers,
    add_command,
    add_compile,
    add_only,
    check_folder,
    command_line,
    make_folder,
    meeting,
    only,
)
from lrdlib.evidence.results import as_table, label, results
from lrdlib.evidence.studies import (
    SEEDS,
    STUDIES,
    WORTH,
    Known,
    asked_by,
    choices,
    generalised,
    missing,
    packed,
    studied,
)
from lrdlib.training.backend import use_onednn
from lrdlib.training.config import SHARED, TrainConfig
from lrdlib.training.packs import save_runs
from lrdlib.training.runs import Run, compact
from lrdlib.training.stacks import train_stack
from lrdlib.training.store import written_whole
from lrdlib.training.sweep import file_name, recorded, sweep

DESCRIPTION = """Run what the studies ask for and the folder does not hold yet.

Tuning runs come first; what they choose is written into plan.json, with the date and a
digest of their outcomes, before the first run that judges. Started again, it goes on.

    python -m lrdlib study E1 --dry-run
    python -m lrdlib study E1 E2 --table
    python -m lrdlib study E1 --only seed=500,501 rule=lrd --compile --workers 2
    python -m lrdlib study all --device cuda --minutes 9
    python -m lrdlib study --take-in results
"""
FOLDER = Path("book/runs/sweep/packs")
STACK = 144  # runs that train together on a GPU
PLAN = "plan.json"
SINGLE = "single"  # the folder of the runs that a CPU trains, as a sweep stores them
Plan = dict[str, dict[str, Any]]
# seconds a step of a full stack, without and with low-rank decay, and with a cut to a rank
GUESS = {"plain": 0.01, "low-rank": 0.017, "cut": 0.1}
COMPILING = 60.0  # seconds, once per model


def add(commands: Subparsers) -> None:
    """Add the command to the command line's grammar."""
    command = add_command(
        commands, "study", "run the studies E0 to E10", DESCRIPTION, run_study
    )
    command.add_argument("names", nargs="*", metavar="STUDY", help="E0 ... E10, or all")
    command.add_argument("--out", type=Path, default=FOLDER, help="where runs are kept")
    add_only(command)
    command.add_argument(
        "--device", default="cpu", help="cpu, or cuda, which compiles by itself (cpu)"
    )
    command.add_argument(
        "--minutes", type=float, help="stop by then (a CPU ends the run in training)"
    )
    command.add_argument(
        "--workers", type=int, default=1, help="processes, on a CPU (-1: one per core)"
    )
    add_compile(command)
    command.set_defaults(compile=None)  # as the device would have it
    command.add_argument("--dry-run", action="store_true", help="say what is missing")
    command.add_argument("--table", action="store_true", help="what the runs give")
    command.add_argument("--take-in", type=Path, metavar="FOLDER", help="add its runs")


def run_study(options: argparse.Namespace) -> None:
    """Check the line, then take in, tell, or run."""
    begin = time.monotonic()
    names = checked(options)
    if options.take_in is not None:
        take_in(options.take_in, options.out)
    runs = studied(options.out)
    known = {config: generalised(run) for config, run in runs.items()}
    if options.table:
        for name in names:
            print(f"{name}: {STUDIES[name].question}\n\n{as_table(results(name, runs))}\n")
        return
    work = Work(names, options.only, known, options.out, math.inf)
    only(asked_by(names, known), options.only)
    work.report()
    if names and not options.dry_run:
        make_folder("--out", options.out)
        if options.minutes is not None:
            work.end = begin + 60 * options.minutes
        if options.device == "cpu":
            use_onednn()
            on_cpu(work, options.workers, compile=bool(options.compile))
        else:
            on_gpu(work, options.device, compile=options.compile is not False)
        work.report()


def checked(options: argparse.Namespace) -> list[str]:
    """The names of the studies that a line asks for. Raises ValueError for one that is
    wrong, before anything is written."""
    for name in options.names:
        check_choice("STUDY", name, (*STUDIES, "all"))
    names = list(WORTH) if "all" in options.names else options.names
    if not names and (options.take_in is None or options.only):
        there = "before --only" if options.only else "or all"
        raise ValueError(f"STUDY must be one of {', '.join(STUDIES)}, {there}, got none")
    if options.only and options.table:
        raise ValueError("--only must be of what is trained, got --table beside it")
    meeting([], options.only)  # which refuses what is no condition
    if options.minutes is not None:
        check_real("--minutes", options.minutes, above=0)
    most = MAX_WORKERS * (os.cpu_count() or 1)
    workers = 1 if options.workers == -1 else options.workers
    check_integer("--workers", workers, at_most=most)
    check_folder("--out", options.out, new=True)
    if options.take_in is not None:
        check_folder("--take-in", options.take_in)
    return names


@dataclass
class Work:
    """What is to be recorded into a folder: the runs that these studies ask for and that
    meet the conditions, FIELD=VALUE each; what is known so far; and the time of the
    monotonic clock at which it ends."""

    names: Sequence[str]
    conditions: Sequence[str]
    known: dict[TrainConfig, float]
    folder: Path
    end: float

    def asked(self, *names: str) -> list[TrainConfig]:
        """All that these studies ask for so far and that meets the conditions."""
        return meeting(asked_by(names, self.known), self.conditions)

    def missing(self) -> list[TrainConfig]:
        """What is not known of that."""
        return meeting(missing(self.names, self.known), self.conditions)

    def report(self) -> None:
        """Say of each study how much of what it asks for so far is known."""
        for name in self.names:
            runs = self.asked(name)
            there = sum(config in self.known for config in runs)
            question = STUDIES[name].question
            print(f"{name:4} {there:5} of {len(runs):5} runs   {question}")

    def note_choices(self) -> None:
        """Write into the plan what has been chosen since. Raises as `with_choices`."""
        plan = self.folder / PLAN
        write_plan(with_choices(read_plan(plan), chosen(self.known)), plan)

    def command(self, *options: str) -> str:
        """The command that does this work."""
        conditions = ["--only", *self.conditions] if self.conditions else []
        return command_line("study", *self.names, *conditions, *options)


def take_in(source: Path, folder: Path) -> None:
    """Copy the packed runs and the plan of `source`, as far as `folder` does not hold them,
    and note what they choose. What cannot be read, and a plan that chooses otherwise, is
    one error before anything is written."""
    held = studied(folder)
    files = {path: packed(path) for path in sorted(source.glob("*.npz"))}
    new: dict[Path, list[Run]] = {}
    for path, runs in files.items():
        new[path] = [run for config, run in runs.items() if config not in held]
        held = runs | held
    plan = with_choices(read_plan(folder / PLAN), read_plan(source / PLAN))
    known = {config: generalised(run) for config, run in held.items()}
    plan = with_choices(plan, chosen(known))
    make_folder("--out", folder)
    write_plan(plan, folder / PLAN)
    for path, several in new.items():
        if several:
            save_runs(several, folder / name_of(several))
        print(f"{path.name}: {len(several)} of {len(files[path])} runs are new")


def name_of(runs: Sequence[Run]) -> str:
    """A file name for a stack of runs: what it is at a glance, and a digest."""
    text = json.dumps([run.config for run in runs], sort_keys=True)
    kind = "low-rank" if TrainConfig(**runs[0].config).low_rank else "plain"
    return f"{len(runs)}-{kind}-{hashlib.sha256(text.encode()).hexdigest()[:10]}.npz"


# ---- the plan


def read_plan(path: Path) -> Plan:
    """What a plan says of each choice: "chosen", "date" and "digest". It is empty where
    there is no file. Raises ValueError for a file that is no plan."""
    try:
        plan = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        for key, entry in plan.items():
            if not (isinstance(entry, dict) and {"chosen", "date", "digest"} <= set(entry)):
                raise ValueError(f"{key} is none, with its date and digest")
    except (AttributeError, RecursionError, ValueError) as error:
        raise ValueError(f"{str(path)!r} must hold a plan of choices: {error}") from error
    return plan


def with_choices(plan: Plan, new: Plan) -> Plan:
    """The plan, and of the new choices those that it does not have. Raises ValueError for a
    choice that is another than the plan's: none is made anew."""
    for key, entry in new.items():
        if key in plan and plan[key]["chosen"] != entry["chosen"]:
            raise ValueError(
                f"{PLAN} must hold the choices of its runs, got {plan[key]['chosen']} for "
                f"{key}, which now would be {entry['chosen']}"
            )
    return new | plan


def write_plan(plan: Plan, path: Path) -> None:
    """Write the plan, unless it is what the file holds."""
    if plan != read_plan(path):
        with written_whole(path) as file:
            file.write(json.dumps(plan, indent=1, sort_keys=True).encode() + b"\n")


def chosen(known: Known) -> Plan:
    """All that tuning has chosen so far, as a plan has it, with today's date."""
    return {
        key: {
            "chosen": list(choice.trial),
            "date": date.today().isoformat(),
            "digest": digest(choice.runs, known),
        }
        for key, choice in choices(known).items()
    }


def digest(configs: Sequence[TrainConfig], known: Known) -> str:
    """SHA-256 over a line for each run: the name of its file in a sweep, and its T_gen."""
    text = "".join(f"{file_name(config)} {known[config]:g}\n" for config in configs)
    return hashlib.sha256(text.encode()).hexdigest()


# ---- training


def thin(run: Run) -> Run:
    """The run as it is kept: spectra of the first judging seed at fraction 0.4 only."""
    shown = run.config["seed"] == SEEDS[0] and run.config["fraction"] == 0.4
    small = compact(run)
    return small if shown else replace(small, spectra={}, fourier={})


def on_cpu(work: Work, workers: int, *, compile: bool) -> None:
    """One run at a time in each of the workers; each is stored when it ends."""
    folder, known, end = work.folder, work.known, work.end
    command = work.command(*(["--compile"] if compile else []))
    while time.monotonic() < end and (todo := work.missing()):
        work.note_choices()
        # what had been trained, and not yet packed, when this was stopped
        kept = recorded(todo, folder / SINGLE).values()
        runs = sweep(
            todo,
            folder / SINGLE,
            workers=workers,
            compile=compile,
            commands=dict.fromkeys(todo, command),
        )
        try:
            for run in chain(kept, runs):
                config = TrainConfig(**run.config)
                save_runs([thin(run)], folder / name_of([run]))
                known[config] = generalised(run)
                who = f"{label(config)}, f {config.fraction:g}, seed {config.seed}"
                print(f"{who}: T_gen {known[config]:g}", flush=True)
                if time.monotonic() > end:
                    break
        finally:
            runs.close()  # type: ignore[attr-defined]
    work.note_choices()


def next_stack(todo: Sequence[TrainConfig], size: int) -> list[TrainConfig]:
    """The first run that is missing, and those that can train with it and cost as much."""

    def kind(c: TrainConfig) -> tuple[object, ...]:
        return *(getattr(c, name) for name in SHARED), c.low_rank, cost(c)

    return [c for c in todo if kind(c) == kind(todo[0])][:size]


def cost(c: TrainConfig) -> str:
    """What a step of a run takes its time for, a name of GUESS."""
    if c.capped:
        return "cut"
    return "low-rank" if c.low_rank or c.optimizer == "muon" else "plain"


def on_gpu(work: Work, device: str, *, compile: bool) -> None:
    """Stack after stack, each stored when it ends, as long as the time allows; what takes
    longer is put off for what does not.

    A stack that torch cannot train compiled (there may be no compiler, or no room) is
    trained without, as are those after it; one that it cannot train at all is passed over.
    Raises RuntimeError, at the end, if there was none that it could.
    """
    folder, known, end = work.folder, work.known, work.end
    paces: dict[tuple[Any, ...], float] = {}  # seconds a step of stacks that are alike
    put_off: set[TrainConfig] = set()
    failed, stored = "", 0
    command = work.command("--device", device, *([] if compile else ["--no-compile"]))
    while todo := [c for c in work.missing() if c not in put_off]:
        work.note_choices()
        stack = next_stack(todo, STACK)
        steps, kind = stack[0].steps, cost(stack[0])
        # compiled where that is worth it: not where a step is mostly a cut
        full = compile and kind != "cut" and (3 * len(stack) > STACK or steps >= 10_000)
        size = STACK if full and steps < 10_000 else len(stack)
        alike = kind, full, size, stack[0].task, stack[0].optimizer
        pace = paces.get(alike, GUESS[kind])
        need = steps * pace + (COMPILING if full and alike not in paces else 5)
        if time.monotonic() + need > end:
            put_off |= set(stack)
            continue
        begin = time.monotonic()
        try:
            runs = train_stack(
                stack,
                device=device,
                compile=full,
                size=size,
                until=end,
                command=command,
            )
        except RuntimeError as error:
            failed = (
                f"{type(error).__name__}: {(str(error) or 'no reason').splitlines()[0]}"
            )
            how = "compiled" if full else "at all"
            print(f"{len(stack)} runs cannot be trained {how}: {failed:.300}", flush=True)
            compile = compile and not full
            put_off |= set() if full else set(stack)
            continue
        if runs is None:  # which it says as soon as its pace shows it
            put_off |= set(stack)
            continue
        took = time.monotonic() - begin
        paces[alike] = min(took / steps, paces.get(alike, math.inf))
        stored += len(stack)
        small = [thin(run) for run in runs]
        known |= {config: generalised(run) for config, run in zip(stack, runs, strict=True)}
        save_runs(small, path := folder / name_of(small))
        won = sum(math.isfinite(known[c]) for c in stack)
        print(
            f"{path.name}: {len(stack)} runs of {steps} steps in {took:.1f} s, "
            f"{won} generalise, {os.path.getsize(path) / 1e6:.2f} MB",
            flush=True,
        )
    work.note_choices()
    if failed and not stored:
        raise RuntimeError(failed)
    if left := work.missing():
        why = "some cannot be trained here" if failed else "out of time"
        print(f"{why}: {len(left)} runs are left", flush=True)
