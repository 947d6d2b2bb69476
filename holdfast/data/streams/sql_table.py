"""A table in a database: rows in the order of a key that only grows, a fixed number to a window."""

from __future__ import annotations

from typing import Annotated, Any, final

import numpy as np
import pandas as pd
from pydantic import Field
from sqlalchemy import MetaData, Table, create_engine, func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from holdfast.data.streams.base import Arrival, Site, Stream
from holdfast.errors import DataError

Array = np.ndarray[Any, np.dtype[Any]]


@final
class SqlTable(Stream):
    """Rows of one table; a window is the next ``rows`` of them, and has come when all of them are there.

    Rows must stay: places are counted from the first. Labels lie in a column that is NULL until they mature. The
    database is the one that ``stores.stream`` names.
    """

    table: str
    key: str
    """Column of unique values that only grow; it is no feature."""
    label: str = "label"
    rows: Annotated[int, Field(gt=0)] = 1000

    def arrival(self, position: int, site: Site) -> Arrival | None:
        """Read the next rows, all of them or none."""
        found = self._read(position, site)
        return None if found is None else Arrival(position, found.drop(columns=[self.key, self.label]))

    def labels(self, position: int, now: int, site: Site) -> Array | None:
        """Read the labels of a window once every row of it has one."""
        del now
        found = self._read(position, site)
        if found is None or found[self.label].isna().any():
            return None
        return np.asarray(found[self.label].to_numpy(dtype=object))

    def _read(self, position: int, site: Site) -> pd.DataFrame | None:
        if site.url is None:
            raise _refused("stores.stream", "no URL", "the database of the stream")
        engine = create_engine(site.url, poolclass=NullPool, hide_parameters=True)
        try:
            table = Table(self.table, MetaData(), autoload_with=engine)
            lacking = [name for name in (self.key, self.label) if name not in table.c]
            if lacking:
                raise _refused(self.table, f"no column {', '.join(lacking)}", "key and label")
            with engine.connect() as connection:
                here = select(func.count()).select_from(table)
                if int(connection.execute(here).scalar_one()) < (position + 1) * self.rows:
                    return None
                query = select(table).order_by(table.c[self.key]).offset(position * self.rows).limit(self.rows)
                return pd.read_sql(query, connection)
        except SQLAlchemyError as error:
            words = str(getattr(error, "orig", None) or type(error).__name__).partition("\n")[0]
            raise _refused(self.table, words[:200], "a table that answers") from None  # the cause may quote the URL
        finally:
            engine.dispose()


def _refused(place: str, found: str, expected: str) -> DataError:
    return DataError(place, found=found, expected=expected, remedy="Correct monitoring.stream in params.yaml.")
