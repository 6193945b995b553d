"""A report as a list of blocks, and its forms: aligned text for the screen, Markdown, and one self-contained HTML page."""

import dataclasses
import html
import unicodedata
from pathlib import Path

from matplotlib.figure import Figure

from jaxkd import files
from jaxkd.results import plots


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of finished text.

    Attributes:
      title: heading; empty for none.
      header: column names.
      rows: one list of texts a row, as long as the header.
      label_columns: how many leading columns are text (left-aligned); the others are numbers (right-aligned).
      folded: hidden behind its title in HTML until opened.
    """

    title: str
    header: list[str]
    rows: list[list[str]]
    label_columns: int = 1
    folded: bool = False


@dataclasses.dataclass(frozen=True)
class Plot:
    """A figure with its heading, the name of its file, and a description for those who do not see it."""

    title: str
    name: str
    description: str
    figure: Figure


@dataclasses.dataclass(frozen=True)
class Text:
    """Paragraphs below a heading; an empty title continues the section before."""

    title: str
    paragraphs: list[str]


@dataclasses.dataclass(frozen=True)
class Document:
    """A whole report."""

    title: str
    subtitle: str
    blocks: list[Table | Plot | Text]


def to_screen(table: Table) -> str:
    """The table as aligned plain text."""
    widths = [max(_width(row[k]) for row in [table.header, *table.rows]) for k in range(len(table.header))]

    def line(cells: list[str]) -> str:
        padded = []
        for k, (cell, width) in enumerate(zip(cells, widths, strict=True)):
            space = " " * (width - _width(cell))
            padded.append(cell + space if k < table.label_columns else space + cell)
        return "  ".join(padded).rstrip()

    rule = "  ".join("-" * width for width in widths)
    return "\n".join(([table.title] if table.title else []) + [line(table.header), rule, *map(line, table.rows)])


def _width(text: str) -> int:
    return sum(0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def to_markdown(document: Document) -> str:
    """The document as GitHub-flavoured Markdown; plots are linked as `plots/NAME.png`."""
    parts = [f"# {_markdown(document.title)}", _markdown(document.subtitle)]
    for block in document.blocks:
        if block.title:
            parts.append(f"## {_markdown(block.title)}")
        if isinstance(block, Table):
            rule = ["---" if k < block.label_columns else "---:" for k in range(len(block.header))]
            rows = [block.header, rule, *block.rows]
            parts.append("\n".join("| " + " | ".join(row if row is rule else map(_markdown, row)) + " |" for row in rows))
        elif isinstance(block, Plot):
            parts.append(f"![{_markdown(block.description)}](plots/{block.name}.png)")
        else:
            parts.extend(_markdown(paragraph) for paragraph in block.paragraphs)
    return "\n\n".join(parts) + "\n"


def _markdown(text: str) -> str:
    for character in "\\|*_<[]`#":
        text = text.replace(character, f"\\{character}")
    return text.replace("\n", " ")


STYLE = """
:root { color-scheme: light dark; --page: #ffffff; --ink: #1b1f24; --soft: #5b6570; --line: #d8dde3; --band: #f5f7f9; --accent: #2f7fd1; }
@media (prefers-color-scheme: dark) { :root { --page: #14181d; --ink: #e4e8ec; --soft: #9aa5b1; --line: #333c46; --band: #1b2128; --accent: #6aaef0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 72rem; background: var(--page); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.15rem; margin: 2.4rem 0 .7rem; padding-top: .7rem; border-top: 2px solid var(--line); }
p { margin: .5rem 0; max-width: 48rem; overflow-wrap: anywhere; }
.subtitle { color: var(--soft); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem; }
th, td { padding: .32rem 1.2rem .32rem 0; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; vertical-align: top; }
th { color: var(--soft); font-weight: 600; }
tbody tr:hover { background: var(--band); }
th.label, td.label { text-align: left; }
td:last-child { white-space: normal; }
td.wide { white-space: normal; overflow-wrap: anywhere; min-width: 14rem; }
figure { margin: 0; overflow-x: auto; }
figure svg { display: block; width: 100%; height: auto; min-width: 32rem; }
figure svg text { font-family: system-ui, sans-serif !important; }
details { margin-top: 1rem; }
summary { cursor: pointer; color: var(--accent); font-weight: 600; }
"""


def to_html(document: Document) -> str:
    """The document as one page that loads nothing from elsewhere, readable in light and in dark, on a screen or a telephone."""
    body = [f"<h1>{html.escape(document.title)}</h1>", f'<p class="subtitle">{html.escape(document.subtitle)}</p>']
    for block in document.blocks:
        heading = f"<h2>{html.escape(block.title)}</h2>" if block.title else ""
        if isinstance(block, Table) and block.folded:
            body.append(f"<details><summary>{html.escape(block.title)}</summary>{_html_table(block)}</details>")
        elif isinstance(block, Table):
            body.append(heading + _html_table(block))
        elif isinstance(block, Plot):
            label = html.escape(block.description)
            svg = plots.to_svg(block.figure, block.name).replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
            body.append(f'{heading}<figure id="{block.name}">{svg}</figure>')
        else:
            body.append(heading + "".join(f"<p>{html.escape(paragraph)}</p>" for paragraph in block.paragraphs))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>{html.escape(document.title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n" + "\n".join(body) + "\n</main>\n</body>\n</html>\n"
    )


def _html_table(table: Table) -> str:
    def cells(row: list[str], tag: str) -> str:
        parts = []
        for k, text in enumerate(row):
            classes = ("label" if k < table.label_columns else "") + (" wide" if tag == "td" and len(text) > 60 else "")
            scope = ' scope="col"' if tag == "th" else ""
            parts.append(f'<{tag}{scope} class="{classes.strip()}">{html.escape(text)}</{tag}>')
        return "<tr>" + "".join(parts) + "</tr>"

    rows = "".join(cells(row, "td") for row in table.rows)
    return f'<div class="scroll"><table><thead>{cells(table.header, "th")}</thead><tbody>{rows}</tbody></table></div>'


def write_document(document: Document, folder: Path) -> None:
    """Writes report.md with its plots as PNG, and report.html, into `folder`, atomically."""
    for block in document.blocks:
        if isinstance(block, Plot):
            files.write_bytes(Path(folder) / "plots" / f"{block.name}.png", plots.to_png(block.figure))
    files.write_text(Path(folder) / "report.md", to_markdown(document))
    files.write_text(Path(folder) / "report.html", to_html(document))
