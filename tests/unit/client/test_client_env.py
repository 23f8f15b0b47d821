"""Variables as `docker run` takes them."""

import pytest

from easyq.cli.env import EnvError, collect


def test_a_file_is_read_as_docker_reads_it() -> None:
    text = "\ufeff# comment\n\n  A=1 \r\nB='q' # kept\nC==\nHOME\nGONE\n"
    assert collect([("f", text.encode())], [], {"HOME": "/root"}) == {
        "A": "1 ",
        "B": "'q' # kept",
        "C": "=",
        "HOME": "/root",
    }


def test_options_win_over_files_and_the_last_one_wins() -> None:
    files = [("f", b"A=1\nB=1\n"), ("g", b"B=2")]
    assert collect(files, ["A=3", "A=", "D=x=y"], {}) == {"A": "", "B": "2", "D": "x=y"}


def test_a_name_without_a_value_takes_it_from_here_or_is_left_out() -> None:
    assert collect([], ["A", "B"], {"A": "here"}) == {"A": "here"}


@pytest.mark.parametrize("line", ["=1", "A B=1", "A\t=1", "A B", "A=\0", "A\0=1"])
def test_a_line_without_a_name_is_refused_with_its_place(line: str) -> None:
    with pytest.raises(EnvError, match=r"^f:2: "):
        collect([("f", f"OK=1\n{line}\n".encode())], [], {})
    with pytest.raises(EnvError):
        collect([], [line], {})


def test_bytes_that_are_no_text_are_refused_with_their_place_and_not_shown() -> None:
    with pytest.raises(EnvError) as caught:
        collect([("f", b"OK=1\r\n# c\n B=secret\xff\n")], [], {})
    assert str(caught.value) == "f:3: byte 10 of the line is not valid UTF-8"


def test_a_value_from_here_that_is_no_text_is_refused() -> None:
    environ = {"A": "\udcff"}
    with pytest.raises(EnvError, match=r"^the value that 'A' has here is not valid UTF-8$"):
        collect([], ["A"], environ)
    with pytest.raises(EnvError, match=r"^f:1: the value"):
        collect([("f", b"A")], [], environ)
    assert collect([], ["A=1"], environ) == {"A": "1"}
