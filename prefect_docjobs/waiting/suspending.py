"""When to stop waiting in a process and suspend: ski rental, with a forecast that may be wrong.

Waiting costs a worker one second per second; a suspension costs it a fixed number of seconds, once, however
long the jobs still take. Who knows the end beforehand pays the smaller of the two. The rule is that of
Purohit, Svitkina and Kumar (*Improving online algorithms via ML predictions*, NeurIPS 2018): follow a
forecast, but not all the way.
"""

from __future__ import annotations

CAUTION = 0.5
"""The λ of the rule: 0 believes the forecast blindly, 1 not at all."""


def suspend_after(expected: float | None, cost: float, *, caution: float = CAUTION) -> float:
    """Seconds to wait in the process before suspending; jobs that end before that never suspend.

    What the worker spends is at most `1 + 1 / caution` times what an oracle would have spent, whatever the
    forecast was (3 times by default), and at most `1 + caution` times when it was right (1.5 times). Without
    a forecast it is at most twice as much.

    Args:
        expected: Seconds until all jobs have ended, as likely as not; None where too little is known.
        cost: Seconds of a worker that a suspension costs: the start of a process, and the replay of the flow.
        caution: Above 0, up to 1.
    """
    if expected is None:
        return cost
    return caution * cost if expected >= cost else cost / caution
