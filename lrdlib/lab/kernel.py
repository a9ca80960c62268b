"""Lab: the lab as a Jupyter widget. The kernel trains in a thread; sliders act while it
runs."""

import tempfile
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from lrdlib.lab import script
from lrdlib.lab.driven import Driven
from lrdlib.lab.loop import caller_of_loop
from lrdlib.lab.plain import PlainLab
from lrdlib.lab.presets import all_presets
from lrdlib.lab.seen import Seen, sentence
from lrdlib.lab.thread import Trainer
from lrdlib.training.config import RULES, TrainConfig, plain
from lrdlib.training.runs import save_run


class Lab(Driven, anywidget.AnyWidget):
    """The lab in a notebook: set a rule, press Start, move weight decay while it trains.

        from lrdlib.lab import Lab
        lab = Lab()
        lab                                 # the last line of a cell shows it
        ...
        run = lab.run                       # in a later cell: the run so far, as lrdlib's own Run
        save_run(run, "mine.npz")

    config: a TrainConfig to begin with, beside the presets. device: where torch trains,
    such as "cuda".

    One thread trains, one run at a time; another start stops the first. The cells of the
    notebook stay free meanwhile. Sliders, pause, step and stop act within a step. From
    Python the same by start(config), set(weight_decay=...), pause(), resume(), step(),
    stop() and reset(); state and message say how it stands, and wait() waits for the end.
    When the last view of it goes, because its output is cleared or its cell is run again,
    it pauses until it is seen again; a run that was started from Python with no view trains
    on.

    It needs the front end's part of anywidget. Where a notebook shows no lab but an error
    in its place, take Lab.plain(): the same controls as plain ipywidgets, and simpler
    figures (lrdlib.lab.plain.PlainLab). Where Python has no anywidget, Lab is that by
    itself.
    """

    _esm = script.source("widget")
    _css = script.style()
    presets = traitlets.Dict().tag(sync=True)
    rules = traitlets.List(list(RULES)).tag(sync=True)
    device = traitlets.Unicode().tag(sync=True)

    def __init__(self, config: TrainConfig | None = None, *, device: str = "cpu") -> None:
        super().__init__(presets=all_presets(config), device=device)
        self.trainer = Trainer(self._tell, device=device)
        self._to_front = caller_of_loop()
        self._views: set[str] = set()
        self._unseen = False  # paused because nobody looks
        self.on_msg(self._receive)

    @staticmethod
    def plain(config: TrainConfig | None = None, *, device: str = "cpu") -> PlainLab:
        """The same controls as plain ipywidgets, for a front end that cannot load this
        one."""
        return PlainLab(config, device=device)

    # ---- to the front end

    def _tell(self, event: str, content: Any) -> None:
        """From the thread of the training: a comm may only be used from an event loop of
        the kernel."""
        message, buffers = pack(event, content, self.trainer.number)
        self._to_front(lambda: self.send(message, buffers))

    def _answer(
        self, view: str, event: str, content: Any, buffers: list[bytes] | None = None
    ) -> None:
        message, packed = pack(event, content, self.trainer.number)
        self.send(message | {"to": view}, packed if buffers is None else buffers)

    # ---- from the front end

    def _receive(self, _: Any, message: dict[str, Any], buffers: list[Any]) -> None:
        # a front end may use a loop of its own, which stays free while a cell runs
        self._to_front = caller_of_loop()
        view = str(message.get("view", ""))
        try:
            self._do(str(message.get("do")), view, message)
        except Exception as error:
            told = {"message": sentence(error), "of": message.get("do")}
            self._answer(view, "refused", told)

    def _do(self, command: str, view: str, message: dict[str, Any]) -> None:
        if command == "start":
            self.start(TrainConfig(**message["config"]))
        elif command == "set":
            self.set(**message["values"])
        elif command in ("pause", "resume", "step", "stop", "reset"):
            getattr(self, command)()
        elif command == "download":
            self._answer(view, "file", {}, [npz(self)])
        elif command == "hello":
            self._greet(view)
        elif command == "bye":
            self._part(view)

    def _greet(self, view: str) -> None:
        """Show a new view all that has happened."""
        self._views.add(view)
        if self.trainer.live is not None:
            self._answer(view, "config", self.trainer.live)
        for seen in list(self.trainer.seen):
            self._answer(view, "record", seen)
        self._answer(view, "status", self.trainer.status())
        if self._unseen and self.state == "paused":
            self.resume()
        self._unseen = False

    def _part(self, view: str) -> None:
        self._views.discard(view)
        if not self._views and self.state == "running":
            self._unseen = True
            self.pause()


def pack(event: str, content: Any, run: int) -> tuple[dict[str, Any], list[bytes]]:
    """An event as JSON-able data and float32 buffers, which hold NaN and are a fifth of the
    size.

    >>> pack("status", {"state": "idle"}, 0)
    ({'event': 'status', 'run': 0, 'state': 'idle'}, [])
    """
    if isinstance(content, TrainConfig):
        return {"event": event, "run": run, "config": plain(content)}, []
    if not isinstance(content, Seen):
        return {"event": event, "run": run} | content, []
    fourier = [] if content.fourier is None else [content.fourier]
    arrays = [*content.spectra.values(), *fourier, content.pattern]
    message = {
        "event": event,
        "run": content.run,
        "step": content.step,
        "metrics": {
            name: value if value - value == 0 else None
            for name, value in content.metrics.items()
        },
        "spectra": list(content.spectra),
        "fourier": content.fourier is not None,
        "size": len(content.pattern),
    }
    return message, [array.float().numpy().tobytes() for array in arrays]


def npz(lab: Driven) -> bytes:
    """The file that save_run would write of the run."""
    with tempfile.TemporaryDirectory() as folder:
        save_run(lab.run, path := Path(folder) / "run.npz")
        return path.read_bytes()
