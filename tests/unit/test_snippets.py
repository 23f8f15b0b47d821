"""How the documentation's snippets are found and compared; and that each of them is of a form that tests know."""

import re

import pytest

from tests.support.snippets import ROOT, Command, Names, blocks, commands, pages, printed

JOB, OTHER = "6a1b2c3d4e5f60718293a4b5", "0123456789abcdef01234567"


@pytest.mark.parametrize("page", pages())
def test_each_block_of_each_page_is_of_a_known_form(page: str) -> None:
    blocks(page, (ROOT / page).read_text(encoding="utf-8"))


def test_blocks_with_what_stands_above_them() -> None:
    text = """# A page
```sh
one
```
<!-- not run: needs the internet -->

```console
$ two
```
1. In a list:
   <!-- file: a.yaml -->
   ```yaml
   a:
     - b
   ```
"""
    plain, not_run, file = blocks("page.md", text)
    assert (plain.place, plain.language, plain.text, plain.not_run) == ("page.md:2", "sh", "one\n", "")
    assert (not_run.not_run, not_run.text) == ("needs the internet", "$ two\n")
    assert (file.file, file.text) == ("a.yaml", "a:\n  - b\n")


def test_a_page_that_another_test_runs() -> None:
    text = "<!-- not run: run by tests/unit/test_snippets.py -->\n```sh\na\n```\n"
    assert [block.not_run for block in blocks("page.md", text)] == ["run by tests/unit/test_snippets.py"]


@pytest.mark.parametrize(
    "above",
    ["not run", "not run: I did not want to", "not run: run by tests/none.py", "file: ../a", "parsed as: it looks"],
)
def test_other_words_above_a_block_are_refused(above: str) -> None:
    with pytest.raises(ValueError, match=r"^page.md:2: "):
        blocks("page.md", f"\n<!-- {above} -->\n```sh\na\n```\n")


def test_a_language_that_nobody_runs_is_refused() -> None:
    with pytest.raises(ValueError, match="bsh"):
        blocks("page.md", "```bsh\na\n```\n")


def test_commands_go_on_while_something_is_open() -> None:
    block = """$ echo 'a
b' c
out
$ cat >f <<'EOF'
it's
EOF
$ one \\
  two
$ easyq ps
"""
    assert [command.text for command in commands(block)] == [
        "echo 'a\nb' c",
        "cat >f <<'EOF'\nit's\nEOF",
        "one \\\n  two",
        "easyq ps",
    ]
    assert [command.shown for command in commands(block)] == ["out", "", "", ""]


@pytest.mark.parametrize(
    ("text", "reads"),
    [
        ("curl localhost:10000/jobs", True),
        ("curl -XPOST localhost:10000/tasks/a", False),
        ("curl -d '{}' localhost:10000/tasks/a", False),
        ("easyq get x", True),
        ("easyq hosts", True),
        ("easyq hosts drain x", False),
        ("easyq submit busybox:1", False),
        ("grpcurl -plaintext 127.0.0.1:10001 easyq.v1.JobService/GetJob", True),
        ("grpcurl -plaintext 127.0.0.1:10001 easyq.v1.JobService/CreateJob", False),
    ],
)
def test_what_may_be_asked_again(text: str, reads: bool) -> None:
    assert Command(text=text, shown="").only_reads is reads


@pytest.mark.parametrize(
    ("shown", "came", "fits"),
    [
        ("done", "done\n", True),
        ("done", "done\nand more", False),
        ("done", "undone", False),
        ("a … c", "a b b c", True),
        ("a … c", "a b\nc", False),
        ("a\n…\nc", "a\nb\nb\nc", True),
        ("a\n…\nc", "a\nc", True),
        ("a\n…", "a\nb", True),
        ("a\n\nb", "a\nb", True),
        ("a\nb", "a\n\nb\n", True),
        ("A  B\n1  2", "A      B\n1      2   ", True),
        ("at 2026-11-26T04:05:06Z", "at 2027-01-02T03:04:05.678Z", True),
        ("at 2026-11-26T04:05:06Z", "at once", False),
        ('{"a": 1,\n "b": …}', '{"a":1,"b":[2,\n3]}', True),
        ('{"a": 1}', '{"a": 2}', False),
        (f"{JOB} {JOB}", f"{OTHER} {OTHER}", True),
        (f"{JOB} {JOB}", f"{OTHER} {JOB}", False),
        ("50% (a.b)", "50% (a.b)", True),
        ("50% (a.b)", "50% (aXb)", False),
    ],
)
def test_what_is_shown_and_what_came(shown: str, came: str, fits: bool) -> None:
    assert Names().fit(shown, came) is fits


def test_ids_are_remembered() -> None:
    names = Names()
    assert names.fit(f'{{"jobId": "{JOB}", …}}', f'{{"jobId": "{OTHER}", "x": 1}}')
    assert names.put_in(f"get {JOB}") == f"get {OTHER}"
    assert not names.fit(JOB, JOB)
    assert names.fit(JOB, OTHER)


def test_what_a_python_snippet_prints() -> None:
    assert printed("x = 1  # one\nprint(x)  # 1\nfor a in b:\n    print(a, '#')  # a #\n") == "1\na #"


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#:]+)\)", (ROOT / "README.md").read_text(encoding="utf-8")))
def test_links_of_the_readme_lead_somewhere(link: str) -> None:
    assert (ROOT / link).exists()
