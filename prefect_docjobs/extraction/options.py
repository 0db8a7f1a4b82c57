"""The options of everything that submits: one name, one default and one description for each of them."""

from __future__ import annotations

from typing import Annotated, Any, TypedDict

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from typing_extensions import Self

from prefect_docjobs.errors import ConfigurationError
from prefect_docjobs.extraction.budget import Budget
from prefect_docjobs.extraction.call import OnUncertain

REUSE_DAYS = 30.0
"""Days during which a result is used again for the same content, by default."""


class SubmitOptions(TypedDict, total=False):
    """Options of a submit. For type checkers; the defaults and descriptions are those of `Options`."""

    on_uncertain: OnUncertain
    reuse_days: float | None
    budget: Budget | float | None
    max_submits: int | None
    price_per_page: float | None


class ExtractOptions(SubmitOptions, total=False):
    """Options of an extraction likewise."""

    timeout: float | None
    document_timeout: float | None
    concurrency: int


class Options(BaseModel):
    """Options, checked.

    Attributes:
        on_uncertain: What to do when a submit's answer is lost: `fail` the document, or `resubmit` it at the
            risk of a second bill.
        reuse_days: Days during which the result of a content is used again instead of submitting it; 0 never,
            None for ever. Work that is under way is always taken up.
        budget: What may be bought: pages, or with `price_per_page` what they may cost. A submit that would
            pass it is not made; its document has the reason `budget`, and a later run may buy it. None for no
            limit. Calls that are given the same `Budget` share it.
        max_submits: Documents that may be submitted; what is reused does not count. None for no limit.
        price_per_page: What a page costs, in any currency; None where that is not known.
        timeout: Seconds for the whole call. Then nothing more is submitted or waited for, and what is done is
            still fetched. None for no limit.
        document_timeout: Seconds for each job; None for no limit.
        concurrency: Documents under way at the same time, at most.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    on_uncertain: OnUncertain = "fail"
    reuse_days: Annotated[float | None, Field(ge=0)] = REUSE_DAYS
    budget: Budget | float | None = None
    max_submits: int | None = None
    price_per_page: float | None = None
    timeout: Annotated[float | None, Field(ge=0)] = None
    document_timeout: Annotated[float | None, Field(ge=0)] = 3600.0
    concurrency: Annotated[int, Field(ge=1)] = 1000

    @classmethod
    def of(cls, given: Any, kind: type[Any] = ExtractOptions) -> Self:
        """The options that were given, with defaults for the others.

        Args:
            given: Options by name.
            kind: Which there are: `SubmitOptions` or `ExtractOptions`.

        Raises:
            ConfigurationError: An option is not there, or has a wrong value. Nothing was sent.
        """
        if odd := set(given) - set(kind.__annotations__):
            raise ConfigurationError(f"There is no option {', '.join(sorted(odd))}.")
        try:
            return cls(**given)
        except ValidationError as wrong:
            last = {error["loc"][0]: error["msg"] for error in wrong.errors()}
            raise ConfigurationError("; ".join(f"{name}: {what}." for name, what in last.items())) from None

    def spending(self) -> Budget | None:
        """The budget of one call; None where nothing is limited and nothing has a price.

        Raises:
            ConfigurationError: A limit is negative or not finite, or a shared budget is given together with
                one of the others, which it has itself.
        """
        if isinstance(self.budget, Budget):
            if self.max_submits is not None or self.price_per_page is not None:
                raise ConfigurationError("Give max_submits and price_per_page to the Budget that is shared.")
            return self.budget
        if (self.budget, self.max_submits, self.price_per_page) == (None, None, None):
            return None
        return Budget(self.budget, max_submits=self.max_submits, price_per_page=self.price_per_page)

    @property
    def reuse_for(self) -> float | None:
        """`reuse_days` in seconds."""
        return None if self.reuse_days is None else self.reuse_days * 86_400.0
