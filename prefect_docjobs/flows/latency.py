"""How long documents took, as a picture: a histogram in SVG.

Prefect's UI takes `<svg>` out of Markdown and keeps images with `data:` addresses, in both of its versions.
An image knows nothing of the page's theme, so it brings its own dark ground and is legible on either.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Sequence

from prefect_docjobs.models.percentiles import percentile

_BARS = 24
_WIDTH, _HEIGHT = 640, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 24, 616, 64, 176  # of the bars' ground
_FAR = 3  # times the 95th percentile; what took longer is counted in the last bar
_GROUND, _INK, _MUTED, _BAR, _MARK = "#1e293b", "#f1f5f9", "#a8b5c7", "#60a5fa", "#fbbf24"
_NICE = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)


def latency_image(seconds: Sequence[float]) -> str | None:
    """An image for Markdown, with its numbers as the text beside it; None for fewer than two documents."""
    if len(seconds) < 2:
        return None
    ordered = sorted(seconds)
    median, late = (percentile(ordered, percent) or 0.0 for percent in (50, 95))
    said = f"Half of the documents took up to {_told(median)}, 95 % up to {_told(late)}"
    svg = _picture(ordered, median, late, said)
    return f"![{said}](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})"


def _picture(ordered: Sequence[float], median: float, late: float, said: str) -> str:
    end = _axis_end(min(ordered[-1], _FAR * late))
    size = f'width="{_WIDTH}" height="{_HEIGHT}"'
    view = f'viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="system-ui,sans-serif" font-size="13"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {view}>',
        f"<title>{said}</title>",
        f'<rect {size} rx="8" fill="{_GROUND}"/>',
        _text(_LEFT, 28, f"Time from submit to result, {len(ordered):,} documents", _INK),
        *_bars(_counts(ordered, end)),
        *_marks(median, late, end),
        *_axis(end, has_more=ordered[-1] > end),
        "</svg>",
    ]
    return "".join(parts)


def _counts(ordered: Sequence[float], end: float) -> list[int]:
    """Documents in each bar; the last one has those beyond the end, too."""
    counts = [0] * _BARS
    for value in ordered:
        counts[min(_BARS - 1, max(0, int(value / end * _BARS)))] += 1
    return counts


def _bars(counts: Sequence[int]) -> Iterator[str]:
    width, most = (_RIGHT - _LEFT) / _BARS, max(counts)
    for place, count in enumerate(counts):
        if count:
            height = max(2.0, (_BOTTOM - _TOP) * count / most)
            yield (
                f'<rect x="{_LEFT + place * width + 1:.1f}" y="{_BOTTOM - height:.1f}" '
                f'width="{width - 2:.1f}" height="{height:.1f}" rx="1.5" fill="{_BAR}"/>'
            )


def _marks(median: float, late: float, end: float) -> Iterator[str]:
    """Where half, and where 95 %, of the documents were done; the labels stand side by side."""
    places = [_LEFT + (_RIGHT - _LEFT) * min(1.0, value / end) for value in (median, late)]
    for x in places:
        yield f'<path d="M{x:.1f} {_TOP - 6}V{_BOTTOM}" stroke="{_MARK}" stroke-dasharray="4 3"/>'
    yield _text(_LEFT, 48, f"half within {_told(median)}, 95 % within {_told(late)}", _MARK)


def _axis(end: float, *, has_more: bool) -> Iterator[str]:
    yield f'<path d="M{_LEFT} {_BOTTOM}.5H{_RIGHT}" stroke="{_MUTED}"/>'
    for place, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end")):
        more = " and more" if has_more and place == 1.0 else ""
        x = _LEFT + (_RIGHT - _LEFT) * place
        yield _text(x, _BOTTOM + 20, f"{_told(end * place)}{more}", _MUTED, anchor)


def _text(x: float, y: float, text: str, color: str, anchor: str = "start") -> str:
    return f'<text x="{x:g}" y="{y:g}" fill="{color}" text-anchor="{anchor}">{text}</text>'


def _axis_end(longest: float) -> float:
    """A round number that is not below the longest time."""
    longest = max(longest, 0.1)
    scale = 10.0 ** math.floor(math.log10(longest))
    return next(scale * step for step in _NICE if scale * step >= longest or step == _NICE[-1])


def _told(seconds: float) -> str:
    """Such as `0.42 s`, `12 s`, `3.5 min`."""
    if seconds >= 7200.0:
        return f"{seconds / 3600:.1f} h"
    if seconds >= 120.0:
        return f"{seconds / 60:.1f} min"
    digits = 2 if seconds < 1.0 else 1 if seconds < 10.0 else 0
    return f"{round(seconds, digits):g} s"
