"""Small made-up documents: invoices, a contract, a receipt, a form and an order."""

from __future__ import annotations

from pathlib import Path

SAMPLES = Path(__file__).parent


def sample_paths() -> tuple[Path, ...]:
    """The sample documents, sorted by name."""
    return tuple(sorted(path for path in SAMPLES.iterdir() if path.suffix in {".pdf", ".png", ".txt"}))
