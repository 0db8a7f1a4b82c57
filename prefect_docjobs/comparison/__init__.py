"""What several services found in the same documents: agreement, consensus, and what a person has to check.

Pure functions on results: no Prefect, no network.
"""

from __future__ import annotations

from prefect_docjobs.comparison.acceptance import Acceptance, Doubt, sentence_of
from prefect_docjobs.comparison.alignment import align
from prefect_docjobs.comparison.compare import (
    MAJORITY,
    AgreedField,
    Answer,
    Candidate,
    Consensus,
    FieldComparison,
    Scoreboard,
    VotingRule,
    check_settings,
    compare_results,
    consensus_of,
    decide,
)
from prefect_docjobs.comparison.fields import Names, leaves_of, tree_of, with_value
from prefect_docjobs.comparison.values import (
    COMPARATORS,
    Comparator,
    ComparatorName,
    Comparators,
    read_date,
    read_number,
)

__all__ = [
    "COMPARATORS",
    "MAJORITY",
    "Acceptance",
    "AgreedField",
    "Answer",
    "Candidate",
    "Comparator",
    "ComparatorName",
    "Comparators",
    "Consensus",
    "Doubt",
    "FieldComparison",
    "Names",
    "Scoreboard",
    "VotingRule",
    "align",
    "check_settings",
    "compare_results",
    "consensus_of",
    "decide",
    "leaves_of",
    "read_date",
    "read_number",
    "sentence_of",
    "tree_of",
    "with_value",
]
