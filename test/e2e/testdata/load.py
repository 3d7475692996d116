"""Sends requests to http://HOST:PORT/headers at a steady rate, on new and on kept connections, until it gets
a signal. It prints a line of JSON for every failure, and one each second with the number of requests so far and the
duration in milliseconds of each request of that second."""

import http.client
import json
import os
import signal
import socket
import sys
import threading
import time

host, port = os.environ["TARGET"].split(":")
rate = int(os.environ.get("RATE", "50"))  # requests a second of each kind
address = None
while address is None:
    try:
        address = socket.gethostbyname(host)  # once: DNS is not under test
    except OSError:
        time.sleep(0.5)
lock = threading.Lock()
sent = {"new": 0, "kept": 0}
failed = {"new": 0, "kept": 0}
took = []  # milliseconds of each request since the last line
end = threading.Event()


def say(line):
    with lock:
        print(json.dumps(line), flush=True)


def run(kind, offset):
    connection, due = None, time.monotonic() + offset
    while not end.is_set():
        due += WORKERS / rate
        time.sleep(max(0, due - time.monotonic()))
        began, begin = time.time(), time.monotonic()
        try:
            if connection is None:
                connection = http.client.HTTPConnection(address, int(port), timeout=3)
                connection.connect()
                connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.request("GET", "/headers?by=" + kind, headers={"Host": f"{host}:{port}"})
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != 200 or b"headers" not in body:
                raise ValueError(f"status {answer.status}: {body[:200]!r}")
            with lock:
                sent[kind] += 1
                took.append(round((time.monotonic() - begin) * 1000, 2))
            if kind == "new" or answer.will_close:
                connection.close()
                connection = None
        except Exception as e:  # any error counts: a client would see it
            with lock:
                failed[kind] += 1
            say({"failed": kind, "began": began, "took": time.time() - began, "error": repr(e)})
            if connection is not None:
                connection.close()
            connection = None


WORKERS = 4
signal.signal(signal.SIGTERM, lambda *_: end.set())
threads = [threading.Thread(target=run, args=(kind, i / rate), daemon=True) for i in range(WORKERS) for kind in sent]
for thread in threads:
    thread.start()
while not end.is_set():
    end.wait(1)
    with lock:
        now = {"at": time.time(), "new": sent["new"], "kept": sent["kept"], "failed_new": failed["new"], "failed_kept": failed["kept"], "ms": took}
        took = []
    say(now)
for thread in threads:
    thread.join(15)
say({"at": time.time(), "new": sent["new"], "kept": sent["kept"], "failed_new": failed["new"], "failed_kept": failed["kept"], "ended": True})
sys.exit(0)
