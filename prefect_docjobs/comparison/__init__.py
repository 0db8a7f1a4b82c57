"""What several services found in the same documents: agreement, consensus, and what a person has to look at.

Pure functions on results: no Prefect, no network.
"""

from __future__ import annotations

from prefect_docjobs.comparison.acceptance import Acceptance, Doubt, sentence_of
from prefect_docjobs.comparison.alignment import align
from prefect_docjobs.comparison.comparing import (
    Answer,
    Candidate,
    FieldComparison,
    check_settings,
    compare_results,
)
from prefect_docjobs.comparison.consensus import (
    MAJORITY,
    AgreedField,
    Consensus,
    VotingRule,
    Weighting,
    consensus_of,
    decide,
)
from prefect_docjobs.comparison.leaves import Leaves, Names, leaves_of, tree_of, with_value
from prefect_docjobs.comparison.summary import Scoreboard, ServiceTally
from prefect_docjobs.comparison.values import COMPARATORS, Comparator, ComparatorName, Comparators

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
    "Leaves",
    "Names",
    "Scoreboard",
    "ServiceTally",
    "VotingRule",
    "Weighting",
    "align",
    "check_settings",
    "compare_results",
    "consensus_of",
    "decide",
    "leaves_of",
    "sentence_of",
    "tree_of",
    "with_value",
]
