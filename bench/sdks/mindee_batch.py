"""mindee 5.4.0: a thread for each document through one `mindee.v2.Client`, with the SDK's own defaults."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mindee import PathInput  # type: ignore[import-not-found]  # only in the SDKs' own environment
from mindee.v2 import (  # type: ignore[import-not-found]
    Client,
    ExtractionParameters,
    ExtractionResponse,
)

from bench.sdks.batch import Batch, told

_MODEL = "11111111-1111-4111-8111-111111111111"


def _all(batch: Batch) -> None:
    os.environ["MINDEE_V2_BASE_URL"] = batch.base_url
    client = Client(api_key=batch.key)

    def extract(path: Path) -> None:
        client.enqueue_and_get_result(
            ExtractionResponse, PathInput(path), ExtractionParameters(model_id=_MODEL)
        )

    with ThreadPoolExecutor(len(batch.paths)) as threads:
        for ended in [threads.submit(extract, path) for path in batch.paths]:
            ended.result()


if __name__ == "__main__":
    told(_all)
