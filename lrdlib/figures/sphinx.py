"""How the book shows a plotly figure: stored figure JSON in, an accessible <figure> out.

myst-nb finds `PlotlyFigure` through the entry point group "myst_nb.mime_renderers"
(pyproject.toml). The page carries the figure as data, and as a still
(lrdlib/figures/still.py) until lrdlib/figures/static/figures.js draws it. Sphinx and
docutils are imported only while a book is built.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from typing import Any, ClassVar

from lrdlib.figures.still import still
from lrdlib.figures.widths import least_width, update_for, updated

MIME = "application/vnd.plotly.v1+json"
HEIGHT = 450  # plotly's own default, in CSS pixels

# The trace types of plotly.js-cartesian-dist-min, the bundle that the site serves.
TRACES = {
    *("bar", "box", "contour", "heatmap", "histogram", "histogram2d", "histogram2dcontour"),
    *("image", "pie", "scatter", "scatterternary", "violin"),
}
# Those that lrdlib/figures/static/solid.js draws, without WebGL.
SOLIDS = {"mesh3d", "scatter3d"}


def problems(figure: dict[str, Any]) -> list[str]:
    """What keeps a figure, as plotly's JSON has it, from being shown to every reader; empty
    if nothing does. Raises TypeError for anything but a dict.

    >>> problems({"data": [], "layout": {"meta": {"alt": "Test accuracy rises."}}})
    []
    """
    if not isinstance(figure, dict):
        raise TypeError(f"figure must be a dict, got {type(figure).__name__}")
    found = []
    if not _alt(figure):
        found.append(
            "a plotly figure has no text for readers who cannot see it: "
            'write fig.update_layout(meta={"alt": "what the figure shows"}) and execute the '
            "notebook again"
        )
    text = json.dumps([figure.get(key) for key in ("data", "layout", "frames")])
    if re.search(r'"[^"$]*\$[^"$]*\$', text):
        found.append(
            "a plotly figure has LaTeX between dollar signs, which is not drawn; write "
            "unicode (λ, σ₁) instead"
        )
    types = {trace.get("type", "scatter") for trace in figure.get("data", [])}
    unknown = sorted(types - TRACES - SOLIDS)
    if unknown:
        known = ", ".join(sorted(TRACES | SOLIDS))
        found.append(
            f"the book's plotly bundle cannot draw {', '.join(unknown)}; it draws {known}"
        )
    if types & SOLIDS:
        found += [
            f"a plotly figure of 3-D traces {problem}"
            for problem in _solid_problems(figure, types)
        ]
    return found


def _alt(figure: dict[str, Any]) -> str:
    """The text for readers who cannot see the figure; "" if there is none."""
    meta = figure.get("layout", {}).get("meta")
    alt = meta.get("alt") if isinstance(meta, dict) else None
    return alt.strip() if isinstance(alt, str) else ""


def _solid_problems(figure: dict[str, Any], types: set[str]) -> list[str]:
    """What keeps solid.js from drawing a figure that has 3-D traces."""
    scene = figure["layout"].get("scene", {})
    found = []
    if types - SOLIDS:
        found.append(f"cannot have {', '.join(sorted(types - SOLIDS))} beside them")
    x, y, z = (scene.get(axis, {}).get("range") for axis in ("xaxis", "yaxis", "zaxis"))
    if not (x and x == y == z and x[0] == -x[1]):
        found.append("must give x, y and z one range, the same on both sides of 0")
    if "eye" not in scene.get("camera", {}):
        found.append("must say where it is seen from, in scene.camera.eye")
    colours = [
        trace.get("color") for trace in figure["data"] if trace.get("type") == "mesh3d"
    ]
    if not all(re.fullmatch("#[0-9a-f]{6}", str(colour)) for colour in colours):
        found.append("must give each mesh a color such as #378eca")
    return found


def to_html(figure: dict[str, Any]) -> str:
    """The `<figure>` that figures.js fills, of a figure without `problems`: its still, where
    there can be one, and all that plotly needs to draw it. The JSON is safe inside a script
    element: no "</" is left in it. Raises ValueError if the figure has no text alternative.

    >>> to_html({"data": [], "layout": {"meta": {"alt": "</script>"}}}).count("</script>")
    1
    """
    alt = html.escape(_alt(figure))
    if not alt:
        raise ValueError("figure must have a text alternative in layout.meta.alt, got none")
    widths = {
        width: update_for(figure, narrow=width == "narrow") for width in ("wide", "narrow")
    }
    room = "; ".join(
        f"--lrd-{width}: {update['height'] or HEIGHT:g}px"
        for width, update in widths.items()
    )
    least = least_width(updated(figure["layout"], widths["narrow"]))
    said = {key: figure[key] for key in ("data", "layout", "frames") if figure.get(key)}
    data = json.dumps(said | {"widths": widths})
    data = data.replace("</", "<\\/").replace("<!--", "<\\u0021--")
    drawn = still(figure) or ""
    moved = figure["layout"].get("sliders") or figure["layout"].get("updatemenus")
    controls = '<div class="lrd-controls"></div>' if moved else ""
    unseen = (
        "" if drawn else f"<noscript><p>Figure (drawn by a script): {alt}</p></noscript>"
    )
    return (
        f'<figure class="lrd-figure"><div class="lrd-plot" role="img" aria-label="{alt}" '
        f'style="{room}; --lrd-least: {least}px">{drawn}</div>'
        f'{controls}<script type="application/json">{data}</script>{unseen}</figure>'
    )


class PlotlyFigure:
    """The myst-nb renderer of the MIME type that plotly stores."""

    mime_priority_overrides: ClassVar[Sequence[tuple[str, str, int | None]]] = [
        ("*", MIME, 1)
    ]

    @staticmethod
    def handle_mime(renderer: Any, data: Any, inline: bool) -> list[Any] | None:
        """One raw HTML node for a plotly figure, `None` for any other output; a warning for
        each problem."""
        from docutils import nodes

        if data.mime_type != MIME:
            return None
        found = problems(data.content)
        for problem in found:
            renderer.logger.warning(problem, subtype="figure", line=data.line)
        if found:
            return []
        return [nodes.raw(text=to_html(data.content), format="html", classes=["output"])]
