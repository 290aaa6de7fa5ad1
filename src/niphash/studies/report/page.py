"""The report as one HTML page: no network, no script, light and dark, printable."""

import csv
import io
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from niphash.plain import printable
from niphash.studies.published_values import published_name
from niphash.studies.report import beside
from niphash.studies.report.beside import Beside
from niphash.studies.report.pictures import Picture, Row, pictures

STYLE = Path(__file__).with_name("page.css")
INTRODUCTION = (
    "Each slide: a question of the papers, what was measured here, what was published, and the command that "
    "measures it again. In brackets and as bands: 95 % intervals over clusters of queries that share a "
    "relevant photo."
)
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


@dataclass(frozen=True)
class Answer:
    """What became of a slide.

    Attributes:
        name: Of the slide; the page's anchor.
        title: In two or three words.
        question: In one sentence.
        command: What makes the answer, as typed in a shell.
        beside: Published numbers to show; ``None`` where there are none.
        sentence: The result, with its intervals.
        csv: The whole table.
        csv_name: Where it lies, from the page's folder.
        seconds: That it took.
        reason: Why there is no answer; empty where there is one.
    """

    name: str
    title: str
    question: str
    command: str
    beside: Beside | None = None
    sentence: str = ""
    csv: str = ""
    csv_name: str = ""
    seconds: float = 0.0
    reason: str = ""

    @property
    def rows(self) -> list[Row]:
        """The table."""
        return list(csv.DictReader(io.StringIO(self.csv)))


def page(facts: Mapping[str, str], answers: Sequence[Answer]) -> str:
    """Return the page as HTML; every text in it is text, whatever it holds.

    Args:
        facts: What stands at the top, by name; ``data set`` first.
        answers: Of the slides, in their order.
    """
    data = facts["data set"]
    title = f"niphash on {data}"
    items = "".join(f"<div><dt>{_text(key)}</dt><dd>{_text(fact)}</dd></div>" for key, fact in facts.items())
    links = "".join(
        f'<li{" class=without" if answer.reason else ""}><a href="#{_attribute(answer.name)}">'
        f"{_text(answer.title)}</a></li>"
        for answer in answers
    )
    sections = "\n".join(_section(number, one, data) for number, one in enumerate(answers, start=1))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f"<title>{_text(title)}</title><style>{STYLE.read_text(encoding='utf-8')}</style></head>\n"
        f"<body><header><h1>{_text(title)}</h1><dl class=facts>{items}</dl>"
        f"<p>{INTRODUCTION}</p><nav><ol>{links}</ol></nav></header>\n<main>{sections}</main></body></html>\n"
    )


def _section(number: int, answer: Answer, data: str) -> str:
    head = (
        f'<section id="{_attribute(answer.name)}"><h2><span class="number">{number}</span> '
        f'{_text(answer.title)}</h2><p class="question">{_text(answer.question)}</p>'
    )
    if answer.reason:
        body = f'<p class="reason"><strong>Left out.</strong> {_text(answer.reason)}</p>'
    else:
        ours = _figure(f"Measured here, {data}.", pictures(answer.rows))
        body = (
            f'<p class="sentence">{_text(answer.sentence)}</p>'
            f'<div class="figures">{ours}{_published(answer, data)}</div>{_table(answer)}'
        )
    return f'{head}{body}<pre class="command"><code>{_text(answer.command)}</code></pre></section>'


def _published(answer: Answer, data: str) -> str:
    if answer.beside is None:
        return ""
    dataset, numbers = answer.beside.numbers(published_name(data))
    if not numbers:
        return ""
    return _figure(
        beside.caption(dataset, numbers, published_name(data)), pictures(beside.rows(numbers)), "published"
    )


def _figure(caption: str, drawn: Sequence[Picture], css: str = "measured") -> str:
    charts = "".join(f"{picture.svg}{_legend(picture)}" for picture in drawn)
    return f'<figure class="{css}"><figcaption>{_text(caption)}</figcaption>{charts}</figure>'


def _legend(picture: Picture) -> str:
    items = "".join(f"<li>{swatch}{_text(label)}</li>" for swatch, label in picture.legend)
    return f'<ul class="legend">{items}</ul>' if items else ""


def _table(answer: Answer) -> str:
    rows = answer.rows
    head = "".join(f'<th scope="col">{_text(column)}</th>' for column in rows[0])
    body = "".join(
        "<tr>" + "".join(f"<td>{_text(_short(cell))}</td>" for cell in row.values()) + "</tr>" for row in rows
    )
    encoded = b64encode(answer.csv.encode()).decode()
    name = _attribute(answer.csv_name.replace("/", "_"))
    return (
        f'<p class="links"><a download="{name}" href="data:text/csv;base64,{encoded}">Table as CSV</a> '
        f"({_text(answer.csv_name)}), {len(rows)} rows, {answer.seconds:.0f} s</p>"
        f'<details><summary>Table</summary><div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div></details>"
    )


def _short(cell: str) -> str:
    """Return a number with four digits behind the point, any other text as it is."""
    try:
        number = float(cell)
    except ValueError:
        return cell
    return cell if number == int(number) else f"{number:.4f}"


def _text(text: str) -> str:
    return escape(printable(text))


def _attribute(text: str) -> str:
    return escape(printable(text), quote=True)
