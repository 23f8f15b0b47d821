"""Files of others that the pages bring: what they are, and that they are what their authors published."""

import hashlib
import json
from importlib import resources

FOLDER = resources.files("easyq_gateway.pages").joinpath("static")


def test_files_of_others_are_as_published() -> None:
    manifest = json.loads(FOLDER.joinpath("manifest.json").read_text(encoding="utf-8"))
    assert list(manifest) == ["htmx.min.js"]
    for name, told in manifest.items():
        assert hashlib.sha256(FOLDER.joinpath(name).read_bytes()).hexdigest() == told["sha256"]
        assert told["license"]


def test_nothing_of_ours_comes_from_elsewhere() -> None:
    for name in ("app.js", "ansi.js", "app.css"):
        text = FOLDER.joinpath(name).read_text(encoding="utf-8")
        assert "http://" not in text
        assert "https://" not in text
        assert "innerHTML" not in text
        assert "eval(" not in text
