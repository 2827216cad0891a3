"""Checks `golden.txt` against the Dask of this Python, which must read every message and have a method for its
arguments. Runs in the folder of the workspace.

    python dask-proto/tests/golden/golden.py

With `write`, writes messages of Dask itself to `written.txt`, for the Rust tests. Started like this, so that
tracebacks have no paths:

    python -c "exec(compile(open('dask-proto/tests/golden/golden.py').read(), 'golden.py', 'exec'))" write
"""

import ast
import inspect
import pathlib
import sys

import distributed
from distributed.core import error_message
from distributed.protocol.core import dumps, loads
from distributed.protocol.serialize import ToPickle, to_serialize
from distributed.scheduler import Scheduler
from distributed.worker import Worker

HERE = pathlib.Path("dask-proto/tests/golden")
NEW = "expr_ser" in inspect.signature(Scheduler.update_graph).parameters
RELEASE = tuple(int(part) for part in distributed.__version__.split(".")[:3])


def golden():
    messages = {}
    for line in (HERE / "golden.txt").read_text().splitlines():
        if line.startswith("  "):
            messages[name].append(ast.literal_eval(f"b'{line[2:]}'"))
        else:
            messages[name := line] = []
    return messages


# What takes each operation, and what it's given besides what is in the message.
STREAM = {
    "update-graph": (Scheduler.update_graph, ["client"]),
    "client-releases-keys": (Scheduler.client_releases_keys, ["client"]),
    "client-desires-keys": (Scheduler.client_desires_keys, ["client"]),
    "cancel-keys": (Scheduler.stimulus_cancel, ["client"]),
    "report-key": (Scheduler.report_on_key, ["client"]),
    "heartbeat-client": (Scheduler.client_heartbeat, ["client"]),
    "close-client": (Scheduler.remove_client, ["client"]),
    "task-finished": (Scheduler.handle_task_finished, ["worker"]),
    "task-erred": (Scheduler.handle_task_erred, ["worker"]),
    "add-keys": (Scheduler.add_keys, ["worker"]),
    "release-worker-data": (Scheduler.release_worker_data, ["worker"]),
    "steal-response": (distributed.stealing.WorkStealing.move_task_confirm, ["worker"]),
    "request-refresh-who-has": (Scheduler.handle_request_refresh_who_has, ["worker"]),
    "long-running": (Scheduler.handle_long_running, ["worker"]),
    "worker-status-change": (Scheduler.handle_worker_status_change, ["worker"]),
}
CALLS = {
    "register-client": (Scheduler.add_client, ["comm"]),
    "register-worker": (Scheduler.add_worker, ["comm"]),
    "heartbeat_worker": (Scheduler.heartbeat_worker, []),
    "identity": (Scheduler.identity, []),
    "who_has": (Scheduler.get_who_has, []),
    "gather": (Scheduler.gather, []),
    "scatter": (Scheduler.scatter, [] if NEW else ["comm"]),
    "retry": (Scheduler.stimulus_retry, []),
    "retire_workers": (Scheduler.retire_workers, []),
    "run_function": (Scheduler.run_function, ["comm"]),
    "get_data": (Worker.get_data, ["comm"]),
    "update_data": (Worker.update_data, []),
}


def takes(method, given, fields):
    inspect.signature(method).bind(None, **{name: None for name in given}, **fields)


def check_graph(operation, frames):
    """Does with the graph what the scheduler does."""
    if NEW:
        from dask._expr import Expr

        expr = operation["expr_ser"]
        assert isinstance(expr, Expr), expr
        graph, annotations = expr.__dask_graph__(), expr.__dask_annotations__()
    else:
        from distributed.protocol.serialize import deserialize
        from distributed.scheduler import _materialize_graph

        graph = deserialize(operation["graph_header"], operation["graph_frames"]).data
        graph, _, annotations = _materialize_graph(graph, {}, True, set(operation["keys"]))
    assert set(graph) == {"add-1", "all-1", "inc-1", "sum-1"}, graph
    deps = {key: set(task.dependencies) for key, task in graph.items()}
    assert deps["sum-1"] == {"inc-1", "add-1"}, deps
    assert deps["add-1"] == {"inc-1"} and deps["inc-1"] == set(), deps
    assert deps["all-1"] == {"inc-1", "add-1"}, deps
    assert graph["add-1"]({"inc-1": 5}) == 7
    task = graph["all-1"]
    args = [arg({"inc-1": 5, "add-1": 7}) if callable(arg) else arg for arg in task.args]
    whole = [None, True, -1, 2**63 - 1, 2**64 - 1, 0.5, "é", b"\0\xff", [7, (5, [1])], {"k": 7}, {"k": ()}]
    assert task.func is print and args == whole, args
    assert annotations["rust"]["sum-1"] == {
        "fn": "app::inc",
        "args": b"\x91\xc0",
        "deps": ["inc-1", "add-1", "inc-1"],
        "timeout": 2.5,
    }, annotations
    assert annotations["resources"] == {"inc-1": {"rust": 1}, "sum-1": {"rust": 1}}
    assert annotations["priority"] == {"sum-1": -3} and annotations["retries"] == {"sum-1": 2}
    assert annotations["workers"] == {"sum-1": ["w1", "tcp://127.0.0.1:9"]}
    assert annotations["allow_other_workers"] == {"sum-1": True}
    try:
        graph["sum-1"]({"inc-1": 5, "add-1": 7})
    except RuntimeError as error:
        assert "Rust worker" in str(error)
    else:
        raise AssertionError("a task of ours ran")


