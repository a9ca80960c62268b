"""The lab's scripts: fragments of static/ joined into one file each, and the look of both
labs.

    python -m lrdlib.lab.script OUT

writes OUT/lab.js, OUT/worker.js and OUT/lab.css. A fragment has no import and no export:
those of one script share one scope, in which later ones use what earlier ones define. So a
script needs no bundler, and a page that was opened as a file can load it.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

STATIC = Path(__file__).parent / "static"
PANELS = ("dom.js", "draw.js", "charts.js", "panels.js")
LIVE = ("live-run.js", "live-controls.js", "live.js")
SCRIPTS = {  # which fragments, in which order
    "page": (
        *(*PANELS, "digits.js", "choose.js", "map.js", "side.js", "runs.js", "tours.js"),
        *("transport.js", "ask.js", "recorded.js", *LIVE, "files.js", "address.js"),
        *("own.js", "page.js", "boot.js"),
    ),
    "widget": (*PANELS, *LIVE, "widget.js"),
    "worker": (
        *("files.js", "sha256.js", "random.js", "measure.js", "npz.js", "opened.js"),
        *("keep.js", "training.js", "worker.js"),
    ),
}
ENDS = {"page": "boot();\n", "worker": "work();\n"}  # what starts it
STYLES = ("lab.css", "live.css", "screen.css")


def source(kind: str) -> str:
    """The script for the page, for the widget (an ES module with `render`, as anywidget
    wants it) or for the worker."""
    text = "\n".join((STATIC / name).read_text(encoding="utf-8") for name in SCRIPTS[kind])
    if kind == "widget":
        return f"{text}\nexport default {{ render }};\n"
    return f'(() => {{\n"use strict";\n{text}\n{ENDS[kind]}}})();\n'


def style() -> str:
    """The style sheet of the lab, on the page and in the widget."""
    return "\n".join((STATIC / name).read_text(encoding="utf-8") for name in STYLES)


def write(folder: Path) -> list[Path]:
    """Write what a site serves beside the pieces of data; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {"lab.js": source("page"), "worker.js": source("worker"), "lab.css": style()}
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in texts]


def main(arguments: Sequence[str]) -> None:
    if len(arguments) != 1:
        sys.exit(__doc__)
    written = write(Path(arguments[0]))
    print(f"   the lab's scripts: {', '.join(file.name for file in written)}")


if __name__ == "__main__":
    main(sys.argv[1:])
