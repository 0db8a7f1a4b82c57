"""The commands and their options. What a command does is imported when it runs, so that help is quick."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from cyclopts import App, Parameter

from prefect_docjobs import __version__
from prefect_docjobs.cli.accounts import accounts
from prefect_docjobs.cli.completion import Shell
from prefect_docjobs.cli.exits import guarded
from prefect_docjobs.cli.quiet import debugging

# Spelled out, for the help and the shells: the enums are imported by the commands only.
StateName: TypeAlias = Literal["intended", "submitted", "done", "fetched", "failed"]
ReasonName: TypeAlias = Literal[
    "throttled",
    "unavailable",
    "timeout",
    "unreadable",
    "failed",
    "expired",
    "lost_job",
    "lost_result",
    "uncertain",
    "rejected",
    "invalid_document",
    "unauthorized",
    "quota",
    "cancelled",
    "budget",
]

_Switch: TypeAlias = Annotated[bool, Parameter(show_default=False)]

app = App(
    name="prefect-docjobs",
    help="Send documents to extraction services from Prefect flows.",
    version=__version__,
    help_format="plaintext",
    version_format="plaintext",
    help_epilogue="Exit codes: 0 done, 1 a document has no result or something broke, 2 wrong call or "
    "configuration, 130 interrupted.",
    default_parameter=Parameter(negative=()),
    suppress_keyboard_interrupt=False,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: What was typed after the program's name; by default that of this process.

    Returns:
        The exit code: 0, 1 when a document failed or something broke, 2 when the call or the configuration
        is wrong, 130 when interrupted, 141 when the reader of the output has left, 143 when terminated.
    """
    return guarded(partial(_call, app.meta, arguments))


