"""Reads a topic with every engine and compares what it sees with what was published.

Runs the queries that docs/archive.md shows, on a directory in place of the bucket, and reads all columns of all messages.
"""

import datetime
import json
import pathlib
import re
import sys

import duckdb
import pyarrow.parquet as pq
from pyiceberg.table import StaticTable

DOCUMENT = pathlib.Path(__file__).parent.parent.parent / "docs" / "archive.md"
BUCKET = "s3://my-bucket/brigade"
NAMES = ["partition", "offset", "timestamp", "key", "kind", "headers", "group", "priority", "deliver_at", "expires_at", "value"]

scratch, url = pathlib.Path(sys.argv[1]), sys.argv[2]
EXPECTED = json.loads((scratch / "expected.json").read_text())
TAIL = [row for row in EXPECTED if row["partition"] == 0 and row["offset"] >= 1000]


def milliseconds(time):
    if isinstance(time, datetime.datetime):
        since = time - datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc if time.tzinfo else None)
        return since // datetime.timedelta(milliseconds=1)
    return time


def text(data):
    return None if data is None else bytes(data).hex()


def header(entry):
    """A header, however the engine shows an entry of a map."""
    return [entry["key"], entry["value"]] if isinstance(entry, dict) else list(entry)


def plain(row):
    """A row as expected.json has it."""
    row = dict(row)
    for name in {"timestamp", "deliver_at", "expires_at"} & row.keys():
        row[name] = milliseconds(row[name])
    for name in {"key", "value"} & row.keys():
        row[name] = text(row[name])
    if "headers" in row:
        entries = row["headers"]
        row["headers"] = [header(entry) for entry in (entries.items() if isinstance(entries, dict) else entries)]
    return row


def with_names_once(rows):
    """What an engine sees whose maps have each name once, with its last value."""
    return [{**row, "headers": [list(entry) for entry in dict(row["headers"]).items()]} for row in rows]


def check(engine, rows, expected):
    rows = sorted((plain(row) for row in rows), key=lambda row: (row["partition"], row["offset"]))
    assert rows, f"{engine}: nothing"
    expected = [{name: row[name] for name in rows[0]} for row in expected]
    assert len(rows) == len(expected), f"{engine}: {len(rows)} rows, not {len(expected)}"
    for row, wanted in zip(rows, expected):
        assert row == wanted, f"{engine}: {row}, not {wanted}"
    print(f"{engine}: {len(rows)} messages, {len(rows[0])} columns")


def blocks():
    """The code under each heading of the document."""
    found, heading, lines = {}, None, None
    for line in DOCUMENT.read_text().splitlines():
        if line.startswith("```"):
            if lines is None:
                lines = []
            else:
                found.setdefault(heading, []).append("\n".join(lines).replace(BUCKET, url))
                lines = None
        elif lines is not None:
            lines.append(line)
        elif line.startswith("#"):
            heading = line.lstrip("# ").split(",")[0]
    return found


def by_key(engine, found):
    """Bloom filters leave nothing out; `found` counts the messages with a key."""
    for key in ["customer-1", "customer-49", "nobody"]:
        wanted = sum(row["key"] == key.encode().hex() for row in EXPECTED)
        assert found(key) == wanted, (engine, key, found(key), wanted)


def duck(queries):
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    overview = connection.execute(queries[0]).fetchall()
    counted = {partition: [row for row in EXPECTED if row["partition"] == partition] for partition in (0, 1)}
    wanted = [(partition, len(rows), rows[-1]["offset"]) for partition, rows in counted.items()]
    assert [row[:3] for row in overview] == wanted, overview
    assert [milliseconds(row[3]) for row in overview] == [rows[-1]["timestamp"] for rows in counted.values()], overview
    wanted = [
        (row["offset"], str(json.loads(bytes.fromhex(row["value"]))["number"]), [v for n, v in row["headers"] if n == "a"])
        for row in TAIL
        if row["kind"] == "json" and row["offset"] <= 1010
    ]
    assert connection.execute(queries[1]).fetchall() == wanted != [], "values and headers"
    # As lists of entries, since DuckDB's own maps have each key once in Python.
    columns = ", ".join("map_entries(headers) AS headers" if name == "headers" else f'"{name}"' for name in NAMES)
    rows = connection.execute(f"SELECT {columns} FROM read_parquet(getvariable('orders'))").fetchall()
    found = lambda key: connection.execute(f"SELECT count(*) FROM read_parquet(getvariable('orders')) WHERE key = '{key}'::BLOB").fetchone()[0]
    by_key("DuckDB", found)
    check("DuckDB", [dict(zip(NAMES, row)) for row in rows], EXPECTED)


