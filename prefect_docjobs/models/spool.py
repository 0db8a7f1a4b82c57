"""Results on the disk: an unlinked temporary file, and sequences that read one item at a time.

Results are written with `marshal`: it gives back exactly what a parsed JSON answer can hold (whole numbers
of any length, -0.0, NaN, half surrogate pairs), refuses what it would change, and costs a fraction of the
CPU of writing JSON. Its format is Python's own, and the file never outlives its process.
"""

from __future__ import annotations

import logging
import marshal
import os
import tempfile
import weakref
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TypeVar, overload

from prefect_docjobs.models.results import Result

_FORMAT = 4  # of marshal; read by every Python that is supported, as a pickled batch may have to be
_IN_MEMORY = frozenset({"ref", "usage"})
_SHOWN = 3  # items of a long sequence, in its repr
_log = logging.getLogger(__name__)

_Item = TypeVar("_Item")


class Stored:
    """A place in a spool; as long as somebody holds it, the spool's file stays open."""

    __slots__ = ("_length", "_offset", "_spool")

    def __init__(self, spool: Spool, offset: int, length: int) -> None:
        self._spool = spool
        self._offset = offset
        self._length = length

    def read(self) -> bytes:
        """What was written. For any number of threads, and after a fork.

        Raises:
            OSError: The disk does not give it back.
        """
        return self._spool.read(self._offset, self._length)


class Spool:
    """A temporary file without a name, mode 0600, made at the first write and closed with the last `Stored`.

    Args:
        folder: Where the file is made; None for the system's temporary folder (`TMPDIR`).
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._file: IO[bytes] | None = None
        self._end = 0
        self._refused = False

    def write(self, data: bytes) -> Stored | None:
        """Append `data`; for one thread at a time.

        Returns:
            Where it is, or None where the disk refuses. Nothing more is tried then, and one warning is
            logged: the caller keeps what it has.
        """
        if self._refused:
            return None
        try:
            self._append(data)
        except OSError as problem:
            self._refused = True
            _log.warning("Results stay in memory, for they cannot be written to the disk: %s", problem)
            return None
        self._end += len(data)
        return Stored(self, self._end - len(data), len(data))

    def read(self, offset: int, length: int) -> bytes:
        """The bytes at a place; see `Stored.read`."""
        data = os.pread(self._opened().fileno(), length, offset)
        if len(data) != length:
            raise OSError(f"{length} bytes at {offset} were written, and {len(data)} came back.")
        return data

    def _append(self, data: bytes) -> None:
        # At its own offset: what a full disk took of a failed write is never counted.
        file, written = self._opened().fileno(), 0
        while written < len(data):
            written += os.pwrite(file, memoryview(data)[written:], self._end + written)

    def _opened(self) -> IO[bytes]:
        if self._file is None:
            if not hasattr(os, "pread"):
                raise OSError("This system cannot read at a position.")
            self._file = tempfile.TemporaryFile(buffering=0, dir=self._folder)  # noqa: SIM115 (see below)
            weakref.finalize(self, self._file.close)
        return self._file


def packed(result: Result) -> bytes:
    """All of a result but its `stub`.

    Raises:
        ValueError: It holds something that would not come back as it is, such as a date in `raw`.
    """
    tree = result.model_dump(exclude={*_IN_MEMORY, "raw"}, exclude_unset=True, warnings="error")
    if "raw" in result.model_fields_set:
        tree["raw"] = result.raw
    return marshal.dumps(tree, _FORMAT)


def stub(result: Result) -> Result:
    """What stays in memory of a result on the disk: its ref and usage."""
    return Result.model_construct(result.model_fields_set & _IN_MEMORY, ref=result.ref, usage=result.usage)


def unpacked(kept: Result, data: bytes) -> Result:
    """The result whose `stub` is `kept`, and whose other parts were `packed` into `data`."""
    parts = {name: getattr(kept, name) for name in kept.model_fields_set}
    return Result.model_validate({**marshal.loads(data), **parts})  # noqa: S302 (written by this package)


class Lazy(Sequence[_Item]):
    """A sequence that makes an item when it is asked for; equal to a list or tuple of the same items.

    Items are not kept: a loop over a large one needs the memory of one item. Slices are lazy, too.
    """

    __slots__ = ()

    @abstractmethod
    def _item(self, index: int) -> _Item: ...

    @abstractmethod
    def _part(self, part: slice) -> Lazy[_Item]: ...

    @overload
    def __getitem__(self, index: int) -> _Item: ...
    @overload
    def __getitem__(self, index: slice) -> Lazy[_Item]: ...
    def __getitem__(self, index: int | slice) -> _Item | Lazy[_Item]:
        return self._part(index) if isinstance(index, slice) else self._item(index)

    def __iter__(self) -> Iterator[_Item]:
        return map(self._item, range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (Lazy, list, tuple)):
            return NotImplemented
        return len(self) == len(other) and all(
            ours == theirs for ours, theirs in zip(self, other, strict=True)
        )

    __hash__ = None  # type: ignore[assignment]  # as of a list

    def __repr__(self) -> str:
        """The first few items, however long the sequence."""
        shown = [repr(item) for item in self[:_SHOWN]]
        more = [f"… {len(self) - _SHOWN:,} more"] if len(self) > _SHOWN else []
        return f"[{', '.join(shown + more)}]"
