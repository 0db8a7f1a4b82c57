"""How long simulated jobs take, and on which clocks others poll."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from prefect_docjobs.simulator.settings import Duration

JOBS = 200
SHORT = "LN(8 s, 0.5)"
LAWS: Mapping[str, Duration] = MappingProxyType(
    {
        SHORT: Duration(median=8.0, sigma=0.5),
        "LN(20 s, 0.2)": Duration(median=20.0, sigma=0.2),
        "LN(45 s, 0.8)": Duration(median=45.0, sigma=0.8),
    }
)
"""Small, predictable and large documents: log-normal with a median, and a deviation of the logarithm."""

SDK_LOOPS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"numind": (0.0, 4.0), "unsiloed": (0.0, 2.0), "mindee": (2.0, 1.5)}
)
"""Seconds to the first look, and between two (numind 0.4.2, unsiloed-sdk 0.1.7, mindee 5.4.0)."""
