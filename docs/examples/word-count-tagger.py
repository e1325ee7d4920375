#!/usr/bin/env python3
"""Counts the words of a text: an example of a tagger that a user writes.

Reads one job a line, answers one line. It is registered by word-count-tagger.toml beside it.
"""
import json
import sys
from pathlib import Path

LONG_WORDS = 10_000

for line in sys.stdin:
    job = json.loads(line)
    answer = {"id": job["id"]}
    try:
        text = Path(job["path"]).read_text(encoding="utf-8", errors="replace")
        words = text.split()
        answer["values"] = {"word-count": len(words), "first-word": words[0] if words else ""}
        answer["tags"] = [{"tag": "long-read" if len(words) >= LONG_WORDS else "short-read", "confidence": 0.8}]
    except OSError as error:
        answer["error"] = str(error)
    print(json.dumps(answer), flush=True)
