"""Looking for a word everywhere that the product keeps anything: database, Valkey, file storage."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from django.db import connection
from psycopg import sql

# What can hold words: text of every kind, JSON, bytes, search vectors, and arrays of them.
_COLUMNS = """
SELECT c.table_schema, c.table_name, c.column_name FROM information_schema.columns c
JOIN information_schema.tables t USING (table_schema, table_name)
WHERE c.table_schema = ANY(%s) AND t.table_type = 'BASE TABLE'
  AND (c.data_type IN ('text', 'character varying', 'character', 'json', 'jsonb', 'bytea', 'tsvector', 'ARRAY', 'xml'))
ORDER BY 1, 2, 3"""


def columns_that_hold_words(schemas: Sequence[str]) -> list[tuple[str, str, str]]:
    with connection.cursor() as cursor:
        cursor.execute(_COLUMNS, [list(schemas)])
        return [(schema, table, column) for schema, table, column in cursor.fetchall()]


def columns_with(word: str, schemas: Sequence[str]) -> list[tuple[str, str]]:
    """(table, column), once for each row whose column holds the word: in any case, in bytes as UTF-8."""
    found = []
    with connection.cursor() as cursor:
        for schema, table, column in columns_that_hold_words(schemas):
            statement = sql.SQL("SELECT count(*) FROM {} WHERE {}::text ILIKE ANY({})").format(
                sql.Identifier(schema, table),
                sql.Identifier(column),
                sql.Literal([f"%{word}%", f"%{word.encode().hex()}%"]),
            )
            cursor.execute(statement.as_string())
            found += [(table, column)] * cursor.fetchone()[0]
    return found


def keys_with(word: str, client: Any) -> list[str]:
    """The keys of a Valkey that hold the word, in their name or in their value, of whatever type that is."""
    needle = word.lower().encode()
    return [
        key.decode(errors="replace")
        for key in client.scan_iter(count=1000)
        if needle in key.lower() or any(needle in part.lower() for part in _parts(client, key))
    ]


def _parts(client: Any, key: bytes) -> Iterator[bytes]:
    kind = client.type(key).decode()
    if kind == "string":
        yield client.get(key) or b""
    elif kind == "hash":
        for name, value in client.hgetall(key).items():
            yield from (name, value)
    elif kind == "set":
        yield from client.smembers(key)
    elif kind == "zset":
        yield from client.zrange(key, 0, -1)
    elif kind == "list":
        yield from client.lrange(key, 0, -1)
    elif kind == "stream":
        for entry_id, fields in client.xrange(key):
            yield entry_id
            for name, value in fields.items():
                yield from (name, value)
    elif kind == "none":
        return  # it is gone since it was listed: a queue that was emptied
    else:
        raise AssertionError(f"{key!r} is a {kind}: say in this file how to read one")


def files_with(word: str, folder: Path) -> list[str]:
    """The files below a folder that hold the word, in their name or in their bytes."""
    needle = word.lower().encode()
    return [
        str(path.relative_to(folder))
        for path in sorted(folder.rglob("*"))
        if needle in str(path.relative_to(folder)).lower().encode()
        or (path.is_file() and needle in path.read_bytes().lower())
    ]
