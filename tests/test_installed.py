"""The package away from its checkout, as a wheel puts it, where nothing beside it can be written."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def installed(tmp_path):
    """Return a runner of Python code against a copy of the package laid out as in the wheel."""
    site = tmp_path / "site"
    shutil.copytree(ROOT / "sift_colorize", site / "sift_colorize", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "pipelines", site / "sift_colorize" / "pipelines")

    def run(code, **environment):
        variables = {"PYTHONPATH": str(site), "XDG_CACHE_HOME": str(tmp_path / "user"), "HOME": str(tmp_path)}
        keep = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=keep | variables | environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    run.site = site
    return run


def test_the_checkout_keeps_its_cache_in_itself():
    from sift_colorize.caching import default_folder

    assert default_folder() == ROOT / "cache"


def test_the_cache_is_the_users(installed, tmp_path):
    folder = installed("from sift_colorize.caching import default_folder; print(default_folder())")
    assert "sift_colorize" in folder and str(installed.site) not in folder and folder.startswith(str(tmp_path))


def test_the_pipelines_come_along(installed):
    assert (
        installed("from sift_colorize.settings import *; print(*packaged_pipelines())")
        == "autoencoder best classify default fusion koalarization published smoke unet"
    )
    code = "from sift_colorize.settings import *; print(load_settings('published').refinement.method)"
    assert installed(code) == "as_published"


def test_kernels_compile_where_nothing_can_be_written(installed):
    for path in [*installed.site.rglob("*"), installed.site]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    code = (
        "import numpy as np; from sift_colorize.color import luma; print(luma(np.full((2, 2, 3), 7, np.uint8)).sum())"
    )
    try:
        assert installed(code) == "28"
    finally:
        for path in [installed.site, *installed.site.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
