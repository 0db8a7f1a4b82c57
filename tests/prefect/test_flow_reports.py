"""What a run of a flow leaves: files, totals, tables. No service and no run is needed."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import re
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from prefect_docjobs.errors import JobFailed
from prefect_docjobs.flows._output import (
    FAILURES,
    NAMES,
    RESULTS,
    ROWS,
    DeadLetter,
    ResultFiles,
    is_ours,
    read_dead_letters,
)
from prefect_docjobs.flows._report import (
    TABLE_ROWS,
    FailureTable,
    FailureTally,
    ResultTable,
    Tally,
    artifact_key,
    file_asset,
    latency_image,
    publish_table,
    summary,
)
from prefect_docjobs.flows._run import all_ended, output_folder, side_by_side
from prefect_docjobs.flows.extract_folder import extract_folder
from prefect_docjobs.models import Batch, Field, JobRef, Outcome, Phase, Result, Usage
from prefect_docjobs.models.batches import LazyOutcomes

NOON = datetime(2026, 3, 4, 12, tzinfo=timezone.utc)


def delivered(name: str, *, seconds: float = 1.0, **values: Any) -> Outcome:
    ref = JobRef(
        provider="mindee",
        base_url="http://localhost",
        tenant="t",
        product="extraction",
        job_id=f"job of {name}",
        document_name=name,
        submitted_at=NOON,
    )
    fields = {field: Field(value=value) for field, value in values.items()}
    result = Result(ref=ref, fields=fields, usage=Usage(pages=2, credits=0.5), raw={"of": name})
    return Outcome(document=name, ref=ref, phase=Phase.DONE, result=result, seconds=seconds)


def failed(name: str) -> Outcome:
    return Outcome(document=name).failed(Phase.WAIT, JobFailed("It is blank."), seconds=9.0)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_files_bear_their_names_only_when_the_run_has_ended(tmp_path: Path) -> None:
    files = ResultFiles(tmp_path / "new" / "folder", run="r1")
    with files.written():
        asyncio.run(files.append(Batch.of([delivered("a.pdf"), failed("b.pdf")])))
        assert [files.path(name).exists() for name in NAMES] == [False, False, False]
        assert [line["document"] for line in lines(files.partial(RESULTS))] == ["a.pdf"]
    assert sorted(path.name for path in files.folder.iterdir()) == sorted(NAMES)
    assert [line["document"] for line in lines(files.path(FAILURES))] == ["b.pdf"]
    assert [line["document"] for line in lines(files.path(ROWS))] == ["a.pdf", "b.pdf"]


def test_a_run_that_breaks_off_leaves_the_last_files_alone_and_keeps_its_own(tmp_path: Path) -> None:
    (tmp_path / RESULTS).write_text("yesterday\n")
    files = ResultFiles(tmp_path, run="r2")

    def broken_off() -> None:
        with files.written():
            asyncio.run(files.append(Batch.of([delivered("a.pdf")])))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken_off()
    assert (tmp_path / RESULTS).read_text() == "yesterday\n"
    assert [line["document"] for line in lines(files.partial(RESULTS))] == ["a.pdf"]


def test_a_line_is_an_outcome_or_a_dead_letter_again(tmp_path: Path) -> None:
    good, bad = delivered("Ä.pdf", total=118.5, note=None), failed("b.pdf")
    files = ResultFiles(tmp_path, run="r3")
    with files.written():
        asyncio.run(files.append(Batch.of([good, bad])))
    (line,) = files.path(RESULTS).read_text("utf-8").splitlines()
    (letter,) = read_dead_letters(files.path(FAILURES))
    assert Outcome.model_validate_json(line) == good
    assert letter.outcome() == bad.model_copy(update={"seconds": None})


def test_every_line_is_json_whatever_names_and_numbers_are_like(tmp_path: Path) -> None:
    files = ResultFiles(tmp_path, run="r4")
    odd = delivered("not utf-8 \udcff.pdf", total=float("nan"), note="line\nbreak")
    with files.written():
        asyncio.run(files.append(Batch.of([odd])))
    for name in (RESULTS, ROWS):
        (line,) = files.path(name).read_text("utf-8").splitlines()
        read = json.loads(line, parse_constant=pytest.fail)
        assert read["document"] == "not utf-8 \udcff.pdf"
    assert read["total"] is None


@pytest.mark.parametrize("name", [*NAMES, "results.jsonl.0a1b2c3d.partial"])
def test_files_of_runs_are_known_as_such(name: str) -> None:
    assert is_ours(Path("anywhere") / name)
    assert not is_ours(Path("anywhere") / f"my-{name}")


def test_totals_are_the_sums_of_all_batches() -> None:
    tally = Tally()
    tally.add(Batch.of([delivered("a.pdf", seconds=1.0), failed("b.pdf")]))
    tally.add(Batch.of([delivered("c.pdf", seconds=3.0)]))
    assert tally.totals() == {
        "documents": 3,
        "delivered": 2,
        "failed": 1,
        "reasons": {"failed": 1},
        "pages": 4,
        "credits": 1.0,
        "seconds": {"p50": 1.0, "p95": 3.0},
    }
    assert tally.sentence() == "2 of 3 documents delivered; 1 failed"


def test_the_table_holds_failures_first_and_says_how_many_documents_it_leaves_out() -> None:
    table = ResultTable()
    for first in range(0, 1200, 100):
        batch = [
            (failed if number % 300 == 299 else delivered)(f"{number:04}.pdf")
            for number in range(first, first + 100)
        ]
        table.add(first, Batch.of(batch))
    rows = table.rows()
    assert len(rows) == TABLE_ROWS == 500
    assert [row["document"] for row in rows[:5]] == [
        "0299.pdf",
        "0599.pdf",
        "0899.pdf",
        "1199.pdf",
        "0000.pdf",
    ]
    assert {row["state"] for row in rows[:4]} == {"failed"}
    assert {row["state"] for row in rows[4:]} == {"delivered"}
    assert table.left_out == 700


class Watched(LazyOutcomes):
    """Outcomes that know which of them were read whole."""

    def __init__(self, *outcomes: Outcome) -> None:
        super().__init__(outcomes, (None,) * len(outcomes))
        self.read: list[int] = []

    def _item(self, index: int) -> Outcome:
        self.read.append(index)
        return super()._item(index)


def test_only_results_that_are_in_the_table_are_read() -> None:
    table = ResultTable()
    batches = [Watched(*(delivered(f"{number}.pdf") for number in range(300))) for _ in range(3)]
    for place, outcomes in enumerate(batches):
        table.add(300 * place, Batch(outcomes))
    assert [len(outcomes.read) for outcomes in batches] == [300, 200, 0]
    assert len(table.rows()) == TABLE_ROWS
    assert table.left_out == 400


def test_a_table_of_failures_alone_is_bounded_too() -> None:
    table = ResultTable()
    table.add(0, Batch.of(failed(f"{number}.pdf") for number in range(1300)))
    assert len(table.rows()) == TABLE_ROWS
    assert table.left_out == 800


def test_rows_have_the_same_columns_and_they_are_the_most_common_fields() -> None:
    rare = {f"rare_{number}": number for number in range(50)}
    table = ResultTable()
    full, short = delivered("a.pdf", total=1.5, **rare), delivered("b.pdf", total=2)
    table.add(0, Batch.of([full, short, failed("c.pdf")]))
    rows = table.rows()
    assert len({tuple(row) for row in rows}) == 1
    assert [row["total"] for row in rows] == ["", 1.5, 2]
    assert len(set(rows[0]) - {"document", "state", "seconds", "pages", "credits", "job"}) == 8


def test_the_lowest_confidence_of_the_fields_that_are_shown_stands_beside_the_document() -> None:
    row = delivered("a.pdf", number="N-1", total=1.5)
    assert row.result
    sure, unsure = Field(value="N-1", confidence=0.98), Field(value=1.5, confidence=0.41)
    tags = Field(items=[Field(value="a", confidence=0.3), Field(value="b")])
    table = ResultTable()
    both = ({"n": sure, "t": unsure}, {"n": sure, "nested": Field(fields={"x": tags})})
    for number, fields in enumerate(both):
        changed = row.model_copy(update={"result": row.result.model_copy(update={"fields": fields})})
        table.add(number, Batch.of([changed]))
    assert [each["confidence"] for each in table.rows()] == [0.41, 0.3]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (2**53, 2**53),
        (2**53 + 1, "9007199254740993"),
        (10**400, "1" + 118 * "0" + "…"),
        (-1.5, -1.5),
        (True, True),
    ],
)
def test_a_number_that_a_browser_would_change_is_shown_as_text(value: float, shown: object) -> None:
    table = ResultTable()
    table.add(0, Batch.of([delivered("a.pdf", total=value)]))
    assert table.rows()[0]["total"] == shown


async def test_when_one_of_several_fails_the_others_are_finished_for_they_are_paid_for() -> None:
    ended = []

    async def work(name: str) -> str:
        await asyncio.sleep(0)
        if name == "a":
            raise RuntimeError("no answer")
        await asyncio.sleep(0)
        ended.append(name)
        return name

    with pytest.raises(RuntimeError, match="no answer"):
        await all_ended(map(work, "abc"))
    assert ended == ["b", "c"]
    assert await all_ended(map(work, "bc")) == ["b", "c"]


def test_columns_that_nothing_is_known_of_are_left_out() -> None:
    table = ResultTable()
    table.add(0, Batch.of([delivered("a.pdf", total=1)]))
    assert list(table.rows()[0]) == ["document", "state", "seconds", "pages", "credits", "total", "job"]


def test_what_a_document_costs_is_told_where_the_price_is_known_and_what_is_reused_costs_nothing() -> None:
    table, tally = ResultTable(price_per_page=0.05), Tally(price_per_page=0.05)
    bought = delivered("a.pdf")
    batch = Batch.of([bought, bought.model_copy(update={"reused": True}), failed("c.pdf")])
    table.add(0, batch)
    tally.add(batch)
    assert [row["cost"] for row in table.rows()] == ["", 0.1, 0]
    assert tally.cost == 0.1
    assert Tally().cost is None


def test_a_field_that_bears_the_name_of_a_column_keeps_its_value() -> None:
    table = ResultTable()
    table.add(0, Batch.of([delivered("a.pdf", state="Texas", job="Plumber", cost=3)]))
    (row,) = table.rows()
    assert (row["state"], row["fields.state"], row["fields.job"], row["fields.cost"]) == (
        "delivered",
        "Texas",
        "Plumber",
        3,
    )


def letters(*names: str, **known: Any) -> list[DeadLetter]:
    return [DeadLetter.of(failed(name), **known) for name in names]


def test_the_table_of_failures_says_what_to_do_and_where_the_document_is() -> None:
    table = FailureTable()
    table.add(5, letters("b.pdf", url="https://docs.example/b.pdf"))
    table.add(0, letters("a.pdf", path="/in/a.pdf"))
    assert table.rows() == [
        {
            "document": name,
            "reason": "failed",
            "what to do": "Retry it with resubmit=True, at the price of a second bill.",
            "error": "It is blank.",
            "where": where,
        }
        for name, where in (("a.pdf", "/in/a.pdf"), ("b.pdf", "https://docs.example/b.pdf"))
    ]


def test_the_table_of_failures_is_bounded() -> None:
    table = FailureTable()
    for first in range(0, 700, 100):
        table.add(first, letters(*(f"{first + number}.pdf" for number in range(100))))
    assert (len(table.rows()), table.left_out) == (TABLE_ROWS, 200)


def test_the_summary_says_what_to_do_about_failures_and_links_what_has_an_address(tmp_path: Path) -> None:
    tally, failures = Tally(), FailureTally()
    tally.add(Batch.of([failed("a.pdf")]))
    failures.add(letters("[x](javascript:0).pdf", "b<i>.pdf", url="https://docs.example/b.pdf"))
    failures.add(letters(*(f"{number}.pdf" for number in range(12))))
    text = summary("in_box", tally, ResultFiles(tmp_path, run="r"), elapsed=1.0, failures=failures)
    assert "| failed | 14 | Retry it with resubmit=True, at the price of a second bill. |" in text
    assert r"- [\[x\](javascript:0).pdf](https://docs.example/b.pdf): It is blank." in text
    assert r"- [b\<i\>.pdf](https://docs.example/b.pdf): It is blank." in text
    assert text.count("It is blank.") == 10
    assert "- and 4 more" in text.splitlines()


def picture(text: str) -> ET.Element:
    (data,) = re.findall(r"\(data:image/svg\+xml;base64,([^)]+)\)", text)
    return ET.fromstring(base64.b64decode(data))


def bars(seconds: list[float]) -> list[float]:
    """The heights of the bars of a picture."""
    image = latency_image(seconds)
    assert image
    return [float(each.attrib["height"]) for each in picture(image).iter() if "rx" in each.attrib][1:]


def test_the_picture_counts_every_document_and_says_its_numbers_as_text() -> None:
    image = latency_image([0.5] * 50 + [2.0] * 45 + [9.0] * 5)
    assert image
    assert image.startswith("![Half of the documents took up to 0.5 s, 95 % up to 2 s](data:image/svg+xml;")
    words = [each.text for each in picture(image).iter("{http://www.w3.org/2000/svg}text")]
    assert words == [
        "Time from submit to result, 100 documents",
        "half within 0.5 s, 95 % within 2 s",
        "0 s",
        "3 s",
        "6 s and more",
    ]
    assert bars([0.5] * 50 + [2.0] * 45 + [9.0] * 5) == pytest.approx([112, 100.8, 11.2])


def test_the_picture_is_small_and_brings_its_own_ground() -> None:
    image = latency_image([number / 7 for number in range(20_000)])
    assert image
    assert len(image) < 6000
    (ground,) = [each for each in picture(image) if each.attrib.get("rx") == "8"]
    assert (ground.attrib["width"], ground.attrib["fill"]) == ("640", "#1e293b")


@pytest.mark.parametrize("seconds", [[0.0, 0.0], [1e-9, 1e6], [3600.0 * 5] * 3, [9.96, 9.96]])
def test_the_picture_takes_any_times(seconds: list[float]) -> None:
    assert bars(seconds)


def test_one_document_is_no_picture() -> None:
    assert latency_image([1.0]) is None
    assert latency_image([]) is None


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("/data/in box/Été #1", "file:///data/in_box/Été__1"),
        ("/data/{date}/100%.pdf", "file:///data/_date_/100_.pdf"),
        ("/data/plain", "file:///data/plain"),
    ],
)
def test_assets_of_any_path_have_keys_that_prefect_takes(path: str, key: str) -> None:
    assert file_asset(path).key == key


def test_assets_of_long_paths_are_told_apart() -> None:
    long = "/" + "/".join(["folder"] * 100)
    assert len(file_asset(long).key) <= 512
    assert file_asset(f"{long}/a").key != file_asset(f"{long}/b").key


def test_cells_are_short_and_can_be_sent() -> None:
    table = ResultTable()
    table.add(0, Batch.of([delivered("\udcff.pdf", text="x" * 5000, tags=["a", "b"])]))
    (row,) = table.rows()
    assert len(row["text"]) == 120
    assert row["tags"] == "a, b"
    assert row["document"].encode() == b"\\udcff.pdf"


def test_the_summary_says_what_became_of_the_documents_and_where_the_files_are(tmp_path: Path) -> None:
    tally = Tally()
    tally.add(Batch.of([delivered("a.pdf", seconds=2.5), failed("b.pdf")]))
    text = summary("inbox", tally, ResultFiles(tmp_path, run="r"), elapsed=3.21)
    for line in (
        "| Delivered | 1 |",
        "| Failed: failed | 1 |",
        "| Pages, as the service counts | 2 |",
        "| Seconds per delivered document | 2.5 (p50), 2.5 (p95) |",
        f"- `{tmp_path / FAILURES}`: a dead letter per line: a failed document, why, and what may be done",
    ):
        assert line in text.splitlines()


@pytest.mark.parametrize("job", ["mindee-job/invoices", "numind_job/Été 2026", "mindee_v1/mindee/x/v4", "/"])
def test_artifact_keys_are_as_prefect_wants_them(job: str) -> None:
    assert re.fullmatch(r"docjobs-results(-[a-z0-9]+)*", artifact_key("results", job))


def test_output_folders_take_the_date_of_the_scheduled_start(tmp_path: Path) -> None:
    assert output_folder(f"{tmp_path}/out/{{date}}", NOON) == tmp_path / "out" / "2026-03-04"
    assert output_folder("out", NOON) == Path.cwd() / "out"


async def test_a_table_that_prefect_refuses_costs_a_warning_and_not_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = ResultTable()
    table.add(0, Batch.of([delivered("a.pdf")]))
    nowhere = {PREFECT_API_URL: "http://127.0.0.1:9/api", PREFECT_CLIENT_MAX_RETRIES: 0}
    log, files = logging.getLogger("test"), ResultFiles(tmp_path, run="r")
    with temporary_settings(nowhere):
        await publish_table(table, files, job="mindee-job/invoices", log=log)
    assert [record.getMessage().split(":")[0] for record in caplog.records if record.name == "test"] == [
        "The result table is not shown"
    ]


async def test_after_an_error_no_chunk_is_begun_and_those_under_way_are_finished() -> None:
    begun, ended = [], []
    failing = asyncio.Event()

    async def work(chunk: tuple[int, Any]) -> None:
        number, _ = chunk
        begun.append(number)
        if number == 3:
            failing.set()
            raise RuntimeError("the last one begun")
        await failing.wait()
        ended.append(number)

    with pytest.raises(RuntimeError, match="the last one begun"):
        await side_by_side(work, [(number, ()) for number in range(50)])
    assert begun == [0, 1, 2, 3]
    assert ended == [0, 1, 2]


async def test_cancelling_a_run_cancels_its_chunks() -> None:
    begun, cancelled = asyncio.Event(), []

    async def work(chunk: tuple[int, Any]) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(chunk[0])
            raise

    running = asyncio.create_task(side_by_side(work, [(number, ()) for number in range(9)]))
    await begun.wait()
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert cancelled == [0, 1, 2, 3]


def test_the_form_of_a_deployment_asks_for_a_name_and_checks_numbers() -> None:
    schema = extract_folder.parameters.model_dump()
    assert schema["required"] == ["folder", "job"]
    fields = schema["properties"]
    assert fields["job"]["type"] == "string"
    assert fields["chunk_size"]["minimum"] == 1
    assert fields["on_uncertain"]["enum"] == ["fail", "resubmit"]
    assert [name for name, field in fields.items() if not field.get("description")] == []
