"""Photos that the tests make from those inside scikit-image and scikit-learn."""

import logging
import os
import uuid

import hypothesis
import numpy as np
import pytest
from joblib.externals.loky import get_reusable_executor
from PIL import Image
from skimage import data
from sklearn.datasets import load_sample_image

hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def same_numbers(request):
    """Have a module's `RNG` say the same in each test, whatever ran before."""
    if rng := getattr(request.module, "RNG", None):
        start = request.module.__dict__.setdefault("RNG_START", rng.bit_generator.state)
        rng.bit_generator.state = start


@pytest.fixture(scope="session")
def package_photos():
    """Return the colour photos inside the packages: name → (H, W, 3) uint8."""
    photos = {name: getattr(data, name)() for name in ("astronaut", "chelsea", "coffee", "rocket")}
    return photos | {name: load_sample_image(f"{name}.jpg") for name in ("china", "flower")}


@pytest.fixture(scope="session")
def crops(package_photos):
    """Return twelve different colour pictures of 96 × 96 px."""
    rng = np.random.default_rng(0)
    pictures = []
    for photo in list(package_photos.values()) * 2:
        top, left = (rng.integers(side - 192) for side in photo.shape[:2])
        pictures.append(np.ascontiguousarray(photo[top : top + 192 : 2, left : left + 192 : 2]))
    return pictures


@pytest.fixture
def photos(tmp_path, crops):
    """Return a folder with eleven of them."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i, crop in enumerate(crops[:11]):
        Image.fromarray(crop).save(folder / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def s3():
    """Return a file system of a real S3 server in this process."""
    fsspec, server = pytest.importorskip("fsspec"), pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    get_reusable_executor().shutdown()  # workers know the environment that they were started in
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "someone")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("AWS_CONFIG_FILE", os.devnull)
        system = fsspec.filesystem("s3")
        yield system
        system.clear_instance_cache()
    get_reusable_executor().shutdown()
    running.stop()


@pytest.fixture
def bucket(s3):
    """Return the URL of a new bucket."""
    name = f"bucket-{uuid.uuid4().hex}"
    s3.mkdir(name)
    return f"s3://{name}"


@pytest.fixture
def upload():
    """Return a function that puts a tree behind a URL, by other means than those that are tested."""
    fsspec = pytest.importorskip("fsspec")

    def put(folder, root):
        system, path = fsspec.url_to_fs(root)
        for file in folder.rglob("*"):
            if file.is_file():
                system.pipe_file(f"{path}/{file.relative_to(folder).as_posix()}", file.read_bytes())

    return put
