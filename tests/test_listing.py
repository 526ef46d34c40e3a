"""The listing: photos in the order of their digests, whatever their names, in any number, on disk."""

import hashlib
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sift_colorize.checks import NoPhotosError
from sift_colorize.listing import Failure, Listing
from sift_colorize.reference import budgeted
from sift_colorize.settings import Settings


def digest_of(path):
    return hashlib.md5(os.fsencode(path)).hexdigest()


def listed(paths):
    listing = Listing(paths)
    return listing, listing.sources(digest_of(path) for path in listing)[0]


@given(st.integers(1, 1700), st.integers(0, 2000), st.integers(0, 2000), st.integers(1, 700))
def test_slices_are_those_of_a_list(count, start, stop, step):
    _, sources = listed(Path(f"/photos/{n}.png") for n in range(count))
    whole = list(sources)
    assert [source.digest for source in whole] == sorted(source.digest for source in whole) and len(whole) == count
    part = sources[start:stop:step]
    assert list(part) == whole[start:stop:step] and len(part) == len(whole[start:stop:step])
    assert list(part[1:][::2]) == whole[start:stop:step][1:][::2]
    assert sources[0] == whole[0] and sources[-1] == whole[-1]
    with pytest.raises(IndexError):
        sources[count]


def test_neither_order_nor_names_matter_and_copies_count_once():
    paths = [Path(f"/photos/{n}.png") for n in range(50)]
    shuffled = random.Random(0).sample(paths, 50)
    assert list(listed(paths)[1]) == list(listed(shuffled + shuffled[:9])[1])
    listing = Listing(paths)
    sources, failures = listing.sources("same" for _ in listing)
    assert [source.digest for source in sources] == ["same"] and len(failures) == 49
    assert all(f"is the same file as {sources[0].path}" in failure.reason for failure in failures)


def test_any_name_comes_back(tmp_path):
    names = [b"a\nb.png", b"\xff\xfe.png", "Ünïcödé 日本.png".encode(), b"x" * 200 + b".png"]
    paths = [tmp_path / name.decode("utf-8", "surrogateescape") for name in names]
    assert {source.path for source in listed(paths)[1]} == set(paths)


def test_what_could_not_be_seen_is_passed_over_and_the_rest_is_numbered_anew():
    listing, sources = listed(Path(f"/photos/{n}.png") for n in range(30))
    tints = [Failure(source.path, "grey") if n % 3 == 0 else (n, -n / 7) for n, source in enumerate(sources)]
    seen, failures = listing.seen(sources, tints)
    assert len(seen) == 20 and len(failures) == 10
    wanted = [(float(n), -n / 7) for n in range(30) if n % 3]
    assert [source.tint for source in seen] == wanted
    assert [source.tint for source in seen[5::2]] == wanted[5::2]


def test_where_none_could_be_seen_it_is_said():
    listing, sources = listed([Path("/photos/1.png")])
    with pytest.raises(NoPhotosError, match="at least one in colour"):
        listing.seen(sources, [Failure(Path("/photos/1.png"), "grey")])


PEAKS = """
import hashlib, os, sys, tracemalloc
from pathlib import Path
from sift_colorize.listing import Listing, Source

sys.intern = str  # pathlib interns names: the table of them grows by leaps, which is not what is looked at here
for count in (100, 2_000, 20_000):
    tracemalloc.start()
    listing = Listing(Path(f"/somewhere/with/a/longer/name/photo{n:09d}.png") for n in range(count))
    sources, _ = listing.sources(hashlib.md5(os.fsencode(path)).hexdigest() for path in listing)
    seen, _ = listing.seen(sources, ((1.0, 2.0) for _ in sources))
    assert sum(1 for _ in seen[::3]) == -(-count // 3) and isinstance(seen[count // 2], Source)
    print(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
"""


def test_memory_does_not_grow_with_the_photos():
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    apart = subprocess.run([sys.executable, "-c", PEAKS], env=environment, capture_output=True, text=True, check=True)
    _, few, many = map(int, apart.stdout.split())
    assert many < 1.2 * few


@given(st.integers(1, 10**9), st.integers(0, 7), st.integers(1, 1000), st.integers(1, 10**7))
def test_samples_stay_within_their_budget(photos, copies, points, budget):
    settings = Settings().replaced(
        {"training": {"copies": copies, "samples_per_photo": points, "sample_budget": budget}}
    )
    count, sampling = budgeted(photos, settings)
    assert count * (1 + sampling.copies) * sampling.points <= budget
    assert 1 <= count <= photos and 0 <= sampling.copies <= copies
    if count < photos:
        assert sampling.points == 1 and sampling.copies == 0
    more, _ = budgeted(photos + 1, settings)
    assert more >= count


def test_a_few_photos_more_leave_the_samples_of_the_others_as_they_were():
    samplings = [budgeted(count, Settings())[1] for count in (5000, 5001, 5100)]
    assert samplings[0] == samplings[1] == samplings[2]
    points = [budgeted(count, Settings())[1].points for count in np.geomspace(100, 1e6, 60).astype(int)]
    assert points == sorted(points, reverse=True) and set(points) <= {120 // 2**k for k in range(7)}
