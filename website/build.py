"""Build the documentation as a site: ``make docs``.

python website/build.py [--out site] [--report report.html]

The pages of ``docs/`` are laid out in a temporary folder beside generated ones: the configuration, out of
``conf/``; the reference, out of the docstrings of what each room exports; the notebooks; and, with
``--report``, the page that ``niphash report`` wrote. zensical makes HTML of them. Formulas become MathML,
which browsers draw themselves, so that the site loads nothing from another server. A link that leads nowhere
ends the build.
"""

import argparse
import base64
import html
import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parents[1]
#: The rooms whose exports make the reference, and what each page is called.
ROOMS = {
    "niphash": "The package",
    "niphash.data": "Photos and data sets",
    "niphash.descriptors": "Descriptors",
    "niphash.hashing": "Hashing",
    "niphash.search": "Search",
    "niphash.collection": "Collections",
    "niphash.training": "Training",
    "niphash.pipeline": "One run",
    "niphash.evaluation.metrics": "Metrics",
    "niphash.evaluation.calibration": "Calibration",
    "niphash.config": "Configuration from Python",
}
LINK = re.compile(r"(!?\[[^\]]*\])\(([^)\s]+)\)")
CODE = re.compile(r"(^```.*?^```|`[^`\n]*`)", re.MULTILINE | re.DOTALL)


def main() -> None:
    """Build the site and say where it is."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "site", help="folder of the site; replaced")
    parser.add_argument("--report", type=Path, help="a page of niphash report, to be a page of the site")
    options = parser.parse_args()
    count = build(options.out, options.report)
    print(f"{count} pages in {options.out}; open {options.out / 'index.html'}")


def build(out: Path, report: Path | None = None) -> int:
    """Build the site in ``out``, which is replaced, and return its number of pages.

    Raises:
        SystemExit: zensical failed, or a link leads nowhere; one line says which.
    """
    with TemporaryDirectory(prefix="niphash-docs-") as folder:
        work = Path(folder)
        lay_out(work / "docs", report)
        write_settings(work)
        words = [sys.executable, "-m", "zensical", "build", "--config-file", str(work / "zensical.toml")]
        done = subprocess.run(words, cwd=work, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"zensical failed: {done.stdout}{done.stderr}")
        if report is not None:
            shutil.copyfile(report, work / "site" / "sample" / "report.html")
        pages = sorted((work / "site").rglob("*.html"))
        for page in pages:
            text = page.read_text(encoding="utf-8")
            page.write_text(without_roles(with_formulas(text)), encoding="utf-8")
        broken = list(broken_links(work / "site"))
        if broken:
            raise SystemExit("links lead nowhere: " + "; ".join(broken))
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(work / "site", out)
    return len(pages)


def lay_out(docs: Path, report: Path | None = None) -> None:
    """Write every page, as zensical takes it, into the new folder ``docs``."""
    shutil.copytree(ROOT / "docs", docs)
    for page in docs.rglob("*.md"):
        inside = page.relative_to(docs)
        page.write_text(rewritten(page.read_text(encoding="utf-8"), ROOT / "docs" / inside), encoding="utf-8")
    write(docs / "reference" / "configuration.md", configuration())
    for room, title in ROOMS.items():
        write(docs / "reference" / f"{room}.md", reference(room, title))
    for notebook in sorted((ROOT / "notebooks").glob("*.ipynb")):
        write_notebook(docs / "notebooks" / f"{notebook.stem}.md", notebook)
    if report is not None:
        write(
            docs / "sample" / "index.md", "# Report of the sample\n\n[The report](report.html), one page.\n"
        )


def write(path: Path, text: str) -> None:
    """Write a file in a folder that is made when missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def rewritten(text: str, page: Path) -> str:
    """Return a page of ``docs/`` whose links stay inside the site.

    A link to ``conf/`` leads to the page of the configuration, one to a notebook to its page; what else is
    outside ``docs/`` is named without a link.
    """
    home = "../" * len(page.relative_to(ROOT / "docs").parents[:-1])

    def target(match: re.Match[str]) -> str:
        label, address = match.groups()
        if urlsplit(address).scheme or address.startswith("#"):
            return match[0]
        path = (page.parent / address.partition("#")[0]).resolve()
        if path.is_relative_to(ROOT / "docs") or not path.exists():
            return match[0]
        if path.is_relative_to(ROOT / "conf"):
            parts = path.relative_to(ROOT / "conf").parts
            anchor = "-".join(Path(part).stem for part in parts)
            return f"{label}({home}reference/configuration.md{'#' + anchor if anchor else ''})"
        if path.suffix == ".ipynb":
            return f"{label}({home}notebooks/{path.stem}.md)"
        return f"`{path.relative_to(ROOT)}`"

    parts = CODE.split(text)  # code at the odd places
    return "".join(part if number % 2 else LINK.sub(target, part) for number, part in enumerate(parts))


