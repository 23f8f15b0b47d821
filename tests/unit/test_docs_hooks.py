"""What `make docs` does beside mkdocs: links out of docs/, and what a page may load."""

import logging
import sys
from pathlib import Path

import pytest
from mkdocs.commands.build import build
from mkdocs.config.base import load_config
from mkdocs.config.defaults import MkDocsConfig

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "scripts"))

import docs_hooks  # noqa: E402 - a script's module, no package of ours


@pytest.mark.parametrize(
    ("page", "link", "path"),
    [
        ("jobs.md", "../protos/easyq/v1/spec.proto", "protos/easyq/v1/spec.proto"),
        ("how-to/limits.md", "../../deploy/rules.toml", "deploy/rules.toml"),
        ("how-to/limits.md", "../settings.md", None),
        ("jobs.md", "../../elsewhere.md", None),
    ],
)
def test_what_is_outside(page: str, link: str, path: str | None) -> None:
    assert docs_hooks.outside(page, link) == path


@pytest.fixture
def site(tmp_path: Path) -> MkDocsConfig:
    (tmp_path / "docs").mkdir()
    (tmp_path / "code.py").write_text("x = 1\n", encoding="utf-8")
    (tmp_path / "mkdocs.yml").write_text(
        f"site_name: t\nuse_directory_urls: false\nhooks: [{docs_hooks.__file__}]\nnot_in_nav: /source/\n",
        encoding="utf-8",
    )
    return load_config(str(tmp_path / "mkdocs.yml"))


def test_a_file_that_a_page_links_to_becomes_a_page(site: MkDocsConfig, caplog: pytest.LogCaptureFixture) -> None:
    (Path(site.docs_dir) / "index.md").write_text("[code](../code.py), [nothing](../gone.py)\n", encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        build(site)
    assert 'href="source/code.py.html"' in (Path(site.site_dir) / "index.html").read_text(encoding="utf-8")
    made = (Path(site.site_dir) / "source/code.py.html").read_text(encoding="utf-8")
    assert "x = 1" in made
    told = [record.getMessage() for record in caplog.records]
    assert sum("../gone.py" in words for words in told) == 1
    # mkdocs' own theme is of that kind, the one of our site is not.
    assert any("index.html loads from elsewhere" in words for words in told)


@pytest.mark.parametrize(
    ("html", "warns"),
    [
        ('<script src="https://cdn.example/x.js"></script>', True),
        ('<link rel="stylesheet" href="//fonts.example/x.css">', True),
        ('<img alt="" src=http://example.org/x.png>', True),
        ('<link rel="canonical" href="https://example.org/a.html">', False),
        ('<a href="https://example.org/">a link is followed, not loaded</a>', False),
        ('<script src="assets/x.js"></script><img src="data:image/png;base64,AA==">', False),
    ],
)
def test_what_a_page_loads_from_elsewhere(
    site: MkDocsConfig, caplog: pytest.LogCaptureFixture, html: str, warns: bool
) -> None:
    Path(site.site_dir).mkdir()
    (Path(site.site_dir) / "a.html").write_text(html, encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        docs_hooks.on_post_build(site)
    assert bool(caplog.records) is warns
