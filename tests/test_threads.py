"""One thread inside a work item: of every library, whenever it was loaded."""

import subprocess
import sys

LATE = """
from sift_colorize.threads import one_thread
with one_thread():
    pass
import scipy.linalg, sklearn.cluster  # they bring pools of their own
from threadpoolctl import threadpool_info
before = [pool["num_threads"] for pool in threadpool_info()]
with one_thread():
    assert {pool["num_threads"] for pool in threadpool_info()} == {1}, threadpool_info()
assert [pool["num_threads"] for pool in threadpool_info()] == before
"""


def test_libraries_that_are_loaded_later_keep_to_one_thread():
    result = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