def _call(of: App, arguments: Sequence[str] | None) -> int | None:
    code = of(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    return code if isinstance(code, int) else None


@app.meta.default
def _launch(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    debug: _Switch = False,
) -> int | None:
    """Run a command.

    Args:
        tokens: The command with its options.
        debug: Show tracebacks and Prefect's own messages.
    """
    debugging.set(debug)
    return _call(app, tokens)


@app.command(sort_key=1)
def demo(
    *,
    folder: Path | None = None,
    output: Path | None = None,
    keep_server: _Switch = False,
    json: _Switch = False,
) -> None:
    """Run documents through all four services, simulated, in a real Prefect flow. Needs no key.

    Args:
        folder: Your own documents; by default the samples that come with the package.
        output: Folder for results.jsonl; by default ./docjobs-out.
        keep_server: Keep the Prefect server until Ctrl-C, to look at the run in its UI.
        json: A line of JSON for each outcome as it ends, instead of a table.
    """
    from prefect_docjobs.cli.demo import run_demo

    run_demo(folder, output, keep_server=keep_server, as_json=json)


@app.command(sort_key=3)
def simulate(
    *,
    port: int = 4040,
    host: str = "127.0.0.1",
    api_key: str = "simulator",
    seed: int = 0,
    duration: float = 2.0,
    failed_share: float = 0.0,
    stuck_share: float = 0.0,
    not_found_after_submit: float = 0.0,
    webhook_url: str | None = None,
    set_: Annotated[list[str] | None, Parameter(name="--set")] = None,
    json: _Switch = False,
) -> None:
    """Serve all four services on localhost until Ctrl-C, to try flows without a key.

    Args:
        port: TCP port; 0 takes a free one.
        host: Address to listen on.
        api_key: The one key that all services accept.
        seed: Start of every random choice.
        duration: Median seconds from the submit to the end of a job.
        failed_share: Jobs that fail although their document is good, 0 to 1.
        stuck_share: Jobs that never end, 0 to 1.
        not_found_after_submit: Seconds after a submit in which its job is answered with 404.
        webhook_url: Where to POST when a job has ended; {service} in it becomes the service's name.
        set_: Any other setting, as in --set faults.status.unavailable=0.1; may be repeated.
            GET /_simulator/settings shows all, PATCH changes them while it runs.
        json: Say the address and the key as a line of JSON.
    """
    from prefect_docjobs.cli.simulate import serve_until_stopped, settings_from

    shortcuts = {
        "api_key": api_key,
        "seed": seed,
        "duration": {"median": duration, "seconds": duration},
        "failed_share": failed_share,
        "stuck_share": stuck_share,
        "not_found_after_submit": not_found_after_submit,
        "webhooks": {"url": webhook_url},
    }
    serve_until_stopped(settings_from(shortcuts, set_ or ()), host, port, as_json=json)


@app.command(sort_key=4)
def providers(*, json: _Switch = False) -> None:
    """List the services and what each of them can do.

    Args:
        json: As JSON.
    """
    from prefect_docjobs.cli.providers import show_providers

    show_providers(as_json=json)


@app.command(sort_key=2, usage="Usage: prefect-docjobs extract FILES... --job NAME [OPTIONS]")
def extract(
    *files: str | Path,
    job: str,
    json: _Switch = False,
    timeout: float | None = None,
    dry_run: _Switch = False,
    max_documents: int | None = None,
    budget: float | None = None,
    max_submits: int | None = None,
    price_per_page: float | None = None,
) -> int:
    """Extract from documents with a job block that is saved in Prefect.

    Args:
        files: Files, folders or https URLs.
        job: Name of the job block, such as mindee-job/invoices.
        json: A line of JSON for each document as it ends, instead of a table at the end.
        timeout: Seconds for all documents. A job that still runs then is not lost: --json shows its ref.
        dry_run: Send nothing; tell what would be submitted, what is paid for, and what it would cost.
        max_documents: Take so many documents at most, in the order in which they are named.
        budget: Pages that may be bought, or with --price-per-page what they may cost.
        max_submits: Documents that may be submitted. What is reused does not count.
        price_per_page: What a page costs, in any currency.
    """
    from prefect_docjobs.cli.extract import run_extract
    from prefect_docjobs.cli.planning import run_plan
    from prefect_docjobs.extraction.options import Options

    chosen = Options(budget=budget, max_submits=max_submits, price_per_page=price_per_page)
    limit = chosen.spending()
    if dry_run:
        return run_plan(files, job, limit, as_json=json, max_documents=max_documents)
    return run_extract(files, job, as_json=json, timeout=timeout, budget=limit, max_documents=max_documents)


@app.command(sort_key=5)
def jobs(
    *,
    state: list[StateName] | None = None,
    reason: list[ReasonName] | None = None,
    provider: str | None = None,
    flow_run: str | None = None,
    since: str | None = None,
    limit: int = 100,
    json: _Switch = False,
    import_: Annotated[Path | None, Parameter(name="--import")] = None,
) -> None:
    """List the jobs that the ledger knows, the newest first.

    Args:
        state: How far they are; may be repeated.
        reason: Why there is no result; may be repeated.
        provider: Name of a service, such as mindee.
        flow_run: Id of the flow run that bought them.
        since: Intended since a date (2026-11-01) or a time ago (90m, 24h, 7d).
        limit: At most so many.
        json: A line of JSON for each job, its ref included, instead of a table.
        import_: A file of refs, as JSON lines, to write into the ledger first.
    """
    from prefect_docjobs.cli.jobs import Filters, show_jobs

    filters = Filters.of(
        states=state, reasons=reason, provider=provider, flow_run_id=flow_run, since=since, limit=limit
    )
    show_jobs(filters, refs=import_, as_json=json)


app.command(accounts)


@app.command(sort_key=7)
def webhooks(
    *,
    block: list[str],
    port: int = 8080,
    host: str = "127.0.0.1",
    insecure: _Switch = False,
    max_body_mib: int = 20,
    path_token_env: str | None = None,
    trusted_proxy: list[str] | None = None,
    json: _Switch = False,
) -> None:
    """Receive the results that services push, until Ctrl-C. Whoever waits for a job has it at once.

    Args:
        block: Name of a credentials block, such as mindee-credentials/main; may be repeated.
        port: TCP port; 0 takes a free one.
        host: Address to listen on. Have a proxy with TLS in front of it.
        insecure: Take pushes of accounts without a secret: as hints to look, never as results.
        max_body_mib: The largest push, in MiB.
        path_token_env: Environment variable that holds the last part of the path of Unsiloed accounts whose
            block has none.
        trusted_proxy: Address or network of a proxy in front, whose X-Forwarded-For says who the client is;
            may be repeated. By default every connection counts as one of its own address.
        json: Say the address and the paths as a line of JSON.
    """
    from prefect_docjobs.cli.webhooks import receive_until_stopped

    receive_until_stopped(
        block,
        host,
        port,
        insecure=insecure,
        max_body_mib=max_body_mib,
        path_token_env=path_token_env,
        trusted_proxies=trusted_proxy or (),
        as_json=json,
    )


@app.command(sort_key=8)
def watch(*, stop_after: float | None = None, json: _Switch = False) -> int:
    """Wait for the jobs of all suspended flow runs, and resume the runs, until Ctrl-C.

    Any number of them may run; what one held that was killed goes to the others within 15 seconds.

    Args:
        stop_after: Seconds after which it ends by itself.
        json: Say what it does as lines of JSON: that it watches, each run that it resumes, what it logs.
    """
    from prefect_docjobs.cli.watch import watch_until_stopped

    return watch_until_stopped(stop_after, as_json=json)


@app.command(sort_key=9)
def completion(shell: Shell, /, *, install: _Switch = False) -> None:
    """Print the script that makes a shell complete commands and options.

    Args:
        shell: Your shell. In bash, for this terminal only: source <(prefect-docjobs completion bash)
        install: Put it where the shell finds it, for all terminals from now on.
    """
    from prefect_docjobs.cli.completion import complete_in

    complete_in(shell, app, install=install)
