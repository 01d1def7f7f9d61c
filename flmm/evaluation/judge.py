"""A language model as judge of short answers, behind any OpenAI-compatible server."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from flmm.evaluation.records import write_json

# The reference's prompts, to the letter.
SYSTEM = (
    "\nYou are responsible for proofreading the answers, you need to give a score to the model's answer by referring "
    "to the standard answer, based on the given question. The full score is 1 point and the minimum score is 0 points. "
    'Please output the score in the form "score: <score>". The evaluation criteria require that the closer the '
    "model's answer is to the standard answer, the higher the score.\n"
)
USER = "\nquestion: {question}\nstandard answer: {gt}\nmodel's answer: {answer}\n"
SCORE = re.compile(r"score\W*?[:：=]\W*?((?:0|1)(?:[.,]\d+)?|[.,]\d+)(?!\d)", re.IGNORECASE)
AGAIN = (408, 409, 425, 429)  # and every 5xx: the same request may go through later
CHARACTERS_PER_TOKEN = 4
REPLY_TOKENS = 10


class JudgeError(ValueError):
    """Raised when the judge gives no reply."""


@dataclass(frozen=True)
class Judge:
    """Ask a chat model for scores.

    Args:
        url: Its address, up to and including `/chat/completions`.
        model: Its name.
        key: Sent as a bearer token; None sends none, as local servers need none.
        tries: How often a request is made before it counts as failed.
        pause: Seconds before the second try; doubled each time, unless the server says how long.
        timeout: Seconds to wait for a reply.
        sleep: Waits.
    """

    url: str
    model: str
    key: str | None = None
    tries: int = 5
    pause: float = 5.0
    timeout: float = 60.0
    sleep: Callable[[float], None] = time.sleep

    @classmethod
    def from_environment(cls, url: str | None, model: str, **options: Any) -> Judge:
        """Make the judge of OPENAI_API_URL and OPENAI_API_KEY, as the reference reads them; `url` comes first."""
        url = url or os.environ.get("OPENAI_API_URL") or "https://api.openai.com/v1/chat/completions"
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"the judge's address {url!r} must begin with http:// or https://")
        return cls(url, model, os.environ.get("OPENAI_API_KEY", "").strip() or None, **options)

    def request(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Write the request that has a record judged."""
        user = USER.format(question=record["question"], gt=record["gt"], answer=record["answer"])
        messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": user}]
        return {"model": self.model, "messages": messages, "temperature": 0.2, "max_tokens": 100}

    def ask(self, request: Mapping[str, Any]) -> str:
        """Send a request; return the text of the reply.

        Raises:
            JudgeError: When it refuses the request, or gives no reply however often it is asked.
        """
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        trouble, pause = "", self.pause
        for attempt in range(self.tries):
            if attempt:
                self.sleep(pause)
                pause = min(2 * pause, 120.0)
            try:
                response = httpx.post(self.url, json=dict(request), headers=headers, timeout=self.timeout)
            except httpx.RequestError as error:
                trouble = f"{type(error).__name__} {error}".strip()
                continue
            if response.status_code in AGAIN or response.status_code >= 500:
                trouble = f"status {response.status_code}: {response.text[:200]}"
                pause = _asked_to_wait(response, pause)
                continue
            return _reply(response, self.url)
        raise JudgeError(f"{self.url} gave no reply in {self.tries} tries ({trouble}); what was judged before is kept")


def _asked_to_wait(response: httpx.Response, pause: float) -> float:
    try:
        asked = float(response.headers.get("retry-after", pause))
    except ValueError:  # a date
        return pause
    return min(max(0.0, asked), 120.0)  # 0 when it is no number


def _reply(response: httpx.Response, url: str) -> str:
    if response.status_code != 200:
        raise JudgeError(
            f"{url} refuses the request with status {response.status_code}: {response.text[:200]}. Check --judge-url, "
            "--judge-model and OPENAI_API_KEY"
        )
    try:
        content = response.json()["choices"][0]["message"]["content"]
        if isinstance(content, str | None):
            return content or ""
        return "".join(part["text"] for part in content)  # some servers reply in parts
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise JudgeError(f"{url} is no OpenAI-compatible server: it replied {response.text[:200]!r}") from error


def parse_score(reply: str) -> float | None:
    """Find the score in a reply, 0 to 1: the last one that it states; None when it states none.

    Markdown, other separators and a full stop behind the number do not matter.
    """
    found = SCORE.findall(reply.replace("*", "").replace("`", ""))
    return min(float(found[-1].replace(",", ".")), 1.0) if found else None


def judge_records(
    judge: Judge, records: Sequence[Mapping[str, Any]], folder: str | Path, parallel: int = 4
) -> Iterable[dict[str, Any]]:
    """Have records judged; each reply is kept in a file, and what has one is not asked again.

    Args:
        judge: The judge.
        records: With `question`, `gt` and `answer`.
        folder: Of the replies.
        parallel: Requests at a time.

    Yields:
        For each record its keys, the `reply` and the `score`, None where the reply states none.

    Raises:
        JudgeError: When the judge gives no reply; what it said before is kept.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)

    asked = [judge.request(record) for record in records]
    files = [reply_file(request, Path(folder)) for request in asked]
    requests = dict(zip(files, asked, strict=True))
    with ThreadPoolExecutor(parallel) as pool:
        running = {file: pool.submit(reply_to, judge, request, file) for file, request in requests.items()}
        try:
            for file, record in zip(files, records, strict=True):
                reply = running[file].result()
                yield {**record, "reply": reply, "score": parse_score(reply)}
        finally:
            pool.shutdown(cancel_futures=True)


def reply_to(judge: Judge, request: Mapping[str, Any], path: Path) -> str:
    """Get a reply from its file or else from the judge."""
    if path.is_file():
        try:
            return json.loads(path.read_text())["reply"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is no reply of the judge ({error!r}): delete it to ask again") from error
    reply = judge.ask(request)
    write_json(path, {"request": request, "reply": reply})
    return reply


def reply_file(request: Mapping[str, Any], folder: Path) -> Path:
    """Name the file of the reply to a request; equal requests share it."""
    return folder / f"{hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()[:24]}.json"


def cost(judge: Judge, records: Sequence[Mapping[str, Any]], folder: str | Path) -> dict[str, int]:
    """Estimate what judging takes: `requests` without a reply, and about how many `tokens_in` and `tokens_out`."""
    requests = {reply_file(request, Path(folder)): request for request in map(judge.request, records)}
    left = [request for file, request in requests.items() if not file.is_file()]
    letters = sum(len(message["content"]) for request in left for message in request["messages"])
    tokens_in = letters // CHARACTERS_PER_TOKEN
    return {"requests": len(left), "tokens_in": tokens_in, "tokens_out": REPLY_TOKENS * len(left)}
