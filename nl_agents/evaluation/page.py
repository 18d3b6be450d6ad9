"""A page that needs nothing but itself: type, colours, figures and tables in one HTML file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from nl_agents.errors import RunFolderError

STYLE = """
:root { --ink: #1f2933; --muted: #5b6672; --rule: #e3e7eb; --tint: #f6f8fa; --accent: #b83280; color-scheme: light }
* { box-sizing: border-box }
body { margin: 0; background: #fff; color: var(--ink); font: 16px/1.6 system-ui, -apple-system, "Segoe UI", Roboto,
  "Helvetica Neue", "Liberation Sans", "DejaVu Sans", sans-serif; -webkit-font-smoothing: antialiased }
main { max-width: 1000px; margin: 0 auto; padding: 48px 20px 96px }
header p.kicker { margin: 0 0 4px; color: var(--accent); font-size: 13px; font-weight: 600; letter-spacing: .06em;
  text-transform: uppercase }
h1 { margin: 0 0 12px; font-size: 34px; line-height: 1.2; letter-spacing: -.015em }
h2 { margin: 56px 0 6px; font-size: 21px; letter-spacing: -.01em }
p { margin: 6px 0 12px; max-width: 92ch }
p.lead { font-size: 18px; color: var(--muted) }
.note { color: var(--muted); font-size: 14.5px }
.warn { border-left: 3px solid #dd6b20; background: #fffaf2; padding: 10px 16px; font-size: 14.5px }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(200px, 1fr)); gap: 14px; margin: 28px 0 8px }
.card { border: 1px solid var(--rule); border-radius: 10px; padding: 14px 16px 12px }
.card b { display: block; font-size: 28px; line-height: 1.25; font-weight: 650; font-variant-numeric: tabular-nums }
.card span { display: block; font-size: 13.5px; font-weight: 600 }
.card small { color: var(--muted); font-size: 12.5px }
figure { margin: 14px 0 6px }
figure img { width: 100%; height: auto; display: block }
figcaption { color: var(--muted); font-size: 14.5px; max-width: 100ch; margin-top: 6px }
.scroll { overflow-x: auto }
table { border-collapse: collapse; width: 100%; font-size: 14.5px; margin: 12px 0 }
th { text-align: left; font-weight: 600; color: var(--muted); font-size: 12.5px; border-bottom: 1.5px solid var(--rule);
  padding: 6px 12px 6px 0; vertical-align: bottom }
td { border-bottom: 1px solid var(--rule); padding: 7px 12px 7px 0; vertical-align: top }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
td.quiet { color: var(--muted); font-size: 13.5px }
td small { display: block; color: var(--muted); font-size: 12.5px; white-space: nowrap }
tr:last-child td { border-bottom: 0 }
pre { background: var(--tint); border-radius: 8px; padding: 14px 16px; overflow-x: auto; font: 12px/1.55 ui-monospace,
  "SF Mono", Menlo, Consolas, "Liberation Mono", "DejaVu Sans Mono", monospace }
code { font: 0.92em ui-monospace, Menlo, Consolas, "Liberation Mono", monospace; background: var(--tint);
  padding: 1px 5px; border-radius: 4px }
details { margin: 10px 0 } summary { cursor: pointer; color: var(--muted) }
footer { margin-top: 72px; padding-top: 14px; border-top: 1px solid var(--rule); color: var(--muted); font-size: 13px }
@media print { h2 { break-after: avoid } figure, .card { break-inside: avoid } }
"""


def page(title: str, body: Iterable[str]) -> str:
    """The whole document; ``body`` is HTML already."""
    return (
        "<!doctype html>\n<html lang='en'>\n<head>\n<meta charset='utf-8'>\n"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>\n"
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in body if part)
        + "\n</main>\n</body>\n</html>\n"
    )


def header(kicker: str, title: str, lead: str) -> str:
    """The head of the page; texts are escaped."""
    return (
        f"<header><p class='kicker'>{escape(kicker)}</p><h1>{escape(title)}</h1>"
        f"<p class='lead'>{escape(lead)}</p></header>"
    )


def section(title: str, *parts: str | None, intro: str = "") -> str:
    """A heading with what belongs to it; nothing at all where every part is empty."""
    found = [part for part in parts if part]
    if not found:
        return ""
    words = f"<p>{escape(intro)}</p>" if intro else ""
    return f"<section><h2>{escape(title)}</h2>{words}{''.join(found)}</section>"


def picture(address: str | None, caption: str, alt: str) -> str:
    """A figure with its caption; nothing where there is no picture."""
    if address is None:
        return ""
    return f"<figure><img src='{address}' alt='{escape(alt)}'><figcaption>{escape(caption)}</figcaption></figure>"


def cards(rows: Iterable[tuple[str, str, str]]) -> str:
    """Large figures: (value, title, small print)."""
    inner = "".join(
        f"<div class='card'><b>{escape(value)}</b><span>{escape(title)}</span><small>{escape(small)}</small></div>"
        for value, title, small in rows
    )
    return f"<div class='cards'>{inner}</div>"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], kinds: Sequence[str] = ()) -> str:
    """A table; ``kinds`` gives each column the class ``number``, ``quiet`` or none; a cell's second line is small."""
    kinds = [*kinds, *[""] * (len(head) - len(kinds))]
    top = "".join(f"<th class='{kind}'>{escape(cell)}</th>" for cell, kind in zip(head, kinds, strict=True))
    body = "".join(
        "<tr>"
        + "".join(f"<td class='{kind}'>{_cell(cell)}</td>" for cell, kind in zip(row, kinds, strict=True))
        + "</tr>"
        for row in rows
    )
    return f"<div class='scroll'><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"


def _cell(text: str) -> str:
    first, _, second = text.partition("\n")
    return escape(first) + (f"<small>{escape(second)}</small>" if second else "")


def note(text: str, kind: str = "note") -> str:
    """A paragraph of small print, or a warning with ``kind="warn"``."""
    return f"<p class='{kind}'>{escape(text)}</p>"


def preformatted(text: str, summary: str | None = None) -> str:
    """Text as it is; folded away under ``summary`` where one is given."""
    block = f"<pre>{escape(text)}</pre>"
    return block if summary is None else folded(summary, block)


def folded(summary: str, html: str) -> str:
    """HTML that opens when its summary is clicked."""
    return f"<details><summary>{escape(summary)}</summary>{html}</details>"


def write(path: Path, text: str) -> Path:
    """Writes a file; RunFolderError with the cause where the system refuses."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RunFolderError(f"cannot write {path}: {error}; free space or choose a folder you may write") from error
    return path
