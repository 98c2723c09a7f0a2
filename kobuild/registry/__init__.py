"""The OCI distribution protocol: reading from registries, writing to them, and logging in.

From top to bottom; each file imports only what stands below it:

- client: what the flows use; store: a repository as an ImageStore, its blobs as sources
- push: an image set, in order; referrers: artifacts about an image, found, pushed and copied
- tagged: artifacts that are about no image
- ahead: blobs that are sent while they are made
- upload: one blob, through breaks (sessions, parallel); manifests: one manifest
- pull: manifests and blobs, verified; mirrors: the same from elsewhere
- connection: one request (endpoints: its address; auth: its login; failures and hints: its refusals)
- keychain: where credentials are (authfiles, helpers, credentials); challenge and scopes: what is asked for
"""

from __future__ import annotations

from kobuild.registry.ahead import AheadBlob, AheadUploads
from kobuild.registry.client import RegistryClient
from kobuild.registry.credentials import AnonymousKeychain, Credential, Keychain
from kobuild.registry.keychain import default_keychain
from kobuild.registry.mirrors import MirrorRule, Mirrors
from kobuild.registry.push import PushResult
from kobuild.registry.referrers import Artifact, Referrers
from kobuild.registry.store import RegistrySource, RegistryStore

__all__ = [
    "AheadBlob",
    "AheadUploads",
    "AnonymousKeychain",
    "Artifact",
    "Credential",
    "Keychain",
    "MirrorRule",
    "Mirrors",
    "PushResult",
    "Referrers",
    "RegistryClient",
    "RegistrySource",
    "RegistryStore",
    "default_keychain",
]
