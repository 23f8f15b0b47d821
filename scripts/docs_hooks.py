"""What `make docs` does beside mkdocs: files that pages link to outside of docs/, and a look at what the site loads.

Pages link to files of the repository (`../protos/easyq/v1/spec.proto`), as people read them there. In the site each
such file is a page of its own, below `source/`, so that the site is whole by itself.
"""

from __future__ import annotations

import logging
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

# Warnings of loggers below "mkdocs" are errors of a strict build.
log = logging.getLogger("mkdocs.hooks.easyq")

_LINK = re.compile(r"(?<=\]\()(?P<path>(?:\.\./)+[^)\s#]+)(?:#[^)\s]*)?(?=\))")
_LANGUAGES = {".lua": "lua", ".md": "markdown", ".proto": "protobuf", ".py": "python", ".toml": "toml", ".yml": "yaml"}
# A link that names a page (`canonical`, `next`) loads nothing.
_LOADS = re.compile(
    r"""<(?!link rel="(?:canonical|prev|next)")(?:script|link|img|iframe|source)\b"""
    r"""[^>]*?\s(?:src|href)=["']?(?:https?:)?//[^\s"'>]+"""
)


def outside(page: str, link: str) -> str | None:
    """The path from the repository's root of what `link` on `page` (below docs/) names, if that is outside of docs/."""
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), link))
    return None if path.startswith(("docs/", "../")) else path


def source_page(path: str) -> str:
    """Where in the site the page of a repository's file is."""
    return f"source/{path.removesuffix('.md')}.md"


def _links(text: str) -> Iterator[str]:
    return (match["path"] for match in _LINK.finditer(text))


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds a page for each file outside of docs/ that a page links to."""
    root = Path(config.config_file_path).parent
    wanted = {
        found
        for page in files.documentation_pages()
        for link in _links(page.content_string)
        if (found := outside(page.src_uri, link))
    }
    for path in sorted(wanted):
        if not (root / path).is_file():
            continue  # mkdocs then tells the link as one that leads nowhere
        text = (root / path).read_text(encoding="utf-8")
        language = _LANGUAGES.get(Path(path).suffix, "text")
        # Whoever searches wants the pages that explain.
        content = f"---\nsearch:\n  exclude: true\n---\n\n# {path}\n\n`````{language}\n{text.rstrip()}\n`````\n"
        files.append(File.generated(config, source_page(path), content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001 - mkdocs' names
    """Leads links out of docs/ to those pages."""
    here = posixpath.dirname(page.file.src_uri)

    def led(match: re.Match[str]) -> str:
        found = outside(page.file.src_uri, match["path"])
        if found is None or files.get_file_from_path(source_page(found)) is None:
            return match[0]
        return posixpath.relpath(source_page(found), here or ".")

    return markdown if page.file.src_uri.startswith("source/") else _LINK.sub(led, markdown)


def on_post_build(config: MkDocsConfig) -> None:
    """Warns of what a page would load from another place."""
    for page in sorted(Path(config.site_dir).rglob("*.html")):
        for found in _LOADS.findall(page.read_text(encoding="utf-8")):
            log.warning("%s loads from elsewhere: %s", page.relative_to(config.site_dir), found)
