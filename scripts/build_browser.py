"""Build the page that estimates ages in the browser: python scripts/build_browser.py --output DIR.

DIR becomes a static site for any file server or, with --package, the npm package for `npm publish`. Requires Node.js 20
or later with npm.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from html import escape
from pathlib import Path
from typing import Any, Union

from filelock import FileLock

from ssrnet_hub.errors import ArchitectureError, ExportError, MissingPackageError, SSRNetHubError
from ssrnet_hub.hub.checkpoints import Checkpoint, find_checkpoint
from ssrnet_hub.images.alignment import Framing
from ssrnet_hub.inference import cascade_onnx
from ssrnet_hub.inference.calibration import Calibration
from ssrnet_hub.inference.network import Network
from ssrnet_hub.inference.onnx_graph import to_onnx
from ssrnet_hub.inference.onnx_network import OnnxNetwork
from ssrnet_hub.models.folding import fold
from ssrnet_hub.models.zoo import DEFAULT
from ssrnet_hub.utils.io import make_empty_folder
from ssrnet_hub.utils.version import __version__

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "demo" / "browser"
MTCNN = Path(cascade_onnx.__file__).parent / "mtcnn"

ORT = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")
"""Files of onnxruntime-web that the page needs: WebAssembly only, with and without threads."""

POLICY = {
    "default-src": "'none'",
    "script-src": "'self' 'wasm-unsafe-eval'",
    "worker-src": "'self' blob:",  # a worker from a blob inherits the policy of its page
    "connect-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' blob: data:",
    "media-src": "'self' blob:",
    "base-uri": "'none'",
    "form-action": "'none'",
}
"""Content security policy of the page: nothing is sent to another host."""

_SERVED = (".html", ".css", ".js", ".mjs", ".wasm", ".onnx", ".json")
"""Suffixes of the files that the page loads, which the service worker caches."""

PAGE_ONLY = ("page.js", "thread.js", "words.js", "worker.js")
"""Modules that are not in the npm package."""


def write_model(weights: Union[str, os.PathLike, None], folder: Path) -> None:
    """Write the model files of the JavaScript estimator: the age network, the detector's networks, and a config.

    Raises:
        ArchitectureError: The weights do not estimate age, or the browser does not support them.
    """
    checkpoint = find_checkpoint(weights)
    if not OnnxNetwork.takes(checkpoint):
        raise ArchitectureError(
            f"{checkpoint.architecture} is not supported in the browser: choose weights of SSR-Net with one output."
        )
    tensors = checkpoint.to_tensors(checkpoint.read_weights())
    checkpoint = checkpoint.bind_calibration(tensors)
    data = checkpoint.input
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(to_onnx(fold(checkpoint.args, tensors, data.mean, data.std)))
    for name in ("pnet", "rnet", "onet", "cut_faces"):
        shutil.copy(MTCNN / f"{name}.onnx", folder)
    shutil.copy(MTCNN / "LICENSE", folder / "LICENSE.mtcnn")
    if (checkpoint.folder / "LICENSE").is_file():
        shutil.copy(checkpoint.folder / "LICENSE", folder / "LICENSE.weights")
    config = describe(checkpoint, DEFAULT if weights is None else str(weights))
    (folder / "config.json").write_text(json.dumps(config, separators=(",", ":")), encoding="utf-8")


def describe(checkpoint: Checkpoint, name: str) -> dict[str, Any]:
    """Return the config of weights, as in `demo/browser/src/model.js`."""
    data, args = checkpoint.input, checkpoint.args
    network = Network(checkpoint.extras, float(args["V"]), args["in_chans"], None, 1)
    channels, height, width = data.input_size
    if network.task != "age" or height != width or data.crop_mode != "center":
        raise ArchitectureError("In the browser, weights must estimate age from a square, center-cropped input.")
    if data.interpolation not in ("bilinear", "bicubic"):
        raise ArchitectureError(f"The interpolation {data.interpolation} is not supported in the browser.")
    calibration = checkpoint.extras.get("calibration")
    return {
        "name": Path(name).name,
        "license": checkpoint.license or "unknown",
        "version": __version__,
        "V": network.V,
        "stage_bins": list(args["stage_bins"]),
        "input": {
            "channels": channels,
            "size": height,
            "scaled": int(height / data.crop_pct),
            "interpolation": data.interpolation,
        },
        "framing": network.framing.to_dict(),
        "template": Framing().to_dict()["template"],
        "calibration": None if calibration is None else Calibration.from_dict(calibration).to_dict(),
    }


def build_page(weights: Union[str, os.PathLike, None], folder: Path) -> None:
    """Write the self-contained page to an empty folder.

    Raises:
        MissingPackageError: npm is not installed.
        ExportError: npm failed.
        SSRNetHubError: The weights cannot be loaded, or are not supported in the browser.
    """
    install()
    write_model(weights, folder / "model")
    shutil.copytree(SOURCE / "src", folder / "src")
    shutil.copytree(ROOT / "ssrnet_hub" / "webapp" / "static", folder / "static")
    for path in (SOURCE / "page.css", SOURCE / "sw.js", ROOT / "LICENSE", ROOT / "NOTICE"):
        shutil.copy(path, folder)
    (folder / "ort").mkdir()
    for name in ORT:
        shutil.copy(SOURCE / "node_modules" / "onnxruntime-web" / "dist" / name, folder / "ort")
    (folder / "src" / "ort.js").write_text(
        f"export {{ env, InferenceSession, Tensor }} from '../ort/{ORT[0]}';\n",
        encoding="utf-8",
    )
    policy = "; ".join(f"{key} {value}" for key, value in POLICY.items())
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    page = (SOURCE / "index.html").read_text(encoding="utf-8")
    links = [f'<link rel="modulepreload" href="{name}">' for name in imports(folder, Path("src/page.js"))]
    blanks = {"policy": escape(policy, quote=False), "size": f"{size / 1e6:.0f}", "preload": "\n    ".join(links)}
    for key, text in blanks.items():
        page = page.replace(f"{{{key}}}", text)
    (folder / "index.html").write_text(page, encoding="utf-8")
    kept = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix)
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in kept)).hexdigest()
    values = {
        "FILES": ["./", *(path.relative_to(folder).as_posix() for path in kept if path.suffix in _SERVED)],
        "POLICY": policy,
        "VERSION": digest[:16],
    }
    script = "".join(f"self.{key} = {json.dumps(value)};\n" for key, value in values.items())
    (folder / "files.js").write_text(script, encoding="utf-8")


def imports(folder: Path, module: Path) -> list[str]:
    """Return the direct and indirect imports of a module, in breadth-first order."""
    found = {module: None}
    for name in (todo := [module]):
        for address in re.findall(r"from '(\.[^']+)'", (folder / name).read_text(encoding="utf-8")):
            path = Path(os.path.normpath(name.parent / address))
            if path not in found:
                found[path] = None
                todo.append(path)
    return [path.as_posix() for path in found if path != module]


def build_package(weights: Union[str, os.PathLike, None], folder: Path) -> None:
    """Write the npm package to an empty folder. Raises the errors of `build_page`."""
    install()
    write_model(weights, folder / "model")
    shutil.copytree(SOURCE / "src", folder / "src", ignore=shutil.ignore_patterns(*PAGE_ONLY))
    for path in (SOURCE / "README.md", ROOT / "LICENSE", ROOT / "NOTICE"):
        shutil.copy(path, folder)
    package = json.loads((SOURCE / "package.json").read_text(encoding="utf-8"))
    for key in ("private", "scripts", "devDependencies"):
        package.pop(key)
    package["version"] = __version__
    (folder / "package.json").write_text(json.dumps(package, indent=2) + "\n", encoding="utf-8")
    run("npm", "run", "--silent", "types", "--", "--outDir", str(folder / "types"))


def install() -> None:
    """Install the packages in `demo/browser/package-lock.json`, unless they are up to date."""
    stamp = SOURCE / "node_modules" / ".installed"
    wanted = hashlib.sha256((SOURCE / "package-lock.json").read_bytes()).hexdigest()
    # locked, since npm ci first removes node_modules
    with FileLock(SOURCE / ".install.lock"):
        if not stamp.exists() or stamp.read_text() != wanted:
            run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel", "error")
            stamp.write_text(wanted)


def run(name: str, *arguments: str) -> None:
    """Run one of Node.js's commands in `demo/browser`."""
    command = shutil.which(name)
    if not command:
        raise MissingPackageError(f"{name} is not installed: install Node.js 20 or later, https://nodejs.org.")
    done = subprocess.run([command, *arguments], cwd=SOURCE, capture_output=True, text=True)
    if done.returncode:
        raise ExportError(f"{name} {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}".rstrip())


def build(weights: Union[str, os.PathLike, None], output: Path, package: bool = False) -> Path:
    """Write the page or the npm package to a new or empty folder; on failure, nothing is written."""
    make_empty_folder(output)
    with tempfile.TemporaryDirectory() as temporary:
        (build_package if package else build_page)(weights, Path(temporary))
        shutil.copytree(temporary, output, dirs_exist_ok=True)
    return output


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", metavar="NAME|DIR", help=f"name, repository or folder (default: {DEFAULT})")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="new or empty folder")
    parser.add_argument("--package", action="store_true", help="write the npm package instead of the page")
    args = parser.parse_args()
    try:
        print(build(args.weights, args.output.expanduser(), args.package))
    except SSRNetHubError as e:
        print(f"error: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
