"""ClickHouse servers of a test's own."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from niphash.errors import InputError
from niphash.search.clickhouse_index import NativeDatabase

PATIENCE_S = 120
USERS = """<yandex>
  <profiles><default><max_memory_usage>1000000000</max_memory_usage></default></profiles>
  <users><default>
    <password></password><networks><ip>127.0.0.1</ip></networks>
    <profile>default</profile><quota>default</quota>
  </default></users>
  <quotas><default/></quotas>
</yandex>
"""


@contextmanager
def started_servers(folder: Path, count: int) -> Iterator[list[str]]:
    """Start servers, the shards of a cluster named ``servers``, and give their addresses.

    Skips the test where no ClickHouse server is installed.
    """
    program = shutil.which("clickhouse-server", path="/usr/sbin:/usr/bin:/usr/local/bin")
    if program is None:
        pytest.skip("needs a ClickHouse server (apt-get install clickhouse-server), which is not here")
    ports = _free_ports(2 * count)
    processes = []
    try:
        for number in range(count):
            home = _configure(folder / f"server{number}", ports[number], ports[count + number], ports[:count])
            log = (home / "printed").open("w")
            processes.append(
                subprocess.Popen(
                    [program, f"--config-file={home / 'config.xml'}"], cwd=home, stdout=log, stderr=log
                )
            )
        urls = [f"clickhouse://127.0.0.1:{port}/default" for port in ports[:count]]
        for url in urls:
            _wait_for(url)
        yield urls
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _configure(home: Path, port: int, between: int, ports: list[int]) -> Path:
    home.mkdir()
    shards = "".join(
        f"<shard><replica><host>127.0.0.1</host><port>{other}</port></replica></shard>" for other in ports
    )
    (home / "users.xml").write_text(USERS)
    (home / "config.xml").write_text(
        f"""<yandex>
  <logger><level>warning</level><log>{home}/log</log><errorlog>{home}/errors</errorlog></logger>
  <listen_host>127.0.0.1</listen_host>
  <tcp_port>{port}</tcp_port>
  <interserver_http_port>{between}</interserver_http_port>
  <path>{home}/data/</path><tmp_path>{home}/tmp/</tmp_path>
  <users_config>users.xml</users_config>
  <default_profile>default</default_profile><default_database>default</default_database>
  <mark_cache_size>67108864</mark_cache_size>
  <remote_servers><servers>{shards}</servers></remote_servers>
</yandex>
"""
    )
    return home


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            with closing(NativeDatabase(url)):
                return
        except InputError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
