"""Options of `prefect-docjobs webhooks` that make no sense: a sentence, exit code 2, and nothing starts."""

from __future__ import annotations

import pytest

from prefect_docjobs.cli import main

BLOCK = ("--block", "mindee-credentials/main")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((*BLOCK, "--port", "99999"), "--port. Must be <= 65535."),
        ((*BLOCK, "--max-body-mib", "0"), "--max-body-mib. Must be >= 1."),
        ((*BLOCK, "--path-token-env", "NO_SUCH_VARIABLE"), "NO_SUCH_VARIABLE is not set"),
        ((*BLOCK, "--trusted-proxy", "nginx"), "'nginx' is no trusted proxy"),
        ((*BLOCK, "--trusted-proxy", "*"), "'*' is no trusted proxy"),
        ((), "--block"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["webhooks", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert said in printed.err
    assert printed.err.count("\n") == 1
