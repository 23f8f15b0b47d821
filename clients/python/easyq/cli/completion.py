"""`easyq completion`."""

from __future__ import annotations

import click

from easyq.cli.frame import tell


@click.command(short_help="Print what a shell needs to complete commands, jobs, tasks and hosts.")
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
def completion(*, shell: str) -> None:
    """Print what a shell needs to complete commands, options, and the names of jobs, tasks, hosts and contexts.

    \b
    eval "$(easyq completion bash)"    # in ~/.bashrc
    eval "$(easyq completion zsh)"     # in ~/.zshrc, after compinit
    easyq completion fish | source     # in ~/.config/fish/config.fish
    """
    from click.shell_completion import get_completion_class

    from easyq.cli.group import root

    kind = get_completion_class(shell)
    if kind is None:
        raise AssertionError("click knows these shells")
    # `source` would ask bash for its version, which may not be here: the script is what counts.
    made = kind(root, {}, "easyq", "_EASYQ_COMPLETE")
    tell((made.source_template % made.source_vars()).strip("\n"))
