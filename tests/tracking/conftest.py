"""A small wandb server on the loopback address."""

import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from oofline.tracking import Tracker


class WandbStub:
    """Answers what a wandb client asks and keeps what it sends.

    Attributes:
        queries: GraphQL operations by name, in order, with their variables.
        history: run id -> rows of its history.
        exits: run id -> exit code.
    """

    def __init__(self):
        self.queries, self.history, self.exits, self.summary = [], {}, {}, {}
        self.lines = {}
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def _body(self):
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))

            def _reply(self, value):
                data = json.dumps(value).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def do_PUT(self):
                self._body()
                self._reply({})

            def do_GET(self):
                self._reply({})

            def do_POST(self):
                body = json.loads(self._body() or "{}")
                if self.path.endswith("/graphql"):
                    self._reply(stub.graphql(body))
                else:
                    stub.stream(self.path.split("/")[-2], body)
                    self._reply({})

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *args: None  # a client that hangs up
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self):
        self._server.shutdown()
        self._server.server_close()

    def graphql(self, body):
        variables = body.get("variables") or {}
        name = body.get("operationName") or body["query"].split("(")[0].split()[-1]
        self.queries.append((name, variables))
        if name == "UpsertBucket":
            return {"data": {"upsertBucket": {"bucket": self._bucket(variables), "inserted": True}}}
        if name == "RunResumeStatus":
            return {"data": {"model": {"bucket": self._resume(variables["name"])}}}
        if name == "Viewer":
            return {
                "data": {
                    "viewer": {
                        "id": "v",
                        "entity": "me",
                        "username": "me",
                        "flags": "{}",
                        "teams": {"edges": []},
                    }
                }
            }
        if name == "ArtifactType":
            return {"data": {"project": {"artifact": {"artifactType": {"name": "run_table"}}}}}
        if name == "CreateRunFiles":
            files = [
                {"name": file, "uploadUrl": f"{self.url}/up/{file}"} for file in variables["files"]
            ]
            return {
                "data": {"createRunFiles": {"runID": "bucket", "uploadHeaders": [], "files": files}}
            }
        if name == "CreateArtifact":
            sequence = {"id": "s", "latestArtifact": {"id": "a", "versionIndex": 0}}
            artifact = {"id": "a", "state": "COMMITTED", "artifactSequence": sequence}
            return {"data": {"createArtifact": {"artifact": artifact}}}
        return {"data": {}}

    def _bucket(self, variables):
        project = {"id": "p", "name": variables.get("project"), "entity": {"id": "e", "name": "me"}}
        return {
            "id": "bucket",
            "name": variables.get("name"),
            "displayName": variables.get("displayName"),
            "project": project,
            "historyLineCount": len(self.history.get(variables.get("name"), [])),
        }

    def _resume(self, run):
        if run not in self.history:
            return None
        rows = self.history[run]
        return {
            "id": "bucket", "name": run, "historyLineCount": len(rows), "eventsLineCount": 0,
            "logLineCount": 0, "historyTail": json.dumps([json.dumps(rows[-1])]),
            "summaryMetrics": json.dumps(self.summary.get(run, {})), "config": "{}",
            "eventsTail": "[]", "tags": [], "wandbConfig": '{"t": 1}', "stopped": False,
        }  # fmt: skip

    def stream(self, run, body):
        for name, chunk in (body.get("files") or {}).items():
            self.lines.setdefault((run, name), []).append((chunk.get("offset"), chunk["content"]))
            if name == "wandb-history.jsonl":
                rows = self.history.setdefault(run, [])
                rows.extend(json.loads(line) for line in chunk["content"])
            if name == "wandb-summary.json":
                self.summary[run] = json.loads(chunk["content"][-1])
        if body.get("complete"):
            self.exits[run] = body.get("exitcode")


@pytest.fixture
def stub():
    server = WandbStub()
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def _own_wandb(monkeypatch, tmp_path):
    """Every test has its own environment, home folder and wandb service."""
    wandb = pytest.importorskip("wandb", reason="wandb is not installed")
    wandb.teardown()  # else its service's name would come back at the end, when it is gone
    for name in list(os.environ):
        if name.startswith("WANDB_"):
            monkeypatch.delenv(name)
    for kind in ("DATA", "CACHE", "ARTIFACT"):  # changed by the code under test: undone afterwards
        monkeypatch.setenv(f"WANDB_{kind}_DIR", str(tmp_path / kind))
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(Tracker, "server_failed", False)
    yield
    wandb.teardown()
