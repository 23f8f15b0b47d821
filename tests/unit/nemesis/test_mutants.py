"""The mutants fit the source as it is: one that breaks nothing proves nothing."""

import shutil
from pathlib import Path

import pytest

from tests.chaos.nemesis.mutants import MUTANTS, ROOT, Mutant, Patch, apply


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_each_patch_fits(mutant: Mutant, tmp_path: Path) -> None:
    for patch in mutant.patches:
        target = tmp_path / patch.file
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / "services" / patch.file, target)
        before = target.read_text(encoding="utf-8")
        apply(patch, tmp_path)
        after = target.read_text(encoding="utf-8")
        assert after != before
        if target.suffix == ".py":
            compile(after, str(target), "exec")


def test_a_patch_that_does_not_fit_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n", encoding="utf-8")
    with pytest.raises(ValueError, match="has this 0 times"):
        apply(Patch(file="a.py", old="y = 1", new=""), tmp_path)
