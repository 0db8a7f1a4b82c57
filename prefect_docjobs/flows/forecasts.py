"""When a run of many chunks will be done, from the forecasts of those under way."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import anyio

from prefect_docjobs.waiter import Forecast


@dataclass
class RunForecast:
    """Puts the forecasts of chunks together.

    Chunks that are still to come take as long as those that have ended: likely as long as their mean, and
    nearly surely no longer than the longest of them. Until one has ended the chunks under way stand in.

    Attributes:
        chunks: How many the run has.
        at_a_time: How many go on side by side.
    """

    chunks: int
    at_a_time: int
    _begun: dict[int, float] = field(default_factory=dict)
    _told: dict[int, tuple[float, Forecast]] = field(default_factory=dict)
    _ended: list[float] = field(default_factory=list)

    def begin(self, chunk: int) -> None:
        """A chunk begins."""
        self._begun[chunk] = anyio.current_time()

    def foresee(self, chunk: int, forecast: Forecast) -> None:
        """A chunk under way has a new forecast."""
        self._told[chunk] = (anyio.current_time(), forecast)

    def end(self, chunk: int) -> None:
        """A chunk has ended."""
        self._told.pop(chunk, None)
        self._ended.append(anyio.current_time() - self._begun.pop(chunk))

    def whole(self) -> Forecast:
        """When all chunks will have ended."""
        now = anyio.current_time()
        known = [
            (forecast.likely - (now - since), forecast.nearly_sure - (now - since), now - self._begun[chunk])
            for chunk, (since, forecast) in self._told.items()
            if forecast.likely is not None and forecast.nearly_sure is not None
        ]
        running = sum(forecast.running for _, forecast in self._told.values())
        to_come = self.chunks - len(self._ended) - len(self._begun)
        if not known or (to_come and not self._ended and len(known) < len(self._begun)):
            return Forecast(running)
        likely, sure = (max(0.0, *(each[place] for each in known)) for place in (0, 1))
        waves = math.ceil(to_come / self.at_a_time)
        mean, longest = self._seconds_of_a_chunk(known)
        return Forecast(running, likely + waves * mean, sure + waves * longest)

    def _seconds_of_a_chunk(self, known: list[tuple[float, float, float]]) -> tuple[float, float]:
        """The mean of those that have ended, and the longest."""
        if self._ended:
            return sum(self._ended) / len(self._ended), max(self._ended)
        return max(age + likely for likely, _, age in known), max(age + sure for _, sure, age in known)
