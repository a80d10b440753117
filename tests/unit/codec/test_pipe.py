import threading

from calotype.codec.pipe import Pipe


def test_bytes_come_out_as_they_went_in() -> None:
    pipe = Pipe(room_bytes=100)
    assert pipe.put(b"abcdef")
    assert pipe.put(b"")
    assert pipe.put(b"gh")
    pipe.end()
    taken = []
    while block := bytes(pipe.take(4)):
        taken.append(block)
    assert taken == [b"abcd", b"ef", b"gh"]
    assert bytes(pipe.take(4)) == b""


def test_whoever_is_ahead_waits() -> None:
    pipe, put = Pipe(room_bytes=10), []

    def fill() -> None:
        for number in range(100):
            pipe.put(bytes([number]) * 8)
            put.append(number)
        pipe.end()

    thread = threading.Thread(target=fill)
    thread.start()
    taken = b""
    while block := bytes(pipe.take(3)):
        taken += block
        assert len(put) * 8 <= len(taken) + 16
    thread.join()
    assert taken == b"".join(bytes([number]) * 8 for number in range(100))


def test_a_block_larger_than_the_room_goes_through() -> None:
    pipe = Pipe(room_bytes=2)
    assert pipe.put(b"abcdef")
    assert bytes(pipe.take(9)) == b"abcdef"


def test_after_the_end_by_force_nobody_waits() -> None:
    pipe, results = Pipe(room_bytes=1), []
    pipe.put(b"x")
    threads = [threading.Thread(target=lambda: results.append(pipe.put(b"y"))) for _ in range(3)]
    for thread in threads:
        thread.start()
    pipe.abort()
    for thread in threads:
        thread.join()
    assert results == [False] * 3
    assert bytes(pipe.take(1)) == b""
    empty = Pipe()
    waiting = threading.Thread(target=lambda: results.append(bytes(empty.take(1)) != b""))
    waiting.start()
    empty.abort()
    waiting.join()
    assert results == [False] * 4
