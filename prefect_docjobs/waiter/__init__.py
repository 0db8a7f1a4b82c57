"""The one waiter: many jobs of one account, one loop, four ways to learn that a job is done.

`loop` looks at each job by itself, `sweeps` reads the account's list of jobs, `streams` listens, and
`Waiter.tell` takes what was pushed. Looking never stops: whoever else covers a job only moves its next look
back, so that a lost push or a lying list delays a job and never loses it.
"""

from __future__ import annotations

from prefect_docjobs.waiter.loop import Waiter
from prefect_docjobs.waiter.watch import Forecast, Patience

__all__ = ["Forecast", "Patience", "Waiter"]
