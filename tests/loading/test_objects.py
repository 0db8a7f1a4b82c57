"""One process at a time changes a folder of objects, on a disk and in an object storage."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from prefect_docjobs.loading import DestinationUnavailable
from prefect_docjobs.loading.objects import Objects


@pytest.fixture(params=["disk", "storage"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "lake") if request.param == "disk" else f"memory://{secrets.token_hex(4)}"


def test_a_second_load_is_kept_out_until_the_first_is_done(address: str) -> None:
    with Objects(address).locked() as check:
        check()
        with (
            pytest.raises(DestinationUnavailable, match="changed by another load"),
            Objects(address, patience=0).locked(),
        ):
            pytest.fail("two at once")
    with Objects(address, patience=0).locked() as check:
        check()


def test_a_lease_that_has_run_out_counts_no_more_and_its_holder_learns_of_it() -> None:
    address = f"memory://{secrets.token_hex(4)}"
    with Objects(address, lease=-1).locked() as late:
        with Objects(address, patience=0).locked() as check:
            with pytest.raises(DestinationUnavailable, match="too slow"):
                late()
            check()
        assert Objects(address).read("_lock") is None


def test_a_small_file_is_replaced_and_a_missing_one_is_none(address: str) -> None:
    objects = Objects(address)
    with objects.locked():
        assert objects.read("a.json") is None
        objects.replace("a.json", b"1")
        objects.replace("a.json", b"2")
        assert objects.read("a.json") == b"2"
        objects.remove("a.json")
        objects.remove("a.json")
    assert [name for name in objects.names("") if name != "_lock"] == []


def test_a_place_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(DestinationUnavailable), Objects(str(tmp_path / "file" / "lake")).locked():
        pytest.fail("there is no such folder")
