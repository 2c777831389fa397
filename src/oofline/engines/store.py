"""Shared storage: a folder or an object store behind an fsspec URL, laid out as a project.

    files/<SHA-256>                     inputs and models, by content: pushed once, never changed
    output/<comp>/<exp>/inputs.json     with cfg.json: whose experiment it is
    output/<comp>/<exp>/seed<S>/fold<K>/  a finished fold, scores.json last; or the saved state
        state/<id>-<file>               of an unfinished one, and state.json, which names its files
    output/<comp>/<exp>/workers/        logs

What a reader looks for first is written last, so half of a push is never taken up.
"""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec

from oofline.errors import ConfigError, OoflineError
from oofline.storage import copy_file, replacing

_QUICK_TO_FAIL = {
    "s3": {
        "config_kwargs": {
            "connect_timeout": 10, "read_timeout": 60, "retries": {"max_attempts": 3},
        },
    },
}  # fmt: skip
"""Options by protocol; everything else (keys, endpoint, region) comes from the environment."""


class Store:
    """Files behind a URL, each written in one step.

    Args:
        url: a folder, or an fsspec URL as in "s3://bucket/prefix".

    Attributes:
        url: the same for any process: a folder with its whole path.

    Raises:
        ConfigError: no such protocol, or its package is not installed.
    """

    def __init__(self, url: str) -> None:
        protocol = url.partition("://")[0] if "://" in url else "file"
        whole = url if "://" in url else str(Path(url).expanduser().resolve())
        self.url = whole.rstrip("/")
        options: dict[str, Any] = _QUICK_TO_FAIL.get(protocol, {})
        try:
            self._fs, root = fsspec.core.url_to_fs(
                self.url, use_listings_cache=False, skip_instance_cache=True, **options
            )
        except ImportError as error:
            raise ConfigError(
                f'shared_storage = "{url}" needs a package ({error}): pip install '
                "'oofline[ray]' brings the one for s3://"
            ) from None
        except ValueError as error:
            raise ConfigError(f'shared_storage = "{url}": {error}') from None
        self._root, self._local = str(root).rstrip("/"), protocol in ("file", "local")

    def check(self) -> None:
        """Write, read and delete a small file.

        Raises:
            ConfigError: one of it is not possible; says why.
        """
        try:
            self.write_json("probe.json", {"written": True})
            self.read_json("probe.json")
            self.remove(["probe.json"])
        except OoflineError as error:
            text = str(error).removeprefix(f"shared_storage {self.url}: ")
            raise ConfigError(
                f"shared_storage {self.url}: {text}: check the address, the bucket and the "
                "credentials (s3://: AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)"
            ) from None

    def put(self, file: Path, key: str) -> None:
        """Copy a file there (OoflineError where that fails)."""
        with self._doing("write", key) as path:
            if self._local:
                copy_file(file, Path(path))
            else:
                self._fs.put_file(str(file), path)

    def get(self, key: str, file: Path) -> None:
        """Copy a file from there, in one step (OoflineError where that fails)."""
        with self._doing("read", key) as path, replacing(file) as temporary:
            self._fs.get_file(path, str(temporary))

    def write_json(self, key: str, value: Any) -> None:
        """Write a small file (OoflineError where that fails)."""
        text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
        with self._doing("write", key) as path:
            if self._local:
                with replacing(Path(path)) as temporary:
                    temporary.write_text(text, encoding="utf-8")
            else:
                self._fs.pipe_file(path, text.encode())

    def read_json(self, key: str) -> Any:
        """Read a small file; None where it is not there (OoflineError where that fails)."""
        with self._doing("read", key) as path:
            try:
                return json.loads(self._fs.cat_file(path))
            except FileNotFoundError:
                return None

    def exists(self, key: str) -> bool:
        """Whether a file is there (OoflineError where that cannot be seen)."""
        with self._doing("read", key) as path:
            return bool(self._fs.isfile(path))

    def names(self, folder: str) -> list[str]:
        """Names of the files directly in a folder (OoflineError where that cannot be seen)."""
        with self._doing("list", folder) as path:
            try:
                entries = self._fs.ls(path, detail=True, refresh=True)
            except FileNotFoundError:
                return []
            files = [entry["name"] for entry in entries if entry["type"] == "file"]
            return sorted(name.rstrip("/").rpartition("/")[2] for name in files)

    def remove(self, keys: list[str]) -> None:
        """Delete files; one that is not there is no error."""
        for key in keys:
            with self._doing("delete", key) as path, contextlib.suppress(FileNotFoundError):
                self._fs.rm_file(path)

    @contextlib.contextmanager
    def _doing(self, what: str, key: str) -> Iterator[str]:
        """The full path; what the client raises (sockets, HTTP, permissions) in one line."""
        try:
            yield f"{self._root}/{key}"
        except OoflineError:
            raise
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
            raise OoflineError(
                f"shared_storage {self.url}: cannot {what} {key} ({reason})"
            ) from error
