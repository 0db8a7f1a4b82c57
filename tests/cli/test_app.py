"""The program as a whole: help, completion, and the commands that read nothing."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from prefect_docjobs import __version__
from prefect_docjobs.cli import main
from prefect_docjobs.providers.registry import BUILT_IN
from prefect_docjobs.simulator.samples import SAMPLES

PROGRAM = (sys.executable, "-m", "prefect_docjobs.cli")
COMMANDS = ["demo", "extract", "simulate", "providers", "jobs", "accounts", "webhooks", "watch", "completion"]


@pytest.fixture(autouse=True)
def _eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


class TestHelp:
    def test_it_lists_the_commands_and_nothing_that_does_not_exist(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["--help"]) == 0
        listed = re.findall(r"^│ (\w+)  ", capsys.readouterr().out, re.MULTILINE)
        assert listed == COMMANDS

    def test_no_command_at_all_shows_it(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main([]) == 0
        assert "Usage: prefect-docjobs" in capsys.readouterr().out

    @pytest.mark.parametrize("command", COMMANDS)
    def test_each_option_is_explained(self, command: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert main([command, "--help"]) == 0
        options = re.findall(
            r"^│ (?:\* )?\s*(?:[A-Z]+ )?--([\w-]+) *(.*?)│$", capsys.readouterr().out, re.MULTILINE
        )
        assert options
        assert all(text.strip() for _, text in options), options

    def test_it_fits_into_eighty_columns(self, capsys: pytest.CaptureFixture[str]) -> None:
        main(["simulate", "--help"])
        assert max(map(len, capsys.readouterr().out.splitlines())) <= 80

    def test_it_is_there_at_once_and_without_prefect(self) -> None:
        code = (
            "import sys, time\n"
            "from prefect_docjobs.cli import main\n"
            "main(['--help'])\n"
            "print('prefect' in sys.modules, time.process_time(), file=sys.stderr)\n"
        )
        runs = [
            subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, check=True
            ).stderr.split()
            for _ in range(3)
        ]
        assert {imported for imported, _ in runs} == {"False"}
        assert min(float(seconds) for _, seconds in runs) < 1.0

    def test_the_version_is_the_package_s(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["--version"]) == 0
        assert capsys.readouterr().out == f"{__version__}\n"


class TestCompletion:
    @pytest.mark.parametrize(
        ("line", "offered"),
        [
            ("prefect-docjobs ", set(COMMANDS)),
            ("prefect-docjobs si", {"simulate"}),
            ("prefect-docjobs extract --dr", {"--dry-run"}),
            ("prefect-docjobs jobs --state f", {"fetched", "failed"}),
            ("prefect-docjobs completion z", {"zsh"}),
            ("prefect-docjobs accounts pau", {"pause"}),
            ("prefect-docjobs accounts pause --fo", {"--for"}),
            ("prefect-docjobs extract invoice-b", {"invoice-brightwater.pdf"}),
        ],
    )
    def test_bash_completes_commands_options_values_and_files(self, line: str, offered: set[str]) -> None:
        words = line.split(" ")
        asked = f"""
            source <({shlex.join(PROGRAM)} completion bash)
            handler=$(complete -p prefect-docjobs | sed 's/.* -F \\([^ ]*\\) .*/\\1/')
            COMP_WORDS=({" ".join(map(shlex.quote, words))}) COMP_CWORD={len(words) - 1}
            "$handler" prefect-docjobs {shlex.quote(words[-1])} {shlex.quote(words[-2])}
            printf '%s\\n' "${{COMPREPLY[@]}}"
        """
        done = subprocess.run(
            ["bash", "--norc", "-c", asked], cwd=SAMPLES, capture_output=True, text=True, check=True
        )
        assert set(done.stdout.split()) == offered, done.stderr

    @pytest.mark.parametrize(
        ("shell", "mark"), [("zsh", "#compdef prefect-docjobs"), ("fish", "complete -c")]
    )
    def test_other_shells_get_a_script_with_every_command(
        self, shell: str, mark: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["completion", shell]) == 0
        script = capsys.readouterr().out
        assert mark in script
        assert all(command in script for command in COMMANDS)

    def test_it_is_installed_where_bash_looks(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        for _ in range(2):
            assert main(["completion", "bash", "--install"]) == 0
        (script,) = tmp_path.glob(".local/share/bash-completion/completions/*")
        assert str(script) in capsys.readouterr().out
        assert (tmp_path / ".bashrc").read_text().count(f'. "{script}"') == 1


class TestProviders:
    def test_the_table_has_each_of_them_in_eighty_columns(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["providers"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert set(BUILT_IN) <= {line.split(" ", 1)[0] for line in lines}
        assert max(map(len, lines)) <= 80

    def test_json_has_the_capabilities_of_each(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["providers", "--json"]) == 0
        described = {service["name"]: service for service in json.loads(capsys.readouterr().out)}
        assert set(described) == set(BUILT_IN)
        assert described["numind"]["cancel"] is True
        assert described["mindee"]["cancel"] is False
        assert "application/pdf" in described["mindee_v1"]["media_types"]
        assert described["unsiloed"]["api_key_variable"] == "UNSILOED_API_KEY"
