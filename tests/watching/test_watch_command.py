"""`prefect-docjobs watch`, where it cannot watch."""

from __future__ import annotations

from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from prefect_docjobs.cli import main


def test_without_a_prefect_server_it_says_what_to_set(capsys: pytest.CaptureFixture[str]) -> None:
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        assert main(["watch"]) == 2
    assert "prefect config set PREFECT_API_URL" in capsys.readouterr().err


def test_without_a_ledger_there_is_nothing_to_watch(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_DOCJOBS_LEDGER", "")
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        assert main(["watch"]) == 2
    assert "PREFECT_DOCJOBS_LEDGER is empty" in capsys.readouterr().err


def test_it_stops_by_itself_when_told_to_although_prefect_is_away(tmp_path: Path) -> None:
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        assert main(["watch", "--stop-after", "1"]) == 0
