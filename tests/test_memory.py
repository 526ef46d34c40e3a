"""Memory that is kept is there for the next array."""

import os
import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys, numpy
from sift_colorize.memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        numpy.ones(int(sys.argv[1]), numpy.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

given_back = faults()
keep_freed_memory(*map(int, sys.argv[2:]))
print(given_back, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc that gives freed memory back")
@pytest.mark.parametrize(
    ("size", "most", "kept"), [(8 << 20, [64 << 20], True), (48 << 20, [64 << 20], False), (48 << 20, [], True)]
)
def test_what_is_kept_needs_no_new_pages(size, most, kept):
    environment = os.environ | {"MALLOC_TRIM_THRESHOLD_": "65536"}  # as dask starts its workers
    words = [sys.executable, "-c", FAULTS, str(size), *map(str, most)]
    apart = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    before, after = map(int, apart.stdout.split())
    assert (after < before / 4) == kept
