"""Jobs over a network of their own: two hosts, each a network namespace with its address, and a switch between them that can fail."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.jobs import LOST_WITHIN_S, TEXT, Process, ended, start_job, told_to_end, until_it_trains, until_there_is
from tests.small import require_equal_students

JOB = (*TEXT, "--mode=train", "--config.training.steps=150", "--config.training.eval_every_steps=30", "--config.training.log_every_steps=10")
SHORT_CUT_S = 3
IP = shutil.which("ip") or shutil.which("ip", path="/usr/sbin:/sbin") or "ip"

pytestmark = pytest.mark.slow


def _ip(*arguments: str) -> str:
    """What `ip` answers; OSError with what it complains of."""
    done = subprocess.run([IP, *arguments], capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


class Network:
    """The hosts' names are those of their namespaces; each sees its own /etc/hosts, in which the machine's name is the host's address."""

    def __init__(self):
        self.hosts = [f"jaxkd-{os.getpid()}-{number}" for number in range(2)]
        self.addresses = ["10.77.0.1", "10.77.0.2"]
        self._switch = f"jaxkd-{os.getpid()}-switch"
        self._made: list[str] = []

    def build(self) -> None:
        """Raises OSError where that is not to be had."""
        for namespace in (*self.hosts, self._switch):
            _ip("netns", "add", namespace)
            self._made.append(namespace)
            _ip("-n", namespace, "link", "set", "lo", "up")
        _ip("-n", self._switch, "link", "add", "switch", "up", "type", "bridge")
        for number, (host, address) in enumerate(zip(self.hosts, self.addresses, strict=True)):
            _ip("-n", self._switch, "link", "add", f"port{number}", "type", "veth", "peer", "name", "eth0", "netns", host)
            _ip("-n", self._switch, "link", "set", f"port{number}", "up", "master", "switch")
            _ip("-n", host, "address", "add", f"{address}/24", "dev", "eth0")
            _ip("-n", host, "link", "set", "eth0", "up")
            self.name(number, address)

    def name(self, number: int, address: str) -> None:
        """Gives the name of the machine another address on a host."""
        own = Path("/etc/netns") / self.hosts[number]  # bound over /etc by `ip netns exec`
        own.mkdir(parents=True, exist_ok=True)
        (own / "hosts").write_text(f"127.0.0.1 localhost\n{address} {socket.gethostname()}\n")

    def remove(self) -> None:
        """Ends what still runs on the hosts, and removes all there is of them."""
        for namespace in self._made:
            for process in _ip("netns", "pids", namespace).split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(process), signal.SIGKILL)
            _ip("netns", "delete", namespace)
            shutil.rmtree(Path("/etc/netns") / namespace, ignore_errors=True)

    @contextlib.contextmanager
    def switch_cut(self) -> Iterator[None]:
        """Nothing passes the switch, and no host sees why."""
        _ip("-n", self._switch, "link", "set", "port1", "nomaster")
        try:
            yield
        finally:
            _ip("-n", self._switch, "link", "set", "port1", "master", "switch")

    @contextlib.contextmanager
    def cable_pulled(self) -> Iterator[None]:
        """The second host has no link, and knows it."""
        _ip("-n", self.hosts[1], "link", "set", "eth0", "down")
        try:
            yield
        finally:
            _ip("-n", self.hosts[1], "link", "set", "eth0", "up")

    def start(self, workdir: Path, *arguments: str, patient: bool = True) -> list[Process]:
        """A job of one process on each host, the coordinator's port always the same."""
        on = tuple((IP, "netns", "exec", host) for host in self.hosts)
        return start_job(workdir, *arguments, coordinator=f"{self.addresses[0]}:12321", on=on, patient=patient)


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    network = Network()
    try:
        try:
            network.build()
        except OSError as error:
            pytest.skip(f"no network namespaces here: {error}")
        yield network
    finally:
        network.remove()


@pytest.fixture(scope="module")
def never_cut(network, text_inputs, tmp_path_factory) -> Path:
    """A finished run over a network without a fault."""
    workdir = tmp_path_factory.mktemp("never-cut") / "run"
    ended(network.start(workdir, *JOB), 0, 0)
    return workdir


def test_a_cable_that_is_soon_back_is_waited_for(network, never_cut, tmp_path):
    workdir = tmp_path / "run"
    job = network.start(workdir, *JOB, "--heartbeat_seconds=30")
    until_it_trains(workdir, job)
    with network.cable_pulled():
        time.sleep(SHORT_CUT_S)
        assert not (workdir / "student").exists()
    ended(job, 0, 0)
    require_equal_students(workdir, never_cut)


def test_a_cut_ends_both_hosts_with_status_4_and_the_job_goes_on_bit_equal(network, never_cut, tmp_path):
    workdir = tmp_path / "run"
    saved = workdir / "checkpoints" / "last"

    job = network.start(workdir, *JOB, patient=False)
    until_there_is(saved / "30" / "commit_success.txt", job)
    with network.switch_cut():
        began = time.monotonic()
        for said in ended(job, 4, 4):
            assert "another process of the job is lost" in said and "the same commands go on from the last saved step" in said
        assert time.monotonic() - began < LOST_WITHIN_S

    job = network.start(workdir, *JOB)
    until_there_is(saved / "60" / "commit_success.txt", job)
    for said in told_to_end(job, 1):
        assert "the same command goes on from there" in said
    assert not (workdir / "student").exists()

    ended(network.start(workdir, *JOB), 0, 0)
    require_equal_students(workdir, never_cut)


def test_hosts_that_are_cut_off_from_the_start_do_not_join(network, tmp_path):
    with network.switch_cut():
        for said in ended(network.start(tmp_path / "run", *TEXT, "--join_seconds=5"), 4, 4):
            assert "did not all reach its coordinator within 5 s (--join_seconds)" in said


def test_hosts_whose_own_names_are_loopback_addresses_are_told(network, tmp_path):
    for number in range(2):
        network.name(number, "127.0.1.1")
    try:
        job = network.start(tmp_path / "run", *TEXT, "--heartbeat_seconds=10")
        statuses = sorted(process.status() for process in job)
    finally:
        for number, address in enumerate(network.addresses):
            network.name(number, address)
    said = "".join(process.said.read_text() for process in job)
    assert statuses == [2, 4], said  # one of the two tries to connect, and the other waits for it
    assert "reach its coordinator but not each other" in said and "Give each host's name an address that the others reach" in said
    assert "another process of the job is lost" in said
