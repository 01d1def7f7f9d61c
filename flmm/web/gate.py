"""What reaches the server at all: few paths, short bodies, no files, and no other site's requests."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

LOOPBACK = ("localhost", "127.0.0.1", "::1")
# gradio serves much more: uploads, files, proxies, saved states of sessions, monitoring. The page needs none of it.
OPEN = re.compile(
    r"/|/(config|login|logout|theme\.css|favicon\.ico|robots\.txt|manifest\.json)/?"
    r"|/(assets|static|svelte)/[\w./-]+"
    r"|/gradio_api/(info|openapi\.json|startup-events|user|login_check|app_id|theme\.css|cancel|reset)/?"
    r"|/gradio_api/(heartbeat/\w+|queue/(join|data)|call/(v2/)?\w+(/\w+)?)/?"
)


class Gate:
    """ASGI middleware: refuses requests before gradio sees them.

    Args:
        app: What it guards.
        most_bytes: Longest body.
        hosts: Names by which the server may be called; any when empty.
        prefix: Path below which a proxy serves the page.
    """

    def __init__(self, app: Any, most_bytes: int, hosts: tuple[str, ...] = (), prefix: str = ""):
        self.app, self.most_bytes, self.hosts = app, most_bytes, hosts
        self.prefix = urlsplit(prefix).path.rstrip("/")

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass a request on, or answers it with an error."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            else:
                await send({"type": "websocket.close"})
            return
        headers = {name.decode().lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if not OPEN.fullmatch(scope["path"].removeprefix(self.prefix) or "/") or ".." in scope["path"]:
            await refuse(send, 404, "not found")
        elif not self._known(headers):
            await refuse(send, 403, "this page answers requests of its machine only")
        elif scope["method"] != "POST":
            await self.app(scope, receive, send)
        else:
            await self._post(scope, receive, send)

    def _known(self, headers: dict[str, str]) -> bool:
        """Whether host and origin are those of the page: another site's name may point here, or its script ask."""
        names = [urlsplit(f"//{headers.get('host', '')}").hostname]
        if "origin" in headers:
            names.append(urlsplit(headers["origin"]).hostname)
        return not self.hosts or all(name in self.hosts for name in names)

    async def _post(self, scope: Message, receive: Receive, send: Send) -> None:
        body = b""
        more = True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self.most_bytes:
                await refuse(send, 413, f"the request is longer than {self.most_bytes} bytes: use a smaller picture")
                return
        if holds_file(body):
            await refuse(send, 400, "this page takes no files: send pictures as data: URLs (docs/web.md)")
            return
        given = False

        async def again() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self.app(scope, again, send)


def holds_file(body: bytes) -> bool:
    """Whether a body names a file of the server or an address, in any of the ways that gradio understands."""
    try:
        nodes = [json.loads(body)]
    except (ValueError, RecursionError):
        return False  # gradio reads JSON only, but for the form of its login
    while nodes:
        node = nodes.pop()
        if isinstance(node, dict):
            if "path" in node or "_type" in node:
                return True
            nodes += node.values()
        elif isinstance(node, list):
            nodes += node
    return False


async def refuse(send: Send, status: int, text: str) -> None:
    """Answer with an error."""
    content = json.dumps({"detail": text}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
