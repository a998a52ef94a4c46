"""What the test of the server needs: small trained bundles in an app, a server of it, and a client."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.conftest import ROOT

VENV = Path(os.environ.get("MONAILABEL_VENV", ROOT / ".venv-monailabel"))
PYTHON = VENV / "bin" / "python"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""}

TRAININGS = {
    "lung_segmentation": ("Synthetic_Lungs", {"epochs": 8, "val_interval": 4, "spacing": "[8,8,8]"}),
    "lung_nodule_ct_classification": ("Synthetic_Nodules", {"epochs": 2}),
    "liver_ct_coarse_segmentation": ("Synthetic_Livers", {"epochs": 8, "val_interval": 4, "recipe": "paper"}),
    "liver_ct_fine_segmentation": (
        "Synthetic_Livers",
        {
            "epochs": 8,
            "val_interval": 4,
            "spacing": "[8,8,8]",
            "recipe": "paper",
            "coarse_checkpoint": "{trained}/liver_ct_coarse_segmentation/models/model.pt",
        },
    ),
}
"""Bundle to sample data and options: long enough that a network of depth 10 finds something.

Sixteen steps are too few for the modern recipe, of which the warm-up alone has fifty.
"""


def run(*arguments: object, cwd: Path = ROOT, python: str | Path = sys.executable) -> None:
    """Run Python in a process of its own; what it printed is shown if it fails."""
    command = [str(python), *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, env=ENVIRONMENT, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def train(name: str, folder: Path) -> Path:
    """Train a bundle on its sample data, below a folder, and return its weights."""
    data, options = TRAININGS[name]
    target = folder / "trained" / name
    files = [str(ROOT / "bundles" / name / "configs" / f"{part}.json") for part in ("train", "smoke")]
    places = {"dataset_dir": folder / data, "run_dir": target}
    flags = [part for key, value in {**options, **places}.items() for part in (f"--{key}", value)]
    flags = [str(flag).format(trained=folder / "trained") for flag in flags]
    run("-m", "monai.bundle", "run", "training", "--config_file", files, *flags)
    return target / "models" / "model.pt"


@contextmanager
def serve(app: Path, studies: Path, log: Path) -> Iterator[Client]:
    """Run MONAI Label's server on loopback for the block, away from the repository."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [PYTHON, "-m", "monailabel.main", "start_server", "--app", app, "--studies", studies]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    with log.open("w", encoding="utf-8") as file:
        streams: dict[str, Any] = {"stdout": file, "stderr": subprocess.STDOUT, "start_new_session": True}
        process = subprocess.Popen(list(map(str, command)), cwd=studies.parent, env=ENVIRONMENT, **streams)
    client = Client(f"http://127.0.0.1:{port}")
    try:
        start = time.monotonic()
        while not client.answers():
            waiting = process.poll() is None and time.monotonic() - start < 300
            assert waiting, log.read_text(encoding="utf-8")
            time.sleep(1)
        print(f"\nThe server was ready after {time.monotonic() - start:.0f} s.")
        yield client
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)
        print("\n".join(log.read_text(encoding="utf-8").splitlines()[-25:]))


class Client:
    """Speaks to the server as 3D Slicer does.

    Args:
        url: of the server.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    def answers(self) -> bool:
        """Tell whether the server is ready."""
        try:
            return self.request("GET", "/info/")[0] == 200
        except OSError:
            return False

    def info(self) -> dict[str, Any]:
        """Return what the server says of itself."""
        content: dict[str, Any] = json.loads(self.request("GET", "/info/")[1])
        return content

    def infer(self, model: str, image: str, output: str = "json", **params: Any) -> tuple[int, bytes]:
        """Ask for a mask ("image") or for what is known of it."""
        query = urlencode({"image": image, "output": output})
        body = urlencode({"params": json.dumps(params)}).encode()
        return self.request("POST", f"/infer/{model}?{query}", body, "application/x-www-form-urlencoded")

    def submit_label(self, image: str, path: Path) -> None:
        """Submit the mask of a scan."""
        name = f'Content-Disposition: form-data; name="label"; filename="{path.name}"'
        body = b"\r\n".join([b"--part", name.encode(), b"", path.read_bytes(), b"--part--", b""])
        query, kind = urlencode({"image": image}), "multipart/form-data; boundary=part"
        status, answer = self.request("PUT", f"/datastore/label?{query}", body, kind)
        assert status == 200, answer

    def remove_label(self, image: str) -> None:
        """Take a mask back."""
        assert self.request("DELETE", f"/datastore/label?{urlencode({'id': image, 'tag': 'final'})}")[0] == 200

    def train(self, model: str, **params: Any) -> dict[str, Any]:
        """Train to the end and return the task as the server describes it."""
        status, answer = self.request("POST", f"/train/{model}", json.dumps(params).encode(), "application/json")
        assert status == 200, answer
        while True:
            task: dict[str, Any] = json.loads(self.request("GET", "/train/")[1])
            if task["status"] not in ("SUBMITTED", "RUNNING"):
                return task
            time.sleep(1)

    def request(self, method: str, path: str, body: bytes | None = None, kind: str = "") -> tuple[int, bytes]:
        """Return status and body of an answer."""
        headers = {"Content-Type": kind} if kind else {}
        request = urllib.request.Request(self.url + path, body, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=300) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()
