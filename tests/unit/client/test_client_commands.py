"""The command's root: what is listed, what is imported, what is said where something is missing."""

import json
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from typing import Any

import click
import pytest
from click.testing import CliRunner

import easyq
from easyq.cli import group
from easyq.cli.group import root


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets which commands other distributions bring: name and target."""

    def install(**commands: str) -> None:
        points = {name: EntryPoint(name, target, group.GROUP) for name, target in commands.items()}
        monkeypatch.setattr(group, "_entry_points", lambda: points)

    return install


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(root, list(arguments), prog_name="easyq")


def plain(argv: list[str]) -> None:
    click.echo(json.dumps(argv))


@click.command()
def decorated() -> None:
    click.echo("decorated")


def imported_by(code: str) -> set[str]:
    """The modules that an interpreter has loaded after `code`."""
    after = "print()\nprint(json.dumps(list(sys.modules)))"
    script = f"import sys, json\ntry:\n    {code}\nexcept SystemExit:\n    pass\n{after}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_completion_finds_what_there_is() -> None:
    names = dir(easyq)
    assert {"Client", "AsyncClient", "job_spec", "NotFound"} <= set(names)
    assert not {"annotations", "importlib", "Any"} & set(names)


def test_help_imports_neither_grpc_nor_any_command() -> None:
    modules = imported_by("from easyq.cli.group import root; root(['--help'])")
    assert "click" in modules
    assert not {name for name in modules if name.split(".")[0] in {"grpc", "google", "easyq_supervisor", "pydantic"}}


@pytest.mark.parametrize(
    "command", ["ps", "submit", "hosts", "apply", "doctor", "errors", "logs", "completion", "stats", "deliveries"]
)
def test_help_of_a_command_imports_neither_grpc_nor_yaml(command: str) -> None:
    modules = imported_by(f"from easyq.cli.group import root; root(['{command}', '--help'])")
    heavy = {"grpc", "google", "yaml", "asyncio", "easyq_supervisor", "pydantic", "rich"}
    assert not {name for name in modules if name.split(".")[0] in heavy}


def test_the_messages_alone_cost_no_click_and_no_client() -> None:
    modules = imported_by("import easyq.v1.job_pb2")
    assert not modules & {"click", "grpc", "easyq.client", "easyq.cli"}


def test_names_come_from_the_package_on_first_use() -> None:
    modules = imported_by("import easyq; easyq.job_spec; easyq.EasyQError; easyq.parse_duration; easyq.__version__")
    assert "easyq.spec" in modules
    assert "grpc" not in modules


def test_an_unknown_name_of_the_package_is_an_attribute_error() -> None:
    import easyq

    with pytest.raises(AttributeError, match="nothing"):
        easyq.nothing  # noqa: B018


def test_help_lists_own_and_installed_commands(installed: Callable[..., None]) -> None:
    installed(up="nowhere:up", extra="nowhere:extra")
    text = invoke("--help").output
    assert "Run the whole system on this machine." in text
    assert "extra" in text
    assert "gateway" not in text


def test_a_command_of_the_server_says_what_it_needs(
    installed: Callable[..., None], capfd: pytest.CaptureFixture[str]
) -> None:
    installed()
    assert invoke("up").exit_code == 1
    assert capfd.readouterr().err == "easyq: easyq up needs the server: pip install easyq-server\n"


def test_a_command_that_can_not_be_imported_says_so_in_a_line(
    installed: Callable[..., None], capfd: pytest.CaptureFixture[str]
) -> None:
    installed(up="no_such_module:up")
    assert invoke("up").exit_code == 1
    assert "easyq up can't be loaded: No module named 'no_such_module'" in capfd.readouterr().err


def test_an_unknown_command_is_a_usage_error(installed: Callable[..., None]) -> None:
    installed()
    assert invoke("frobnicate").exit_code == 2


def test_an_entry_point_is_a_click_command_or_a_function_of_arguments(installed: Callable[..., None]) -> None:
    installed(one=f"{__name__}:decorated", two=f"{__name__}:plain")
    assert invoke("one").output == "decorated\n"
    assert json.loads(invoke("two", "--help", "-x", "--", "a").output)[:2] == ["--help", "-x"]


def test_versions(capfd: pytest.CaptureFixture[str]) -> None:
    assert invoke("version", "--client").exit_code == 0
    lines = capfd.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["easyq-client", "easyq-server"]
    assert invoke("--version").output.startswith("easyq ")


def test_every_command_is_in_the_help_and_can_be_loaded(installed: Callable[..., None]) -> None:
    installed()
    text = invoke("--help").output
    context = click.Context(root)
    for name in (*group._OWN, *group.ALIASES):
        command = root.get_command(context, name)
        assert command is not None
        assert command.help, name
        assert name in text


def test_usage_errors_are_one_line_that_says_where_to_read_more(capfd: pytest.CaptureFixture[str]) -> None:
    for arguments, said in (
        (["frobnicate"], "easyq: No such command 'frobnicate'. (easyq --help tells more)"),
        (["get"], "easyq: Missing argument 'ID'. (easyq get --help tells more)"),
        (["ps", "--state", "tired"], "'tired' is none of SCHEDULED, QUEUED"),
        (["ps", "-l", "nothing"], "'nothing' is not KEY=VALUE"),
        (["hosts", "drain", "h", "--deadline", "soon"], "'soon' is not a duration"),
        (["get", "\udcff"], "is not valid UTF-8"),
        (["ps", "--server", "a b"], "'a b' is no address: write HOST:PORT"),
        (["ps", "--server", "http://h:1"], "has no scheme; write 'h:1'"),
        (["ps", "--server", "h:1", "--context", "c"], "exclude each other"),
        (["ps", "--context", "nobody"], "there is no context 'nobody'"),
        (["explain"], "name one of: a job, --task NAME, --pool NAME"),
        (["stop"], "name jobs, or say which"),
        (["stop", "j", "--task", "t"], "not both"),
        (["errors", "--task", "t", "discard"], "conditions go behind `discard`"),
        (["submit"], "name an image, or a file"),
        (["submit", "i", "--at", "soon"], "is not a time with an offset"),
        (["submit", "i", "--in", "1s", "--cron", "@daily"], "exclude each other"),
        (["submit", "-f", "/nowhere.yaml"], "/nowhere.yaml: No such file or directory"),
        (["apply", "-f", "/nowhere.yaml"], "/nowhere.yaml: No such file or directory"),
        (["completion", "tcsh"], "'tcsh' is not one of"),
    ):
        assert invoke(*arguments).exit_code == 2, arguments
        captured = capfd.readouterr()
        assert said in captured.err, arguments
        assert (captured.err.count("\n"), captured.out) == (1, ""), arguments


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts_of_completion(shell: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert invoke("completion", shell).exit_code == 0
    assert f"_EASYQ_COMPLETE={shell}_complete" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Missing argument 'IMAGE'"),
        (["i", "-l"], "Options of the container's command come after `--`"),
        (["i", "--timeout", "soon"], "'soon' is not a duration"),
        (["i", "--retries", "-1"], "--retries"),
        (["i", "--entrypoint", ""], "--entrypoint must not be empty"),
        (["i", "-e", "A B=1"], "'A B' contains white space"),
        (["i", "--env-file", "/nowhere"], "/nowhere"),
        (["i", "--env-file", "/proc/self/mem"], "/proc/self/mem: Input/output error"),
        (["\udcff"], "'\\udcff' is not valid UTF-8"),
        (["i", "a", "\udcff"], "COMMAND]...': '\\udcff' is not valid UTF-8"),
        (["i", "-e", "A=secret\udcff"], "'A' is not valid UTF-8"),
        (["i", "-w", "/\udcff"], "'-w' / '--workdir': '/\\udcff' is not valid UTF-8"),
        (["i", "--\udcff"], "No such option"),
        (["i", "--server", "127.0.0.1:1"], "can't reach EasyQ at 127.0.0.1:1"),
    ],
)
def test_own_failures_are_one_line_and_125(arguments: list[str], said: str, capfd: pytest.CaptureFixture[str]) -> None:
    outcome = invoke("run", *arguments)
    shown = outcome.output + capfd.readouterr().err
    assert outcome.exit_code == 125
    assert said in shown
    assert isinstance(outcome.exception, SystemExit)
    assert "secret" not in shown
