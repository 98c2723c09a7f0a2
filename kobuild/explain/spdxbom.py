"""A bill of materials as SPDX 2.3 (JSON), through spdx-tools, which also checks it before a byte is written."""

from __future__ import annotations

import io
import re
import uuid
from collections.abc import Iterable
from typing import TYPE_CHECKING

from kobuild._version import __version__
from kobuild.explain.materials import Bill, Material
from kobuild.explain.purls import missing_library

if TYPE_CHECKING:
    from license_expression import LicenseExpression
    from spdx_tools.spdx.model import (
        Document,
        ExternalPackageRef,
        ExtractedLicensingInfo,
        Package,
        Relationship,
        SpdxNoAssertion,
    )

MEDIA_TYPE = "application/spdx+json"
_DOCUMENT = "SPDXRef-DOCUMENT"
_IMAGE = "SPDXRef-image"
_OWN_LICENSE = re.compile(r"LicenseRef-[A-Za-z0-9.-]+")


def spdx_bytes(bill: Bill) -> bytes:
    """The bill as SPDX; the same bill gives the same bytes. Raises ProgramError where spdx-tools is not installed."""
    try:
        from spdx_tools.spdx.writer.json.json_writer import write_document_to_stream  # noqa: PLC0415  # an extra
    except ImportError as error:
        raise missing_library("spdx-tools", error) from error
    stream = io.StringIO()
    write_document_to_stream(_document(bill), stream, validate=True)
    return f"{stream.getvalue()}\n".encode()


def _document(bill: Bill) -> Document:
    from spdx_tools.spdx.model import Actor, ActorType, CreationInfo, Document  # noqa: PLC0415

    materials = [*bill.tools, *([bill.base] if bill.base is not None else [])]
    # The name must be unlike any other document's and yet the same each time: it is made of what the bill says.
    unique = uuid.uuid5(uuid.NAMESPACE_URL, f"{__version__} {bill!r}")
    info = CreationInfo(
        spdx_version="SPDX-2.3",
        spdx_id=_DOCUMENT,
        name=bill.name,
        document_namespace=f"https://spdx.org/spdxdocs/kobuild-{unique}",
        creators=[Actor(ActorType.TOOL, f"kobuild-{__version__}")],
        created=bill.created.replace(tzinfo=None),  # the library writes UTC and wants no zone
    )
    return Document(
        info,
        packages=[_image(bill), *map(_package, materials)],
        relationships=_relationships(bill),
        extracted_licensing_info=_own_licenses(materials),
    )


def _own_licenses(materials: Iterable[Material]) -> list[ExtractedLicensingInfo]:
    """Licences that SPDX does not list: a document must say something of each that it names."""
    from spdx_tools.spdx.model import ExtractedLicensingInfo  # noqa: PLC0415

    names = sorted({name for material in materials for name in _OWN_LICENSE.findall(material.license)})
    text = "Its text was not looked for: it is the publisher's own, and only its name is known here."
    return [ExtractedLicensingInfo(license_id=name, extracted_text=text) for name in names]


def _license(expression: str) -> LicenseExpression | SpdxNoAssertion:
    from license_expression import get_spdx_licensing  # noqa: PLC0415  # spdx-tools' own dependency
    from spdx_tools.spdx.model import SpdxNoAssertion  # noqa: PLC0415

    return get_spdx_licensing().parse(expression) if expression else SpdxNoAssertion()


def _image(bill: Bill) -> Package:
    from spdx_tools.spdx.model import Package, PackagePurpose, SpdxNoAssertion  # noqa: PLC0415

    return Package(
        spdx_id=_IMAGE,
        name=bill.name,
        version=bill.digest or None,
        download_location=SpdxNoAssertion(),
        files_analyzed=False,
        license_concluded=SpdxNoAssertion(),
        license_declared=SpdxNoAssertion(),
        copyright_text=SpdxNoAssertion(),
        external_references=[_reference("purl", bill.purl)] if bill.purl else [],
        primary_package_purpose=PackagePurpose.CONTAINER,
    )


def _package(material: Material) -> Package:
    from spdx_tools.spdx.model import (  # noqa: PLC0415
        Checksum,
        ChecksumAlgorithm,
        Package,
        PackagePurpose,
        SpdxNoAssertion,
    )

    references = [_reference("purl", material.purl)]
    if material.cpe:
        references.append(_reference("cpe23Type", material.cpe))
    is_base = not material.filename
    return Package(
        spdx_id=_identifier(material),
        name=material.name,
        version=material.version or None,
        download_location=material.download or SpdxNoAssertion(),
        file_name=material.filename or None,
        files_analyzed=False,
        checksums=[Checksum(ChecksumAlgorithm.SHA256, material.sha256)] if material.sha256 else [],
        license_concluded=SpdxNoAssertion(),
        license_declared=_license(material.license),
        copyright_text=SpdxNoAssertion(),
        comment="; ".join(filter(None, (", ".join(map(str, material.platforms)), material.note))) or None,
        external_references=references,
        primary_package_purpose=PackagePurpose.CONTAINER if is_base else PackagePurpose.APPLICATION,
    )


def _reference(kind: str, locator: str) -> ExternalPackageRef:
    from spdx_tools.spdx.model import ExternalPackageRef, ExternalPackageRefCategory  # noqa: PLC0415

    category = ExternalPackageRefCategory.PACKAGE_MANAGER if kind == "purl" else ExternalPackageRefCategory.SECURITY
    return ExternalPackageRef(category, kind, locator)


def _relationships(bill: Bill) -> list[Relationship]:
    from spdx_tools.spdx.model import Relationship, RelationshipType  # noqa: PLC0415

    found = [Relationship(_DOCUMENT, RelationshipType.DESCRIBES, _IMAGE)]
    if bill.base is not None:
        found.append(Relationship(_IMAGE, RelationshipType.DESCENDANT_OF, _identifier(bill.base)))
    found += [Relationship(_IMAGE, RelationshipType.CONTAINS, _identifier(tool)) for tool in bill.tools]
    return found


def _identifier(material: Material) -> str:
    return f"SPDXRef-{material.key}"
