"""The documentation as a site: pages are laid out completely, formulas drawn, links lead somewhere."""

import re
from pathlib import Path

import pytest

from website.build import (
    ROOMS,
    ROOT,
    broken_links,
    build,
    configuration,
    lay_out,
    reference,
    rewritten,
    with_formulas,
    without_roles,
)

DOCS = ROOT / "docs"


def test_links_out_of_the_docs_lead_to_pages_of_the_site():
    page = DOCS / "methods" / "rbm.md"
    text = (
        "[all](../../conf/hashing) [one](../../conf/hashing/itq.yaml) [code](../../src/niphash/model.py) "
        "[steps](../../notebooks/quickstart.ipynb) [page](../runs.md) [far](https://example.org) "
        "`[x](../../conf/data)`"
    )
    assert rewritten(text, page) == (
        "[all](../reference/configuration.md#hashing) [one](../reference/configuration.md#hashing-itq) "
        "`src/niphash/model.py` [steps](../notebooks/quickstart.md) [page](../runs.md) "
        "[far](https://example.org) `[x](../../conf/data)`"
    )


def test_the_configuration_page_has_every_choice():
    page = configuration()
    for path in (ROOT / "conf").rglob("*.yaml"):
        assert path.read_text().rstrip() in page
    assert "{ #hashing-itq }" in page


@pytest.mark.parametrize("room", ["niphash", "niphash.hashing"])
def test_the_reference_names_where_every_export_is_defined(room: str):
    page = reference(room, ROOMS[room])
    expected = {
        "niphash": {"::: niphash.model.Model", "::: niphash.model.load", "::: niphash.search.index.Index"},
        "niphash.hashing": {
            "::: niphash.hashing.closed_form.itq.ITQ",
            "::: niphash.hashing.rbm.stack.RBMStack",
        },
    }
    assert expected[room] <= set(page.splitlines())


def test_formulas_become_mathml():
    page = (
        r'<p>if <span class="arithmatex">\(x_t &gt; 0\)</span></p>'
        r'<div class="arithmatex">\[\frac{a}{b}\]</div>'
    )
    drawn = with_formulas(page)
    assert "arithmatex" not in drawn
    assert re.search(r'<math[^>]*display="inline"><mrow><msub><mi>x</mi><mi>t</mi></msub><mo>&', drawn)
    assert re.search(r'<math[^>]*display="block"><mrow><mfrac><mrow><mi>a</mi></mrow>', drawn)


def test_roles_of_docstrings_are_code():
    page = "see :class:<code>~niphash.hashing.Hasher</code> and :func:<code>gem</code>"
    assert without_roles(page) == "see <code>Hasher</code> and <code>gem</code>"


def test_links_that_lead_nowhere_are_found(tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "index.html").write_text('<h2 id="here"></h2><a href="../index.html">')
    (tmp_path / "index.html").write_text(
        '<a href="a/#here"></a><a href="a/#gone"></a><a href="b/"></a><img src="https://example.org/x.png">'
    )
    assert sorted(broken_links(tmp_path)) == ["index.html -> a/#gone", "index.html -> b/"]


def test_every_file_that_a_page_names_is_there():
    for page in DOCS.rglob("*.md"):
        for target in re.findall(r"\]\(([^)#:\s]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} names {target}"


def test_every_hashing_method_has_a_page_with_a_formula_and_a_figure():
    pages = {page: page.read_text() for page in [*(DOCS / "methods").glob("*.md"), DOCS / "niphash.md"]}
    for choice in sorted(p.stem for p in (ROOT / "conf" / "hashing").glob("*.yaml")):
        if choice in ("none", "rbm", "rbm_triplet_siamese"):
            continue  # no method of its own
        own = [text for text in pages.values() if f"`hashing={choice}`" in text]
        assert any("$$" in text and f"/{choice}.svg)" in text for text in own), choice
    named = {name for text in pages.values() for name in re.findall(r"pictures/methods/(\w+)\.svg", text)}
    drawn = {path.stem for path in (DOCS / "pictures" / "methods").glob("*.svg")}
    assert named == drawn


def test_all_pages_are_laid_out(tmp_path: Path):
    lay_out(tmp_path / "docs")
    laid = {path.relative_to(tmp_path / "docs") for path in (tmp_path / "docs").rglob("*.md")}
    assert {path.relative_to(DOCS) for path in DOCS.rglob("*.md")} < laid
    for notebook in (ROOT / "notebooks").glob("*.ipynb"):
        assert Path("notebooks", f"{notebook.stem}.md") in laid
    assert not [path for path in (tmp_path / "docs").rglob("*.md") if "](../../conf" in path.read_text()]


def test_the_site_is_built(tmp_path: Path):
    report = tmp_path / "report.html"
    report.write_text("<!doctype html><title>Report</title><p>All of it.")
    count = build(tmp_path / "site", report)
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) == count > 40
    assert "All of it." in (tmp_path / "site" / "sample" / "report.html").read_text()
    assert "<math" in (tmp_path / "site" / "methods" / "rbm" / "index.html").read_text()
    itq = (tmp_path / "site" / "reference" / "niphash.hashing" / "index.html").read_text()
    assert "Alternations of rounding and Procrustes rotation" in itq
    assert (tmp_path / "site" / "search.json").stat().st_size > 100_000
    for page in pages:
        loaded = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(https?:[^"]+)"', page.read_text())
        assert not [address for address in loaded if "canonical" not in address], page
