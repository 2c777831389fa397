"""Nothing secret leaves the machine: names and contents are checked before anything is written."""

import netrc
import os
import re
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from oofline.errors import DataError

FORBIDDEN_NAMES = {
    "wandb", ".netrc", "_netrc", "kaggle.json", "access_token", ".env", ".git", ".ssh", ".aws",
    ".huggingface", ".pypirc", ".git-credentials", "credentials", "id_rsa", "id_ed25519",
    "id_ecdsa", "id_dsa",
}  # fmt: skip
"""Files and folders that never enter, whatever they hold."""
FORBIDDEN_SUFFIXES = (".pem", ".key", ".p12", ".pfx", ".ppk")

PATTERNS = {
    "private key": (
        b"PRIVATE KEY", re.compile(rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----")
    ),
    "Hugging Face token": (b"hf_", re.compile(rb"\bhf_[A-Za-z0-9]{30,}")),
    "Kaggle token": (b"KGAT_", re.compile(rb"\bKGAT_[A-Za-z0-9]{20,}")),
    "kaggle.json": (b'"key"', re.compile(rb'"key"\s*:\s*"[0-9a-f]{32}"')),
    "netrc entry": (b"login", re.compile(rb"\bmachine\s+\S+\s+login\s+\S+\s+password\s+\S+")),
    "wandb key": (
        b"", re.compile(rb"(?i)\bwandb_(?:api_?)?key[\"']?\s*[=:]\s*[\"']?[0-9a-f-]{40}")
    ),
    "wandb key of the new form": (b"wandb_v1_", re.compile(rb"\bwandb_v1_[A-Za-z0-9_]{20,}")),
    "AWS access key": (b"A", re.compile(rb"(?:AKIA|ASIA)[0-9A-Z]{16}\b")),
    "GitHub token": (
        b"gh", re.compile(rb"(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{30,})")
    ),
    "API key": (b"sk-", re.compile(rb"\bsk-(?:proj-|ant-)?[A-Za-z0-9_-]{40,}")),
}  # fmt: skip
"""Kind -> (bytes that it holds, what it looks like).

Exact forms only: vocabularies and hashes are full of text that looks random.
"""

_OWN_VARIABLES = (
    "WANDB_API_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "KAGGLE_KEY", "KAGGLE_API_TOKEN",
    "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "GITHUB_TOKEN", "GH_TOKEN", "OPENAI_API_KEY",
    "ANTHROPIC_API_KEY",
)  # fmt: skip
_BLOCK = 1 << 24
_OVERLAP = 1 << 12
SHORTEST_SECRET = 12


def check_secrets(entries: Iterable[tuple[str, Path]]) -> int:
    """Refuse names and contents that must not be uploaded.

    Args:
        entries: (path in the dataset, file to read) of everything that is going to be written.
            Members of wheels are checked one by one, by name and content.

    Returns:
        Number of files read.

    Raises:
        DataError: every finding, with file and kind, never the value.
    """
    own, findings, count = own_secrets(), [], 0
    for target, source in entries:
        count += 1
        kinds = [*_by_name(target), *_by_content(source, own)]
        findings += [f"{target} ({kind})" for kind in dict.fromkeys(kinds)]
    if findings:
        raise DataError(
            f"{len(findings)} secrets would be uploaded: {', '.join(findings[:5])}"
            f"{' ...' if len(findings) > 5 else ''}; remove them there and run the same command "
            "again, nothing was written"
        )
    return count


def own_secrets() -> dict[str, bytes]:
    """Kind -> value of the secrets of this user, which may not stand anywhere.

    They are read from the environment, ~/.netrc and Kaggle's and Hugging Face's own files.
    """
    found = {name: os.environ.get(name, "").encode() for name in _OWN_VARIABLES}
    home = Path.home()
    for path in (Path(os.environ.get("NETRC") or home / ".netrc"), home / "_netrc"):
        try:
            hosts = netrc.netrc(path).hosts
        except (OSError, netrc.NetrcParseError):
            continue
        found |= {f"password of {host} in {path.name}": (entry[2] or "").encode()
                  for host, entry in hosts.items()}  # fmt: skip
    for path in (home / ".kaggle" / "kaggle.json", home / ".config" / "kaggle" / "kaggle.json"):
        key = re.search(rb"\"key\"\s*:\s*\"([^\"]+)\"", _bytes_of(path))
        found[f"key of {path}"] = key[1] if key else b""
    for path in (home / ".kaggle" / "access_token", home / ".cache" / "huggingface" / "token"):
        found[f"content of {path.name}"] = _bytes_of(path).strip()
    return {kind: value for kind, value in found.items() if len(value) >= SHORTEST_SECRET}


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _by_name(target: str) -> Iterator[str]:
    for part in Path(target).parts:
        name = part.lower()
        if name in FORBIDDEN_NAMES or name.startswith(".env.") or name.endswith(FORBIDDEN_SUFFIXES):
            yield f"a {part} never enters"


def _by_content(source: Path, own: dict[str, bytes]) -> Iterator[str]:
    if source.suffix == ".whl":
        ours = source.name.startswith("oofline-")  # published packages hold keys of their tests
        with zipfile.ZipFile(source) as archive:
            for name in archive.namelist():
                kinds = [*(_by_name(name) if ours else ()), *_kinds(archive.read(name), own, ours)]
                yield from (f"{kind}, in its {name}" for kind in kinds)
        return
    tail, strict = b"", True
    with source.open("rb") as handle:
        while block := handle.read(_BLOCK):
            yield from _kinds(tail + block, own, strict)
            tail = block[-_OVERLAP:]
            strict = source.suffix != ".safetensors"  # behind the header there are only numbers


def _kinds(text: bytes, own: dict[str, bytes], strict: bool = True) -> Iterator[str]:
    for kind, (part, pattern) in PATTERNS.items():
        if strict and part in text and pattern.search(text):
            yield kind
    yield from (kind for kind, value in own.items() if value in text)
