"""Training in a thread of its own, under the hand of whoever holds it: start, set, pause,
step, stop.

Every command acts between two steps, so at most one step (and perhaps one evaluation)
later. Nothing here knows of widgets: what happens is told, from the thread, to one
function.
"""

import atexit
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, TypeVar
from weakref import WeakSet

import torch

from lrdlib.lab.seen import Seen, first_run, sentence
from lrdlib.training.config import SETTABLE, TrainConfig, check_settable
from lrdlib.training.interrupts import interrupts_held
from lrdlib.training.records import Record
from lrdlib.training.runs import Run, runs_of
from lrdlib.training.train import Training

T = TypeVar("T")
TOLD_EVERY = 0.5  # seconds between two words on progress
ACTIVE = ("running", "paused")


class Trainer:
    """Trains one run at a time in a thread, and calls tell("config" | "status" | "record",
    content) on what happens.

    config: that of the run, as it was started. number: how many runs have been started.
    training: the Training, or None. state: "idle", "running", "paused", "done", "stopped"
    or "failed"; message: a sentence that says more, or "".
    seen: what there is to show of this run. device: where it trains, such as "cpu" or
    "cuda".

    >>> tiny = TrainConfig(p=5, d_model=8, heads=2, layers=1, batch_size=8)
    >>> trainer = Trainer()
    >>> trainer.start(replace(tiny, steps=2, eval_every=1))
    >>> trainer.wait()
    'done'
    >>> trainer.run.history["step"]
    array([0, 1, 2])
    """

    def __init__(
        self,
        tell: Callable[[str, Any], None] = lambda event, content: None,
        *,
        device: str = "cpu",
    ) -> None:
        self.tell, self.device = tell, device
        self.number, self.state, self.message = 0, "idle", ""
        self.ms_per_step = math.nan
        self.training: Training | None = None
        self.seen: list[Seen] = []
        # one start, stop or reset at a time; the thread itself never asks for it
        self._starting = threading.RLock()
        self._changed = threading.Condition()  # guards what follows
        self._wanted: TrainConfig | None = None  # the live config that is asked for
        self._paused, self._stopping, self._steps = False, False, 0
        self._jobs: list[Callable[[], None]] = []
        self._working = False  # whether the thread still looks at jobs
        self._thread: threading.Thread | None = None
        TRAINERS.add(self)

    # ---- commands, from any thread but its own

    def start(self, config: TrainConfig) -> None:
        """Train `config` from its beginning; a run that is training is stopped first.

        Raises TypeError or ValueError for a config that cannot be trained; a run that is
        training goes on then.
        """
        training = Training([config], device=self.device)
        thread = threading.Thread(
            target=self._work, args=(training,), name="lrdlib lab", daemon=True
        )
        with self._starting:
            self.stop()
            with interrupts_held():  # a run that stands without its thread would never end
                self.training, self._wanted, self.seen = training, config, []
                self._paused, self._stopping, self._steps = False, False, 0
                self.number, self.ms_per_step = self.number + 1, math.nan
                self.tell("config", config)
                self._enter("running")
                self._thread, self._working = thread, True
                thread.start()

    def set(self, **values: Any) -> None:
        """Train with these values, of lrdlib.training.config.SETTABLE, from the next step on.

        Raises RuntimeError if nothing is training, TypeError or ValueError for a bad value;
        nothing is changed then.
        """
        with self._changed:
            wanted = self._need_active("set")
            check_settable(values)
            self._wanted = replace(wanted, **values)
            self.tell("config", self._wanted)

    def pause(self) -> None:
        """Stand still after the step that is being taken."""
        with self._changed:
            self._need_active("pause")
            self._paused, self._steps = True, 0

    def resume(self) -> None:
        """Go on after `pause`."""
        with self._changed:
            self._need_active("resume")
            self._paused = False
            self._changed.notify_all()

    def step(self) -> None:
        """Take one step, show where it led, and stand still. What is shown off the grid of
        records is not recorded."""
        with self._changed:
            self._need_active("step")
            self._paused, self._steps = True, self._steps + 1
            self._changed.notify_all()

    def stop(self) -> None:
        """End the run here; it stays `run`. Returns when the thread has ended, so within a
        step. Harmless when idle."""
        with self._starting:
            with self._changed:
                self._stopping = True
                self._changed.notify_all()
            if self._thread is not None:
                self._thread.join()

    def reset(self) -> None:
        """Stop, and forget the run."""
        with self._starting:
            self.stop()
            self.training, self._wanted, self.seen = None, None, []
            self._enter("idle")

    def wait(self, timeout: float | None = None) -> str:
        """Wait until the run is over, or for `timeout` seconds; returns the state then."""
        if self._thread is not None:
            self._thread.join(timeout)
        return self.state

    # ---- what there is

    @property
    def live(self) -> TrainConfig | None:
        """The config of the next step: the one it was started with, and what has been set
        since."""
        return self._wanted

    @property
    def run(self) -> Run:
        """The run as far as it has come, to plot or to save (lrdlib.save_run). Raises
        RuntimeError if there is none.

        Its config is what it was started with; what was set while it trained is in
        provenance["changes"] (runs_of).
        """
        if (training := self.training) is None:
            raise RuntimeError("there is no run yet: start one")
        return self._between_steps(lambda: runs_of(training)[0])

    # ---- the thread

    def _work(self, training: Training) -> None:
        """The life of a run. Whatever goes wrong in it becomes its message."""
        try:
            self._show(training, next(training))
            ending = self._train(training)
            self._enter(*ending)
        except Exception as error:
            self._enter("failed", sentence(error))
        finally:
            with self._changed:
                self._working = False
            self._do_jobs()

    def _train(self, training: Training) -> tuple[str, str]:
        """Step by step to the end of the run: the state and the message that it ends
        with."""
        last, told = training.configs[0].steps, time.monotonic()
        while training.step < last:
            single = self._wait_for_leave()
            if self._stopping:
                return "stopped", ""
            if self._obey(training):
                self.tell("status", self.status())
            record = self._advance(training)
            if record is None and single:
                record = training.measure(torch.full((1,), torch.nan))
            if record is not None:
                self._show(training, record)
                size = record.metrics["train_loss"] + record.metrics["weight_norm"]
                if not torch.isfinite(size).all():
                    return "failed", (
                        f"It has diverged by step {training.step}: try a lower learning "
                        "rate or strength."
                    )
            if record is not None or time.monotonic() - told > TOLD_EVERY:
                told = time.monotonic()
                self.tell("status", self.status())
        return "done", ""

    def _wait_for_leave(self) -> bool:
        """Do the jobs, stand still while paused, and say whether the coming step is a
        single one."""
        while True:
            self._do_jobs()
            with self._changed:
                if self._stopping or not self._paused or self._steps:
                    single = bool(self._steps)
                    self._steps = max(0, self._steps - 1)
                    if not single and not self._stopping:
                        self._enter("running")
                    return single
                self._enter("paused")
                if not self._jobs:
                    self._changed.wait()

    def _obey(self, training: Training) -> bool:
        """Take over what was set; whether that is news."""
        wanted = self._wanted
        if wanted is None or wanted == training.live[0]:
            return False
        training.set(**{name: getattr(wanted, name) for name in SETTABLE})
        return True

    def _advance(self, training: Training) -> Record | None:
        """One step; where a record is due, the Record."""
        began = time.perf_counter()
        if training.due == training.step + 1:
            return next(training)
        training.update()
        if training.params["head"].is_cuda:
            # else steps pile up there: none could be timed, nor stopped
            torch.cuda.synchronize(training.device)
        took = 1000 * (time.perf_counter() - began)
        known = not math.isnan(self.ms_per_step)
        self.ms_per_step = 0.9 * self.ms_per_step + 0.1 * took if known else took
        return None

    def _show(self, training: Training, record: Record) -> None:
        seen = first_run(training, record, self.number)
        self.seen.append(seen)
        self.tell("record", seen)

    # ---- between the threads

    def status(self) -> dict[str, Any]:
        """Where it stands, as JSON-able data."""
        training = self.training
        return {
            "run": self.number,
            "state": self.state,
            "message": self.message,
            "ms_per_step": None if math.isnan(self.ms_per_step) else self.ms_per_step,
            "step": training.step if training else 0,
            "steps": training.configs[0].steps if training else 0,
            "changes": list(training.changes) if training else [],
        }

    def _enter(self, state: str, message: str = "") -> None:
        if (state, message) != (self.state, self.message):
            self.state, self.message = state, message
            self.tell("status", self.status())

    def _need_active(self, command: str) -> TrainConfig:
        if self.state not in ACTIVE or self._wanted is None:
            raise RuntimeError(f"there is nothing to {command}: no run is training")
        return self._wanted

    def _between_steps(self, job: Callable[[], T]) -> T:
        """The result of `job`, done by the thread between two steps, or here if no thread
        is at work."""
        future: Future[T] = Future()

        def work() -> None:
            try:
                future.set_result(job())
            except Exception as error:
                future.set_exception(error)

        with self._changed:
            if self._working:
                self._jobs.append(work)
                self._changed.notify_all()
            else:
                work()
        return future.result()

    def _do_jobs(self) -> None:
        with self._changed:
            jobs, self._jobs = self._jobs, []
        for job in jobs:
            job()


TRAINERS: WeakSet[Trainer] = WeakSet()


@atexit.register
def _stop_all() -> None:
    """A thread inside torch must not outlive the interpreter."""
    for trainer in list(TRAINERS):
        trainer.stop()
