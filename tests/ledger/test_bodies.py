"""Bodies: small ones in the row, large ones beside it, whole or not at all, and only the owner reads them."""

from __future__ import annotations

import os
import random
import re
from pathlib import Path

import pytest
from sqlalchemy import text
from support.ledgers import deliver, entry, ref

from prefect_docjobs.ledger import Account, FileBodies, Ledger, LedgerUnavailable, Record, State
from prefect_docjobs.models import JobState

LARGE = random.Random(7).randbytes(300 << 10)  # cannot be compressed below the limit


async def fetched(ledger: Ledger, body: bytes) -> Record:
    record = await ledger.submitted(await ledger.claim(entry()), ref())
    return await deliver(ledger, record, ref(), body)


class Places:
    """Bodies in memory, that remember what the ledger already said when they were written."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.full = False

    async def write(self, name: str, data: bytes) -> str:
        if self.full:
            raise OSError(28, "No space left on device")
        self.kept[f"at:{name}"] = data
        return f"at:{name}"

    async def read(self, place: str) -> bytes:
        if place not in self.kept:
            raise FileNotFoundError(place)
        return self.kept[place]


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"x" * (5 << 20), LARGE], ids=["none", "small", "dull", "large"]
)
async def test_a_body_comes_back_as_it_was(ledger: Ledger, other: Ledger, body: bytes) -> None:
    record = await fetched(ledger, body)
    assert (record.has_body, record.body_size) == (True, len(body))
    assert await ledger.body(record) == body
    assert await other.body(record) == body


async def test_only_what_stays_large_goes_elsewhere(url: str) -> None:
    places = Places()
    async with Ledger(url, bodies=places) as ledger:
        dull = await fetched(ledger, b"x" * (5 << 20))
        assert places.kept == {}
        await ledger.renew(dull)
        record = (await ledger.find(states=[State.INTENDED]))[0]
        assert record.id != dull.id
    async with Ledger(url, bodies=places) as ledger:
        taken = await ledger.take_over((await ledger.find(states=[State.INTENDED]))[0])
        assert taken is not None
        kept = await deliver(ledger, taken, ref(), LARGE)
        assert len(places.kept) == 1
        assert await ledger.body(kept) == LARGE


async def test_a_row_speaks_of_a_body_only_once_it_is_kept(url: str) -> None:
    places = Places()
    async with Ledger(url, bodies=places) as ledger:
        record = await ledger.submitted(await ledger.claim(entry()), ref())
        places.full = True
        with pytest.raises(LedgerUnavailable, match=r"a\.pdf: the result could not be kept: .*No space left"):
            await deliver(ledger, record, ref(), LARGE)
        assert (await ledger.claim(entry())).state is State.SUBMITTED
        places.full = False
        assert await ledger.body(await deliver(ledger, record, ref(), LARGE)) == LARGE


async def test_a_body_that_is_gone_or_damaged_is_an_error_that_says_so(url: str) -> None:
    places = Places()
    async with Ledger(url, bodies=places) as ledger:
        intended = await ledger.claim(entry("b"))
        with pytest.raises(LedgerUnavailable, match="is not there"):
            await ledger.body(intended)
        record = await fetched(ledger, LARGE)
        (place,) = places.kept
        places.kept[place] = places.kept[place][:-9]
        with pytest.raises(LedgerUnavailable, match="cannot be read"):
            await ledger.body(record)
        places.kept.clear()
        with pytest.raises(LedgerUnavailable, match="cannot be read"):
            await ledger.body(record)


async def test_files_are_whole_and_for_their_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "bodies"
    bodies = FileBodies(folder)
    place = await bodies.write("1-abc", b"data")
    assert await bodies.read(place) == b"data"
    assert [path.name for path in folder.iterdir()] == ["1-abc"]
    assert (folder / "1-abc").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700


async def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "bodies"
    (folder / "taken").mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        await FileBodies(folder).write("taken", b"data")
    assert os.listdir(folder) == ["taken"]


@pytest.mark.parametrize("name", ["../x", "a/b", ".", "..", ".hidden", ""])
async def test_a_place_cannot_lead_out_of_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="cannot name a body"):
        await FileBodies(tmp_path).read(name)


# ------------------------------------------------------------- processes that keep large results elsewhere


@pytest.mark.parametrize("writes_to_a_folder", [True, False], ids=["from a folder", "from the default"])
async def test_who_keeps_results_elsewhere_reads_them_all_the_same(
    url: str, tmp_path: Path, *, writes_to_a_folder: bool
) -> None:
    folder, other = FileBodies(tmp_path / "one"), FileBodies(tmp_path / "two")
    async with Ledger(url, bodies=folder if writes_to_a_folder else None) as ledger:
        record = await fetched(ledger, LARGE)
    async with Ledger(url, bodies=other, readable=[folder]) as ledger:
        assert await ledger.body(record) == LARGE


async def test_a_pushed_result_is_read_by_who_keeps_results_elsewhere(url: str) -> None:
    places = Places()
    async with Ledger(url, bodies=places) as ledger, Ledger(url) as receiver:
        record = await ledger.submitted(await ledger.claim(entry()), ref())
        kept = await receiver.inbox.keep(
            Account("toy", "https://toy.test", "acme"),
            job_id="job-a",
            alias=None,
            state=JobState.SUCCEEDED,
            raw_state="Processed",
            error=None,
            digest="1" * 64,
            body=LARGE,
            keep_for=60.0,
        )
        assert kept.record is not None
        assert (kept.record.id, places.kept) == (record.id, {})
        assert await ledger.body(kept.record) == LARGE


async def test_a_place_of_an_older_version_is_tried_where_results_go_and_in_the_folder(
    tmp_path: Path,
) -> None:
    """They were names of files, and keys of whatever had been set."""
    url, places = str(tmp_path / "ledger.db"), Places()
    async with Ledger(url) as ledger:
        record = await fetched(ledger, LARGE)
        await older_place(ledger)
        assert await ledger.body(record) == LARGE
    async with Ledger(url, bodies=places) as ledger:
        assert await ledger.body(record) == LARGE
        (path,) = (tmp_path / "ledger.db.bodies").iterdir()
        places.kept[path.name] = path.read_bytes()
        path.unlink()
        assert await ledger.body(record) == LARGE


async def older_place(ledger: Ledger) -> None:
    """Write down where the only body is as an older version did: without its store."""
    question = "UPDATE docjobs_jobs SET body_place = replace(body_place, 'files:', '')"
    await ledger._database.run(lambda connection: connection.execute(text(question)), writes=True)


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("files:1-ab", "files:1-ab is a file in the folder beside the ledger's SQLite file"),
        ("prefect:s3-bucket/results/docjobs/1-ab", "PREFECT_DEFAULT_RESULT_STORAGE_BLOCK"),
        ("docjobs/1-ab", "docjobs/1-ab is in the store that was set where it was written"),
        ("files:../../ledger.db", "cannot name a body"),
    ],
)
async def test_a_store_that_cannot_be_opened_here_is_named(url: str, place: str, told: str) -> None:
    async with Ledger(url, bodies=FileBodies("/nowhere")) as ledger:
        record = await fetched(ledger, b"{}")
        moved = text("UPDATE docjobs_jobs SET body = NULL, body_place = :place").bindparams(place=place)
        await ledger._database.run(lambda connection: connection.execute(moved), writes=True)
        with pytest.raises(LedgerUnavailable, match=re.escape(told)):
            await ledger.body(record)
