"""The demo's flow as a companion: it is told what to do in a line of JSON, and tells what becomes of it."""

from __future__ import annotations

import asyncio
import os

from prefect_docjobs.cli.demo.companions import lines_from_parent
from prefect_docjobs.cli.demo.messages import News, Orders
from prefect_docjobs.models import Batch


def main() -> None:
    """Import Prefect, then wait for the orders; the server starts meanwhile."""
    lines = lines_from_parent()
    from prefect_docjobs.cli.demo.flow import through_all
    from prefect_docjobs.cli.demo.jobs import demo_jobs

    with open(os.dup(1), "w", encoding="utf-8") as parent:
        os.dup2(2, 1)  # what others print is no news

        def tell(news: News) -> None:
            print(news.model_dump_json(), file=parent, flush=True)

        def told(provider: str, batch: Batch) -> None:
            for outcome in batch:
                tell(News.about(provider, outcome))

        orders = Orders.model_validate_json(lines.get())
        jobs = demo_jobs(orders.services_url, orders.api_key)
        asyncio.run(through_all(jobs, orders.documents(), orders.output, told))
        tell(News())


if __name__ == "__main__":
    main()
