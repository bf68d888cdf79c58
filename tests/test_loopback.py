"""What a local cluster listens on is this machine's business alone."""

from __future__ import annotations

import ipaddress

import psutil
import pytest

from pipeline.cluster import connect
from pipeline.config import LocalClusterConfig


@pytest.mark.parametrize(
    "config", [LocalClusterConfig(), LocalClusterConfig(workers=2, processes=True)], ids=["threads", "processes"]
)
def test_a_local_cluster_listens_on_loopback_only(config: LocalClusterConfig) -> None:
    with connect(config):
        processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
        listening = [
            connection.laddr.ip
            for process in processes
            for connection in process.net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        ]
    assert listening
    assert all(ipaddress.ip_address(address).is_loopback for address in listening), listening
