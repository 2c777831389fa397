"""Kaggle's own client: signed in late, called, and every failure put into one line.

The client's Python interface is called, since it tells what its command line prints: the HTTP
status, the version number, the error text of an answer. A normal return is not taken as success by
those who call; they ask the service what became of it.
"""

import contextlib
import io
import itertools
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from oofline.errors import ConfigError, OoflineError
from oofline.kaggle.failures import CREDENTIALS, CallFailedError, explained
from oofline.kaggle.waiting import waiting
from oofline.progress import log_line, say

ATTEMPTS = 6
"""How often one question is asked when the service is busy or away."""
LONGEST_PAUSE = 900.0
"""Seconds; a service that wants more patience ends the command."""
Result = TypeVar("Result")


class Client:
    """Calls methods of ``KaggleApi`` by name.

    Args:
        pause_s: seconds between two looks at something that takes its time.
        competition: name of the competition on Kaggle, for messages.
    """

    def __init__(self, pause_s: float = 15.0, competition: str = "") -> None:
        self.pause_s, self.competition = pause_s, competition
        self.api = _signed_in()

    @property
    def quiet(self) -> bool:
        """Whether the client should draw no bars: standard error is no terminal."""
        return not sys.stderr.isatty()

    @property
    def account(self) -> str:
        """Name of the account that is signed in."""
        return str(self.api.config_values[self.api.CONFIG_NAME_USER])

    def act(self, what: str, method: str | Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Call a method that changes something; repeated only after 429, when nothing was done.

        Args:
            what: the call in words, for messages.
            method: name of a method of ``KaggleApi``, or a function of the signed-in client.
            *args: for the method.
            **options: for the method.

        Raises:
            CallFailedError: with the HTTP status, where there was an answer.
        """
        return self._call(what, method, args, options, lambda failure: failure.status == 429)

    def ask(self, what: str, method: str | Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Call a method that changes nothing; repeated while the service is busy or away.

        Arguments and errors as in `act`.
        """
        return self._call(
            what, method, args, options, lambda failure: failure.unclear or failure.status == 429
        )

    def _call(
        self,
        what: str,
        method: str | Callable[..., Any],
        args: tuple[Any, ...],
        options: dict[str, Any],
        again: Callable[[CallFailedError], bool],
    ) -> Any:
        for attempt in itertools.count(1):
            try:
                return self._once(what, method, args, options)
            except CallFailedError as failure:
                pause = failure.retry_after
                pause = min(self.pause_s * 2 ** (attempt - 1), 300.0) if pause is None else pause
                if not again(failure) or attempt == ATTEMPTS or pause > LONGEST_PAUSE:
                    raise
                say(f"{failure}; asking again in {pause:.0f} s")
                time.sleep(pause)

    def _once(
        self, what: str, method: str | Callable[..., Any], args: Any, options: dict[str, Any]
    ) -> Any:
        printed = io.StringIO()
        try:
            with contextlib.redirect_stdout(printed):
                if callable(method):
                    return method(self.api, *args, **options)
                return getattr(self.api, method)(*args, **options)
        except OoflineError:
            raise
        except Exception as error:
            raise explained(error, what, self.competition, printed.getvalue()) from error
        finally:
            for line in printed.getvalue().splitlines():
                log_line(f"kaggle: {line}")

    def wait(
        self, what: str, look: Callable[[], tuple[str, Result | None]], hours: float = 0.0
    ) -> Result:
        """Look until there is a result.

        Args:
            what: what is waited for.
            look: gives the state in words, and the result or None while there is none.
            hours: patience; 0 = no limit.

        Raises:
            OoflineError: the time is over.
        """
        started = time.monotonic()
        with waiting(what) as show:
            while True:
                state, result = look()
                show(state)
                if result is not None:
                    return result
                if hours and time.monotonic() - started + self.pause_s > hours * 3600:
                    raise OoflineError(
                        f"{what} is still {state} after {hours:g} hours (time_limit_hours): the "
                        "same command goes on waiting"
                    )
                time.sleep(self.pause_s)


def _signed_in() -> Any:
    """The client; importing it signs in and prints, so that happens here and is kept quiet."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            from kaggle.api.kaggle_api_extended import KaggleApi

            _notice_dead_connections()
            api = _complete_uploads(KaggleApi)()
            api.authenticate()
    except ImportError as error:
        raise ConfigError(
            f"Kaggle's client cannot be loaded ({error}): pip install 'kaggle>=2.2.4,<3'"
        ) from None
    except SystemExit:
        raise ConfigError(f"no valid credentials for Kaggle: {CREDENTIALS}") from None
    except Exception as error:
        raise explained(error, "sign in", "", printed.getvalue()) from error
    return api


def _complete_uploads(base: type) -> type:
    """The client's class, which refuses to make a dataset that would lack a file.

    Version 2.2.4 goes on without a file whose upload failed, and says so to nobody.
    """

    class Complete(base):  # type: ignore[misc]
        def upload_files(self, request: Any, resources: Any, folder: str, *rest: Any) -> None:
            """Upload everything in the folder (see the base), and count."""
            super().upload_files(request, resources, folder, *rest)
            there = {path.name for path in Path(folder).iterdir()} - {self.DATASET_METADATA_FILE}
            if len(request.files) < len(there):
                raise ValueError(
                    f"{len(there) - len(request.files)} of {len(there)} uploads failed"
                )

    return Complete


def _notice_dead_connections() -> None:
    """Let the system end connections whose other side is gone: the client waits without limit."""
    from urllib3.connection import HTTPConnection

    wanted = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 20), ("TCP_KEEPCNT", 6)):
        if hasattr(socket, name):
            wanted.append((socket.IPPROTO_TCP, getattr(socket, name), value))
    present: list[Any] = HTTPConnection.default_socket_options  # type: ignore[assignment]
    present.extend(option for option in wanted if option not in present)
