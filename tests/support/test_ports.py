"""No two processes of the tests are given the same port."""

import socket
import subprocess
import sys

from tests.support.ports import END, FIRST, SIZE, free_port


def test_another_process_has_another_block() -> None:
    own = free_port()
    code = "from tests.support.ports import free_port; print(free_port())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (int(done.stdout) - FIRST) // SIZE != (own - FIRST) // SIZE
    assert all(FIRST <= port < END for port in (own, int(done.stdout)))


def test_a_port_in_use_is_passed_over() -> None:
    with socket.socket() as taken:
        # as servers do: a test before may have left connections of this port that wait for their end
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", free_port()))
        taken.listen()
        assert taken.getsockname()[1] not in {free_port() for _ in range(SIZE)}
