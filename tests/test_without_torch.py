"""Without PyTorch all works but the CNN colorizers, and they say what to install."""

import json
import subprocess
import sys

import tiny

from sift_colorize.modelfile import load_model, save_model

RUN = """
import json, sys
sys.modules["torch"] = None
from click.testing import CliRunner
from sift_colorize.pipeline import cli
results = [CliRunner().invoke(cli, words) for words in json.loads(sys.argv[1])]
print(json.dumps([[result.exit_code, result.stderr] for result in results]))
"""


def test_without_torch_it_says_what_to_install_and_writes_nothing(tmp_path):
    arrays, header, _ = load_model(tiny.model()[1])
    header["settings"]["cnn"] = {"network": "unet"}
    save_model(tmp_path / "cnn.safetensors", arrays, header)
    (photo,) = map(str, tiny.save_photos(tmp_path, 1))
    before = sorted(tmp_path.iterdir())
    runs = [
        ["fit", photo, "--with", "unet"],
        ["colorize", photo, "-m", "cnn.safetensors", "-o", "x.png"],
        ["evaluate", photo, "-m", "cnn.safetensors"],
        ["info", "cnn.safetensors"],
        ["info", str(tiny.model()[1])],
    ]
    command = [sys.executable, "-c", RUN, json.dumps(runs)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    *cnns, classical = json.loads(result.stdout)
    for code, errors in cnns:
        assert code == 2 and errors.count("error: ") == 1 and "pip install '.[cnn]'" in errors, errors
    assert classical == [0, ""] and sorted(tmp_path.iterdir()) == before
