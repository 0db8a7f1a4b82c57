"""Files that change while they are submitted: a service gets what was hashed, or no complete request."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.peers import Act, Peer, read, serving

from prefect_docjobs.errors import InvalidDocument
from prefect_docjobs.http import Http, Limits
from prefect_docjobs.models import Document
from prefect_docjobs.providers import Provider
from prefect_docjobs.providers.mindee import Mindee
from prefect_docjobs.providers.numind import NuMind

MODEL = "11111111-1111-4111-8111-111111111111"
SMALL, LARGE = 10_000, 8 << 20
Change = Callable[[Path], Any]


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def shrink(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 100)


def overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(-10, os.SEEK_END)
        file.write(b"0123456789")


def replace(path: Path) -> None:
    other = path.with_suffix(".new")
    other.write_bytes(b"y" * path.stat().st_size)
    other.replace(path)


CHANGES = [grow, shrink, overwrite, replace, Path.unlink]
PROVIDERS: dict[str, Provider] = {
    "multipart": Mindee(model_id=MODEL),
    "base64": Mindee(model_id=MODEL, send="base64"),
    "raw": NuMind(project_id="p1"),
}


def http_for(provider: Provider, url: str) -> Http:
    return Http(
        provider=provider.name, base_url=url, headers={}, read_error=provider.read_error,
        limits=Limits(attempts=3, backoff=0.01, idle=20.0),
    )  # fmt: skip


def accepts(during: Callable[[], Any] = lambda: None, *, refusals: int = 0, most: int | None = None) -> Act:
    """Accepts requests, the first few excepted (429); `during` is called amid a body, or after a refusal."""

    async def act(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if most is not None:
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(most)
            during()
            length = next(
                int(line[15:]) for line in head.lower().split(b"\r\n") if line[:15] == b"content-length:"
            )
            peer.bodies.append(await reader.readexactly(length - most))
            peer.whole += 1
        else:
            await read(peer, reader)
        status = "202 Accepted"
        if peer.whole <= refusals:
            status = "429 Slow"
            during()
        body = json.dumps({"jobId": "j1", "job": {"id": "j1"}}).encode()
        writer.write(
            b"HTTP/1.1 %s\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % (status.encode(), len(body))
        )
        writer.write(body)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    return act


def was_sent(path: str, body: bytes, content: bytes) -> bool:
    if path == "base64":
        return base64.b64decode(json.loads(body)["file_base64"]) == content
    return content in body if path == "multipart" else content == body


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("way", ["multipart", "raw"])
async def test_a_large_file_that_changes_while_it_is_sent_is_sent_as_it_was_or_not_completely(
    tmp_path: Path, way: str, change: Change
) -> None:
    provider, path = PROVIDERS[way], tmp_path / "acme.pdf"
    path.write_bytes(os.urandom(LARGE))
    before = path.read_bytes()
    async with (
        serving(accepts(lambda: change(path), most=100_000)) as peer,
        http_for(provider, peer.url) as http,
    ):
        if change in {replace, Path.unlink}:  # the file that was opened stays what it was
            ref = await provider.submit(http, Document.from_path(path))
            assert ref.document_sha256 == hashlib.sha256(before).hexdigest()
            assert was_sent(way, peer.bodies[0], before[-1_000_000:]) or way == "raw"
            return
        said: list[bool] = []
        with pytest.raises(InvalidDocument, match="is still being written") as caught:
            await provider.submit(http, Document.from_path(path), in_doubt=said.append)
        assert str(caught.value).count("acme.pdf") == 1
        assert caught.value.__cause__ is None
        assert (peer.connections, peer.whole, any(said)) == (1, 0, False)


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("change", [grow, shrink, overwrite, replace], ids=lambda change: change.__name__)
@pytest.mark.parametrize("way", PROVIDERS)
async def test_a_file_that_changed_since_it_was_claimed_is_not_sent_completely(
    tmp_path: Path, way: str, change: Change, size: int
) -> None:
    provider, path = PROVIDERS[way], tmp_path / "acme.pdf"
    path.write_bytes(b"x" * size)
    document = Document.from_path(path)
    claimed = document.sha256
    change(path)
    async with serving(accepts()) as peer, http_for(provider, peer.url) as http:
        with pytest.raises(InvalidDocument, match="is still being written"):
            await provider.submit(http, document, sha256=claimed)
        assert peer.whole == 0
        if size == SMALL or way == "base64":
            assert peer.connections == 0

        ref = await provider.submit(http, document)
        assert ref.document_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert ref.document_size == path.stat().st_size
        assert was_sent(way, peer.bodies[-1], path.read_bytes())


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("way", PROVIDERS)
async def test_a_file_that_changes_in_the_pause_after_a_429_is_not_sent_under_its_old_hash(
    tmp_path: Path, way: str, change: Change, size: int
) -> None:
    provider, path = PROVIDERS[way], tmp_path / "acme.pdf"
    path.write_bytes(b"x" * size)
    before = path.read_bytes()
    act = accepts(lambda: change(path), refusals=1)
    async with serving(act) as peer, http_for(provider, peer.url) as http:
        ref, text = None, ""
        try:
            ref = await provider.submit(http, Document.from_path(path))
        except InvalidDocument as error:
            text = str(error)
        if way == "base64":  # encoded once, so the second request is the first
            assert ref
            assert ref.document_sha256 == hashlib.sha256(before).hexdigest()
        else:
            assert ref is None
            assert "still being written" in text or "does not exist" in text
            assert peer.whole == 1
        assert all(was_sent(way, body, before) for body in peer.bodies)


async def test_a_text_that_changed_since_it_was_claimed_is_not_sent(tmp_path: Path) -> None:
    path = tmp_path / "acme.txt"
    path.write_text("one")
    document = Document.from_path(path)
    claimed = document.sha256
    path.write_text("two")
    async with serving(accepts()) as peer, http_for(PROVIDERS["raw"], peer.url) as http:
        with pytest.raises(InvalidDocument, match="is still being written"):
            await PROVIDERS["raw"].submit(http, document, sha256=claimed)
        assert peer.connections == 0
        await PROVIDERS["raw"].submit(http, document)
        assert json.loads(peer.bodies[0])["text"] == "two"


async def test_an_example_that_changes_between_two_attempts_is_named(tmp_path: Path) -> None:
    path, example = tmp_path / "acme.pdf", tmp_path / "example.pdf"
    path.write_bytes(b"x" * SMALL)
    example.write_bytes(b"e" * SMALL)
    provider = NuMind(template={"a": "string"}, examples=[(Document.from_path(example), {"a": "b"})])
    act = accepts(lambda: overwrite(example), refusals=1)
    async with serving(act) as peer, http_for(provider, peer.url) as http:
        with pytest.raises(InvalidDocument, match=r"example\.pdf is still being written"):
            await provider.submit(http, Document.from_path(path))
        assert peer.whole == 1


@pytest.mark.parametrize("way", PROVIDERS)
async def test_a_file_that_goes_on_growing_ends_as_one_sentence(tmp_path: Path, way: str) -> None:
    path = tmp_path / "acme.pdf"
    path.write_bytes(b"x" * LARGE)
    claimed = Document.from_path(path).sha256
    async with serving(accepts()) as peer, http_for(PROVIDERS[way], peer.url) as http:
        writing = asyncio.create_task(_write_on(path))
        try:
            with pytest.raises(InvalidDocument, match="Nothing was accepted; run again when it is complete"):
                await PROVIDERS[way].submit(http, Document.from_path(path), sha256=claimed)
        finally:
            writing.cancel()
        assert peer.whole == 0


async def _write_on(path: Path) -> None:
    with path.open("ab", buffering=0) as file:
        while True:
            file.write(b"more" * 1000)
            await asyncio.sleep(0)
