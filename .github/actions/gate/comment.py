"""Write a file as the one comment of a pull request that begins with its first line.

::

    GITHUB_TOKEN=... GITHUB_REPOSITORY=owner/name NUMBER=12 python comment.py FILE

A comment that is there already is replaced. Standard library alone.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.request
from pathlib import Path
from typing import Any

_MOST = 65_000
"""Characters that a comment may have."""


def ask(method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    """One request to the interface of the repository's host; its answer."""
    address = os.environ.get("GITHUB_API_URL", "https://api.github.com")
    request = urllib.request.Request(
        f"{address}/repos/{os.environ['GITHUB_REPOSITORY']}{path}",
        method=method,
        data=json.dumps(body).encode() if body else None,
        headers={
            "Authorization": f"Bearer {os.environ['GITHUB_TOKEN']}",
            "Accept": "application/vnd.github+json",
            "Content-Type": "application/json",
        },
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read() or b"null")


def own_comment(number: str, marker: str) -> int | None:
    """Id of the comment that begins with the marker."""
    for page in range(1, 11):
        found = ask("GET", f"/issues/{number}/comments?per_page=100&page={page}")
        for comment in found:
            if (comment["body"] or "").startswith(marker):
                return int(comment["id"])
        if len(found) < 100:
            break
    return None


def main() -> int:
    """Command line."""
    text = Path(sys.argv[1]).read_text(encoding="utf-8")
    if not text.strip():
        print("There is nothing to say.", file=sys.stderr)
        return 1
    if len(text) > _MOST:
        text = text.partition("<details>")[0][:_MOST].rsplit("\n", 1)[0]
        text += "\n\nThe rest is in the summary of the job.\n"
    number = os.environ["NUMBER"]
    known = own_comment(number, text.splitlines()[0])
    if known is None:
        ask("POST", f"/issues/{number}/comments", {"body": text})
    else:
        ask("PATCH", f"/issues/comments/{known}", {"body": text})
    return 0


if __name__ == "__main__":
    sys.exit(main())
