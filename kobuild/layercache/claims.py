"""This machine's claims: what it is making, told to the others, and told again for as long as it is at work."""

from __future__ import annotations

import contextlib
import secrets
import threading

from kobuild.errors import KobuildError
from kobuild.layercache.records import Notary, claim_manifest, tag_of
from kobuild.layercache.waiting import Pace
from kobuild.registry.tagged import EMPTY_BLOB, TaggedArtifacts


class Claims:
    """The claims that one machine holds in a repository; safe to use from many threads."""

    def __init__(self, artifacts: TaggedArtifacts, notary: Notary, pace: Pace) -> None:
        self._artifacts = artifacts
        self._notary = notary
        self._pace = pace
        self._held: dict[str, tuple[str, int]] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._heart: threading.Thread | None = None

    def write(self, recipe: str) -> str:
        """Write a claim, which is not held yet; returns its nonce. Raises KobuildError where it is not taken."""
        nonce = secrets.token_hex(8)
        self._put(recipe, nonce, 0)
        return nonce

    def hold(self, recipe: str, nonce: str) -> None:
        """Renew a claim from now on."""
        with self._lock:
            self._held[recipe] = (nonce, 0)
            if self._heart is None:
                self._heart = threading.Thread(target=self._renew, name="kobuild-claims", daemon=True)
                self._heart.start()

    def end(self, recipe: str) -> bool:
        """Renew a claim no more: from now on, nothing is written over its record. Whether it was held."""
        with self._lock:
            return self._held.pop(recipe, None) is not None

    def give_up(self, recipe: str) -> None:
        """Let others make it, where the claim is held."""
        if self.end(recipe):
            self.void(recipe)

    def void(self, recipe: str) -> None:
        """Write that nobody makes it; where that fails, the others wait until the claim is stale."""
        with contextlib.suppress(KobuildError):
            self._put(recipe, "", 0)

    def close(self) -> None:
        """Give up what is left."""
        self._closed.set()
        for recipe in list(self._held):
            self.give_up(recipe)

    def _renew(self) -> None:
        while not self._closed.wait(self._pace.beat):
            for recipe in list(self._held):
                # Under the lock: a claim must not be written over the record that ends it.
                with self._lock, contextlib.suppress(KobuildError):
                    if recipe in self._held:
                        nonce, beat = self._held[recipe]
                        self._held[recipe] = (nonce, beat + 1)
                        self._put(recipe, nonce, beat + 1)

    def _put(self, recipe: str, nonce: str, beat: int) -> None:
        manifest = claim_manifest(recipe, nonce, beat, self._notary)
        self._artifacts.push(tag_of(recipe), manifest, (EMPTY_BLOB,))
