"""Where files of this machine are, whatever they are called: relative, through links, or as `file://…`."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

_HERE = "file://"


def local_path(source: str) -> Path | None:
    """The path in an address such as `SourceFile.source`; None where it is not on a disk of this machine."""
    return Path(source.removeprefix(_HERE)) if source.startswith(_HERE) else None


class Places:
    """Paths without links. What is a link is looked up for each file, where a folder is only once."""

    def __init__(self) -> None:
        self._folder = lru_cache(maxsize=1024)(os.path.realpath)

    def of(self, path: Path) -> tuple[Path, ...]:
        """Where a path is and, of a link, where it leads to. Neither needs to be there."""
        is_up = path.name == ".."  # as in the address of the folder `..`
        place = Path(self._folder(path)) if is_up else Path(self._folder(path.parent), path.name)
        return (place, Path(os.path.realpath(place))) if place.is_symlink() else (place,)
