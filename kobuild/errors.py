"""Every error that kobuild raises on purpose, in one family.

    KobuildError                exit 1
    ├── UsageError              exit 2  a command line that cannot be meant
    ├── SettingsError           exit 2  kobuild.toml: all faults at once
    ├── LockError               exit 2  kobuild.lock: missing, broken, or stale under --locked
    ├── InvalidReference        exit 2  an image reference outside the grammar
    ├── ResolveError            exit 1  a pin that no release satisfies
    │   ├── NoMatchingVersion
    │   ├── NoMatchingAsset
    │   └── MissingProof
    ├── FetchError              exit 1  a download or an API call that failed
    │   └── RateLimited
    ├── ArchiveError            exit 1  an upstream archive that cannot be used
    │   ├── TruncatedArchive
    │   ├── UnsafeMember
    │   ├── MissingMember
    │   └── LimitExceeded
    ├── IntegrityError          exit 1  bytes that are not what was promised
    │   ├── DigestMismatch
    │   ├── SizeMismatch
    │   ├── LostEntry
    │   └── SignatureError
    ├── MalformedDocument       exit 1  JSON from outside that breaks its specification
    ├── RegistryError           exit 1  a registry that refused or failed
    │   ├── AuthError
    │   ├── NotFound
    │   └── PushRefused
    ├── LayoutError             exit 1  an OCI layout or archive that cannot be read or written
    │   └── LayoutMissing
    ├── BaseError               exit 1  a base image that does not fit the request
    ├── StorageError            exit 1  the local disk: full, read-only, not permitted
    ├── ProgramError            exit 1  pip, npm or a credential helper that failed
    ├── VerificationError       exit 3  verify found differences
    └── NewsFound               exit 4  resolve --check found that the lock would change

A message says the action, the place and the cause; `hint` says the remedy. No error prints or exits: `cli` does both.
"""

from __future__ import annotations

from collections.abc import Mapping

from kobuild.frozen import frozen


class KobuildError(Exception):
    """The root of the family: a message for a person, and what to do about it."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message


class UsageError(KobuildError):
    """The command line asks for something that cannot be done."""

    exit_code = 2


@frozen
class Fault:
    """One fault of a settings file: where it is, what is wrong, and what to write instead."""

    file: str
    line: int | None
    """One-based line in `file`; None when the fault has no place, such as a missing table."""
    key: str
    """Dotted key path, such as `tools.go.version`."""
    message: str
    hint: str | None = None

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        text = f"{place}: {self.key}: {self.message}" if self.key else f"{place}: {self.message}"
        return f"{text} ({self.hint})" if self.hint else text


class SettingsError(KobuildError):
    """The settings file is wrong; `faults` holds every fault found, in file order."""

    exit_code = 2

    def __init__(self, faults: tuple[Fault, ...], *, hint: str | None = None) -> None:
        super().__init__("\n".join(str(fault) for fault in faults), hint=hint)
        self.faults = faults


class LockError(KobuildError):
    """The lock is missing, unreadable, of an unknown version, or does not fit the settings."""

    exit_code = 2


class InvalidReference(KobuildError):
    """A string that is not an image reference."""

    exit_code = 2


class ResolveError(KobuildError):
    """A pin could not be turned into one release."""


class NoMatchingVersion(ResolveError):
    """No release satisfies the specifier; the message lists those that exist."""


class NoMatchingAsset(ResolveError):
    """The release has no single archive for the platform."""


class MissingProof(ResolveError):
    """The settings require a proof of the publisher's that there is not."""


