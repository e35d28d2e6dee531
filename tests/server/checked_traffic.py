"""Stands between the clients and a server, hands on every byte as it is, and
compares each answer and each event with the descriptions (descriptions.py)
before a client sees it. So nothing of a client is replaced, and no test has to
think of it."""

import asyncio
import json
import threading

import h11

import descriptions


class Exchange:
    """A request and what came back."""

    def __init__(self, request, report):
        self.method = request.method.decode()
        self.path = request.target.decode().split("?")[0]
        self.report = report
        self.status = None
        self.headers = {}
        self.body = b""  # of a whole answer, or what is left of a stream
        self.stream = None
        self.events = []  # (name, data) of a stream
        self.comments = []  # signs of life that are no events

    def wrong(self, what):
        self.report(f"{self.method} {self.path}: {what}")

    def checked(self, check, *values):
        try:
            what = check(*values)
        except Exception as error:  # pylint: disable=broad-except
            what = f"{values}: {error!r}"
        if what:
            self.wrong(what)

    def begin(self, response):
        self.status = response.status_code
        self.headers = {k.decode(): v.decode() for k, v in response.headers}
        kind = self.headers.get("content-type", "")
        if kind.startswith(("text/event-stream", "application/x-ndjson")):
            self.stream = descriptions.STREAMS[self.path]()
            self.lines = "ndjson" in kind

    def data(self, data):
        self.body += data
        if self.stream is None:
            return
        end = b"\n" if self.lines else b"\n\n"
        *parts, self.body = self.body.split(end)
        for part in parts:
            self.part(part.decode())

    def part(self, part):
        name, data = None, None
        if self.lines:
            data = part
        else:
            for line in part.split("\n"):
                field, _, value = line.partition(":")
                value = value.removeprefix(" ")
                if field == "":
                    self.comments.append(value)
                elif field == "event":
                    name = value
                elif field == "data":
                    data = value if data is None else data + "\n" + value
                else:
                    self.wrong(f"a line that is no event's: {line}")
        if data is not None:
            self.events.append((name, data))
            self.checked(self.stream.event, name, data)

    def end(self):
        if self.stream is not None:
            if self.body:
                self.wrong(f"a stream that ends within an event: {self.body}")
            self.checked(self.stream.end)
        elif self.method != "HEAD":
            self.checked(
                descriptions.wrong_in_answer,
                self.method,
                self.path,
                self.status,
                self.body,
            )

    def json(self):
        return json.loads(self.body)


class Connection:
    """Reads both directions of one."""

    def __init__(self, traffic):
        self.traffic = traffic
        self.client = h11.Connection(h11.SERVER)  # what the client says
        self.server = h11.Connection(h11.CLIENT)  # what the server says
        self.exchange = None
        self.lost = False  # no longer understood, or not to be

    def read(self, side, data):
        if self.lost:
            return
        try:
            side.receive_data(data)
            self.read_events(side)
        except h11.ProtocolError as error:
            self.lost = True
            self.traffic.report(f"no HTTP: {error!r}")

    def read_events(self, side):
        while (event := side.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
            if isinstance(event, h11.ConnectionClosed):
                return
            if side is self.client:
                self.take_of_request(event)
            else:
                self.take_of_answer(event)

    def take_of_request(self, event):
        if isinstance(event, h11.Request):
            self.exchange = Exchange(event, self.traffic.report)
            self.traffic.exchanges.append(self.exchange)
        self.server.send(event)

    def take_of_answer(self, event):
        if isinstance(event, h11.Response):
            self.exchange.begin(event)
        elif isinstance(event, h11.Data):
            self.exchange.data(bytes(event.data))
        elif isinstance(event, h11.EndOfMessage):
            self.exchange.end()
            self.begin_next()

    def begin_next(self):
        if self.client.their_state is not h11.DONE or (
            self.server.their_state is not h11.DONE
        ):
            self.lost = True  # the last one of this connection
            return
        self.client.send(h11.Response(status_code=200, headers=[]))
        self.client.send(h11.EndOfMessage())
        if self.client.our_state is h11.DONE:
            self.client.start_next_cycle()
            self.server.start_next_cycle()
        else:
            self.lost = True


class CheckedTraffic:
    """All of one server's. Its thread is a daemon: it ends with the tests."""

    def __init__(self, port):
        self.upstream = port
        self.port = None
        self.exchanges = []
        self.found_wrong = []
        started = threading.Event()
        threading.Thread(
            target=lambda: asyncio.run(self.work(started)), daemon=True
        ).start()
        started.wait()

    def report(self, what):
        self.found_wrong.append(what)

    def begin_test(self):
        self.exchanges.clear()
        self.found_wrong.clear()

    @property
    def last(self):
        return self.exchanges[-1]

    async def work(self, started):
        server = await asyncio.start_server(self.connect, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        await server.serve_forever()

    async def connect(self, client_reader, client_writer):
        server_reader, server_writer = await asyncio.open_connection(
            "127.0.0.1", self.upstream
        )
        connection = Connection(self)

        async def hand_on(reader, side, writer):
            while data := await reader.read(1 << 16):
                connection.read(side, data)
                writer.write(data)
                await writer.drain()

        ways = [
            asyncio.ensure_future(
                hand_on(client_reader, connection.client, server_writer)
            ),
            asyncio.ensure_future(
                hand_on(server_reader, connection.server, client_writer)
            ),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            client_writer.close()
            server_writer.close()
