"""Documents on their way: bought once, waited for together, fetched and kept.

Prefect stays outside; `tasks` and `blocks` bring the account, the ledger and the terms.
"""

from prefect_docjobs.extraction.batches import Foresee, extract_many, fetch_many, submit_many, wait_many
from prefect_docjobs.extraction.line import Observe
from prefect_docjobs.extraction.purchases import MONTH, OnUncertain, Terms
from prefect_docjobs.extraction.single import fetch_one, submit_one, wait_one

__all__ = [
    "MONTH",
    "Foresee",
    "Observe",
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
