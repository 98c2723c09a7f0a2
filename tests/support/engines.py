"""Container programs for tests, with storage of their own: nothing of the machine's is touched."""

from __future__ import annotations

import functools
import hashlib
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.support.programs import require_program


def run(*command: str, cwd: Path | None = None) -> str:
    """Run a program to its end, insist that it went well, and return its standard output."""
    # The container programs refuse to start where DOCKER_CONFIG names a folder without a file.
    environ = {name: value for name, value in os.environ.items() if name != "DOCKER_CONFIG"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=environ)
    assert done.returncode == 0, f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


@functools.cache
def storage_driver() -> tuple[str, ...]:
    """Options that choose how layers are kept: overlay where kernel and file system allow it.

    The other driver, vfs, runs everywhere, and copies all that lies below for every layer and container.
    """
    # Without the option a mount of the storage on itself would stay behind.
    overlay = ("--storage-driver=overlay", "--storage-opt=overlay.skip_mount_home=true")
    with tempfile.TemporaryDirectory(prefix="kb-") as folder:
        command = ["buildah", f"--root={folder}/root", f"--runroot={folder}/run", *overlay, "images"]
        works = subprocess.run(command, capture_output=True, check=False).returncode == 0
    return overlay if works else ("--storage-driver=vfs",)


@dataclass(frozen=True)
class Engines:
    """skopeo, umoci, buildah and podman around one folder."""

    folder: Path
    credentials: str | None = None
    """`user:password` for registries."""

    def _storage(self) -> list[str]:
        # podman wants a short path for what it keeps while it runs.
        run_root = Path(tempfile.gettempdir()) / f"kb-{hashlib.sha256(str(self.folder).encode()).hexdigest()[:12]}"
        return ["--root", str(self.folder / "storage"), "--runroot", str(run_root), *storage_driver()]

    def _login(self, option: str = "--creds") -> list[str]:
        return [option, self.credentials] if self.credentials else []

    def skopeo_pull(self, reference: str) -> Path:
        """Copy a registry's image into a layout; returns its folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        layout = self.folder / "skopeo"
        login = self._login("--src-creds")
        require_program("skopeo")
        run("skopeo", "copy", "--src-tls-verify=false", *login, f"docker://{reference}", f"oci:{layout}:pulled")
        return layout

    def umoci_unpack(self, layout: Path, tag: str) -> Path:
        """Unpack a layout's image as umoci does; returns the root file system."""
        require_program("umoci")
        bundle = self.folder / "bundle"
        run("umoci", "raw", "unpack", "--image", f"{layout}:{tag}", str(bundle))
        return bundle

    def buildah_run(self, image: str, *command: str) -> str:
        """Run a program inside an image, without a container; returns its standard output."""
        require_program("buildah")
        pull = ["--tls-verify=false", *self._login()] if image.startswith("docker://") else []
        container = run("buildah", *self._storage(), "from", "--quiet", *pull, image).strip().splitlines()[-1]
        try:
            return run("buildah", *self._storage(), "run", "--isolation", "chroot", container, *command)
        finally:
            run("buildah", *self._storage(), "rm", container)

    def podman_pull(self, reference: str) -> str:
        """Pull from a registry; returns the image ID."""
        require_program("podman")
        options = ["--quiet", "--tls-verify=false", *self._login()]
        return run("podman", *self._storage(), "pull", *options, reference).strip()
