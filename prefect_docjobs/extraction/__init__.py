"""Documents submitted once, waited for together, fetched and kept.

Prefect stays outside; `tasks` and `blocks` bring the account, the ledger and the terms.
"""

from prefect_docjobs.extraction.batch import (
    OnForecast,
    extract_many,
    fetch_many,
    fetch_one,
    submit_many,
    submit_one,
    wait_many,
    wait_one,
)
from prefect_docjobs.extraction.call import MONTH, Observe, OnUncertain, Terms

__all__ = [
    "MONTH",
    "Observe",
    "OnForecast",
    "OnUncertain",
    "Terms",
    "extract_many",
    "fetch_many",
    "fetch_one",
    "submit_many",
    "submit_one",
    "wait_many",
    "wait_one",
]
