"""The same job by other programs, as their users would write it in a shell script.

They are handed the archives' addresses, where kobuild has to find them; none of them verifies what it downloads.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bench.measure import Command, Trial
from bench.pushes import Push, environ_of, new_folder
from bench.world import World

_UNPACK = """
mkdir -p go/usr/local ko/usr/local/bin
curl -fsSL "$GO_URL" | tar -xz -C go/usr/local
curl -fsSL "$KO_URL" | tar -xz -C ko/usr/local/bin ko
"""
_PATH = "/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"

_CRANE = f"""{_UNPACK}
tar -C go -cf go.tar usr
tar -C ko -cf ko.tar usr
crane append --insecure -b "$BASE" -f go.tar -f ko.tar -t "$TARGET"
crane mutate --insecure "$TARGET" -t "$TARGET" --workdir /workspace \
  --env PATH={_PATH} --env CGO_ENABLED=0 --env GOFLAGS=-trimpath
"""

_UMOCI = f"""{_UNPACK}
skopeo --insecure-policy copy -q --src-tls-verify=false "docker://$BASE" oci:image:tag
for part in go/usr/local/*; do umoci insert --image image:tag "$part" "${{part#go}}"; done
umoci insert --image image:tag ko/usr/local/bin/ko /usr/local/bin/ko
umoci config --image image:tag --config.workingdir /workspace \
  --config.env PATH={_PATH} --config.env CGO_ENABLED=0 --config.env GOFLAGS=-trimpath
skopeo --insecure-policy copy -q --dest-tls-verify=false oci:image:tag "docker://$TARGET"
"""

_BUILDAH = f"""
buildah() {{ command buildah --root "$PWD/storage" --runroot "$RUN_ROOT" --storage-driver vfs "$@"; }}
curl -fsSL -o go.tar.gz "$GO_URL"
curl -fsSL "$KO_URL" | tar -xz ko
container=$(buildah from -q --tls-verify=false "docker://$BASE")
buildah add -q "$container" go.tar.gz /usr/local
buildah add -q "$container" ko /usr/local/bin/ko
buildah config --workingdir /workspace \
  --env PATH={_PATH} --env CGO_ENABLED=0 --env GOFLAGS=-trimpath "$container"
buildah commit -q "$container" image
buildah push -q --tls-verify=false image "docker://$TARGET"
"""


@dataclass(frozen=True)
class _Peer:
    name: str
    programs: tuple[str, ...]
    script: str


_PEERS = (
    _Peer("crane", ("crane",), _CRANE),
    _Peer("buildah", ("buildah",), _BUILDAH),
    _Peer("umoci + skopeo", ("umoci", "skopeo"), _UMOCI),
)


class _ScriptPush(Push):
    def __init__(self, world: World, peer: _Peer) -> None:
        super().__init__(world)
        self.peer = peer

    def begin(self) -> Command:
        folder = new_folder(self.world, self.peer.programs[0])
        # buildah wants a short path for what it keeps while it runs.
        run_root = Path(tempfile.gettempdir()) / "kobuild-bench-run"
        shutil.rmtree(run_root, ignore_errors=True)
        addresses = {"GO_URL": self.world.go_url, "KO_URL": self.world.ko_url, "RUN_ROOT": str(run_root)}
        images = {"BASE": self.world.base, "TARGET": self.renew()}
        return Command(["sh", "-ec", self.peer.script], folder, {**environ_of(self.world), **addresses, **images})

    def trial(self) -> Trial:
        return Trial(self.peer.name, self.begin, self.size_bytes)


def peers_on_path(world: World) -> list[Trial]:
    """A trial for each peer that this machine has."""
    present = [peer for peer in _PEERS if all(shutil.which(program) for program in ("curl", "tar", *peer.programs))]
    return [_ScriptPush(world, peer).trial() for peer in present]
