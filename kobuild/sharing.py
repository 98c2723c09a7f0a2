"""Layers that machines share, as the build sees them: where they come from, it does not know."""

from __future__ import annotations

import threading
from typing import Protocol

from kobuild.frozen import frozen
from kobuild.image.blobs import BlobSource
from kobuild.layers.plan import LayerPlan, LayerResult
from kobuild.oci.reference import Repository


@frozen
class SharedLayer:
    """A layer that another machine has made."""

    result: LayerResult
    source: BlobSource


class SharedLayers(Protocol):
    """Finds and keeps layers by their recipes; every method may be called from any thread."""

    @property
    def place(self) -> Repository | None:
        """The repository that layers are put into when they are made here; None where they stay here."""

    def find(self, recipe: str) -> LayerResult | None:
        """What the recipe makes, as far as it is known."""

    def check(self, recipe: str, result: LayerResult) -> None:
        """Be told of a layer that this machine has made before; raises DigestMismatch where an audit knows another."""

    def obtain(self, recipe: str, cancelled: threading.Event) -> SharedLayer | None:
        """The layer; None where the caller is to make it, and then to `keep` it or to `give_up`.

        Waits while another machine makes it; raises StoppedError when `cancelled` is set meanwhile.
        """

    def keep(self, recipe: str, plan: LayerPlan, result: LayerResult, source: BlobSource) -> BlobSource | None:
        """Put a layer there that was made here; returns where it can be read from now, None where that failed."""

    def give_up(self, recipe: str) -> None:
        """Let others make it: it went wrong here."""


class NoSharedLayers:
    """Nothing is shared."""

    @property
    def place(self) -> Repository | None:
        """Layers stay here."""
        return None

    def find(self, recipe: str) -> LayerResult | None:
        """Nothing is known."""
        return None

    def check(self, recipe: str, result: LayerResult) -> None:
        """There is nothing to compare it with."""

    def obtain(self, recipe: str, cancelled: threading.Event) -> SharedLayer | None:
        """Every layer is made here."""
        return None

    def keep(self, recipe: str, plan: LayerPlan, result: LayerResult, source: BlobSource) -> BlobSource | None:
        """It stays here."""
        return None

    def give_up(self, recipe: str) -> None:
        """Nobody waits."""
