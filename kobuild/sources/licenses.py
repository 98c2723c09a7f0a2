"""Licences as SPDX expressions: https://spdx.github.io/spdx-spec/v2.3/SPDX-license-expressions/.

Only what a publisher says and what is an expression without a guess is kept; all else counts as unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from kobuild.errors import KobuildError
from kobuild.settings.model import ToolSettings
from kobuild.sources.githubapi import GithubApi
from kobuild.sources.model import Release, SourceContext

GO_LICENSE: Final = "BSD-3-Clause"
"""Of Go's own archives: https://go.dev/LICENSE."""
_MAX_LETTERS: Final = 500
_CLASSIFIER: Final = "License :: OSI Approved :: "
_CLASSIFIERS: Final = {
    "MIT License": "MIT",
    "MIT No Attribution License (MIT-0)": "MIT-0",
    "Apache Software License": "",  # which version it does not say
    "ISC License (ISCL)": "ISC",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "GNU General Public License v2 (GPLv2)": "GPL-2.0-only",
    "GNU General Public License v2 or later (GPLv2+)": "GPL-2.0-or-later",
    "GNU General Public License v3 (GPLv3)": "GPL-3.0-only",
    "GNU General Public License v3 or later (GPLv3+)": "GPL-3.0-or-later",
    "GNU Affero General Public License v3": "AGPL-3.0-only",
    "GNU Affero General Public License v3 or later (AGPLv3+)": "AGPL-3.0-or-later",
    "The Unlicense (Unlicense)": "Unlicense",
    "Python Software Foundation License": "PSF-2.0",
    "zlib/libpng License": "Zlib",
}
"""PyPA's classifiers that name one licence; "BSD License" and the like name several."""


def read_expression(text: object) -> str:
    """The SPDX expression that `text` is, in its canonical form; empty for anything else."""
    if not isinstance(text, str) or len(text) > _MAX_LETTERS:
        return ""
    from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression  # noqa: PLC0415

    try:
        return str(canonicalize_license_expression(text.strip()))
    except InvalidLicenseExpression:
        return ""


def wheel_license(metadata: Mapping[str, Any]) -> str:
    """Of a wheel by its metadata: License-Expression (PEP 639), else License, else the one classifier about it."""
    said = read_expression(metadata.get("license_expression")) or read_expression(metadata.get("license"))
    if said:
        return said
    listed = metadata.get("classifier")
    names = [item for item in listed if isinstance(item, str)] if isinstance(listed, list) else []
    about = [name.removeprefix(_CLASSIFIER) for name in names if name.startswith("License :: ")]
    return _CLASSIFIERS.get(about[0], "") if len(about) == 1 else ""


def find_license(tool: ToolSettings, release: Release, context: SourceContext) -> str:
    """What is known of a release's licence, empty where nothing is; for GitHub one more small request.

    A server that does not say is no error: a build needs no licence.
    """
    if release.license or tool.source.kind != "github":
        return release.license
    try:
        return read_expression(GithubApi(context).find_license(tool.source.argument))
    except KobuildError:
        return ""
