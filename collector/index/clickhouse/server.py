"""The connection to ClickHouse: statements over HTTP, by any of the hosts that the URL names. Synchronous.

Every thread may use it. A host that can't be reached is left for the next one; what was asked is asked again
there, for nothing that is sent changes anything the second time (index/clickhouse/store.py).
"""

import logging
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import clickhouse_connect
from clickhouse_connect.driver import exceptions
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.external import ExternalData
from urllib3.exceptions import HTTPError

from collector.index.clickhouse.errors import error_of
from collector.index.protocol import IndexUnreachable
from collector.settings import ClickhouseSettings, EnginePlace

_log = logging.getLogger("sidespan.index")

T = TypeVar("T")
Rows = list[tuple[Any, ...]]
CHUNK_BYTES = 256 * 1024

# what makes ClickHouse's SQL read as other engines read it, and its answers exact
READING: Mapping[str, Any] = {
    "final": 1,
    # a row's partition never changes
    "do_not_merge_across_partitions_select_final": 1,
    "prefer_column_name_to_alias": 1,
    "join_use_nulls": 1,
    "aggregate_functions_null_for_empty": 1,
    "cast_keep_nullable": 1,
    # shards name an aggregate that was rewritten so otherwise than who asked them
    "optimize_rewrite_aggregate_function_with_if": 0,
    "count_distinct_implementation": "uniqExact",
    # of a subquery over other shards: ask it once, and send its answer along
    "distributed_product_mode": "global",
}
WRITING: Mapping[str, Any] = {
    "async_insert": 0,
    "distributed_foreground_insert": 1,
    "insert_deduplicate": 1,
    # a backfill may bring old days
    "max_partitions_per_insert_block": 1000,
    "input_format_parallel_parsing": 0,
    # the fast way of reading floats is off by the last digit
    "precise_float_parsing": 1,
    "input_format_csv_trim_whitespaces": 0,
    "input_format_csv_empty_as_default": 1,
    # NULL is an empty field, and no text is
    "format_csv_null_representation": "\x1e\x1e",
}
FILES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "csv": ("CSVWithNames", {"format_csv_null_representation": ""}),
    "parquet": ("Parquet", {"output_format_parquet_compression_method": "zstd"}),
}
_PLACES = re.compile(r"'[^']*'|\?")
_BOUND = {bool: "Bool", int: "Int64", float: "Float64", str: "String", list: "Array(String)"}


@dataclass(frozen=True, slots=True, kw_only=True)
class External:
    """Rows that travel with a question, as a table of that name: CSV, and the columns with their types."""

    name: str
    columns: Sequence[str]
    rows: bytes


