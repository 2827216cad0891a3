"""The stock client's side of `dask_speed`: reads the name of a program and a number from each line, and answers with
its time in seconds and its result.
"""

import os
import statistics
import sys
import time

from distributed import Client, wait


def noop(x):
    return x


def inc(x):
    return x + 1


def double(x):
    return x * 2


def add(x, y):
    return x + y


def blob(length):
    return os.urandom(1000) * (length // 1000)


def timed(program):
    def run(client, n):
        started = time.perf_counter()
        result, keep = program(client, n)
        took = time.perf_counter() - started
        del keep
        return took, result

    return run


@timed
def submitted(client, n):
    futures = [client.submit(noop, x, pure=False) for x in range(n)]
    wait(futures)
    return len(futures), futures


@timed
def mapped(client, n):
    futures = client.map(noop, range(n), pure=False)
    wait(futures)
    return len(futures), futures


@timed
def notebook(client, n):
    zs = []
    for i in range(n // 3):
        x = client.submit(inc, i, pure=False)
        y = client.submit(double, x, pure=False)
        z = client.submit(add, x, y, pure=False)
        zs.append(z)
    return client.submit(sum, zs, pure=False).result(), zs


def round_trip(client, n):
    times = []
    for x in range(n):
        started = time.perf_counter()
        result = client.submit(inc, x, pure=False).result()
        times.append(time.perf_counter() - started)
    return statistics.median(times), result


def transfer(client, n):
    first, second = sorted(worker["id"] for worker in client.scheduler_info()["workers"].values())[:2]
    data = client.submit(blob, n, pure=False, workers=[first])
    wait(data)
    started = time.perf_counter()
    result = client.submit(len, data, pure=False, workers=[second]).result()
    return time.perf_counter() - started, result


copied = transfer


def main():
    with Client(sys.argv[1], timeout=60) as client:
        for line in sys.stdin:
            program, n = line.split()
            took, result = globals()[program](client, int(n))
            print(took, result, flush=True)


if __name__ == "__main__":
    main()