class FetchError(KobuildError):
    """An HTTP request failed; `status` is None when no answer came.

    `body` is the start of the answer's body (at most 64 KiB), `headers` its headers, for a caller who knows the
    protocol; `retryable` says whether the same request may succeed later.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        retryable: bool = False,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.body = body
        self.headers: Mapping[str, str] = headers if headers is not None else {}
        self.retryable = retryable


class RateLimited(FetchError):
    """The server refuses more requests for now."""


class ArchiveError(KobuildError):
    """An upstream archive cannot be read or used."""


class TruncatedArchive(ArchiveError):
    """The archive ends before its own structure says so."""


class UnsafeMember(ArchiveError):
    """A member that would leave its root, or that is of a kind that must be asked for."""


class MissingMember(ArchiveError):
    """A pattern of `only` matched no member."""


class LimitExceeded(ArchiveError):
    """A bound on size, ratio or count was passed."""


class IntegrityError(KobuildError):
    """Bytes are not what was promised."""


class DigestMismatch(IntegrityError):
    """The digest of the bytes differs from the expected one."""

    def __init__(self, place: str, *, expected: str, actual: str, hint: str | None = None) -> None:
        super().__init__(f"{place}: expected {expected}, got {actual}", hint=hint)
        self.place = place
        self.expected = expected
        self.actual = actual


class SizeMismatch(IntegrityError):
    """There are more or fewer bytes than expected; both in bytes."""

    def __init__(self, place: str, *, expected: int, actual: int, hint: str | None = None) -> None:
        super().__init__(f"{place}: expected {expected} bytes, got {actual}", hint=hint)
        self.place = place
        self.expected = expected
        self.actual = actual


class LostEntry(IntegrityError):
    """An entry of the cache that was counted on is damaged or gone; it is out of the cache, and can be made again.

    `entry` is its digest.
    """

    def __init__(self, message: str, *, entry: str, hint: str | None = "run the command again") -> None:
        super().__init__(message, hint=hint)
        self.entry = entry


class SignatureError(IntegrityError):
    """A publisher's signature or attestation that is broken, of somebody else, or of other bytes."""


class MalformedDocument(KobuildError):
    """JSON from outside that breaks its specification; the message names the key path."""


class RegistryError(KobuildError):
    """A registry refused or failed.

    `status` is the HTTP status (None when no answer came); `codes` are the error codes of the
    distribution specification's error body, such as `MANIFEST_UNKNOWN`.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        codes: tuple[str, ...] = (),
        retryable: bool = False,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.codes = codes
        self.retryable = retryable

    @property
    def may_mean_absence(self) -> bool:
        """Whether a refused look may only mean that there is nothing yet.

        Some registries deny a look into what does not exist, and allow the push.
        """
        return self.status == 403


class AuthError(RegistryError):
    """Credentials are missing, wrong, or do not allow the action."""


class NotFound(RegistryError):
    """The registry has no such repository, manifest or blob."""


class PushRefused(RegistryError):
    """The registry does not accept what was pushed."""


class LayoutError(KobuildError):
    """An OCI layout or image archive cannot be read or written."""


class LayoutMissing(LayoutError):
    """There is no layout or archive where one was named."""


class BaseError(KobuildError):
    """The base image lacks a platform or cannot take the layers."""


class StorageError(KobuildError):
    """The local disk is full, read-only, or not ours to write."""


class ProgramError(KobuildError):
    """A program that kobuild calls is missing or failed."""


@frozen
class Finding:
    """One difference that verify found."""

    place: str
    """What was looked at, such as `layer 3 (tool go)`."""
    expected: str
    actual: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.place}: expected {self.expected}, found {self.actual}; {self.remedy}"


class VerificationError(KobuildError):
    """verify found differences; `findings` holds them all."""

    exit_code = 3

    def __init__(self, subject: str, findings: tuple[Finding, ...]) -> None:
        lines = "\n".join(f"  {finding}" for finding in findings)
        super().__init__(f"{subject} is not as the settings and the lock say:\n{lines}")
        self.subject = subject
        self.findings = findings


class NewsFound(KobuildError):
    """resolve --check found that the lock would change; `changes` says how, as `go: 1.27.2 → 1.27.3`."""

    exit_code = 4

    def __init__(self, changes: tuple[str, ...]) -> None:
        lines = "\n".join(f"  {change}" for change in changes)
        super().__init__(f"the lock would change:\n{lines}", hint="run `kobuild resolve` to take it")
        self.changes = changes