def iceberg(table, latest):
    check("pyiceberg", table["table"].to_pylist(), TAIL)
    static = StaticTable.from_metadata(f"{url}/archive/orders/{latest['topic_id']}")
    check("pyiceberg, all", static.scan().to_arrow().to_pylist(), EXPECTED)
    assert static.current_snapshot().snapshot_id == latest["archive_version"]
    planned = lambda filter: {task.file.file_path for task in static.scan(row_filter=filter).plan_files()}
    files = {(file["partition"], file["first_offset"]): file["url"] for file in latest["files"]}
    assert planned("offset >= 0") == set(files.values()), planned("offset >= 0")
    # Metadata alone rules files out: by partition, by offset, and by time.
    assert planned("partition = 1") == {files[1, 0]}
    assert planned("partition = 0 and offset >= 1000") == {files[0, 1000]}
    assert planned("offset >= 5000") == set()
    first = EXPECTED[0]["timestamp"]
    at = datetime.datetime.fromtimestamp((first + 10_000) / 1000, datetime.timezone.utc)
    assert planned(f"timestamp >= '{at.isoformat()}'") == {files[0, 1000]}
    summary = static.inspect.files().to_pylist()
    assert {file["file_path"]: (file["record_count"], file["file_size_in_bytes"]) for file in summary} == {
        file["url"]: (file["rows"], file["bytes"]) for file in latest["files"]
    }


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ CRC_TABLE[(crc ^ byte) & 0xFF]
    return f"{crc ^ 0xFFFFFFFF:08x}"


def crc_of(byte):
    for _ in range(8):
        byte = byte >> 1 ^ 0x82F63B78 * (byte & 1)
    return byte


CRC_TABLE = [crc_of(byte) for byte in range(256)]


def files(latest):
    """What latest.json says of the files is so, and the files say the same of themselves."""
    assert latest["complete"] and latest["missing"] == []
    reached = [0] * latest["settings"]["partitions"]
    for file in latest["files"]:
        path = pathlib.Path(file["url"].removeprefix("file://"))
        assert str(path).endswith(file["key"])
        data = path.read_bytes()
        assert (len(data), crc32c(data)) == (file["bytes"], file["crc32c"]), file
        metadata = pq.read_metadata(path)
        assert metadata.num_rows == file["rows"] == file["end_offset"] - file["first_offset"]
        said = {name.decode().removeprefix("brigade."): value.decode() for name, value in metadata.metadata.items()}
        for name in ["partition", "first_offset", "end_offset", "rows", "set_hash"]:
            assert said[name] == str(file[name]), (name, said[name], file)
        for name in ["cluster", "topic", "topic_id"]:
            assert said[name] == str(latest[name]), (name, said[name])
        assert reached[file["partition"]] == file["first_offset"], "files are in order, without gaps"
        reached[file["partition"]] = file["end_offset"]
    assert [part["archived_end"] for part in latest["partitions"]] == reached
    assert [part["high_watermark"] for part in latest["partitions"]] == reached[:2] + [1]
    print(f"latest.json: {len(latest['files'])} files")


code = blocks()
duck(code["DuckDB"])
names = {}
exec(code["pyarrow"][0], names)
files(names["latest"])
check("pyarrow", names["table"].to_pylist(), TAIL)
check("pyarrow, all", names["orders"].to_table().to_pylist(), EXPECTED)
assert names["orders"].schema.names == NAMES, names["orders"].schema
exec(code["Polars"][0], names)
check("Polars", names["table"].to_dicts(), with_names_once(TAIL))
check("Polars, all", names["orders"].collect().to_dicts(), with_names_once(EXPECTED))
exec(code["DataFusion"][0], names)
check("DataFusion", names["table"].to_pylist(), TAIL)
context = names["context"]
check("DataFusion, all", context.sql("SELECT * FROM orders").to_pylist(), EXPECTED)
by_key("DataFusion", lambda key: context.sql(f"SELECT * FROM orders WHERE key = X'{key.encode().hex()}'").count())
exec(code["pyiceberg"][0], names)
iceberg(names, names["latest"])