def configuration() -> str:
    """Return the page of all choices: each file of ``conf/`` as it is."""
    conf = ROOT / "conf"
    parts = [
        "# Configuration\n\nEvery choice is a file in `conf/`, every line an option of the command line: "
        "`python train.py hashing=itq hashing.iterations=20`.\n"
    ]
    for path in (conf / "train.yaml", conf / "evaluate.yaml"):
        parts.append(f"## {path.name}\n\n```yaml\n{path.read_text(encoding='utf-8').rstrip()}\n```\n")
    for group in sorted(p for p in conf.rglob("*") if p.is_dir() and any(p.glob("*.yaml"))):
        name = group.relative_to(conf).as_posix()
        parts.append(f"## {name} {{ #{name.replace('/', '-')} }}\n")
        for path in sorted(group.glob("*.yaml")):
            anchor = f"{name.replace('/', '-')}-{path.stem}"
            parts.append(f"### {name}={path.stem} {{ #{anchor} }}\n")
            parts.append(f"```yaml\n{path.read_text(encoding='utf-8').rstrip()}\n```\n")
    return "\n".join(parts)


def reference(room: str, title: str) -> str:
    """Return the page of what a room exports; a module that is no room is documented whole."""
    module = import_module(room)
    text = f"# {title}\n\n`{room}`: {(module.__doc__ or '').strip().splitlines()[0]}\n"
    exported = getattr(module, "__all__", None)
    if exported is None:
        return f"{text}\n::: {room}\n    options:\n      show_root_heading: false\n      heading_level: 2\n"
    for name in sorted(exported):
        thing = getattr(module, name)
        home = getattr(thing, "__module__", None)
        if home is not None and home.startswith("niphash"):
            text += f"\n::: {home}.{thing.__qualname__}\n"
    return text


def write_notebook(page: Path, notebook: Path) -> None:
    """Write a notebook as a page: its text, its code, and the outputs that are stored in it."""
    parts = []
    for number, cell in enumerate(json.loads(notebook.read_text(encoding="utf-8"))["cells"]):
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(rewritten(source, ROOT / "docs" / "notebooks" / page.name))
            continue
        parts.append(f"```python\n{source.rstrip()}\n```")
        for place, output in enumerate(cell["outputs"]):
            parts.extend(_output(output, page, f"{page.stem}-{number}-{place}"))
    write(page, "\n\n".join(parts) + "\n")


def _output(output: Mapping[str, Any], page: Path, name: str) -> Iterator[str]:
    """Yield an output of a cell as Markdown; a picture is written beside the page."""
    data = output.get("data", {})
    for kind, suffix in (("image/png", "png"), ("image/jpeg", "jpg")):
        if kind in data:
            page.parent.mkdir(parents=True, exist_ok=True)
            (page.parent / f"{name}.{suffix}").write_bytes(base64.b64decode("".join(data[kind])))
            yield f"![What the cell above draws]({name}.{suffix})"
            return
    text = "".join(output.get("text", data.get("text/plain", "")))
    if text.strip():
        yield f"```text\n{text.rstrip()}\n```"


