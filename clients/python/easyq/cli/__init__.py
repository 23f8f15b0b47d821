"""The command `easyq`."""

from __future__ import annotations

from easyq.cli.group import LazyGroup


def main() -> None:
    """Entry point of the distribution."""
    root(prog_name="easyq")


root = LazyGroup(
    name="easyq",
    help="EasyQ: a job queue in which every job is a container run.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    no_args_is_help=True,
)
