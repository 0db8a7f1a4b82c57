"""What jobs took in the past, by kind of job and size of document. Small, versioned, safe to lose."""

from __future__ import annotations

import json
import math
import os
import random
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_VERSION = 1
_KEPT = 200  # observations of each kind and size
_KINDS = 64
_SAVED_AFTER = 10  # observations,
_SAVED_EVERY = 10.0  # or seconds, so that runs of a single job teach something, and many of them cost little
_LARGEST_FILE = 4 << 20  # bytes; all that is kept fits several times
_UNREADABLE = (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError)
_SIZES = range(-1, 9)
_LARGEST = 1 << 60  # bytes; a ref may say anything

Kind = tuple[str, ...]
"""What durations are conditioned on: provider, origin, product, model."""


def size_class(size: int | None) -> int:
    """Documents of about the same size: one class for each fourfold of 16 KiB; -1 where it is unknown."""
    if size is None:
        return -1
    return min(max(0, math.ceil(math.log(min(max(size, 1), _LARGEST) / 16_384, 4))), _SIZES[-1])


@dataclass
class _Sample:
    """Logarithms of durations: of past batches, and an even sample of the present one.

    A batch ends with its slowest jobs, so keeping the newest observations would keep the slowest.
    """

    past: list[float] = field(default_factory=list)
    present: list[float] = field(default_factory=list)
    seen: int = 0

    def add(self, log: float) -> None:
        """Take one more of the present batch, each with the same chance to stay (reservoir sampling)."""
        self.seen += 1
        if len(self.present) < _KEPT:
            self.present.append(log)
        elif (place := random.randrange(self.seen)) < _KEPT:  # noqa: S311 (sampling)
            self.present[place] = log

    def close(self) -> None:
        """The present batch becomes the past; half of what is kept may be older."""
        older = random.sample(self.past, min(len(self.past), max(_KEPT // 2, _KEPT - len(self.present))))
        newer = random.sample(self.present, min(len(self.present), _KEPT - len(older)))
        self.past, self.present, self.seen = older + newer, [], 0


class Durations:
    """Logarithms of the seconds that finished jobs took; thread-safe.

    Args:
        path: Where they are kept between runs; None keeps them in memory only. A file that cannot be read
            or written is as good as none.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._samples: dict[Kind, dict[int, _Sample]] = {}
        self._saved_at = -math.inf
        if path is not None:
            with suppress(*_UNREADABLE):
                self._samples = _read(path)

    def add(self, kind: Kind, size: int | None, seconds: float) -> None:
        """Note a finished job."""
        if not 0.0 < seconds < math.inf:
            return
        with self._lock:
            sizes = self._samples.pop(kind, {})
            self._samples[kind] = sizes  # the kind used last stands last
            sizes.setdefault(size_class(size), _Sample()).add(round(math.log(seconds), 3))
            while len(self._samples) > _KINDS:
                del self._samples[next(iter(self._samples))]

    def of(self, kind: Kind) -> dict[int, list[float]]:
        """What is known of a kind of job, by size class."""
        with self._lock:
            found = self._samples.get(kind, {})
            return {size: sample.past + sample.present for size, sample in found.items()}

    def kept(self, kind: Kind) -> dict[int, float]:
        """Which part of the present batch's finished jobs `of` still holds, by size class."""
        with self._lock:
            found = self._samples.get(kind, {})
            return {size: len(sample.present) / max(1, sample.seen) for size, sample in found.items()}

    def close(self, kind: Kind) -> None:
        """Note that a batch of jobs of this kind has ended, and write down what it taught.

        Small batches in quick succession count as one.
        """
        with self._lock:
            news = sum(sample.seen for sample in self._samples.get(kind, {}).values())
            if not news or (news < _SAVED_AFTER and time.monotonic() - self._saved_at < _SAVED_EVERY):
                return
            self._saved_at = time.monotonic()
            saved = self._taken_up(kind)
            for sample in self._samples[kind].values():
                sample.close()
            text = json.dumps({"version": _VERSION, "kinds": list(_rows(saved))}) if self._path else ""
        if self._path is not None:
            with suppress(OSError):
                _replace(self._path, text)

    def _taken_up(self, kind: Kind) -> dict[Kind, dict[int, _Sample]]:
        """What other processes have written down meanwhile, and this process's samples of one kind.

        Two processes that write in the same moment may lose what one of them has learned.
        """
        saved: dict[Kind, dict[int, _Sample]] = {}
        if self._path is not None:
            with suppress(*_UNREADABLE):
                saved = _read(self._path)
        own = self._samples[kind]
        for size, sample in saved.pop(kind, {}).items():
            own.setdefault(size, _Sample()).past = sample.past
        saved[kind] = own
        return dict(list(saved.items())[-_KINDS:])


def _rows(samples: Mapping[Kind, Mapping[int, _Sample]]) -> Iterator[Mapping[str, Any]]:
    for kind, sizes in samples.items():
        yield {"kind": kind, "logs": {str(size): sample.past for size, sample in sizes.items()}}


def _read(path: Path) -> dict[Kind, dict[int, _Sample]]:
    """What a file says; raises whatever is wrong with it."""
    if path.stat().st_size > _LARGEST_FILE:
        raise ValueError("too large")
    saved = json.loads(path.read_text("utf-8"))
    if saved["version"] != _VERSION:
        raise ValueError("another version")
    return {
        tuple(str(part) for part in row["kind"]): {
            int(size): _Sample([float(log) for log in logs[:_KEPT] if -10 < float(log) < 14])
            for size, logs in row["logs"].items()
            if int(size) in _SIZES
        }
        for row in saved["kinds"][-_KINDS:]
    }


def _replace(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        Path(name).replace(path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise


_shared: dict[str, Durations] = {}
_sharing = threading.Lock()


def shared_durations() -> Durations:
    """The durations of this process, kept in the Prefect home between runs.

    `PREFECT_DOCJOBS_DURATIONS` names another file; empty, nothing is kept.
    """
    home = os.environ.get("PREFECT_HOME") or "~/.prefect"
    given = os.environ.get("PREFECT_DOCJOBS_DURATIONS", f"{home}/docjobs/durations.json")
    with _sharing:
        if given not in _shared:
            _shared[given] = Durations(_expanded(given) if given else None)
        return _shared[given]


def _expanded(given: str) -> Path | None:
    """The path, or None where it begins with a home that the user does not have."""
    with suppress(RuntimeError):
        return Path(given).expanduser()
    return None
