"""The receiver in a process of its own: SIGTERM ends it after the push that is under way."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import httpx
import pytest
from support.receiver import PATHS, push, received_pushes, running, signed, success


async def connect_for_ever(port: int) -> None:
    """Returns never; raises when no new connections are taken."""
    while True:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        await writer.wait_closed()


async def test_sigterm_ends_it_after_the_push_that_is_under_way(tmp_path: Path) -> None:
    body = success("mindee", "under-way")
    head = [f"POST {PATHS['mindee']} HTTP/1.1", "Host: a", f"Content-Length: {len(body)}"]
    head += [f"{name}: {value}" for name, value in signed("mindee", body).items()]
    with running(tmp_path / "ledger.db") as (process, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write("\r\n".join([*head, "", ""]).encode() + body[:10])
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            assert await push(client, "mindee", success("mindee", "before")) == 200  # the other has begun
        process.send_signal(signal.SIGTERM)
        with pytest.raises(OSError, match="Connect"):
            await connect_for_ever(port)
        writer.write(body[10:])
        assert (await reader.read()).startswith(b"HTTP/1.1 200 OK")
        writer.close()
        assert process.stdout is not None
        assert await asyncio.to_thread(process.stdout.read) == "ended\n"
        assert await asyncio.to_thread(process.wait, 10) == 0
    assert [it.job_id for it in await received_pushes(tmp_path / "ledger.db")] == ["before", "under-way"]


async def test_what_was_answered_with_200_survives_kill(tmp_path: Path) -> None:
    with running(tmp_path / "ledger.db") as (process, port):
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            for number in range(20):
                assert await push(client, "mindee", success("mindee", f"job-{number}")) == 200
            process.kill()
    assert len(await received_pushes(tmp_path / "ledger.db")) == 20
