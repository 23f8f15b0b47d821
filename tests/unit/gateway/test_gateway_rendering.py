"""Templates: ready before the first reader comes, and how sentences are shown."""

from collections.abc import Iterator

import pytest

from easyq_gateway.domain.redaction import Redactor
from easyq_gateway.pages import rendering
from easyq_gateway.pages.rendering import Renderer
from easyq_gateway.pages.static_files import StaticFiles


def renderer() -> Renderer:
    return Renderer(files=StaticFiles(), redactor=Redactor.of(["PASSWORD"]), version="1")


@pytest.fixture
def unknown() -> Iterator[None]:
    """No template was compiled yet."""
    before = dict(rendering.Compiled.known)
    rendering.Compiled.known.clear()
    yield
    rendering.Compiled.known.update(before)


def test_templates_are_compiled_before_they_are_asked_for(unknown: None) -> None:
    renderer().warm()
    names = {template.name for template in rendering.TEMPLATES.iterdir() if template.name.endswith(".j2")}
    assert len(rendering.Compiled.known) == len(names) > 10


def test_another_renderer_compiles_nothing(unknown: None, monkeypatch: pytest.MonkeyPatch) -> None:
    renderer().warm()

    def refuse(*_: object) -> None:
        raise AssertionError("it was compiled again")

    monkeypatch.setattr(rendering.Compiled, "dump_bytecode", refuse)
    renderer().warm()


def test_what_to_type_is_code_and_all_else_is_text() -> None:
    told = renderer().told("Start `easyq up`, <b>now</b>: `a<b`")
    assert told == (
        "<bdi>Start </bdi><code><bdi>easyq up</bdi></code><bdi>, &lt;b&gt;now&lt;/b&gt;: </bdi>"
        "<code><bdi>a&lt;b</bdi></code>"
    )
