"""The two pictures that leave the book: the README's, and the one that a shared link shows.

    python book/pictures.py      (after `make book` and `make chromium`)

writes book/_static/mechanism.png, the figure of `python -m lrdlib mechanism` from the
recorded runs, and book/_static/card.png, what the first page opens with. To be run again
when one of the two changes its looks.
"""

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from browser import ROOT, launch, serve
from chromium import find

from lrdlib import load_run
from lrdlib.figures.page import write_page
from lrdlib.figures.runs import mechanism_figure

STATIC = ROOT / "book" / "_static"
RUNS = ("l2-0.1", "l2-3", "lrd-0.01")
CARD = {"width": 600, "height": 315}  # twice as many dots: what a preview is cut to
ALONE = """header, .bd-header-article, .lrd-where, .lrd-opening :is(button, label, input, p, output)
    { display: none !important }
    .bd-article { padding-top: 0.75rem !important }"""


def main() -> None:
    path = find() or sys.exit("no Chromium: run python tests/chromium.py")
    runs = [load_run(ROOT / "book" / "runs" / f"{n}-p97-f0.4-seed0.npz") for n in RUNS]
    light = {"device_scale_factor": 2, "color_scheme": "light", "reduced_motion": "reduce"}
    with tempfile.TemporaryDirectory() as folder, serve() as site, launch(path) as browser:
        page = browser.new_page(viewport={"width": 720, "height": 760}, **light)
        figure = write_page(mechanism_figure(runs), Path(folder, "m.html"), title="")
        page.goto(figure.as_uri())
        page.locator(".js-plotly-plot .main-svg").first.wait_for()
        page.locator(".js-plotly-plot").screenshot(path=STATIC / "mechanism.png")
        page = browser.new_page(viewport=CARD, **light)
        page.goto(f"{site}/intro.html")
        page.locator(".lrd-opening svg").first.wait_for()
        page.add_style_tag(content=ALONE)
        page.screenshot(path=STATIC / "card.png")


if __name__ == "__main__":
    main()
