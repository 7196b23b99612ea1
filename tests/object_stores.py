"""Two S3 servers on loopback, a bucket in each, and a reader that knows nothing of the exporter.

ministack takes parts of any size, moto refuses small ones. Both refuse a write whose condition does not hold.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sqlite3
import sys
import tempfile
import urllib.request
import zlib
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore.store import S3Store

from tests.daemon import wait_until
from tests.processes import kept, started

KEY_ID, SECRET = "AKIDEXAMPLE4711", "geheim-4711/secret"
SERVERS = ("ministack", "moto")

USUAL_SERVERS = ("ministack", pytest.param("moto", marks=pytest.mark.soak))
"""Parameters of fixtures: the tests of the second server take minutes, and run with `pytest -m soak`."""


@dataclass
class Bucket:
    """A bucket of a running server."""

    kind: str
    port: int
    name: str
    log: Path
    pid: int
    prefix: str = "exports/of it"

    @property
    def endpoint(self) -> str:
        """The URL of the server."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def variables(self) -> dict[str, str]:
        """The variables by which programs find the server."""
        return {
            "AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.endpoint
        }  # fmt: skip

    def url(self) -> str:
        """The URL of the prefix."""
        return f"s3://{self.name}/{self.prefix}"

    def store(self) -> S3Store:
        """A client for the prefix, without our code."""
        return S3Store(
            self.name, prefix=self.prefix, endpoint=self.endpoint, access_key_id=KEY_ID, secret_access_key=SECRET,
            region="us-east-1", client_options={"allow_http": True},
        )  # fmt: skip

    def listed(self) -> list[str]:
        """All keys below the prefix."""
        return sorted(found["path"] for some in obstore.list(self.store()) for found in some)

    def object(self, key: str) -> dict[str, Any]:
        """An object that is JSON."""
        found: dict[str, Any] = json.loads(bytes(obstore.get(self.store(), key).bytes()))
        return found

    def manifest(self) -> dict[str, Any]:
        """The manifest of the prefix."""
        return self.object("manifest.json")

    def files(self) -> dict[str, bytes]:
        """The files that the manifest of the prefix names. Raises AssertionError if one is not as it says."""
        store, found = self.store(), {}
        manifest = self.manifest()
        for name, entry in (manifest["files"] | manifest["beside"]).items():
            found[name] = bytes(obstore.get(store, entry["key"]).bytes())
            assert f"crc32:{zlib.crc32(found[name]):08x}" == entry["digest"], name
            assert len(found[name]) == entry["bytes"], name
        return found


def add_annotations(app: Path, count: int) -> None:
    """Add long annotations to a demo's database: 17,000 make a file that is uploaded in three parts."""
    with closing(sqlite3.connect(app)) as connection, connection:
        connection.executemany(
            "INSERT INTO annotations (id, image_id, class_name, x_min, y_min, x_max, y_max) "
            "SELECT ?, min(id), ?, 1, 2, 3, 4 FROM images",
            ((10_000 + number, f"{'class ' * 60}{number}") for number in range(count)),
        )


def free_port() -> int:
    """A port of loopback that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@contextlib.contextmanager
def serving(kind: str, folder: Path, **variables: str) -> Iterator[Bucket]:
    """A server of this kind with one bucket, which has a new name each time; `variables` are the server's."""
    port = free_port()
    bin_folder = Path(sys.executable).parent
    environment: Mapping[str, str] = os.environ
    if kind == "moto":
        command = [str(bin_folder / "moto_server"), "-H", "127.0.0.1", "-p", str(port)]
    else:
        command = [str(bin_folder / "ministack")]
        environment = {
            **os.environ, "BIND_HOST": "127.0.0.1", "SERVICES": "s3", "GATEWAY_PORT": str(port),
            "IOT_MTLS_ENABLED": "0",
        }  # fmt: skip
    environment = {**environment, **variables}
    log = folder / f"{kind}-{port}.log"
    with log.open("wb") as output, started(
        command, cwd=folder, env=environment, stdout=output, stderr=output, start_new_session=True
    ) as process:  # fmt: skip
        bucket = Bucket(kind, port, f"bucket-{os.urandom(4).hex()}", log, process.pid)
        wait_until(lambda: _answers(port) or process.poll() is not None, f"{kind} listens")
        assert process.poll() is None, log.read_text()
        request = urllib.request.Request(f"{bucket.endpoint}/{bucket.name}", method="PUT")
        urllib.request.urlopen(request).close()
        yield bucket


@contextlib.contextmanager
def shared_server(kind: str) -> Iterator[Bucket]:
    """A server for several tests: its folder is removed with it."""
    with tempfile.TemporaryDirectory(prefix="object-store-") as folder, serving(kind, Path(folder)) as bucket:
        kept.add(bucket.pid)
        try:
            yield bucket
        finally:
            kept.discard(bucket.pid)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
