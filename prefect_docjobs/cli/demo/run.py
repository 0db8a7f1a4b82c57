"""The demo from its start to its end: processes, progress, table, files."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from prefect_docjobs.cli.demo.companions import Companion
from prefect_docjobs.cli.demo.files import output_folder
from prefect_docjobs.cli.demo.messages import News, Orders
from prefect_docjobs.cli.demo.offers import takes
from prefect_docjobs.cli.demo.own_prefect import OwnPrefect, own_prefect
from prefect_docjobs.cli.demo.page import Page, show_next_steps
from prefect_docjobs.cli.exits import FAILED, WRONG_USE, CommandFailed
from prefect_docjobs.cli.screen import messages, output, print_json, progress_bar
from prefect_docjobs.models import Document, Outcome
from prefect_docjobs.providers import provider_class
from prefect_docjobs.providers.registry import BUILT_IN
from prefect_docjobs.simulator.samples import sample_paths

if TYPE_CHECKING:
    from prefect_docjobs.simulator.server import Running

_FLOW = "prefect_docjobs.cli.demo.flow_process"


def run_demo(
    folder: Path | None, target: Path | None, *, keep_server: bool = False, as_json: bool = False
) -> None:
    """Run documents through all simulated services in a Prefect flow, and show what came out.

    Args:
        folder: The documents; None for the samples.
        target: Folder for the files; None for `docjobs-out` here, or a temporary one if need be.
        keep_server: Keep the Prefect server until Ctrl-C.
        as_json: A line of JSON for each outcome instead of a table; all else goes to standard error.

    Raises:
        InvalidDocument: The folder cannot be listed.
        CommandFailed: There are no documents, the files cannot be written, a server did not start, or a
            document that was sent has no result.
    """
    documents, files, out = _documents(folder), output_folder(target), messages() if as_json else output()
    sends = _sends(documents)
    page = Page([document.name for document in documents], list(BUILT_IN))
    out.print(f"{len(documents)} documents, {len(BUILT_IN)} simulated services, a real Prefect flow.")
    with own_prefect() as prefect, _services() as services, prefect.client(_FLOW) as flow:
        _wait_for(prefect, out)
        orders = Orders.for_documents(
            documents, services_url=services.base_url, api_key=services.backend.settings.api_key, output=files
        )
        elapsed = _follow(flow, orders, page, sends, print_json if as_json else None)
        if not as_json:
            out.print(page.table())
        out.print(f"{page.sent - page.failed} of {page.sent} results delivered in {elapsed:.1f} s.\n")
        show_next_steps(out, files)
        if keep_server:
            _keep(prefect, flow, out)
    if page.failed:
        raise CommandFailed(f"{page.failed} of {page.sent} have no result; the table says why.", FAILED)


def _documents(folder: Path | None) -> list[Document]:
    if folder is None:
        return [Document.from_path(path) for path in sample_paths()]
    documents = Document.from_folder(folder.expanduser().absolute())
    if not documents:
        raise CommandFailed(f"There is no document in {folder}. Give a folder that has some.", WRONG_USE)
    return documents


def _sends(documents: list[Document]) -> int:
    """How many documents go out, counted once for each service that takes them."""
    services = [provider_class(name) for name in BUILT_IN]
    return sum(takes(service, document) for service in services for document in documents)


@contextmanager
def _services() -> Iterator[Running]:
    """The simulated services; imported after Prefect's server was started, which takes longer."""
    from prefect_docjobs.simulator.server import run_in_thread
    from prefect_docjobs.simulator.settings import Duration, Settings

    with run_in_thread(Settings(duration=Duration(law="uniform", low=1.0, high=4.0))) as services:
        yield services


def _wait_for(prefect: OwnPrefect, out: Console) -> None:
    started = time.monotonic()
    with messages().status("Starting a local Prefect server"):
        prefect.wait_until_ready()
    out.print(f"A local Prefect server was ready after {time.monotonic() - started:.0f} s.\n")


def _follow(
    flow: Companion,
    orders: Orders,
    page: Page,
    sends: int,
    told: Callable[[Outcome], None] | None = None,
) -> float:
    """Have the flow run, and put what becomes of the documents on the page; how long it took in seconds.

    Raises:
        CommandFailed: The flow broke off.
    """
    started = time.monotonic()
    try:
        flow.tell(orders.model_dump_json())
        with progress_bar("submit, wait, fetch", sends) as advance:
            for line in flow.output:
                news = News.model_validate_json(line)
                if news.outcome is None:
                    return time.monotonic() - started
                page.add(news.provider, news.outcome)
                if told:
                    told(news.outcome)
                advance(1)
    except BrokenPipeError:
        pass
    raise CommandFailed(f"The flow broke off: {flow.last_words()}")


def _keep(prefect: OwnPrefect, flow: Companion, out: Console) -> None:
    """Keep the server until Ctrl-C. The flow's process ends by itself when its last events are sent."""
    out.print(f"\nThe run in Prefect's UI: {prefect.url}\nCtrl-C stops the server.")
    with suppress(KeyboardInterrupt):
        flow.process.wait()
        threading.Event().wait()
