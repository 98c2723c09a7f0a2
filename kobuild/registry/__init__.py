"""The OCI distribution protocol: reading from registries, writing to them, and logging in.

client          what the flows use
├── store       a repository as an ImageStore, its blobs as sources
├── push        an image set: blobs, manifests, tags
│   └── upload  one blob: asked for, mounted, sent
├── pull        manifests and blobs, verified
└── connection  one request: endpoints (address), auth (login), failures (refusals)
                auth: challenge, scopes, keychain (authfiles, helpers, credentials)
"""

from __future__ import annotations

from kobuild.registry.client import RegistryClient
from kobuild.registry.credentials import AnonymousKeychain, Credential, Keychain
from kobuild.registry.keychain import default_keychain
from kobuild.registry.push import PushResult
from kobuild.registry.store import RegistrySource, RegistryStore

__all__ = [
    "AnonymousKeychain",
    "Credential",
    "Keychain",
    "PushResult",
    "RegistryClient",
    "RegistrySource",
    "RegistryStore",
    "default_keychain",
]
