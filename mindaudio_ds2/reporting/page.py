"""Pieces of an HTML page that needs nothing but itself: no network, no scripts, pictures inside."""

import base64
import html
import io
from collections.abc import Iterable, Sequence
from typing import Any

STYLE = """
:root { color-scheme: light dark; --faint: #8888; --box: #8881; --wrong: #c2410c; --lost: #86198f; --new: #1d4ed8; }
@media (prefers-color-scheme: dark) { :root { --wrong: #fb923c; --lost: #e879f9; --new: #7dadff; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--faint); } h3 { margin-top: 1.8rem; }
table { border-collapse: collapse; margin: .8rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .15rem .8rem .15rem 0; text-align: left; vertical-align: top; }
th { border-bottom: 1px solid var(--faint); font-weight: 600; }
.number { text-align: right; white-space: nowrap; }
.wide { overflow-x: auto; }
pre { background: var(--box); padding: .8rem; overflow-x: auto; font-size: .85rem; white-space: pre-wrap; }
figure { margin: 1rem 0; } img { max-width: 100%; background: white; border-radius: 4px; }
figcaption, .note { font-size: .9rem; opacity: .8; }
.aligned { display: flex; flex-wrap: wrap; gap: .1rem .5rem; margin: .2rem 0 1rem; font-family: monospace; }
.aligned span { display: inline-flex; flex-direction: column; line-height: 1.3; }
.equal { opacity: .65; } .wrong { color: var(--wrong); } .lost { color: var(--lost); } .new { color: var(--new); }
.wrong, .lost, .new { font-weight: 600; border-bottom: 2px solid; }
.lost { border-bottom-style: dashed; } .new { border-bottom-style: dotted; }
.missing { border-left: 4px solid var(--wrong); padding-left: .8rem; }
@media print {
  :root { color-scheme: light; --wrong: #c2410c; --lost: #86198f; --new: #1d4ed8; }
  body { max-width: none; margin: 0; font-size: 10pt; } table { font-size: 8.5pt; }
  h2, h3 { break-after: avoid; } figure, tr, .aligned { break-inside: avoid; }
}
"""
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


class Markup(str):
    """Text that is HTML already. Everything else is escaped where it enters the page."""


def escape(content: object) -> Markup:
    """Anything as HTML; `Markup` as it is."""
    return content if isinstance(content, Markup) else Markup(html.escape(str(content)))


def element(tag: str, *contents: object, **attributes: str) -> Markup:
    """An element around contents; a trailing underscore of an attribute's name is left away, as in class_."""
    settings = "".join(f' {name.rstrip("_")}="{html.escape(value)}"' for name, value in attributes.items())
    return Markup(f"<{tag}{settings}>{''.join(map(escape, contents))}</{tag}>")


def table(headings: Sequence[str], rows: Iterable[Sequence[object]], numbers: Sequence[int] = ()) -> Markup:
    """A table.

    Args:
        headings: of the columns.
        rows: their cells.
        numbers: columns that are set to the right.
    """
    styles = [{"class_": "number"} if column in numbers else {} for column in range(len(headings))]
    head = element("tr", *(element("th", text, **style) for text, style in zip(headings, styles, strict=True)))
    body = [
        element("tr", *(element("td", cell, **style) for cell, style in zip(row, styles, strict=True))) for row in rows
    ]
    return element("div", element("table", element("thead", head), element("tbody", *body)), class_="wide")


def folded(title: object, *contents: object) -> Markup:
    """Something long, closed until it is asked for."""
    return element("details", element("summary", title), *contents)


def picture(figure: Any, description: str, dots_per_inch: int = 130) -> Markup:
    """A matplotlib `Figure` as a PNG inside the page, with its description below."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dots_per_inch, facecolor="white")
    source = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    image = Markup(f'<img src="{source}" alt="{html.escape(description)}">')
    return element("figure", image, element("figcaption", description))


def page(title: str, *contents: object) -> str:
    """A whole document."""
    head = (
        f'<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"><title>{html.escape(title)}</title>'
        f"<style>{STYLE}</style>"
    )
    body = "\n".join(escape(content) for content in contents)
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'
