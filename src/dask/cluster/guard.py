"""Module that a `LocalCluster` loads into each of its Dask processes. It announces the address of a scheduler, and
ends the process when the one that started it has ended, however that happened: the system closes the standard input
then. The cluster's folder is removed as well, since no other process does it.
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
    # Dask imports this module if bokeh is installed. Without bokeh, the pages only say that it's missing.
    shown = "distributed.dashboard.scheduler" in sys.modules
    port = server.services["dashboard"].port if shown else ""
    written = os.path.join(folder, "written")
    with open(written, "w") as file:
        file.write(f"{server.address}\n{port}\n")
    # The rename is atomic: a reader sees the complete file or none.
    os.replace(written, os.path.join(folder, "address"))
