"""What a local cluster listens on is this machine's business alone."""

from __future__ import annotations

import ipaddress

import psutil

from pipeline.cluster import connect
from pipeline.config import LocalClusterConfig


def _listening() -> list[str]:
    """Where this process and those that it started can be reached."""
    return [
        connection.laddr.ip
        for process in (psutil.Process(), *psutil.Process().children(recursive=True))
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]


def test_processes_listen_on_loopback_only() -> None:
    with connect(LocalClusterConfig(workers=2, processes=True)):
        listening = _listening()
    assert listening
    assert all(ipaddress.ip_address(address).is_loopback for address in listening), listening


def test_threads_do_not_listen() -> None:
    before = sorted(_listening())
    with connect(LocalClusterConfig(workers=2)):
        assert sorted(_listening()) == before
