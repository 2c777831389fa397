"""Kaggle's service as far as its client asks it here: on the loopback address, in memory.

What stands behind ``/api/v1/<Service>/<Method>`` keeps state: for some looks datasets are
processed, kernels run and submissions are not scored. Any call can be made to fail.
"""

import base64
import datetime
import io
import json
import re
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from slugify import slugify

MODIFIED = "Mon, 02 Nov 2026 10:00:00 GMT"


class Refused(Exception):
    """An answer other than 200."""

    def __init__(self, status, message="", headers=None):
        super().__init__(message)
        self.status, self.message, self.headers = status, message, headers or {}


class Service:
    """The state, and a server thread that changes it.

    Attributes:
        calls: (name, what was asked, HTTP status) of every request, in order.
        looks: how often a dataset, a kernel run or a submission is asked about before it is done.
        datasets: "owner/slug" -> list of versions, each a dict of file name -> bytes.
        kernels: "owner/slug" -> list of versions, each what was pushed.
        competitions: slug -> settings, see `add_competition`.
        outcome: how kernels end, ("COMPLETE", "") or ("ERROR", "message").
        outputs: name -> bytes, what a kernel's run leaves.
        log: of a kernel's run.
    """

    def __init__(self, user="me", key="secret"):
        self.user, self.looks = user, 2
        self.calls, self.failures, self.blobs = [], {}, {}
        self.datasets, self.kernels, self.competitions, self.waiting = {}, {}, {}, {}
        self.outcome, self.outputs = ("COMPLETE", ""), {"submission.csv": b"id,target\n1,0\n"}
        self.log = json.dumps([{"stream_name": "stdout", "time": 1.0, "data": "a line\n"}])
        self.broken_datasets, self.cuts, self.received = set(), {}, threading.Event()
        self._auth = "Basic " + base64.b64encode(f"{user}:{key}".encode()).decode()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._server.handle_error = lambda *args: None  # a client that hangs up
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self):
        self._server.shutdown()
        self._server.server_close()

    # ---- what tests arrange

    def fail(self, call, status, message="", times=1, done=False, **headers):
        """The next ``times`` calls of that name fail; with ``done`` they take effect anyway."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        failure = (Refused(status, message, named), done)
        self.failures.setdefault(call, []).extend([failure] * times)

    def add_competition(self, slug, files=None, code_only=False, entered=True, limit=5):
        """A competition with its files (name -> bytes; ``zipped`` ones are served as name.zip)."""
        self.competitions[slug] = {
            "files": files or {}, "zipped": set(), "code_only": code_only, "entered": entered,
            "limit": limit, "submissions": [], "score": "0.57204", "error": "", "closed": False,
        }  # fmt: skip
        return self.competitions[slug]

    def names(self):
        """Names of the calls so far."""
        return [name for name, *_ in self.calls]

    def count(self, name):
        return self.names().count(name)

    def lines(self):
        """The calls, readable."""
        return [f"{name:<28} {said:<86} {status}" for name, said, status in self.calls]

    # ---- requests

    def answer(self, name, body, headers):
        """The answer to one call of the client, as JSON can hold it."""
        if headers.get("Authorization") != self._auth:
            raise Refused(401, "Unauthenticated")
        failure, done = self._failure(name)
        if failure and not done:
            raise failure
        result = getattr(self, f"_{re.sub('(?<!^)(?=[A-Z])', '_', name).lower()}")(body)
        if failure:
            raise failure
        return result

    def _failure(self, name):
        waiting = self.failures.get(name)
        return waiting.pop(0) if waiting else (None, False)

    def _not_yet(self, key):
        """Whether something is still being worked on; each look counts."""
        self.waiting[key] = self.waiting.get(key, 0) - 1
        return self.waiting[key] >= 0

    # ---- blobs

    def _start_blob_upload(self, body):
        token = f"blob{len(self.blobs)}"
        size = int(body.get("contentLength", 0))
        self.blobs[token] = {
            "name": body.get("name") or body["fileName"],
            "size": size,
            "data": b"",
        }
        return {"token": token, "createUrl": f"{self.url}/upload/{token}"}

    _start_submission_upload = _start_blob_upload

    def put(self, token, data, content_range):
        """Take bytes of an upload; returns (status, headers)."""
        failure, _ = self._failure("Upload")
        blob = self.blobs[token]
        if content_range.startswith("bytes */"):
            if len(blob["data"]) == blob["size"]:
                return 200, {}
            there = len(blob["data"])
            return 308, {"Range": f"bytes=0-{there - 1}"} if there else {}
        start = int(re.match(r"bytes (\d+)-", content_range)[1]) if content_range else 0
        assert start <= len(blob["data"])
        if failure:
            blob["data"] = blob["data"][:start] + data[: len(data) // 2]
            raise failure
        blob["data"] = blob["data"][:start] + data
        return 200, {}

    def _blob(self, token):
        blob = self.blobs[token]
        if len(blob["data"]) != blob["size"]:
            raise Refused(400, f"{blob['name']} is incomplete")
        return blob

    # ---- datasets

    def _dataset(self, body):
        ref = f"{body.get('ownerSlug')}/{body.get('datasetSlug') or body.get('slug')}"
        return ref, self.datasets.get(ref)

    def _get_dataset_status(self, body):
        ref, versions = self._dataset(body)
        if not versions:
            raise Refused(403, "Permission 'datasets.get' was denied")
        if self._not_yet(ref):
            return {"status": "BLOBS_RECEIVED"}
        return {"status": "FAILED" if ref in self.broken_datasets else "READY"}

    def _get_dataset(self, body):
        ref, versions = self._dataset(body)
        if not versions:
            raise Refused(403, "Permission 'datasets.get' was denied")
        return {"ref": ref, "currentVersionNumber": len(versions)}

    def _create_dataset(self, body):
        ref, versions = self._dataset(body)
        if versions:
            return {"status": "Error", "error": "The requested title is already in use"}
        return self._store(ref, body)

    def _create_dataset_version(self, body):
        ref, versions = self._dataset(body)
        if not versions:
            return {"status": "Error", "error": "Failed to resolve the necessary information"}
        return self._store(ref, body["body"])

    def _store(self, ref, body):
        files = {}
        for file in body.get("files", []):
            blob = self._blob(file["token"])
            name, data = blob["name"], blob["data"]
            if name.endswith(".zip"):  # unpacked, as Kaggle does
                with zipfile.ZipFile(io.BytesIO(data)) as archive:
                    folder = PurePosixPath(name.removesuffix(".zip"))
                    for entry in (i for i in archive.infolist() if not i.is_dir()):
                        files[str(folder / entry.filename)] = archive.read(entry)
            else:
                files[name] = data
        self.datasets.setdefault(ref, []).append(files)
        self.waiting[ref] = self.looks
        return {"ref": ref, "url": f"https://www.kaggle.com/datasets/{ref}", "status": "Ok"}

    # ---- kernels

    def _save_kernel(self, body):
        owner, slug = body["slug"].split("/")
        if body.get("newTitle"):
            slug = slugify(body["newTitle"])  # the title decides
        ref = f"{owner}/{slug}"
        if not slug:
            return {"error": "Notebook not found"}
        self.kernels.setdefault(ref, []).append(body)
        self.waiting[f"run {ref}"] = self.looks
        unknown = [d for d in body.get("datasetDataSources", []) if d not in self.datasets]
        return {
            "ref": f"/{ref}", "url": f"https://www.kaggle.com/code/{ref}",
            "versionNumber": len(self.kernels[ref]), "invalidDatasetSources": unknown,
        }  # fmt: skip

    def _kernel(self, body):
        ref = f"{body.get('userName')}/{body.get('kernelSlug')}"
        if ref not in self.kernels:
            raise Refused(403, "Permission 'kernels.get' was denied")
        return ref

    def _get_kernel(self, body):
        ref = self._kernel(body)
        return {"metadata": {"ref": ref, "currentVersionNumber": len(self.kernels[ref])}}

    def _get_kernel_session_status(self, body):
        if self._not_yet(f"run {self._kernel(body)}"):
            return {"status": "RUNNING"}
        return {"status": self.outcome[0], "failureMessage": self.outcome[1]}

    def _list_kernel_session_output(self, body):
        self._kernel(body)
        files = [{"url": f"{self.url}/files/-/{n}", "fileName": n} for n in self.outputs]
        return {"files": files, "log": self.log}

    # ---- competitions

    def _competition(self, body):
        found = self.competitions.get(body.get("competitionName"))
        if found is None:
            raise Refused(404, "Not found")
        return found

    def _entered(self, body):
        found = self._competition(body)
        if not found["entered"]:
            raise Refused(403, "You must accept this competition's rules before you'll be able to")
        return found

    def _get_competition(self, body):
        found = self._competition(body)
        return {
            "ref": body["competitionName"], "isKernelsSubmissionsOnly": found["code_only"],
            "userHasEntered": found["entered"], "maxDailySubmissions": found["limit"],
            "submissionsDisabled": found["closed"],
        }  # fmt: skip

    def _list_data_files(self, body):
        files = sorted(self._competition(body)["files"].items())
        start, size = int(body.get("pageToken") or 0), int(body.get("pageSize", 20))
        return {
            "files": [
                {"name": n, "totalBytes": len(d), "creationDate": "2026-11-02T10:00:00.000Z"}
                for n, d in files[start : start + size]
            ],
            "nextPageToken": str(start + size) if start + size < len(files) else "",
        }

    def _download_data_file(self, body):
        found, name = self._entered(body), body["fileName"]
        if name not in found["files"]:
            raise Refused(404, "Not found")
        ending = ".zip" if name in found["zipped"] else ""
        where = f"{self.url}/files/{body['competitionName']}/{name}{ending}?sig=1"
        raise Refused(302, "", {"Location": where})

    def content(self, competition, name):
        """Bytes of a file that is downloaded."""
        if competition == "-":
            return self.outputs[name]
        found = self.competitions[competition]
        if name in found["files"]:
            return found["files"][name]
        member, memory = name.removesuffix(".zip"), io.BytesIO()
        with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(
                zipfile.ZipInfo(PurePosixPath(member).name), found["files"][member],
                zipfile.ZIP_DEFLATED,
            )  # fmt: skip
        return memory.getvalue()

    def _get_submission_limits(self, body):
        found = self._entered(body)
        sent = len(found["submissions"])
        return {"numToday": sent, "numTotal": sent, "numAllowedNow": found["limit"] - sent}

    def _create_submission(self, body):
        found = self._entered(body)
        blob = self._blob(body["blobFileTokens"])
        return self._submitted(found, body, blob["name"], blob["data"])

    def _create_code_submission(self, body):
        found = self._entered(body)
        assert f"{body['kernelOwner']}/{body['kernelSlug']}" in self.kernels
        return self._submitted(found, body, body["fileName"], self.outputs[body["fileName"]])

    def _submitted(self, found, body, name, data):
        if len(found["submissions"]) >= found["limit"]:
            raise Refused(400, "Your team has used its submission allowance")
        ref = 1000 + len(found["submissions"])
        found["submissions"].append(
            {"ref": ref, "fileName": name, "description": body.get("submissionDescription", ""),
             "data": data, "date": datetime.datetime.now(datetime.UTC)}
        )  # fmt: skip
        self.waiting[f"submission {ref}"] = self.looks
        return {"message": "Successfully submitted to Toy", "ref": ref}

    def _list_submissions(self, body):
        found = self._entered(body)
        return {"submissions": [self._listed(found, s) for s in reversed(found["submissions"])]}

    def _listed(self, found, submission):
        shown = {k: submission[k] for k in ("ref", "fileName", "description")}
        shown["date"] = submission["date"].strftime("%Y-%m-%dT%H:%M:%S.%f0Z")
        if self._not_yet(f"submission {submission['ref']}"):
            return shown | {"status": "PENDING"}
        if found["error"]:
            return shown | {"status": "ERROR", "errorDescription": found["error"]}
        return shown | {"status": "COMPLETE", "publicScore": found["score"]}


def _handler(service):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args):
            pass

        def _body(self):
            if "chunked" not in self.headers.get("Transfer-Encoding", ""):
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            data = b""
            while size := int(self.rfile.readline(), 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return data

        def _reply(self, status, data=b"", kind="application/json", **headers):
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _refuse(self, error):
            said = {} if error.status == 302 else {"code": error.status, "message": error.message}
            self._reply(error.status, json.dumps(said).encode(), **error.headers)

        def do_POST(self):
            name, text = urlsplit(self.path).path.rpartition("/")[2], self._body()
            body, refused = json.loads(text or b"{}"), None
            try:
                answer = json.dumps(service.answer(name, body, self.headers)).encode()
            except Refused as error:
                refused = error
            # noted before it is answered: the client may be done before this thread goes on
            service.calls.append((name, _readable(body), refused.status if refused else 200))
            if refused:
                self._refuse(refused)
            else:
                self._reply(200, answer)

        def do_PUT(self):
            token, data = urlsplit(self.path).path.rpartition("/")[2], self._body()
            said = self.headers.get("Content-Range", "")
            refused = None
            try:
                status, headers = service.put(token, data, said)
            except Refused as error:
                refused, status = error, error.status
            about = f"{service.blobs[token]['name']}, {len(data):,} bytes {said}".rstrip()
            service.calls.append(("Upload", about, status))
            if refused:
                self._refuse(refused)
            else:
                self._reply(status, **headers)

        def do_GET(self):
            _, _, competition, name = urlsplit(self.path).path.split("/", 3)
            data = service.content(competition, name)
            headers = {
                "ETag": f'"{len(data)}"',
                "Accept-Ranges": "bytes",
                "Last-Modified": MODIFIED,
            }
            start, asked = 0, self.headers.get("Range", "")
            if asked and self.headers.get("If-Range") in (None, headers["ETag"]):
                start = int(asked.removeprefix("bytes=").rstrip("-"))
                headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            status = 206 if start else 200
            service.calls.append(("Download", f"{name} {asked}".rstrip(), status))
            cut = service.cuts.pop(name, None)
            if cut is None:
                return self._reply(status, data[start:], "application/octet-stream", **headers)
            self.send_response(status)
            for key, value in (headers | {"Content-Length": str(len(data) - start)}).items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(data[start : start + cut])
            self.wfile.flush()
            service.received.set()
            if cut_held := service.cuts.get("hold"):
                cut_held.wait(30)
            self.close_connection = True

    return Handler


def _readable(body):
    """What was asked, in short."""
    parts = []
    for name, value in body.items():
        if name in ("text", "files", "blobFileTokens"):
            value = f"({len(value)})"
        if isinstance(value, dict):
            value = "{" + _readable(value) + "}"
        parts.append(f"{name}={value}")
    return " ".join(parts)
