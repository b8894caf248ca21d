"""`evenly explore`: the page with a report inside, written or served to this machine alone."""

from __future__ import annotations

import http.client
import json
import re
import threading
from contextlib import contextmanager

import pytest
import torch
from torch import nn

import evenly
from evenly.cli import main
from evenly.errors import UsageError
from evenly.explore import page
from evenly.explore.serve import server

DATA = re.compile(r'<script type="application/json" id="evenly-report">(.*?)</script>', re.S)


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(["explore", *arguments])
    return int(end.value.code)


def report(name: str = "up") -> str:
    model = nn.Sequential()
    model.add_module(name, nn.ConvTranspose2d(2, 2, 3, 2))
    return evenly.check(model, torch.zeros(1, 2, 4, 4)).to_json()


def test_the_page_is_written(tmp_path, capsys):
    target = tmp_path / "explorer.html"
    assert run("--output", str(target)) == 0
    assert target.read_text(encoding="utf-8") == page()
    assert str(target) in capsys.readouterr().out


def test_a_report_travels_as_data(tmp_path):
    text = report("</script><script>alert(1)</script>")
    source = tmp_path / "report.json"
    source.write_text(text, encoding="utf-8")
    target = tmp_path / "explorer.html"
    assert run(str(source), "--output", str(target)) == 0
    html = target.read_text(encoding="utf-8")
    (data,) = DATA.findall(html)
    assert json.loads(data) == json.loads(text)
    assert "alert(1)" in data
    assert "<" not in data
    # nothing else changed: the page without the data is the page
    assert DATA.sub("", html) == page()


def test_a_model_is_checked(tmp_path, monkeypatch):
    (tmp_path / "nets_explored.py").write_text(
        "from torch import nn\ndef up():\n    return nn.ConvTranspose1d(2, 1, 3, 2)\n", encoding="utf-8"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert run("nets_explored:up", "--input", "1,2,16", "--output", "out.html") == 0
    (data,) = DATA.findall((tmp_path / "out.html").read_text(encoding="utf-8"))
    found = json.loads(data)
    assert [layer["unevenness"] for layer in found["layers"]] == [2]
    assert {finding["code"] for finding in found["findings"]} >= {"EV101"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing.json", "--output", "x.html"], "cannot be read"),
        (["broken.json", "--output", "x.html"], "not JSON"),
        (["latin.json", "--output", "x.html"], "not UTF-8"),
        (["broken.json", "--input", "1,2", "--output", "x.html"], "does not go with a report"),
        (["--input", "1,2", "--output", "x.html"], "give a MODEL"),
        (["--output", "nowhere/x.html"], "no folder"),
        (["--port", "65536"], "port"),
    ],
)
def test_wrong_input_gives_one_line(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.json").write_text("{", encoding="utf-8")
    (tmp_path / "latin.json").write_bytes(b"\xe9")
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert words in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "x.html").exists()


@contextmanager
def serving(html: str):
    with server(html, 0) as served:
        thread = threading.Thread(target=served.serve_forever, daemon=True)
        thread.start()
        try:
            yield served
        finally:
            served.shutdown()
            thread.join(timeout=10)


def ask(port: int, path: str = "/", host: str | None = None, method: str = "GET"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, headers={"Host": host or f"127.0.0.1:{port}"})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read().decode()
    finally:
        connection.close()


def test_the_page_is_served_to_this_machine():
    html = page(report())
    with serving(html) as served:
        port = served.server_port
        assert served.server_address[0] == "127.0.0.1"
        status, headers, body = ask(port)
        assert (status, body) == (200, html)
        assert headers["Content-Type"] == "text/html; charset=utf-8"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert ask(port, "/?x=1", "localhost:80")[0] == 200
        assert ask(port, method="HEAD")[::2] == (200, "")
        assert ask(port, "/etc/passwd")[0] == 404
        assert ask(port, "/../../page.html")[0] == 404
        # a name that somebody else pointed at 127.0.0.1
        for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example:80"):
            status, _, body = ask(port, host=host)
            assert status == 403
            assert html not in body
        assert ask(port, method="POST")[0] == 501
        with pytest.raises(UsageError, match=rf"--port \(={port}\)"):
            server(html, port)


def test_a_report_must_be_json():
    with pytest.raises(UsageError, match="not JSON"):
        page("{")
    with pytest.raises(UsageError, match="not JSON"):
        page("[" * 100_000)
