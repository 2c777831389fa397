"""What the client raises, as one line that says what to do."""

import contextlib
from typing import Any

from oofline.errors import OoflineError

SETTINGS_PAGE = "https://www.kaggle.com/settings/api"
CREDENTIALS = (
    f"make a token at {SETTINGS_PAGE}, then `export KAGGLE_API_TOKEN=...` or save it as "
    "~/.kaggle/access_token (`kaggle auth login` and kaggle.json do as well)"
)
"""How to sign in."""


CLIENT_OBJECTS = 0
"""In place of an HTTP status: the client itself refused, or saw an upload fail."""


class CallFailedError(OoflineError):
    """Kaggle, or the way to it, did not do what was asked.

    Attributes:
        status: HTTP status of the answer; None where none came; `CLIENT_OBJECTS`.
        retry_after: seconds that the service asks to wait, or None.
    """

    def __init__(self, message: str, status: int | None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status, self.retry_after = status, retry_after

    @property
    def unclear(self) -> bool:
        """Whether the service may have done it all the same: no answer, or its own failure."""
        return self.status is None or self.status >= 500

    @property
    def absent(self) -> bool:
        """Whether the thing asked for is not there, or not for this account (told apart never)."""
        return self.status in (403, 404)


def explained(error: Exception, what: str, competition: str, printed: str = "") -> CallFailedError:
    """A failure of the client as one line that says what to do.

    Args:
        error: what the client raised.
        what: the call in words.
        competition: name on Kaggle of the competition that it is about, or "".
        printed: what the client printed meanwhile.
    """
    response = _response_of(error)
    if response is None:
        return _without_answer(error, what, printed)
    status, said = response.status_code, _said(error, response)
    advice = {
        401: f"Kaggle does not accept your credentials: {CREDENTIALS}",
        403: "this account has no access to it, or it does not exist",
        404: "Kaggle knows no such thing: check the name",
        429: "too many calls for now: wait some minutes, the same command goes on",
    }.get(status, "read what it says" if status < 500 else "Kaggle's side failed: try again later")
    if status == 403 and competition:
        advice = (
            "join the competition and accept its rules at "
            f"https://www.kaggle.com/competitions/{competition}/rules"
        )
    try:
        retry_after = max(0.0, float(response.headers.get("Retry-After", "")))
    except ValueError:
        retry_after = None
    return CallFailedError(f"{what}: {status} {said}: {advice}", status, retry_after)


def _response_of(error: BaseException | None) -> Any:
    """The HTTP answer behind an error, also where the client wrapped it."""
    while error is not None:
        response = getattr(error, "response", None)
        if response is not None:
            return response
        error = error.__cause__ or error.__context__
    return None


def _said(error: Exception, response: Any) -> str:
    with contextlib.suppress(Exception):
        message = response.json().get("message")
        if message:
            return _short(str(message))
    return _short(str(response.reason or error))


def _without_answer(error: Exception, what: str, printed: str) -> CallFailedError:
    """No answer came: the network's fault, or the client's own objection (status 0)."""
    import requests

    if isinstance(error, requests.RequestException | OSError):
        reason = _short(str(error))
        return CallFailedError(
            f"{what}: Kaggle cannot be reached ({reason}): check the network", None
        )
    if not isinstance(error, ValueError | RuntimeError):
        raise error
    lines = [line for line in printed.splitlines() if line.strip()]
    before = f" (it said: {_short(lines[-1])})" if lines else ""
    return CallFailedError(
        f"{what}: {_short(str(error))}{before}; the same command tries again", CLIENT_OBJECTS
    )


def _short(text: str, longest: int = 240) -> str:
    words = " ".join(text.split())
    return words if len(words) <= longest else words[: longest - 1] + "…"
