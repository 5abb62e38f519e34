"""storm_client.c in Python: the same words, the same lines."""

import os
import sys
import time

import pawl

KEYS = 4


def publish(client, name, say):
    n = 0
    while True:
        some = []
        for _ in range(5):
            n += 1
            topic = "storm.handled" if n % 8 == 0 else "storm.work"
            headers = {"k": "%s.%d" % (name, n % KEYS)}
            some.append(pawl.message(topic, "%s:%d" % (name, n), headers=headers))
        client.publish_batch(some)
        for k in range(n - 4, n + 1):
            say("%s:%d" % (name, k))
        time.sleep(0.02)


def consume(client, queue, say):
    consumer = client.consume(queue)
    while True:
        for each in consumer.claim(8, 1.0):
            data = each.data.decode()
            say("begun %s %d %s" % (data, each.seq, each.tag))
            say("done %s" % data)
            try:
                each.ack()
            except pawl.Stale:
                pass


def main():
    verb, state, name, path = sys.argv[1:]
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    with pawl.connect(state, reconnect_timeout=-1) as client:
        (publish if verb == "publish" else consume)(client, name, lambda text: os.write(file, (text + "\n").encode()))


main()
