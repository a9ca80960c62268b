"""PlainLab: the lab's controls as plain ipywidgets, with figures drawn as SVG, where a
custom widget cannot load."""

from collections.abc import Sequence
from html import escape
from itertools import pairwise
from typing import Any

import ipywidgets as widgets

from lrdlib.lab.driven import Driven
from lrdlib.lab.loop import caller_of_loop
from lrdlib.lab.presets import FIRST, all_presets
from lrdlib.lab.seen import Seen, sentence
from lrdlib.lab.thread import ACTIVE, Trainer
from lrdlib.training.config import RULES, SETTABLE, TrainConfig, plain

STRENGTHS = [
    0.0,
    *(float(f"{m}e{e}") for e in range(-4, 2) for m in (1, 1.5, 2, 3, 5, 7)),
    100.0,
]
RATES = [float(f"{m}e{e}") for e in range(-4, -1) for m in (1, 1.5, 2, 3, 5, 7)]
WIDTH, HEIGHT = 320, 170
Line = tuple[str, str, Sequence[float], Sequence[float]]  # name, colour, x, y


class PlainLab(Driven, widgets.VBox):
    """The lab for a front end that has ipywidgets but cannot load Lab's own script.

    Take it by Lab.plain() where a notebook shows an error in place of Lab(): a server
    without anywidget's extension, or one that forbids scripts. Where Python has no
    anywidget, lrdlib.lab.Lab is this class by itself. The same controls, the same commands
    from Python and the same `run`; three figures instead of five, no step to scrub to, and
    no button for the file: save_run(lab.run, path).
    """

    def __init__(self, config: TrainConfig | None = None, *, device: str = "cpu") -> None:
        self.presets, self._strengths = all_presets(config), dict(FIRST)
        self.trainer = Trainer(self._tell, device=device)
        self._to_front = caller_of_loop()
        self._controls = controls(self.presets)
        self._buttons = {
            name: widgets.Button(description=name.capitalize())
            for name in ("start", "pause", "step", "stop", "reset")
        }
        self._status, self._figures, self._obeying = widgets.HTML(), widgets.HTML(), False
        super().__init__(
            [
                widgets.HTML(f"<b>Training in the kernel</b>, on {escape(device)}"),
                *self._controls.values(),
                widgets.HBox(
                    list(self._buttons.values()), layout={"flex_flow": "row wrap"}
                ),
                self._status,
                self._figures,
            ]
        )
        for name, button in self._buttons.items():
            button.on_click(lambda _, name=name: self._press(name))
        for name, control in self._controls.items():
            control.observe(lambda change, name=name: self._move(name), "value")
        self._adopt(self.beginning)
        self._stand()

    def _press(self, name: str) -> None:
        """A button. Pause is Resume while it stands still."""
        self._to_front = caller_of_loop()
        try:
            if name == "start":
                self.start(self._asked())
            else:
                resume = name == "pause" and self.state == "paused"
                getattr(self, "resume" if resume else name)()
        except Exception as error:
            self._status.value = f"<b>Not possible.</b> {escape(sentence(error))}"

    def _move(self, name: str) -> None:
        """A slider or a choice, by hand (what _adopt sets is no news to the training)."""
        if self._obeying:
            return
        try:
            if name == "preset":
                preset = self.presets[self._controls["preset"].value]
                self._adopt(TrainConfig(**preset["config"]))
            elif name in SETTABLE:
                self._keep_strengths(name)
                if self.state in ACTIVE:
                    asked = self._asked(self.trainer.live)
                    self.set(**{key: getattr(asked, key) for key in SETTABLE})
        except Exception as error:
            self._status.value = f"<b>Not possible.</b> {escape(sentence(error))}"

    def _keep_strengths(self, moved: str) -> None:
        """Each rule has a strength of its own: 1 is little for L2 and the end of everything
        for LRD."""
        rule, strength = self._controls["rule"].value, self._controls["weight_decay"]
        if moved == "weight_decay":
            self._strengths[rule] = strength.value
        elif moved == "rule":
            self._obeying = True
            strength.value = self._strengths[rule]
            self._obeying = False

    def _asked(self, base: TrainConfig | None = None) -> TrainConfig:
        """The config that the controls show; what they do not show is that of `base`, or of
        the preset."""
        values = {name: control.value for name, control in self._controls.items()}
        preset = self.presets[values.pop("preset")]
        if values["rule"] in ("none", "l2"):
            values["l2"] = 0.0  # the rule has no such part
        if values["rule"] != "l2":
            values["l2_on"] = "all"
        if values["rule"] == "proximal":
            values["part"] = "both"
        return TrainConfig(**(plain(base) if base else preset["config"]) | values)

    def _adopt(self, config: TrainConfig) -> None:
        """Show a config in the controls."""
        self._obeying, self._strengths[config.rule] = True, config.weight_decay
        for name, control in self._controls.items():
            if name != "preset":
                value = getattr(config, name)
                options = getattr(control, "options", None)
                if options is not None and value not in (o for _, o in options):
                    options = {*options, (f"{value:g}", value)}
                    control.options = sorted(options, key=lambda option: option[1])
                control.value = value
        self._obeying = False

    def _tell(self, event: str, content: Any) -> None:
        """From the thread: show it from the kernel's event loop."""
        if event != "config":
            self._to_front(self._stand if event == "status" else self._draw)
        else:
            self._to_front(lambda: self._adopt(content))

    def _draw(self) -> None:
        self._figures.value = figures(list(self.trainer.seen))

    def _stand(self) -> None:
        """The state in words, and which buttons do something in it."""
        status, active = self.trainer.status(), self.state in ACTIVE
        ms, where = status["ms_per_step"], ""
        if status["steps"]:
            where = f": step {status['step']} of {status['steps']}"
            where += "" if ms is None else f", {ms:.1f} ms per step"
        said = f"<b>{self.state.capitalize()}</b>{where}. {escape(self.message)}"
        self._status.value = said
        self._buttons["pause"].description = "Resume" if self.state == "paused" else "Pause"
        for name in ("pause", "step", "stop"):
            self._buttons[name].disabled = not active
        self._buttons["reset"].disabled = self.trainer.training is None
        for name in ("preset", "fraction", "seed"):
            self._controls[name].disabled = active
        if not status["steps"]:
            self._draw()


