"""Where the demo writes, without harm to results that somebody has paid for."""

from __future__ import annotations

import ipaddress
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import ValidationError

from prefect_docjobs.cli.exits import WRONG_USE, CommandFailed
from prefect_docjobs.cli.screen import messages, printable
from prefect_docjobs.models import Outcome

FOLDER = "docjobs-out"
RESULTS = "results.jsonl"


def output_folder(wanted: Path | None) -> Path:
    """The absolute folder to write to, made and tried.

    Args:
        wanted: Given by the user; None for `docjobs-out` here, or a temporary one if need be.

    Raises:
        CommandFailed: `wanted` cannot be written, or there are results that are not the demo's.
    """
    folder = (wanted or Path(FOLDER)).expanduser().absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as problem:
        if wanted is not None:
            raise CommandFailed(
                f"Cannot write to {wanted}: {problem.strerror}. Give another --output.", WRONG_USE
            ) from problem
        return _temporary(folder)
    if _holds_results_of_others(folder / RESULTS):
        raise CommandFailed(
            f"{folder / RESULTS} holds results that are not the demo's. Give another --output.", WRONG_USE
        )
    return folder


def _temporary(refused: Path) -> Path:
    folder = Path(tempfile.mkdtemp(prefix=f"{FOLDER}-"))
    said = printable(f"{refused} cannot be written; the files go to {folder}")
    messages().print(said, soft_wrap=True, markup=False)
    return folder


def _holds_results_of_others(path: Path) -> bool:
    """Whether the first result came from a service that is not on this machine, or is no result at all."""
    if not path.exists():
        return False
    try:
        with path.open(encoding="utf-8") as lines:
            first = next(lines, None)
        ref = Outcome.model_validate_json(first).ref if first else None
        return first is not None and not (ref and _is_loopback(ref.base_url))
    except (OSError, UnicodeDecodeError, ValidationError):
        return True


def _is_loopback(url: str) -> bool:
    try:
        return ipaddress.ip_address(urlsplit(url).hostname or "").is_loopback
    except ValueError:
        return False
