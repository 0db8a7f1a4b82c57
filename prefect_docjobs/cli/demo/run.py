"""The demo from its start to its end: processes, progress, table, files, next steps."""

from __future__ import annotations

import ipaddress
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from rich.console import Console, Group, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from prefect_docjobs.cli.console import cell, messages, output, print_lines, print_model, progress_bar
from prefect_docjobs.cli.demo import flow
from prefect_docjobs.cli.demo.flow import OutcomeMessage, RunMessage, takes
from prefect_docjobs.cli.demo.subprocesses import PrefectServer, Subprocess, prefect_server
from prefect_docjobs.cli.errors import WRONG_USE, CommandFailed
from prefect_docjobs.cli.extract import invoice_columns, key_fields, seconds, state
from prefect_docjobs.models import Document, Outcome
from prefect_docjobs.providers import provider_class
from prefect_docjobs.providers.registry import BUILT_IN
from prefect_docjobs.simulator.samples import sample_paths

if TYPE_CHECKING:
    from prefect_docjobs.simulator.server import Running

_FOLDER = "docjobs-out"
_MAX_SECTIONS = 40
_HOME = "https://github.com/prefect-docjobs/prefect-docjobs"


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
    classes = [provider_class(name) for name in BUILT_IN]
    sends = sum(takes(service, document) for service in classes for document in documents)
    outcomes = OutcomeTable([document.name for document in documents], list(BUILT_IN))
    print_lines(out, f"{len(documents)} documents, {len(BUILT_IN)} simulated services, a real Prefect flow.")
    # The simulator is imported after Prefect's server was started, which takes longer.
    with (
        prefect_server() as prefect,
        _simulator() as services,
        prefect.start_client(flow.__name__) as client,
    ):
        _wait_for(prefect, out)
        run = RunMessage(
            services_url=services.base_url,
            api_key=services.backend.settings.api_key,
            output=files,
            files=[document.path for document in documents if document.path is not None],
        )
        elapsed = _follow(client, run, outcomes, sends, print_model if as_json else None)
        if not as_json:
            out.print(outcomes.table())
        succeeded = outcomes.sent - outcomes.failed
        print_lines(out, f"{succeeded} of {outcomes.sent} results in {elapsed:.1f} s.", "")
        _print_next_steps(out, files)
        if keep_server:
            print_lines(out, "", f"The run in Prefect's UI: {prefect.url}", "Ctrl-C stops the server.")
            with suppress(KeyboardInterrupt):
                client.process.wait()  # it ends when its last events are sent
                threading.Event().wait()
    if outcomes.failed:
        raise CommandFailed(f"{outcomes.failed} of {outcomes.sent} have no result; the table says why.")


def _documents(folder: Path | None) -> list[Document]:
    if folder is None:
        return [Document.from_path(path) for path in sample_paths()]
    documents = Document.from_folder(folder.expanduser().absolute())
    if not documents:
        raise CommandFailed(f"There is no document in {folder}. Give a folder that has some.", WRONG_USE)
    return documents


@contextmanager
def _simulator() -> Iterator[Running]:
    from prefect_docjobs.simulator.server import run_in_thread
    from prefect_docjobs.simulator.settings import Duration, Settings

    with run_in_thread(Settings(duration=Duration(law="uniform", low=1.0, high=4.0))) as simulator:
        yield simulator


def _wait_for(prefect: PrefectServer, out: Console) -> None:
    started = time.monotonic()
    with messages().status("Starting a local Prefect server"):
        prefect.wait_until_ready()
    print_lines(out, f"A local Prefect server was ready after {time.monotonic() - started:.0f} s.", "")


def _follow(
    client: Subprocess,
    run: RunMessage,
    outcomes: OutcomeTable,
    sends: int,
    print_outcome: Callable[[Outcome], None] | None,
) -> float:
    """Have the flow run, and collect its outcomes; the seconds that it took.

    Raises:
        CommandFailed: The flow broke off.
    """
    started = time.monotonic()
    try:
        client.send(run.model_dump_json())
        with progress_bar("submit, wait, fetch", sends) as bar:
            for line in client.output:
                message = OutcomeMessage.model_validate_json(line)
                if message.outcome is None:
                    return time.monotonic() - started
                outcomes.add(message.provider, message.outcome)
                if print_outcome:
                    print_outcome(message.outcome)
                bar.advance(1)
    except BrokenPipeError:
        pass
    raise CommandFailed(f"The flow broke off: {client.last_log_line()}")


