"""One page, for this machine only."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from evenly.errors import UsageError

__all__ = ["server"]

HOST = "127.0.0.1"


def server(html: str, port: int) -> ThreadingHTTPServer:
    """A server of one page on the loopback interface; it listens from now on.

    Requests whose ``Host`` is another name than this machine's are refused, so that no site can read the page by
    pointing a name of its own at 127.0.0.1.

    Args:
        html: The page.
        port: Port; 0 takes a free one.

    Raises:
        UsageError: If the port cannot be used.
    """
    body = html.encode("utf-8")

    class Handler(BaseHTTPRequestHandler):
        """Answers GET and HEAD of the page, nothing else."""

        server_version = "evenly"
        sys_version = ""

        def do_GET(self) -> None:
            """The page."""
            if self._head():
                self.wfile.write(body)

        def do_HEAD(self) -> None:
            """The page's headers."""
            self._head()

        def _head(self) -> bool:
            name = (self.headers.get("Host") or "").rpartition(":")[0] or self.headers.get("Host")
            if name not in (HOST, "localhost"):
                self.send_error(403, "Other host")
                return False
            if self.path.partition("?")[0] not in ("/", "/index.html"):
                self.send_error(404, "Only the page itself is here")
                return False
            self.send_response(200)
            for header, value in (
                ("Content-Type", "text/html; charset=utf-8"),
                ("Content-Length", str(len(body))),
                ("Cache-Control", "no-store"),
                ("X-Content-Type-Options", "nosniff"),
                ("Content-Security-Policy", "frame-ancestors 'none'"),
                ("Referrer-Policy", "no-referrer"),
            ):
                self.send_header(header, value)
            self.end_headers()
            return True

        def log_message(self, format: str, *args: object) -> None:
            """Silence: the terminal shows the address and nothing else."""

    try:
        return ThreadingHTTPServer((HOST, port), Handler)
    except OSError as error:
        raise UsageError(
            f"--port (={port}) cannot be used: {error.strerror or error}; expected a free port: give another, or 0"
        ) from error
