"""Titles and slugs, as Kaggle makes one from the other."""

from pathlib import Path
from typing import Any

from oofline.errors import ConfigError

LENGTHS = {"dataset": (6, 50), "kernel": (5, 50)}
"""Shortest and longest title and slug, in characters."""


def check_names(path: Path, metadata: dict[str, Any], kind: str) -> None:
    """Check that a title becomes the slug of its id.

    Where it does not, Kaggle makes the kernel under the name that the title gives, and everything
    that looks for the id afterwards finds nothing, or something older.

    Args:
        path: the metadata file, for messages.
        metadata: its contents.
        kind: "dataset" or "kernel".

    Raises:
        ConfigError: id is no owner/slug, or the title gives another slug, none, or a length that
            Kaggle refuses.
    """
    from slugify import slugify

    ref, title = str(metadata.get("id", "")), str(metadata.get("title", ""))
    owner, _, slug = ref.partition("/")
    if not owner or not slug or "/" in slug:
        raise ConfigError(f"{path}: id {ref!r} is not <your Kaggle name>/<slug>: set it")
    becomes = slugify(title)
    if becomes != slug:
        shown = f"the slug {becomes!r}" if becomes else "no slug at all"
        raise ConfigError(
            f"{path}: the title {title!r} becomes {shown} on Kaggle, and not {slug!r} as in its "
            "id: choose a title of letters, digits and spaces that gives the slug"
        )
    shortest, longest = LENGTHS[kind]
    for what, text in (("title", title), ("slug", slug)):
        if not shortest <= len(text) <= longest:
            raise ConfigError(
                f"{path}: the {what} {text!r} has {len(text)} characters, Kaggle wants "
                f"{shortest} to {longest}"
            )
