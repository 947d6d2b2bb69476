"""The connection to MLflow: one client for each store, and one error for every way of not answering."""

from __future__ import annotations

import re
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from requests.exceptions import RequestException
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from holdfast.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from holdfast.stores import Stores


def shown(url: str) -> str:
    """Give a URL as people may see it: without its password."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return url.rsplit("@", 1)[-1]


def scrubbed(text: str, url: str) -> str:
    """Take a URL's secrets out of somebody else's words, however they quote it."""
    text = text.replace(url, shown(url))
    try:
        secret = make_url(url).password
    except ArgumentError:
        secret = None
    if secret:
        text = text.replace(quote(str(secret)), "***").replace(str(secret), "***")
    return re.sub(r"(//[^/\s:@]*:)[^@\s]+@", r"\1***@", text)


@contextmanager
def answering(stores: Stores) -> Iterator[None]:
    """Turn every way in which tracking can fail to answer into one error: an outage is never an absence."""
    try:
        yield
    except (MlflowException, SQLAlchemyError, RequestException, OSError) as error:
        url = stores.tracking.get_secret_value()
        # The cause is cut off: its own text holds the URL, and Prefect keeps tracebacks in its database.
        raise StoreError(
            f"MLflow at {shown(url)}",
            found=f"{type(error).__name__}: {scrubbed(str(error), url).splitlines()[0][:200]}",
            expected="a tracking server or database that answers",
            remedy="Start or mend it and run again: finished work is kept, nothing was promoted.",
        ) from None


@cache
def _client(url: str) -> MlflowClient:
    if url.startswith("sqlite:///"):
        path = Path(url.removeprefix("sqlite:///"))
        path.parent.mkdir(parents=True, exist_ok=True)
        # First creation from several processes at once corrupts the schema; the caller holds the run lock.
        mlflow.MlflowClient(tracking_uri=url).search_experiments(max_results=1)
    return MlflowClient(tracking_uri=url, registry_uri=url)


def client(stores: Stores) -> MlflowClient:
    """Connect to the tracking store that these stores name."""
    url = stores.tracking.get_secret_value()
    # MLflow's own registry looks logged models up through its process-wide URI, whatever the client was given.
    mlflow.set_tracking_uri(url)
    mlflow.set_registry_uri(url)
    return _client(url)


def code_of(error: MlflowException) -> str:
    """Give MLflow's name of an error."""
    return str(error.error_code)


def paged(search: Callable[..., Any]) -> Iterator[Any]:
    """Give everything that a search finds: MLflow answers a page at a time.

    Args:
        search: takes ``page_token``, the first time None, and gives a page with the ``token`` of the one after it.
    """
    token = None
    while True:
        page = search(page_token=token)
        yield from page
        if not (token := page.token):
            return