def write_settings(work: Path) -> None:
    """Write ``zensical.toml``: the kept one, completed with the pages that it does not name."""
    kept = (ROOT / "website" / "zensical.toml").read_text(encoding="utf-8")
    nav = tomllib.loads(kept)["project"]["nav"]
    reference = ["reference/configuration.md", *(f"reference/{room}.md" for room in ROOMS)]
    notebooks = sorted(p.relative_to(work / "docs").as_posix() for p in work.glob("docs/notebooks/*.md"))
    report = ["sample/index.md"] if (work / "docs" / "sample").is_dir() else []
    nav[-1]["Results"] += report
    nav += [{"Notebooks": notebooks}, {"Reference": reference}]
    named = set(_leaves(nav))
    others = sorted(
        name
        for name in (p.relative_to(work / "docs").as_posix() for p in (work / "docs").rglob("*.md"))
        if name not in named
    )
    nav += [{"More": others}] if others else []
    settings, _, rest = kept.partition("nav = [")
    rest = rest.partition("\n]\n")[2]
    paths = f"\n[project.plugins.mkdocstrings.handlers.python]\npaths = [{json.dumps(str(ROOT / 'src'))}]\n"
    (work / "zensical.toml").write_text(f"{settings}nav = {_toml(nav)}\n{rest}{paths}", encoding="utf-8")


def _leaves(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
        return
    for part in nav.values() if isinstance(nav, dict) else nav:
        yield from _leaves(part)


def _toml(value: Any) -> str:
    """Return lists, tables and text as TOML on one line."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(k)} = {_toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)


FORMULA = re.compile(
    r'<(span|div) class="arithmatex">\s*(?:\\\((.*?)\\\)|\\\[(.*?)\\\])\s*</(?:span|div)>', re.DOTALL
)


def with_formulas(page: str) -> str:
    """Return HTML whose formulas are MathML."""
    from latex2mathml.converter import convert

    def formula(match: re.Match[str]) -> str:
        inline = match[2] is not None
        source = html.unescape(match[2] if inline else match[3]).strip()
        drawn = convert(source, display="inline" if inline else "block")
        return drawn if inline else f'<div style="overflow-x: auto">{drawn}</div>'

    return FORMULA.sub(formula, page)


ROLE = re.compile(r":(?:attr|class|data|func|meth|mod):<code>(~?)([\w.]+)</code>")


def without_roles(page: str) -> str:
    """Return HTML whose docstrings name things as code, without the roles that Sphinx would read."""
    return ROLE.sub(lambda m: f"<code>{m[2].rpartition('.')[2] if m[1] else m[2]}</code>", page)


def broken_links(site: Path) -> Iterable[str]:
    """Yield every link and picture of the site that leads to no file of it, or to no place in a page."""
    places: dict[Path, set[str]] = {}

    def anchors(page: Path) -> set[str]:
        if page not in places:
            places[page] = set(re.findall(r'\bid="([^"]+)"', page.read_text(encoding="utf-8")))
        return places[page]

    for page in sorted(site.rglob("*.html")):
        if page.name == "404.html":
            continue  # its links are relative to wherever it is shown
        for address in set(re.findall(r'\b(?:href|src)="([^"]+)"', page.read_text(encoding="utf-8"))):
            link = urlsplit(html.unescape(address))
            if link.scheme or link.netloc:
                continue
            target = (page.parent / unquote(link.path)).resolve() if link.path else page
            target = target / "index.html" if target.is_dir() else target
            wrong = not target.is_file() or (
                link.fragment and target.suffix == ".html" and unquote(link.fragment) not in anchors(target)
            )
            if wrong:
                yield f"{page.relative_to(site)} -> {address}"


if __name__ == "__main__":
    main()
