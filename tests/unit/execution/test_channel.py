"""Messages over a socket: whole, in order, each with its descriptor."""

import json
import os
import socket
import struct
import threading
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calotype.execution.channel import Channel, Message
from unit.execution.scripted import leaving_no_descriptor

NO_MESSAGE = (ValueError, TypeError, LookupError)
values = st.one_of(st.integers(), st.text(max_size=300), st.lists(st.booleans(), max_size=3))
messages = st.lists(st.tuples(values, st.booleans()), min_size=1, max_size=6)


def framed(text: bytes) -> bytes:
    return struct.pack("!I", len(text)) + text


def file_with(number: int) -> int:
    """Make a file that can be told from others."""
    fd = os.memfd_create("numbered")
    os.write(fd, str(number).encode())
    return fd


def number_in(fd: int | None) -> int | None:
    """Return what a file is numbered with, and close it."""
    if fd is None:
        return None
    number = int(os.pread(fd, 20, 0))
    os.close(fd)
    return number


def send_in_pieces(
    end: socket.socket, content: bytes, fd: int | None, lengths: Sequence[int]
) -> Iterator[None]:
    """Send a message, the descriptor with its first piece; stop after each."""
    for length in (*lengths, len(content)):
        piece, content = content[:length], content[length:]
        if not piece:
            return
        if fd is None:
            end.sendall(piece)
        else:
            socket.send_fds(end, [piece], [fd])
            os.close(fd)
            fd = None
        yield


class Pair:
    """A channel, and the bare socket at its other end."""

    def __init__(self) -> None:
        self.socket, end = socket.socketpair()
        self.channel = Channel(end)

    def close(self) -> None:
        self.socket.close()
        self.channel.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    pair.close()


@given(messages, st.lists(st.integers(1, 40), max_size=30))
def test_messages_that_arrive_in_pieces_are_whole(
    told: list[tuple[object, bool]], lengths: list[int]
) -> None:
    with leaving_no_descriptor():
        pair = Pair()
        for number, (value, has_fd) in enumerate(told):
            content = framed(json.dumps({"value": value, "fd": has_fd}).encode())
            fd = file_with(number) if has_fd else None
            found: list[tuple[Message, int | None]] = []
            for _ in send_in_pieces(pair.socket, content, fd, lengths):
                assert not found, "it was not complete"
                found = pair.channel.receive()
            ((message, got),) = found
            assert message["value"] == value
            assert number_in(got) == (number if has_fd else None)
        pair.close()


@given(messages)
def test_messages_that_arrive_glued_are_apart_with_descriptors_in_order(
    told: list[tuple[object, bool]],
) -> None:
    with leaving_no_descriptor():
        ours, theirs = (Channel(end) for end in socket.socketpair())
        for number, (value, has_fd) in enumerate(told):
            fd = file_with(number) if has_fd else None
            ours.send({"value": value}, fd)
            if fd is not None:
                os.close(fd)
        found: list[tuple[Message, int | None]] = []
        while len(found) < len(told):
            found += theirs.receive()
        assert [message["value"] for message, _ in found] == [value for value, _ in told]
        numbers = [number if has_fd else None for number, (_, has_fd) in enumerate(told)]
        assert [number_in(fd) for _, fd in found] == numbers
        ours.close()
        theirs.close()


def test_a_message_may_be_larger_than_what_the_socket_holds(pair: Pair) -> None:
    other = Channel(pair.socket)
    large, fd = {"text": "x" * 3_000_000}, file_with(5)
    sending = threading.Thread(target=other.send, args=(large, fd))
    sending.start()
    found: list[tuple[Message, int | None]] = []
    while not found:
        found = pair.channel.receive()
    sending.join()
    os.close(fd)
    ((message, got),) = found
    assert message["text"] == large["text"]
    assert number_in(got) == 5


def test_threads_that_send_at_once_do_not_cut_into_each_other(pair: Pair) -> None:
    other = Channel(pair.socket)
    each, threads = 50, 4

    def send(number: int) -> None:
        for _ in range(each):
            other.send({"number": number, "text": str(number) * 3000})

    sending = [threading.Thread(target=send, args=(number,)) for number in range(threads)]
    for thread in sending:
        thread.start()
    found: list[Message] = []
    while len(found) < each * threads:
        found += [message for message, _ in pair.channel.receive()]
    for thread in sending:
        thread.join()
    assert all(message["text"] == str(message["number"]) * 3000 for message in found)


def test_who_is_gone_is_noticed_by_both_directions() -> None:
    ours, theirs = (Channel(end) for end in socket.socketpair())
    theirs.send({"last": 1})
    ours.send({"never": "read"})
    theirs.close()
    ((message, _),) = ours.receive()
    assert message["last"] == 1
    for _ in range(2):
        with pytest.raises(EOFError):
            ours.receive()
    with pytest.raises(BrokenPipeError):
        ours.send({"to": "nobody"})
    ours.close()


def test_who_hung_up_can_still_hear() -> None:
    ours, theirs = (Channel(end) for end in socket.socketpair())
    ours.hang_up()
    with pytest.raises(EOFError):
        theirs.receive()
    theirs.send({"value": 1})
    ((message, fd),) = ours.receive()
    assert (message["value"], fd) == (1, None)
    ours.close()
    theirs.close()


def test_descriptors_that_nobody_took_are_closed() -> None:
    with leaving_no_descriptor():
        pair = Pair()
        content = framed(b'{"fd": true}')
        fd = file_with(1)
        socket.send_fds(pair.socket, [content[:6]], [fd])
        os.close(fd)
        assert pair.channel.receive() == []
        pair.close()


def test_descriptors_of_others_are_not_inherited(pair: Pair) -> None:
    fd = os.memfd_create("inheritable", 0)
    Channel(pair.socket).send({}, fd)
    os.close(fd)
    ((_, got),) = pair.channel.receive()
    assert got is not None
    assert not os.get_inheritable(got)
    os.close(got)


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"\xff", b"[]", b"7", b"{}", b'{"fd": true}', b"\x00" * 20],
)
def test_what_is_no_message_is_refused(pair: Pair, text: bytes) -> None:
    pair.socket.sendall(framed(text))
    with pytest.raises(NO_MESSAGE):
        pair.channel.receive()
