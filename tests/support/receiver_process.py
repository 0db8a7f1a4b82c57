"""A receiver in a process of its own: prints its port, and serves the given ledger until SIGTERM.

What follows the ledger are trusted proxies.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys

from support.receiver import ACCOUNTS

from prefect_docjobs.webhooks import create_app
from prefect_docjobs.webhooks.server import Receiver


def started(port: int) -> None:
    print(port, flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: None)
    app = create_app(ACCOUNTS, ledger=sys.argv[1], events=False)
    proxies = {"trusted_proxies": sys.argv[2:]} if sys.argv[2:] else {}
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(Receiver(app, "127.0.0.1", 0, started, **proxies).serve())
    print("ended", flush=True)
