"""The hub's library, opened for a few calls; what goes wrong comes out as one of this package's errors.

Its messages hold addresses with signatures, so none is passed on: errors are told by their kind and status, and by the
words that the hub sent, in which the token, should they repeat it, is struck out.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ..checkpoint.wording import shown
from ..errors import CheckpointError, MedTransferError, ResourceError
from ..version import __version__
from ..volumes.extras import require_extra

LOG_IN = "Check the name, or log in (hf auth login, or the variable HF_TOKEN)"
LATER = "Try again later"


class HubError(ResourceError):
    """A hub that cannot be reached, does not answer as one, or breaks off: exit code 6, as a full disk is.

    What was asked for may be fine, so the same command can succeed later.
    """


@dataclass(frozen=True)
class Hub:
    """The library and its client for one endpoint.

    Attributes:
        library: The package ``huggingface_hub``.
        api: Its ``HfApi``.
        constants: Its settings, read from the environment when it was imported.
        errors: Its errors.
    """

    library: Any
    api: Any
    constants: Any
    errors: Any

    @property
    def offline(self) -> bool:
        """Whether ``HF_HUB_OFFLINE`` forbids every request."""
        return bool(self.constants.HF_HUB_OFFLINE)

    @property
    def timeout(self) -> float:
        """Seconds that an answer may take."""
        return float(self.constants.HF_HUB_ETAG_TIMEOUT)


@contextmanager
def open_hub(
    subject: str, endpoint: str | None = None, refused: type[MedTransferError] = CheckpointError
) -> Iterator[Hub]:
    """Give the library; only calls of it belong in the block.

    Args:
        subject: The repository or reference that errors name.
        endpoint: The hub's address; None: ``HF_ENDPOINT``, or the public hub.
        refused: The error where the hub answers and says no.

    Raises:
        MissingExtraError: the extra ``hub`` is not installed.
        HubError: the hub cannot be reached or does not answer as one.
    """
    library, constants, errors = map(
        _module, ("huggingface_hub", "huggingface_hub.constants", "huggingface_hub.errors")
    )
    api = library.HfApi(endpoint=endpoint, library_name="medtransfer", library_version=__version__)
    hub = Hub(library, api, constants, errors)
    with _plain_transfers(constants), _without_warnings(), _bars_on_terminals(constants):
        try:
            yield hub
        except MedTransferError:
            raise
        except Exception as error:
            known = _as_ours(error, hub, subject, refused)
            if known is None:
                raise
            raise known from error


def _module(name: str) -> Any:
    return require_extra(name, "hub", "sharing models")


# telemetry: what else is installed, and a question to the public hub whatever the endpoint;
# xet: a second way of transfer, whose length nothing here can bound, and which waits for minutes on hubs without it
_OFF = ("HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_XET")


@contextmanager
def _plain_transfers(constants: Any) -> Iterator[None]:
    """Switch off what the library would do beyond the requests that were asked for."""
    before = {name: getattr(constants, name) for name in _OFF}
    try:
        for name in _OFF:
            setattr(constants, name, True)
        yield
    finally:
        for name, value in before.items():
            setattr(constants, name, value)


@contextmanager
def _without_warnings() -> Iterator[None]:
    """The library logs the addresses that it tries again, signatures and all."""
    logger = logging.getLogger("huggingface_hub")
    before = logger.level
    logger.setLevel(max(before, logging.ERROR))
    try:
        yield
    finally:
        logger.setLevel(before)


@contextmanager
def _bars_on_terminals(constants: Any) -> Iterator[None]:
    """The library draws the bars of uploads into files and pipes too."""
    utils = _module("huggingface_hub.utils")
    is_terminal = sys.stderr is not None and sys.stderr.isatty()
    # where the user's environment decides, the library warns of others who try to
    if is_terminal or constants.HF_HUB_DISABLE_PROGRESS_BARS is not None or utils.are_progress_bars_disabled():
        yield
        return
    utils.disable_progress_bars()
    try:
        yield
    finally:
        utils.enable_progress_bars()


def counter(hub: Hub, limit: int, subject: str) -> type[Any]:
    """The library's progress bar, which ends the download of a body that is longer than it may be."""
    bar = _module("huggingface_hub.utils.tqdm").tqdm

    class Counter(bar):  # type: ignore[misc,valid-type]
        received = 0.0

        def update(self, n: float | None = 1) -> bool | None:
            self.received += n or 0
            if self.received > limit:
                raise CheckpointError(f"{subject} is longer than the {limit} bytes that the hub lists")
            return bool(super().update(n))

    return Counter


# what the library raises, the reason and what to do; None for the class: the hub said no
_ANSWERS: tuple[tuple[str, type[MedTransferError] | None, str, str], ...] = (
    ("OfflineModeIsEnabled", HubError, "HF_HUB_OFFLINE is set, so the hub is not asked", "Unset it to reach the hub"),
    ("GatedRepoError", None, "its owners give access one by one", "Ask for it on the model's page, then log in"),
    ("RepositoryNotFoundError", None, "the hub has no such repository, or it is private", LOG_IN),
    ("RevisionNotFoundError", None, "the repository has no such revision", "Check the branch, tag or commit"),
    ("EntryNotFoundError", None, "a file that the hub lists is not there", LATER),
    ("DisabledRepoError", None, "the hub has closed the repository", "See its page"),
    ("FileMetadataError", HubError, "the answer lacks the file's commit or hash", "Check HF_ENDPOINT"),
)
_LOCAL = "LocalEntryNotFoundError"


def _as_ours(error: BaseException, hub: Hub, subject: str, refused: type[MedTransferError]) -> MedTransferError | None:
    errors = hub.errors
    # the library wraps what failed
    while isinstance(error, (getattr(errors, _LOCAL), RuntimeError)) and error.__cause__ is not None:
        error = error.__cause__
    for name, kind, reason, hint in _ANSWERS:
        if isinstance(error, getattr(errors, name)):
            return (kind or refused)(f"{subject}: {reason}", hint=hint)
    if isinstance(error, errors.HfHubHTTPError):
        return _answered(error, hub, subject, refused)
    if isinstance(error, errors.HTTPError):
        reason = f"{subject}: no connection to {hub.api.endpoint} ({type(error).__name__})"
        return HubError(reason, hint="Check the network, its proxy and HF_ENDPOINT, and try again")
    if isinstance(error, OSError):
        # the operating system's errors (a full disk) have numbers; the library's, of a body cut short, have none
        return None if error.errno else HubError(f"{subject}: the transfer broke off", hint="Try again")
    if isinstance(error, (ValueError, KeyError, TypeError, AssertionError)):
        said = _words(f"{type(error).__name__}: {error}", hub)
        return HubError(f"{subject}: {hub.api.endpoint} does not answer as a hub ({said})", hint="Check HF_ENDPOINT")
    return None


def _answered(error: Any, hub: Hub, subject: str, refused: type[MedTransferError]) -> MedTransferError:
    """401 and 403 are about who asks, 429 and 5xx about the hub, other answers about what was asked."""
    status = error.response.status_code
    said = f"{subject}: the hub answers {status} {_words(error.server_message or '', hub)}".rstrip()
    if status in (401, 403):
        return refused(said, hint="Log in with a token that may do this (hf auth login, or the variable HF_TOKEN)")
    if status == 429 or status >= 500:
        return HubError(said, hint=LATER)
    return refused(said)


def _words(text: str, hub: Hub) -> str:
    """What the hub said, on one line and without the token."""
    token = hub.library.get_token()
    return shown(" ".join(text.replace(token, "***").split() if token else text.split()), 200)