class ClickhouseServer:
    """The servers of one database. Each verb raises what errors.py makes of the server's errors."""

    def __init__(self, place: EnginePlace, settings: ClickhouseSettings) -> None:
        self.place = place
        self._settings = settings
        self._password = settings.read_password() or ""
        self._clients: dict[str, Client] = {}
        self._at = 0
        self._lock = threading.Lock()

    @property
    def hosts(self) -> Sequence[str]:
        """As the URL names them."""
        return self.place.hosts

    def rows(
        self,
        sql: str,
        values: Sequence[Any] = (),
        *,
        external: External | None = None,
        host: str | None = None,
        final: bool = True,
    ) -> Rows:
        """The rows of an answer; `values` for the question marks, in order."""
        bound, parameters = bind(sql, values)
        settings = {**READING, "final": int(final), **self._bound_of_time()}

        def ask(client: Client) -> Rows:
            found = client.query(
                bound, parameters=parameters, settings=settings, external_data=_external(external)
            )
            return [tuple(row) for row in found.result_rows]

        return self._asked(ask, host)

    def command(self, sql: str, *, host: str | None = None, values: Sequence[Any] = ()) -> None:
        """A statement without an answer."""
        bound, parameters = bind(sql, values)
        self._asked(lambda client: client.command(bound, parameters=parameters), host)

    def keep(self, sql: str, values: Sequence[Any] = ()) -> None:
        """INSERT the rows of a question, which it reads as `rows` does."""
        bound, parameters = bind(sql, values)
        settings = {**READING, **self._bound_of_time(), "distributed_foreground_insert": 1}
        self._asked(lambda client: client.command(bound, parameters=parameters, settings=settings), None)

    def insert(
        self,
        table: str,
        columns: Sequence[str],
        rows: bytes,
        *,
        format: str = "CSV",
        compression: str | None = None,
        token: str | None = None,
    ) -> None:
        """Rows in a format of ClickHouse's. Those that come again under the same `token` are passed over."""
        settings = {**WRITING, "insert_deduplication_token": token} if token else dict(WRITING)
        names = [f'"{name}"' for name in columns]
        self._asked(
            lambda client: client.raw_insert(
                table, names, rows, settings=settings, fmt=format, compression=compression
            ),
            None,
        )

    def file(self, sql: str, values: Sequence[Any], format: str) -> Iterator[bytes]:
        """The rows of an answer as a file. What the server refuses is raised here, not while reading."""
        bound, parameters = bind(sql, values)
        name, options = FILES[format]
        # the whole answer waits on the server until it is known to be one
        settings = {**READING, **options, **self._bound_of_time(), "wait_end_of_query": 1}
        source = self._asked(
            lambda client: client.raw_stream(bound, parameters=parameters, settings=settings, fmt=name), None
        )
        return _chunks(source)

    def close(self) -> None:
        """Let go of all connections."""
        with self._lock:
            clients, self._clients = self._clients, {}
        for client in clients.values():
            client.close()

    def _bound_of_time(self) -> Mapping[str, Any]:
        return {"max_execution_time": max(1, int(self._settings.query_timeout_seconds))}

    def _asked(self, ask: Callable[[Client], T], host: str | None) -> T:
        """What one host says; without a name, the last that answered, or the next that can be reached."""
        at = self._at
        hosts = [host] if host else [*self.hosts[at:], *self.hosts[:at]]
        for number, each in enumerate(hosts):
            try:
                answer = ask(self._client(each))
            except (exceptions.Error, HTTPError, OSError) as error:
                raised = error_of(error)
                self._forget(each, raised)
                if not isinstance(raised, IndexUnreachable) or number == len(hosts) - 1:
                    raise raised from error
            else:
                if host is None:
                    self._at = self.hosts.index(each)
                return answer
        raise AssertionError("a URL names at least one host")

    def _client(self, host: str) -> Client:
        with self._lock:
            known = self._clients.get(host)
        if known is not None:
            return known
        client = self._connect(host)
        with self._lock:
            return self._clients.setdefault(host, client)

    def _forget(self, host: str, error: Exception) -> None:
        """What a host was found to be at the start may be another thing when it is back."""
        if isinstance(error, IndexUnreachable):
            with self._lock:
                client = self._clients.pop(host, None)
            if client is not None:
                with suppress(Exception):
                    client.close()

    def _connect(self, host: str) -> Client:
        name, _, port = host.rpartition(":")
        settings = self._settings
        client = clickhouse_connect.get_client(
            host=name.strip("[]"),
            port=int(port),
            username=self.place.user or None,
            password=self._password,
            secure=settings.tls,
            ca_cert=str(settings.ca_file) if settings.ca_file else None,
            connect_timeout=max(1, int(settings.connect_timeout_seconds)),
            send_receive_timeout=int(max(settings.query_timeout_seconds, settings.insert_timeout_seconds))
            + 5,
            autogenerate_session_id=False,
            # a question may have many long values
            form_encode_query_params=True,
            query_retries=0,
        )
        _use(client, self.place.name)
        return client


def _use(client: Client, database: str) -> None:
    """Make the database the client's own, and make it if it is missing."""
    there = client.query(
        "SELECT count() FROM system.databases WHERE name = {name:String}", parameters={"name": database}
    )
    if not there.result_rows[0][0]:
        client.command(f"CREATE DATABASE IF NOT EXISTS {database}")
    client.database = database


def bind(sql: str, values: Sequence[Any]) -> tuple[str, dict[str, Any]]:
    """SQL with named places of a type for its question marks, and the values by name."""
    left = list(enumerate(values))

    def place(found: re.Match[str]) -> str:
        if found[0] != "?":
            return found[0]
        number, value = left.pop(0)
        type = "Nullable(String)" if value is None else _BOUND[value.__class__]
        return f"{{v{number}:{type}}}"

    bound = _PLACES.sub(place, sql)
    assert not left, "a question mark for each value"
    return bound, {f"v{number}": value for number, value in enumerate(values)}


def _external(external: External | None) -> ExternalData | None:
    if external is None:
        return None
    return ExternalData(
        file_name=external.name, data=external.rows, fmt="CSV", structure=list(external.columns)
    )


def _chunks(source: Any) -> Iterator[bytes]:
    with closing(source):
        while chunk := source.read(CHUNK_BYTES):
            yield chunk
