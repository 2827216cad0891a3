"""Loaded into each process of Dask that a `LocalCluster` starts: tells where a scheduler listens, and ends the
process when the one that started it is gone, however that ended. Its end of our standard input is closed then, and
nobody else is left to remove the cluster's folder.
"""

import os
import shutil
import sys
import threading

folder = os.environ["ENSUE_CLUSTER_FOLDER"]


def end_with_the_parent():
    try:
        while os.read(0, 4096):
            pass
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os._exit(1)


threading.Thread(target=end_with_the_parent, daemon=True).start()


def dask_setup(server):
    if type(server).__name__ != "Scheduler":
        return
    # Dask loads this where it has found bokeh; without, its pages only say that bokeh is missing.
    shown = "distributed.dashboard.scheduler" in sys.modules
    port = server.services["dashboard"].port if shown else ""
    written = os.path.join(folder, "written")
    with open(written, "w") as file:
        file.write(f"{server.address}\n{port}\n")
    # Whoever sees the file sees all of it.
    os.replace(written, os.path.join(folder, "address"))
