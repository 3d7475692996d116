"""A client and a server on gRPC's C core, with its defaults: that of Python, Ruby, C++, PHP and C#.

grpc_core.py server PORT        serves until SIGTERM, and then stops as servers do in a rollout
grpc_core.py calls PORT         makes each kind of call, and fails if one does not end as it should
grpc_core.py load PORT          makes calls until its input ends, and prints how many, and each failure
"""
import concurrent.futures
import signal
import sys
import threading
import time

import grpc

SERVICE = "/test.Echo/"


class Echo(grpc.GenericRpcHandler):
    """Messages are bytes. Cancelled calls are counted, and Cancelled returns the count."""

    def __init__(self):
        self.cancelled = 0

    def service(self, details):
        if not details.method.startswith(SERVICE):
            return None
        method = details.method[len(SERVICE):]
        return {
            "Unary": grpc.unary_unary_rpc_method_handler(self.unary),
            "Upload": grpc.stream_unary_rpc_method_handler(lambda messages, _: b"".join(messages)),
            "Download": grpc.unary_stream_rpc_method_handler(lambda message, _: (message[i:i + 1] for i in range(len(message)))),
            "Chat": grpc.stream_stream_rpc_method_handler(lambda messages, _: messages),
            "Sleep": grpc.unary_unary_rpc_method_handler(self.sleep),
            "Cancelled": grpc.unary_unary_rpc_method_handler(lambda *_: str(self.cancelled).encode()),
        }.get(method)

    def unary(self, message, context):
        context.set_trailing_metadata((("echo-bin", message[:100]),))
        return message

    def sleep(self, _, context):
        over = threading.Event()
        context.add_callback(over.set)
        over.wait(60)
        self.cancelled += 1
        return b""


def serve(port):
    # Waited for rather than handled: a handler that sets an Event can interrupt the wait for it while that holds its lock.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(32), handlers=[Echo()], options=[("grpc.so_reuseport", 0)])
    if server.add_insecure_port("127.0.0.1:" + port) != int(port):
        sys.exit("cannot listen")
    server.start()
    signal.sigwait({signal.SIGTERM})
    server.stop(30).wait()


def expect(got, want, what):
    if got != want:
        sys.exit(f"{what}: {got!r}, not {want!r}")
    print(what)


def until(is_so, what):
    for _ in range(1500):
        if is_so():
            print(what)
            return
        time.sleep(0.02)
    sys.exit(f"{what}: never")


def calls(channel):
    unary = channel.unary_unary(SERVICE + "Unary")
    big = bytes(range(256)) * 8000
    answer, call = unary.with_call(big)
    expect(answer == big, True, "unary, with 2 MB")
    expect(dict(call.trailing_metadata()).get("echo-bin"), big[:100], "binary metadata in trailers")
    expect(channel.stream_unary(SERVICE + "Upload")(iter([b"a", b"b", big])) == b"ab" + big, True, "stream of the client")
    expect(b"".join(channel.unary_stream(SERVICE + "Download")(b"abc")), b"abc", "stream of the server")
    turn = threading.Semaphore(1)

    def turns():
        for i in range(5):
            turn.acquire(timeout=30)
            yield b"%d" % i

    got = []
    for message in channel.stream_stream(SERVICE + "Chat")(turns()):
        got.append(message)
        turn.release()
    expect(got, [b"0", b"1", b"2", b"3", b"4"], "streams of both, in turns")

    cancelled = channel.unary_unary(SERVICE + "Cancelled")
    sleep = channel.unary_unary(SERVICE + "Sleep")
    before = int(cancelled(b""))
    try:
        sleep(b"", timeout=0.5)
    except grpc.RpcError as e:
        expect(e.code(), grpc.StatusCode.DEADLINE_EXCEEDED, "deadline")
    until(lambda: int(cancelled(b"")) == before + 1, "the server learns of the deadline")
    future = sleep.future(b"")
    time.sleep(0.2)
    future.cancel()
    until(lambda: int(cancelled(b"")) == before + 2, "the server learns of the cancellation")
    try:
        channel.unary_unary(SERVICE + "None")(b"")
    except grpc.RpcError as e:
        expect(e.code(), grpc.StatusCode.UNIMPLEMENTED, "no such method")


def load(channel):
    over, made, failures = threading.Event(), [0] * 4, []

    def caller(i):
        unary = channel.unary_unary(SERVICE + "Unary")
        chat = channel.stream_stream(SERVICE + "Chat")
        while not over.is_set():
            try:
                assert unary(b"x", timeout=60) == b"x"
                assert list(chat(iter([b"y", b"z"]), timeout=60)) == [b"y", b"z"]
                made[i] += 2
            except grpc.RpcError as e:
                failures.append(f"{e.code()} {e.details()}")

    threads = [threading.Thread(target=caller, args=(i,)) for i in range(len(made))]
    for t in threads:
        t.start()
    sys.stdin.read()
    over.set()
    for t in threads:
        t.join()
    print(sum(made), "calls", *failures, sep="\n")


if __name__ == "__main__":
    mode, port = sys.argv[1:]
    if mode == "server":
        serve(port)
    else:
        with grpc.insecure_channel("127.0.0.1:" + port) as c:
            {"calls": calls, "load": load}[mode](c)
