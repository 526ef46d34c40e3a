"""One thread inside a work item: of every library, whenever it was loaded."""

import subprocess
import sys

import pytest

from sift_colorize.checks import InputError
from sift_colorize.threads import check_shared, using

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


def test_what_is_written_here_must_be_seen_elsewhere(tmp_path):
    class Elsewhere:
        """Workers on machines with disks of their own."""

        def everywhere(self, function, *arguments):
            return {"tcp://10.0.0.2": False}

    check_shared(tmp_path / "alone")
    assert not (tmp_path / "alone").exists()
    with using(Elsewhere()), pytest.raises(InputError, match=r"10\.0\.0\.2 does not see what is written into '.*out'"):
        check_shared(tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())