def check(name, frames):
    form = name.rpartition(", ")[2]
    if form in ("new", "expression", "old", "header"):
        if form in ("expression", "header"):
            fits = NEW == (form == "expression")
        else:
            since = {"cancel-keys": (2025, 3, 0), "long-running": (2025, 2, 0)}[name.partition(",")[0]]
            fits = (RELEASE >= since) == (form == "new")
        if not fits:
            return
    message = loads(frames)
    operations = message if isinstance(message, tuple) else (message,)
    for operation in operations:
        if not isinstance(operation, dict) or "op" not in operation:
            continue
        fields = dict(operation)
        op = fields.pop("op")
        if op == "update-graph":
            check_graph(operation, frames)
        fields.pop("reply", None)
        if op == "run_function":
            assert fields.pop("serializers") == ("msgpack",)
            text = eval(*distributed.protocol.pickle.loads(fields["args"]))
            assert "\nadd_worker:self,comm,address" in text, text
        if isinstance(message, tuple) and op in STREAM:
            takes(*STREAM[op], fields)
        elif op in CALLS:
            takes(*CALLS[op], fields)
        else:
            assert op in ("versions", "ping", "keep-alive", "close-stream"), op
    if name == "data":
        error = message["data"].pop("pickle")
        assert repr(error) == "RuntimeError('no')", error
        assert message["data"] == {"bytes": b"payload", "empty": b"", "msgpack": "text"}, message
    if name == "task-erred":
        error = distributed.protocol.pickle.loads(message[0]["exception"])
        assert repr(error) == 'LookupError("it\'s broken")', error
    if name == "several":
        errors = [distributed.protocol.pickle.loads(it["exception"]).args for it in message]
        assert errors == [("one",), ("two",)], errors
    if name == "values":
        assert message == ({1}, distributed.core.Status.running, 2**64 - 1, -(2**63)), message
    if name == "handshake":
        assert message["pickle-protocol"] == 5 and message["compression"] is None


def raised(function):
    try:
        function()
    except Exception as error:
        return error


def cause():
    try:
        {}["k"]
    except KeyError as error:
        raise ValueError("a", 1) from error


class Busted(Exception):
    def __init__(self, one, two):
        super().__init__(one)


def samples():
    """What Dask sends, by name."""
    errors = {
        "division": raised(lambda: 1 / 0),
        "cause": raised(cause),
        "os": raised(lambda: open("/no/such/file")),
        "key": KeyError("k"),
        "nothing": RuntimeError(),
        "mixed": ValueError([1, (2.5, None)], {"k": b"\0"}, {3}, 2**200, ValueError),
        "own": Busted("text", 2),
    }
    for name, error in errors.items():
        yield f"exception {name}", error_message(error)
    objects = {
        "bytes": b"payload",
        "bytearray": bytearray(b"payload"),
        "int": 5,
        "list": [1, b"two", [3.5, "four"]],
        "dict": {"a": b"x", ("t", 1): (None,)},
        "set": {b"one"},
        "complex": 1j,
    }
    for name, value in objects.items():
        yield f"object {name}", {"data": {"k": to_serialize(value)}}
    yield "keys", {"who_has": {"s": ["a"], 3: [], ("t", 1, b"b", 0.5): ["a", "b"]}, "n": {1, "a"}}
    yield "pickled", {"run_spec": ToPickle(lambda: 1), "status": distributed.core.Status.paused}


def line(frame):
    return "".join(chr(b) if 32 <= b < 127 and b != 92 else f"\\x{b:02x}" for b in bytes(frame))


def write():
    with open(HERE / "written.txt", "w") as file:
        for name, message in samples():
            file.write(f"{name}\n")
            for frame in dumps(message):
                file.write(f"  {line(frame)}\n")
        # With serializers of ours, and cut into parts.
        for name, value in {"int": 5, "list": [1, b"two"], "complex": 1j}.items():
            file.write(f"msgpack {name}\n")
            for frame in dumps({"k": to_serialize(value)}, serializers=["dask", "msgpack"]):
                file.write(f"  {line(frame)}\n")
        file.write("split\n")
        for frame in dumps({"k": to_serialize([b"0123456789", 7, b"ab"])}, frame_split_size=4):
            file.write(f"  {line(frame)}\n")
        file.write("compressed\n")
        value = to_serialize(b"0" * 100_000)
        for frame in dumps({"k": value}, context={"compression": "zlib"}):
            file.write(f"  {line(frame)}\n")


if sys.argv[1:2] == ["write"]:
    write()
else:
    count = 0
    for name, frames in golden().items():
        try:
            check(name, frames)
        except BaseException:
            print(f"Dask {distributed.__version__} can't read `{name}`", file=sys.stderr)
            raise
        count += 1
    print(f"Dask {distributed.__version__} reads all {count} messages")
