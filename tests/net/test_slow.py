"""Readers that are slower than the network: windows close and open again, and each byte still comes."""
import hashlib
import threading
import time

import services
from test_joined import connect


def slow_download(world, size, seed, rate, block=32768):
    digest, got, began = hashlib.sha256(), 0, time.monotonic()
    with connect(world, services.SOURCE, timeout=30) as sock:
        sock.sendall(f"{size} {seed}\n".encode())
        while data := sock.recv(block):
            digest.update(data)
            got += len(data)
            time.sleep(max(0, began + got / rate - time.monotonic()))
    return got, digest.hexdigest()


def test_reader_slower_than_the_network_gets_every_byte(joined):
    joined.relay.delay(0.005)
    sizes = [1_281_232, 3_133_171, 3_354_043, 2_551_404, 999_999, 2_000_000]
    results = {}
    threads = [threading.Thread(target=lambda i=i, size=size: results.update({i: slow_download(joined, size, i, 1_000_000)}))
               for i, size in enumerate(sizes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    expected = {i: (size, services.digest_of(size, i)) for i, size in enumerate(sizes)}
    assert {i: got for i, (got, _) in results.items()} == dict(enumerate(sizes))
    assert results == expected