def _print_next_steps(out: Console, results: Path) -> None:
    steps = (
        ("Results", results),
        ("Your documents", "prefect-docjobs demo --folder DIR"),
        ("Your own key", "put it into a block, once:"),
        ("", "  from prefect_docjobs import MindeeCredentials, MindeeJob"),
        ("", '  key = MindeeCredentials(api_key="...")'),
        ("", '  MindeeJob(credentials=key, model_id="...").save("invoices")'),
        ("", "then: prefect-docjobs extract FILE --job mindee-job/invoices"),
        ("Your own flow", "copy one of flows/, try it against: prefect-docjobs simulate"),
        ("Read on", _HOME),
        ("", "README.md, docs/quickstart.md, docs/providers/, flows/"),
    )
    print_lines(out, *(f"{name:<16}{what}" for name, what in steps))


# -------------------------------------------------------------------------------------------------- the table


class _Row(NamedTuple):
    """What became of one document at one service; the outcome itself need not be kept."""

    state: Text
    found: RenderableType
    seconds: str
    ok: bool


_UNSENT = _Row(Text("not offered", "dim"), Text(""), "", ok=True)


class OutcomeTable:
    """Outcomes by document and service.

    Args:
        documents: Names of the documents, in order.
        services: Registry names of the services, in order.
    """

    def __init__(self, documents: Sequence[str], services: Sequence[str]) -> None:
        self._documents = documents
        self._services = services
        self._rows: dict[tuple[str, str], _Row] = {}

    def add(self, service: str, outcome: Outcome) -> None:
        """Note what became of a document at a service."""
        row = _Row(state(outcome), key_fields(outcome), seconds(outcome), outcome.ok)
        self._rows[outcome.document, service] = row

    @property
    def sent(self) -> int:
        """Documents that went to a service, counted once for each service."""
        return len(self._rows)

    @property
    def failed(self) -> int:
        """Those of them that have no result."""
        return sum(not row.ok for row in self._rows.values())

    def table(self) -> RenderableType:
        """A section for each document with a row for each service; of many, the first and the failed."""
        headings = _columns()
        bold = (Text("Service", "bold"), Text("State", "bold"))
        invoice = invoice_columns("Number", "Supplier", "Date", "Total", style="bold")
        headings.add_row(*bold, invoice, Text("Sec", "bold"))
        parts: list[RenderableType] = [headings, Rule(style="dim", characters="-")]
        left_out = 0
        for place, document in enumerate(self._documents):
            section = [self._rows.get((document, service), _UNSENT) for service in self._services]
            if place >= _MAX_SECTIONS and all(row.ok for row in section):
                left_out += 1
                continue
            rows = _columns()
            for service, row in zip(self._services, section, strict=True):
                rows.add_row(Text(service), row.state, row.found, row.seconds)
            name = cell(document, "bold")
            name.overflow = "fold"
            parts += [name, rows, Text("")]
        if left_out:
            parts.append(Text(f"... and {left_out:,} more documents, all succeeded"))
        return Group(*parts)


def _columns() -> Table:
    columns = Table.grid(expand=True, padding=(0, 1, 0, 0))
    columns.add_column(width=9, no_wrap=True, overflow="ellipsis")
    columns.add_column(width=11)
    columns.add_column(ratio=1)
    columns.add_column(width=4, justify="right", no_wrap=True)
    return columns


# -------------------------------------------------------------------------------------------------- the files


def output_folder(wanted: Path | None) -> Path:
    """The absolute folder to write to, made and tried; results of real services are never replaced.

    Args:
        wanted: Given by the user; None for `docjobs-out` here, or a temporary one if need be.

    Raises:
        CommandFailed: `wanted` cannot be written, or there are results that are not the demo's.
    """
    folder = (wanted or Path(_FOLDER)).expanduser().absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as problem:
        if wanted is not None:
            raise CommandFailed(
                f"Cannot write to {wanted}: {problem.strerror}. Give another --output.", WRONG_USE
            ) from problem
        temporary = Path(tempfile.mkdtemp(prefix=f"{_FOLDER}-"))
        print_lines(messages(), f"{folder} cannot be written; the files go to {temporary}")
        return temporary
    results = folder / "results.jsonl"
    if results.exists() and not _is_of_a_demo(results):
        raise CommandFailed(
            f"{results} holds results that are not the demo's. Give another --output.", WRONG_USE
        )
    return folder


def _is_of_a_demo(results: Path) -> bool:
    """Whether the file is empty, or its first result came from a service on this machine."""
    try:
        with results.open(encoding="utf-8") as lines:
            first = next(lines, None)
        if first is None:
            return True
        ref = Outcome.model_validate_json(first).ref
        return ref is not None and ipaddress.ip_address(urlsplit(ref.base_url).hostname or "").is_loopback
    except (OSError, ValueError):  # not readable, not UTF-8, no outcome, a host with a name
        return False
