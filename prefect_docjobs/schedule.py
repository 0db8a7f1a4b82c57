"""When to look at a job next.

The intervals start at the service's own advice and grow with the square root of the job's age: for long
tails that is the shape with the fewest looks for a given delay (Keller 1974, Management Science 21:256).
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field

from prefect_docjobs.providers.base import Polling


@dataclass(frozen=True, slots=True)
class Schedule:
    """Seconds until the next look, from the age of a job.

    Args:
        polling: The service's advice.
        steady: Up to this age in seconds the advised interval is kept.
        longest: No interval is longer than this, in seconds.
        jitter: Each interval is varied by this share, so that jobs submitted together spread out.
    """

    polling: Polling
    steady: float = 20.0
    longest: float = 30.0
    jitter: float = 0.1
    random: random.Random = field(default_factory=random.Random, repr=False)

    def first(self, age: float) -> float:
        """Until the first look at a job that was submitted `age` seconds ago."""
        return self._varied(self.polling.first) if age < self.polling.first else 0.0

    def next(self, age: float) -> float:
        """Until the next look at a job that is not done at `age` seconds."""
        grown = self.polling.every * math.sqrt(max(1.0, age / self.steady))
        return self._varied(max(self.polling.at_least, min(grown, self.longest)))

    def after_errors(self, errors: int, age: float) -> float:
        """Until the next look after `errors` failed looks in a row."""
        return min(self.next(age) * 2.0 ** min(errors - 1, 10), 2 * self.longest)

    def _varied(self, seconds: float) -> float:
        return seconds * self.random.uniform(1.0, 1.0 + 2 * self.jitter)
