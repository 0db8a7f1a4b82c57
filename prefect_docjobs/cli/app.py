"""The program: its commands, and what all of them have in common."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Literal

from cyclopts import App, Parameter

from prefect_docjobs import __version__
from prefect_docjobs.cli.accounts import accounts
from prefect_docjobs.cli.console import Flag, output, print_lines
from prefect_docjobs.cli.demo import demo
from prefect_docjobs.cli.errors import debugging, run_command
from prefect_docjobs.cli.extract import extract
from prefect_docjobs.cli.jobs import jobs
from prefect_docjobs.cli.providers import providers
from prefect_docjobs.cli.simulate import simulate
from prefect_docjobs.cli.watch import watch
from prefect_docjobs.cli.webhooks import webhooks

app = App(
    name="prefect-docjobs",
    help="Send documents to extraction services from Prefect flows.",
    version=__version__,
    help_format="plaintext",
    version_format="plaintext",
    help_epilogue="Exit codes: 0 done, 1 a document has no result or something broke, 2 wrong call or "
    "configuration, 130 interrupted.",
    default_parameter=Parameter(negative=()),
    suppress_keyboard_interrupt=False,
)
app.command(demo, sort_key=1)
app.command(extract, sort_key=2, usage="Usage: prefect-docjobs extract FILES... --job NAME [OPTIONS]")
app.command(simulate, sort_key=3)
app.command(providers, sort_key=4)
app.command(jobs, sort_key=5)
app.command(accounts)  # its sort key is its own
app.command(webhooks, sort_key=7)
app.command(watch, sort_key=8)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: What was typed after the program's name; by default that of this process.

    Returns:
        The exit code: 0, 1 when a document failed or something broke, 2 when the call or the configuration
        is wrong, 130 when interrupted, 141 when the reader of the output has left, 143 when terminated.
    """
    return run_command(partial(_call, app.meta, arguments))


def _call(program: App, arguments: Sequence[str] | None) -> int | None:
    code = program(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    return code if isinstance(code, int) else None


@app.meta.default
def _launch(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    debug: Flag = False,
) -> int | None:
    """Run a command.

    Args:
        tokens: The command with its options.
        debug: Show tracebacks and Prefect's own messages.
    """
    debugging.set(debug)
    return _call(app, tokens)


@app.command(sort_key=9)
def completion(
    shell: Literal["bash", "zsh", "fish"],
    /,
    *,
    install: Flag = False,
) -> None:
    """Print the script that makes a shell complete commands and options.

    Args:
        shell: Your shell. In bash, for this terminal only: source <(prefect-docjobs completion bash)
        install: Put it where the shell finds it, for all terminals from now on.
    """
    if install:
        place = app.install_completion(shell=shell)
        print_lines(output(), f"{place} completes prefect-docjobs in each new {shell}.")
    else:
        print(app.generate_completion(shell=shell))
