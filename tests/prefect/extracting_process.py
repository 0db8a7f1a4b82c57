"""A process that extracts one large document, for tests of processes with different settings.

Usage: `extracting_process.py BASE_URL SEED`. It prints the digest of the text, and whether it was reused.
"""

from __future__ import annotations

import hashlib
import json
import random
import string
import sys

from support.services import KEY

from prefect_docjobs import Document, NuMindJob, extract_documents


def document(seed: int) -> Document:
    """A text whose result stays above 256 KiB when it is compressed."""
    letters = string.ascii_letters + string.digits
    words = ("".join(random.Random(seed + i).choices(letters, k=60)) for i in range(7_500))
    return Document.from_bytes("\n".join(words).encode(), name=f"large-{seed}.txt")


if __name__ == "__main__":
    base_url, seed = sys.argv[1], int(sys.argv[2])
    job = NuMindJob(credentials={"api_key": KEY, "base_url": base_url}, product="content")
    (outcome,) = extract_documents(job, [document(seed)])
    text = (outcome.result.text or "") if outcome.result else ""
    told = {
        "text": hashlib.sha256(text.encode()).hexdigest() if text else None,
        "size": len(text),
        "reused": outcome.reused,
        "reason": outcome.reason,
        "error": outcome.error,
    }
    print(f"told: {json.dumps(told)}")
