#!/usr/bin/env python3
"""A cache for the storefront to try: the part of the Redis protocol that its carts need, in memory.

    python3 cache.py [ADDRESS] [PORT]        default: 127.0.0.1 6379; `0` takes any free port; prints where it listens

`GET`, `SET`, `DEL`, `PING`, and `INFO`, which counts the clients that are connected. Any real Redis does as well.
"""

import asyncio
import resource
import sys

VALUES_MAX = 100_000
VALUE_BYTES_MAX = 1 << 20
WORDS_MAX = 16


class Cache:
    def __init__(self):
        self.values = {}
        self.clients = 0

    def answer(self, words):
        """The bytes that answer one command."""
        match [words[0].upper(), *words[1:]]:
            case [b"PING"]:
                return b"+PONG\r\n"
            case [b"GET", key]:
                value = self.values.get(key)
                return b"$-1\r\n" if value is None else b"$%d\r\n%s\r\n" % (len(value), value)
            case [b"SET", key, value]:
                if len(self.values) >= VALUES_MAX and key not in self.values:
                    self.values.pop(next(iter(self.values)))
                self.values[key] = value
                return b"+OK\r\n"
            case [b"DEL", *keys]:
                return b":%d\r\n" % sum(self.values.pop(key, None) is not None for key in keys)
            case [b"INFO", *_]:
                text = b"connected_clients:%d\r\n" % self.clients
                return b"$%d\r\n%s\r\n" % (len(text), text)
        return b"-ERR unknown command\r\n"

    async def serve(self, reader, writer):
        self.clients += 1
        try:
            while True:
                head = await reader.readline()
                if not head.startswith(b"*") or not 0 < (count := int(head[1:])) <= WORDS_MAX:
                    return
                words = []
                for _ in range(count):
                    length = int((await reader.readline())[1:])
                    if not 0 <= length <= VALUE_BYTES_MAX:
                        return
                    words.append((await reader.readexactly(length + 2))[:-2])
                writer.write(self.answer(words))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, ValueError):
            pass
        finally:
            self.clients -= 1
            writer.close()


async def main(address="127.0.0.1", port="6379"):
    # As many clients as the host allows.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    server = await asyncio.start_server(Cache().serve, address, int(port), backlog=4096)
    host, number = server.sockets[0].getsockname()[:2]
    print(f"ready {host}:{number}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    try:
        asyncio.run(main(*sys.argv[1:]))
    except KeyboardInterrupt:
        pass