def controls(presets: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The controls by the field of TrainConfig that they set, and "preset"."""

    def slider(text: str, values: Sequence[float]) -> Any:
        return widgets.SelectionSlider(
            options=[(f"{v:g}", v) for v in values],
            description=text,
            continuous_update=False,
            style=WIDE,
        )

    return {
        "preset": widgets.Dropdown(
            options=[(p["label"], n) for n, p in presets.items()],
            description="Preset",
            style=WIDE,
        ),
        "fraction": widgets.FloatSlider(
            min=0.1,
            max=0.9,
            step=0.05,
            description="Fraction",
            continuous_update=False,
            style=WIDE,
        ),
        "seed": widgets.BoundedIntText(
            min=0, max=2**31 - 1, description="Seed", style=WIDE
        ),
        "rule": widgets.Dropdown(
            options=[(rule, rule) for rule in RULES], description="Rule", style=WIDE
        ),
        "weight_decay": slider("Strength λ", STRENGTHS),
        "l2": slider("L2 of the rest", STRENGTHS),
        "lr": slider("Learning rate", RATES),
    }


WIDE = {"description_width": "8rem"}


def figures(seen: Sequence[Seen]) -> str:
    """Accuracy and rank by step, and the spectrum at the last record, as HTML with SVG."""
    if not seen:
        return "<p>No record yet: press Start.</p>"
    steps, last = [s.step for s in seen], seen[-1]

    def curve(name: str, colour: str, metric: str) -> Line:
        return name, colour, steps, [s.metrics[metric] for s in seen]

    S = last.spectra["0.query"].tolist()
    places, shares = range(1, len(S) + 1), [s / S[0] for s in S]
    drawn: dict[str, list[Line]] = {
        "Accuracy": [
            curve("train", "#cc7518", "train_accuracy"),
            curve("test", "#378eca", "test_accuracy"),
            curve("orbit-clean", "#e8329a", "orbit_clean_accuracy"),
        ],
        "Rank of query and key matrices": [
            curve("stable", "#6058e8", "qk_stable_rank"),
            curve("effective", "#8e5c5a", "qk_effective_rank"),
        ],
        f"Singular values of 0.query at step {last.step}": [
            ("relative to the largest", "#6058e8", places, shares)
        ],
    }
    return "".join(drawing(title, lines) for title, lines in drawn.items())


def drawing(title: str, lines: Sequence[Line]) -> str:
    """Lines as one SVG with its title and the last value of each; what is not finite is
    left out."""
    points = [
        (x, y) for _, _, xs, ys in lines for x, y in zip(xs, ys, strict=True) if y - y == 0
    ]
    right = max((x for x, _ in points), default=1) or 1
    top = max((y for _, y in points), default=1) or 1
    parts, words = [], []
    for name, colour, xs, ys in lines:
        kept = [
            (WIDTH * x / right, HEIGHT * (1 - y / top))
            for x, y in zip(xs, ys, strict=True)
            if y - y == 0
        ]
        parts += [
            f'<line x1="{a:.1f}" y1="{b:.1f}" x2="{c:.1f}" y2="{d:.1f}" '
            f'stroke="{colour}" stroke-width="2"/>'
            for (a, b), (c, d) in pairwise(kept)
        ]
        words.append(f'<span style="color:{colour}">■</span> {escape(name)} {ys[-1]:.3g}')
    last = ", ".join(f"{name} {ys[-1]:.3g}" for name, _, _, ys in lines)
    return (
        '<div style="display:inline-block;margin:0 1rem 1rem 0;vertical-align:top;'
        'max-width:100%">'
        f"<div><b>{escape(title)}</b>, up to {top:.3g}</div>"
        f'<svg role="img" aria-label="{escape(f"{title}: {last}", quote=True)}" '
        f'viewBox="-2 -2 {WIDTH + 4} {HEIGHT + 4}" width="{WIDTH}" style="max-width:100%">'
        f'<path d="M0 0V{HEIGHT}H{WIDTH}" fill="none" stroke="grey"/>{"".join(parts)}</svg>'
        f"<div>{' · '.join(words)}</div></div>"
    )
