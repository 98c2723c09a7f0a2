"""The summary of a job in a GitHub workflow: what was made, what has changed since, and how to pull it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from urllib.parse import quote

from kobuild import github
from kobuild.build import Build, ToolLayer
from kobuild.errors import KobuildError
from kobuild.explain.diffmarkdown import diff_markdown
from kobuild.explain.imagediff import compare
from kobuild.explain.imagetree import inspect_image
from kobuild.explain.markdown import code, plain, table
from kobuild.explain.outdated import GO_PAGE
from kobuild.explain.subjects import Subject, image_subject
from kobuild.frozen import frozen
from kobuild.image.image import Image
from kobuild.lock import SIGNATURES, LockedTool
from kobuild.oci.digest import Digest
from kobuild.oci.reference import Reference
from kobuild.report import format_size
from kobuild.resolve import Resolution
from kobuild.sources.bases import github_server
from kobuild.workshop import Workshop


@frozen
class JobSummary:
    """A summary under way: begun before the image is written, so that it can tell what was there."""

    workshop: Workshop
    place: str
    """The first target, or the local place that the image is written to."""
    before: Subject | None
    compares: bool = True
    """Whether it tells what has changed."""

    @classmethod
    def begin(cls, workshop: Workshop, place: str, *, compares: bool = True) -> JobSummary:
        """Look at what the place holds."""
        return cls(workshop, place, _subject(workshop, place) if compares else None, compares)

    def end(self, made: Build, targets: Sequence[Reference]) -> None:
        """Write the summary; `targets` are empty for what was not pushed."""
        digest = made.images.descriptor.digest
        lines = [f"### {plain(self.place)}", "", *_facts(made, targets)]
        for image in made.images.images:
            lines += _layers(image, made)
        lines += _pull(targets, digest)
        if self.compares:
            now = str(targets[0].with_digest(digest)) if targets else self.place
            lines += _changes(self.before, _subject(self.workshop, now))
        github.append_summary("\n".join(lines), self.workshop.environ)


def _subject(workshop: Workshop, place: str) -> Subject | None:
    """What a place holds, by its manifests and configs; None where that cannot be told: it is only for the summary."""
    try:
        store = workshop.open_here(place)
        return image_subject(inspect_image(store), store)
    except KobuildError:
        return None


def _facts(made: Build, targets: Sequence[Reference]) -> Iterator[str]:
    images = made.images.images
    rows = [("digest", code(str(made.images.descriptor.digest)))]
    rows += [
        ("image ID" if len(images) == 1 else f"image ID, {item.platform}", code(str(item.image_id))) for item in images
    ]
    rows += [("tag", code(str(target))) for target in targets]
    yield from table(("", ""), rows)


def _layers(image: Image, made: Build) -> Iterator[str]:
    tools = [item for item in made.layers if item.platform == image.platform]
    base = image.layers[: len(image.layers) - len(tools)]
    rows = [_layer(item) for item in tools]
    if base:
        amount = f"{len(base)} layer{'s' if len(base) > 1 else ''}"
        rows.insert(0, ("*base*", amount, format_size(sum(layer.descriptor.size for layer in base)), "", "", ""))
    whole = sum(layer.descriptor.size for layer in image.layers)
    yield from (f"**{image.platform}**, {format_size(whole)}", "")
    yield from table(("tool", "version", "size", "unpacked", "layer", "diff ID"), rows)


def _layer(item: ToolLayer) -> tuple[str, ...]:
    result = item.result
    return (
        plain(item.tool.name),
        plain(item.version),
        format_size(result.size),
        format_size(result.uncompressed_size),
        "from the cache" if item.cached else "new",
        code(result.diff_id.short),
    )


def _pull(targets: Sequence[Reference], digest: Digest) -> Iterator[str]:
    if targets:
        yield from ("```console", f"docker pull {targets[0].with_digest(digest)}", "```", "")


def _changes(before: Subject | None, after: Subject | None) -> Iterator[str]:
    if after is None:
        return
    if before is None:
        yield from ("There was no image here before.", "")
    elif before.digest == after.digest:
        yield from ("Nothing has changed: it is the image that was here before.", "")
    else:
        difference = diff_markdown(compare(before, after, files=False), 0)
        yield from ("<details open><summary>What has changed</summary>", "", difference, "", "</details>", "")


def lock_markdown(workshop: Workshop, resolution: Resolution) -> str:
    """How the lock has changed, as a table with the releases' pages: for a pull request, and for the job's summary."""
    rows = [
        (
            plain(item.subject),
            code(item.old) if item.old else "",
            code(item.new) if item.new else "",
            _about(workshop, resolution.lock.tools.get(item.subject)),
        )
        for item in resolution.changes
    ]
    lines = table(("", "before", "after", "about"), rows) if rows else ["Nothing has changed.", ""]
    return "\n".join([f"### {plain(workshop.settings.lock_path.name)}", "", *lines])


def _about(workshop: Workshop, tool: LockedTool | None) -> str:
    """The release's page, and how all its files were proven to be the publisher's."""
    if tool is None:
        return ""
    kinds = {proof.partition(":")[0] for file in tool.artifacts.values() for proof in file.proofs} & SIGNATURES
    is_signed = all(file.is_signed for file in tool.artifacts.values())
    proven = f"signed ({', '.join(sorted(kinds))})" if kinds and is_signed else ""
    return ", ".join(filter(None, (_page(workshop, tool), proven)))


def _page(workshop: Workshop, tool: LockedTool) -> str:
    kind, _, argument = tool.source.partition(":")
    if kind == "github":
        page = f"{github_server(workshop.sources)}/{argument}/releases/tag/{quote(tool.tag, safe='')}"
        return f"[release]({page})"
    return f"[release]({GO_PAGE}#{quote(tool.tag, safe='')})" if kind == "go" else ""
