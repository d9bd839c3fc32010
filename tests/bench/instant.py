"""A server that answers every chat request at once: what is left of a second is the client's own."""

import contextlib
import subprocess
import sys

_SERVER = r'''
import asyncio, itertools, re

BODY = (
    b'{"id":"chatcmpl-%d","object":"chat.completion","created":1,"model":"tiny","choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"yes","reasoning":null},"logprobs":null,"finish_reason":"stop"}],'
    b'"system_fingerprint":"vllm-0.32.0-abc","usage":{"prompt_tokens":12,"total_tokens":15,"completion_tokens":3}}'
)
LIST = b'{"object":"list","data":[{"id":"tiny","object":"model"}]}'

def whole(body, status=b"200 OK"):
    head = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (status, len(body))
    return head + body

NUMBERS, MODELS, NOWHERE = itertools.count(), whole(LIST), whole(b"{}", b"404 Not Found")

class Line(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.rest = transport, b""

    def data_received(self, data):
        self.rest += data
        while (end := self.rest.find(b"\r\n\r\n")) >= 0:
            length = re.search(rb"(?i)content-length: *(\d+)", self.rest[:end])
            size = end + 4 + (int(length[1]) if length else 0)
            if len(self.rest) < size:
                return
            asked, self.rest = self.rest[:end], self.rest[size:]
            answer = whole(BODY % next(NUMBERS)) if b"/chat/completions" in asked else b""  # each has an id of its own
            self.transport.write(answer or (MODELS if b"/models" in asked else NOWHERE))

async def main():
    server = await asyncio.get_running_loop().create_server(Line, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
'''


@contextlib.contextmanager
def instant():
    """Address of a server in a process of its own that answers every chat request at once."""
    child = subprocess.Popen([sys.executable, "-c", _SERVER], stdout=subprocess.PIPE, text=True)
    try:
        yield f"http://127.0.0.1:{int(child.stdout.readline())}/v1"
    finally:
        child.terminate()
        child.wait()
        child.stdout.close()
