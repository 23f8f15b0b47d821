"""TOML of bounded shape: what is refused before it is read, and that nothing else is."""

import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from easyq_chassis.rules_file import toml

PARTS, DEPTH = toml.MOST_PARTS, toml.MOST_DEPTH
PIECES = st.sampled_from(
    ['"', "'", '"""', "'''", "\\", "#", "\n", "\r\n", ".", ",", "=", "[", "]", "{", "}", "a", " ", "1", '\\"', "é"]
)


def dotted(part: str, parts: int) -> str:
    return ".".join([part] * parts)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (dotted("a", PARTS + 1) + " = 1", 1),
        ("x = 1\n\n" + " . ".join(["a"] * (PARTS + 1)) + " = 1", 3),
        (dotted('"a"', PARTS + 1) + " = 1", 1),
        (dotted("'a'", PARTS + 1) + " = 1", 1),
        (f"[{dotted('a', PARTS + 1)}]", 1),
        (f"x = '''\n''''\n[[{dotted('a', PARTS + 1)}]]", 3),
        (f"x = [1,\n{{{dotted('a', PARTS + 1)} = 1}}]", 2),
        (f'x = "\\\\"\n{dotted("a", PARTS + 1)} = 1', 2),
        (f'x = """\\"""\n"""""\n{dotted("a", PARTS + 1)} = 1', 3),
        (f'x = {{y = """a"""", {dotted("a", PARTS + 1)} = 1}}', 1),
        (f"x = {{y = '''a'''', {dotted('a', PARTS + 1)} = 1}}", 1),
        (f"x = '\\'\n{dotted('a', PARTS + 1)} = 1", 2),
        (f'# """\n{dotted("a", PARTS + 1)} = 1', 2),
    ],
)
def test_a_key_of_many_parts_is_refused(text: str, line: int) -> None:
    with pytest.raises(ValueError, match=f"^line {line}: a key has more than {PARTS} parts"):
        toml.read(text)


@pytest.mark.parametrize("opened", ["[", "{a = ", "[\n"])
def test_deep_nesting_is_refused(opened: str) -> None:
    with pytest.raises(ValueError, match=f"more than {DEPTH} arrays or tables in each other"):
        toml.read("\nx = " + opened * (DEPTH + 1))


@pytest.mark.parametrize(
    "text",
    [
        dotted("a", PARTS) + " = 1",
        f"[{dotted('a', PARTS)}]\n{dotted('b', PARTS)} = 1",
        "x = " + "[" * DEPTH + "]" * DEPTH,
        "x = [" + "[], " * 100 + "]",
        "[[a]]\n" * 100,
        "x = [" + "0.5, " * 100 + "]",
        "\n".join(f"a{number} = 1.5" for number in range(100)),
        f"x = '{'.[{' * 100}' # {'.[' * 100}",
        f'x = "{".[{" * 100}\\"{".[{" * 100}"',
        f'x = """{".[{" * 100}\n"" {".[{" * 100}""""',
        f"x = '''{'.[{' * 100}\n'' {'.[{' * 100}''''",
    ],
)
def test_what_is_bounded_is_read_as_ever(text: str) -> None:
    assert toml.read(text) == tomllib.loads(text)


@settings(deadline=None, max_examples=300)
@given(text=st.lists(PIECES, max_size=14).map("".join))
def test_nothing_else_is_refused(text: str) -> None:
    """Whatever is open or wrong: it is the reader that says so."""
    told: list[object] = []
    for read in (tomllib.loads, toml.read):
        try:
            told.append(read(text))
        except ValueError as error:
            told.append(str(error))
    if "parts" not in str(told[1]):
        assert told[0] == told[1]


@given(before=st.lists(PIECES, max_size=10).map("".join))
def test_no_text_before_it_hides_a_long_key(before: str) -> None:
    """Wherever the reader would come to the key, it is found."""
    try:
        tomllib.loads(before + "\n" + "z.z = 1")
    except ValueError:
        return
    with pytest.raises(ValueError, match="parts"):
        toml.read(before + "\n" + dotted("z", PARTS + 1) + " = 1")
