"""A figure as a web page of its own, in one file: it needs no server, no network and no
kernel.

It is drawn by the same scripts as the book's figures (lrdlib/figures/static), so what
answers to clicks there does so here.
"""

import html
import json
from pathlib import Path

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from lrdlib.figures.sphinx import problems, to_html
from lrdlib.training.store import checked_path, written_whole

STATIC = Path(__file__).parent / "static"
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark;
  --lrd-figure-ink: #2a2f36; --lrd-figure-line: #d9dde3;
  --pst-color-surface: #fff; --pst-color-border: #8a919b;
  --pst-color-text-base: #2a2f36; --pst-color-primary: #0b66c3; }}
:root[data-theme="dark"] {{
  --lrd-figure-ink: #dfe3e8; --lrd-figure-line: #454c56; --pst-color-surface: #1d2127;
  --pst-color-text-base: #dfe3e8; --pst-color-primary: #7ab8ff; }}
body {{ background: #fff; color: var(--lrd-figure-ink); font: 1rem/1.5 system-ui, sans-serif;
  margin: 0 auto; max-width: 62rem; padding: 0.5rem 1rem; }}
:root[data-theme="dark"] body {{ background: #121212; }}
h1 {{ font-size: 1.25rem; }}
select, button {{ font: inherit; }}
{css}
</style>
<script>
{{
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const follow = () => {{
    document.documentElement.dataset.theme = dark.matches ? "dark" : "light";
  }};
  dark.addEventListener("change", follow);
  follow();
}}
</script>
</head>
<body>
<h1>{title}</h1>
{figure}
<script>{plotly}</script>
{scripts}
</body>
</html>
"""


def write_page(fig: go.Figure, path: str | Path, *, title: str) -> Path:
    """Write a figure to `path` as a page of about 5 MB that holds all it needs; returns the
    path, which holds the old page or the new one, never half of one.

    Raises TypeError for anything but a figure, a path and a text, ValueError if the figure
    has no text alternative or the page could not draw it (lrdlib.figures.sphinx.problems),
    and OSError if the disk refuses; the old page is intact then.
    """
    if not isinstance(fig, go.Figure):
        raise TypeError(f"fig must be a plotly Figure, got {type(fig).__name__}")
    path = checked_path("path", path)
    if not isinstance(title, str):
        raise TypeError(f"title must be a str, got {type(title).__name__}")
    data = json.loads(fig.to_json())
    if found := problems(data):
        raise ValueError(
            f"fig must be one that every reader can be shown, got: {'; '.join(found)}"
        )
    css, scripts = (
        [file.read_text(encoding="utf-8") for file in sorted(STATIC.glob(pattern))]
        for pattern in ("*.css", "*.js")
    )
    text = PAGE.format(
        title=html.escape(title),
        css="\n".join(css),
        figure=to_html(data),
        plotly=get_plotlyjs(),
        scripts="\n".join(f"<script>{script}</script>" for script in scripts),
    )
    with written_whole(path) as file:
        file.write(text.encode())
    return path
