"""A sweep in another process, which the tests may kill: it says what it trains, and its
workers start in no time.

The processes are forked from a server that has imported torch and done nothing else, so
that twenty of them are started and killed in seconds. Their workers are joblib's, forked
too, where its default starts interpreters.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
import warnings
from contextlib import contextmanager, suppress
from pathlib import Path

from joblib.externals.loky.backend.context import set_start_method
from waiting import wait_for

from lrdlib.training import sweep

# how often a sweep is killed; LRDLIB_KILLS=100 for the whole, which takes minutes
KILLS = int(os.environ.get("LRDLIB_KILLS", "20"))
KEPT = []  # what a process holds at its end
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["lrdlib.training.sweep", "joblib"])


def tell(trace, who):
    """From now on, append a line to the file `trace` for each run whose training starts:
    who, and the run's name."""
    trained = sweep._trained

    def told(stack, job):
        with open(trace, "a", encoding="utf-8") as file:  # one short write: no lines mix
            file.write("".join(f"{who} {sweep.file_name(config)}\n" for config in stack))
        return trained(stack, job)

    sweep._trained = told


def lines(trace):
    """What has been told: pairs of who and a run's name."""
    if not trace.exists():
        return []
    return [tuple(line.split()) for line in trace.read_text().splitlines()]


def body(configs, store, trace, who, options):
    """What the other process does: sweep, in a process group of its own, and write down
    which runs it was given."""
    os.setsid()
    set_start_method("fork")
    # there are no threads here
    warnings.filterwarnings("ignore", message="`fork` start method should not be used")
    sweep.CHECKPOINT_SECONDS = options.pop("checkpoint_seconds", 30)
    tell(trace, who)
    end = options.pop("end", None)
    if end is not None:
        end_early(sweep.sweep(configs, store, **options), store, end)
    runs = list(sweep.sweep(configs, store, **options))
    Path(f"{trace}.{who}").write_text(
        "\n".join(sweep.file_name(sweep.TrainConfig(**run.config)) for run in runs)
    )
    os._exit(0)  # not waiting for joblib's idle workers, which end with the group


def end_early(runs, store, end):
    """After the first run and a checkpoint of another: close the generator, or exit while
    it is in a variable, or go on until a signal comes; this process stays, but for exit."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        next(runs)
        wait_for(lambda: list(Path(store).glob(".partial/*.npz")))
        (Path(store) / "ready").touch()
        if end == "exit":
            KEPT.append(runs)
            threading._shutdown()  # as an interpreter ends: it waits for threads, and is gone
            os._exit(3)
        if end != "close":
            list(runs)
    except (KeyboardInterrupt, SystemExit):
        pass
    runs.close()  # as when what holds it is gone; nothing is left to do where next(runs) failed
    while True:
        time.sleep(1)


@contextmanager
def sweeping(configs, store, trace, who, **options):
    """The process, started; whatever is left of its group at the end is killed."""
    process = SERVER.Process(target=body, args=(configs, store, trace, who, options))
    process.start()
    try:
        yield process
    finally:
        kill_group(process.pid)
        process.join(60)
        assert not process.is_alive()
        process.close()


def kill_group(pid):
    """SIGKILL to a process and all its descendants."""
    for kill in (os.killpg, os.kill):  # it may not have come to setsid yet
        with suppress(ProcessLookupError):
            kill(pid, signal.SIGKILL)


def stored(store):
    """The files of the runs in a store, by name: equal files are equal to the bit,
    provenance included."""
    return {
        path.name: path.read_bytes()
        for path in Path(store).glob("*.npz")
        if not path.name.startswith(".")
    }


def leftovers(store):
    """What a sweep that ended must have removed: checkpoints and half-written files."""
    return sorted(
        str(path)
        for path in Path(store).rglob("*")
        if path.is_file() and ".partial" in str(path)[len(str(store)) :]
    )
