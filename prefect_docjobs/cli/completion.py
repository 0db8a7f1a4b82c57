"""Completion of commands and options by the user's shell."""

from __future__ import annotations

from typing import Literal, TypeAlias

from cyclopts import App

from prefect_docjobs.cli.screen import output, printable

Shell: TypeAlias = Literal["bash", "zsh", "fish"]


def complete_in(shell: Shell, app: App, *, install: bool = False) -> None:
    """Print the script that makes a shell complete our command line, or put it where the shell reads it.

    Args:
        shell: Which shell.
        app: Whose commands.
        install: Write the script to the shell's folder for them, and a line into `~/.bashrc` or `~/.zshrc`
            that loads it; print only where it is.
    """
    if install:
        place = app.install_completion(shell=shell)
        said = f"{place} completes prefect-docjobs in each {shell} that is started from now on."
        output().print(printable(said), soft_wrap=True, markup=False)
    else:
        print(app.generate_completion(shell=shell))
