"""Several services one after the other: each document goes on to the next one until one delivers.

No document waits for another: it goes on as soon as its own outcome at a service is final.
"""

from prefect_docjobs.tasks.fallback.attempts import FALL_BACK_ON, Attempt, Billed, FallbackBatch
from prefect_docjobs.tasks.fallback.extracting import aextract_with_fallback, extract_with_fallback

__all__ = [
    "FALL_BACK_ON",
    "Attempt",
    "Billed",
    "FallbackBatch",
    "aextract_with_fallback",
    "extract_with_fallback",
]
