"""Files of real projects' releases, listed by hand, and the one that is the tool."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kobuild.errors import NoMatchingAsset, ResolveError
from kobuild.oci.platforms import Platform
from kobuild.sources.assets import AssetQuery, pick_asset


def _names(text: str) -> list[str]:
    return text.split()


KO: Final = _names("""
checksums.txt ko_0.18.0_Darwin_arm64.tar.gz ko_0.18.0_Darwin_x86_64.tar.gz ko_0.18.0_Linux_arm64.tar.gz
ko_0.18.0_Linux_i386.tar.gz ko_0.18.0_Linux_ppc64le.tar.gz ko_0.18.0_Linux_riscv64.tar.gz ko_0.18.0_Linux_s390x.tar.gz
ko_0.18.0_Linux_x86_64.tar.gz ko_0.18.0_Linux_x86_64.tar.gz.sbom ko_0.18.0_Linux_x86_64.tar.gz.sbom.json
ko_0.18.0_Windows_x86_64.tar.gz multiple.intoto.jsonl
""")

KUBECTL: Final = _names("""
kubectl-convert-linux-amd64 kubectl-darwin-amd64 kubectl-linux-386 kubectl-linux-amd64 kubectl-linux-amd64.sha256
kubectl-linux-amd64.sig kubectl-linux-arm kubectl-linux-arm64 kubectl-windows-amd64.exe kubeadm-linux-amd64
kubelet-linux-amd64
""")

JQ: Final = _names("""
jq-1.7.1.tar.gz jq-1.7.1.zip jq-linux-amd64 jq-linux-arm64 jq-linux-armel jq-linux-armhf jq-linux-i386 jq-linux-mips
jq-linux-mips64el jq-linux-ppc64el jq-linux-riscv64 jq-linux-s390x jq-linux64 jq-macos-amd64 jq-macos-arm64 jq-osx-amd64
jq-win64.exe jq-windows-amd64.exe jq-windows-i386.exe sha256sum.txt
""")

RIPGREP: Final = _names("""
ripgrep-14.1.1-aarch64-apple-darwin.tar.gz ripgrep-14.1.1-aarch64-apple-darwin.tar.gz.sha256
ripgrep-14.1.1-aarch64-unknown-linux-gnu.tar.gz ripgrep-14.1.1-armv7-unknown-linux-gnueabihf.tar.gz
ripgrep-14.1.1-armv7-unknown-linux-musleabi.tar.gz ripgrep-14.1.1-armv7-unknown-linux-musleabihf.tar.gz
ripgrep-14.1.1-i686-pc-windows-msvc.zip ripgrep-14.1.1-i686-unknown-linux-gnu.tar.gz
ripgrep-14.1.1-s390x-unknown-linux-gnu.tar.gz ripgrep-14.1.1-x86_64-apple-darwin.tar.gz
ripgrep-14.1.1-x86_64-pc-windows-gnu.zip ripgrep-14.1.1-x86_64-unknown-linux-musl.tar.gz
ripgrep-14.1.1-x86_64-unknown-linux-musl.tar.gz.sha256 ripgrep_14.1.1-1_amd64.deb ripgrep_14.1.1-1_amd64.deb.sha256
""")

GH: Final = _names("""
gh_2.62.0_checksums.txt gh_2.62.0_linux_386.deb gh_2.62.0_linux_386.rpm gh_2.62.0_linux_386.tar.gz
gh_2.62.0_linux_amd64.deb gh_2.62.0_linux_amd64.rpm gh_2.62.0_linux_amd64.tar.gz gh_2.62.0_linux_arm64.tar.gz
gh_2.62.0_linux_armv6.deb gh_2.62.0_linux_armv6.tar.gz gh_2.62.0_macOS_amd64.zip gh_2.62.0_macOS_universal.pkg
gh_2.62.0_windows_amd64.msi gh_2.62.0_windows_amd64.zip
""")

KUSTOMIZE: Final = _names("""
checksums.txt kustomize_v5.4.1_darwin_amd64.tar.gz kustomize_v5.4.1_linux_amd64.tar.gz
kustomize_v5.4.1_linux_arm64.tar.gz kustomize_v5.4.1_linux_ppc64le.tar.gz kustomize_v5.4.1_linux_s390x.tar.gz
kustomize_v5.4.1_windows_amd64.zip kustomize_v5.4.1_windows_arm64.zip
""")

GORELEASER: Final = _names("""
checksums.txt checksums.txt.sigstore.json goreleaser-2.4.4-1-aarch64.pkg.tar.zst goreleaser-2.4.4-1-x86_64.pkg.tar.zst
goreleaser-2.4.4-1.x86_64.rpm goreleaser_2.4.4_aarch64.apk goreleaser_2.4.4_amd64.deb goreleaser_Darwin_all.tar.gz
goreleaser_Linux_arm64.tar.gz goreleaser_Linux_arm64.tar.gz.sbom.json goreleaser_Linux_armv7.tar.gz
goreleaser_Linux_i386.tar.gz goreleaser_Linux_x86_64.tar.gz goreleaser_Linux_x86_64.tar.gz.sbom.json
goreleaser_Windows_x86_64.zip
""")

BUN: Final = _names("""
bun-darwin-aarch64.zip bun-linux-aarch64.zip bun-linux-aarch64-musl.zip bun-linux-x64-baseline-profile.zip
bun-linux-x64-baseline.zip bun-linux-x64-musl-baseline.zip bun-linux-x64-musl.zip bun-linux-x64-profile.zip
bun-linux-x64.zip bun-windows-x64.zip SHASUMS256.txt SHASUMS256.txt.asc
""")

HUGO: Final = _names("""
hugo_0.139.0_checksums.txt hugo_0.139.0_darwin-universal.tar.gz hugo_0.139.0_linux-amd64.deb
hugo_0.139.0_linux-amd64.tar.gz hugo_0.139.0_Linux-64bit.tar.gz hugo_extended_0.139.0_linux-amd64.tar.gz
hugo_extended_withdeploy_0.139.0_linux-amd64.tar.gz hugo_0.139.0_linux-arm64.tar.gz
""")

COSIGN: Final = _names("""
cosign-2.4.1-1.x86_64.rpm cosign-darwin-amd64 cosign-linux-amd64 cosign-linux-amd64-keyless.pem
cosign-linux-amd64-keyless.sig cosign-linux-amd64.sig cosign-linux-amd64_2.4.1_linux_amd64.sbom.json cosign-linux-arm
cosign-linux-arm64 cosign-linux-pivkey-pkcs11key-amd64 cosign-linux-riscv64 cosign_2.4.1_amd64.deb cosign_checksums.txt
release-cosign.pub
""")

PROTOC: Final = _names("""
protobuf-28.3.tar.gz protobuf-28.3.zip protoc-28.3-linux-aarch_64.zip protoc-28.3-linux-ppcle_64.zip
protoc-28.3-linux-x86_32.zip protoc-28.3-linux-x86_64.zip protoc-28.3-osx-aarch_64.zip
protoc-28.3-osx-universal_binary.zip protoc-28.3-win32.zip protoc-28.3-win64.zip
""")

NODE: Final = _names("""
SHASUMS256.txt node-v22.11.0-darwin-x64.tar.gz node-v22.11.0-headers.tar.gz node-v22.11.0-linux-arm64.tar.gz
node-v22.11.0-linux-armv7l.tar.gz node-v22.11.0-linux-x64.tar.gz node-v22.11.0-linux-x64.tar.xz node-v22.11.0.tar.gz
node-v22.11.0-win-x64.zip
""")

AMD64, ARM64, ARM7, ARM6, X86 = (
    Platform.parse(f"linux/{name}") for name in ("amd64", "arm64", "arm/v7", "arm/v6", "386")
)


def _pick(names: list[str], platform: Platform, tool: str, version: str, *, pattern: str = "", tag: str = "") -> str:
    return pick_asset(names, platform, AssetQuery(tool, tool, version, tag or f"v{version}", pattern))


@pytest.mark.parametrize(
    ("names", "platform", "tool", "version", "expected"),
    [
        (KO, AMD64, "ko", "0.18.0", "ko_0.18.0_Linux_x86_64.tar.gz"),
        (KO, ARM64, "ko", "0.18.0", "ko_0.18.0_Linux_arm64.tar.gz"),
        (KO, X86, "ko", "0.18.0", "ko_0.18.0_Linux_i386.tar.gz"),
        (KO, Platform("linux", "ppc64le"), "ko", "0.18.0", "ko_0.18.0_Linux_ppc64le.tar.gz"),
        (KO, Platform("linux", "s390x"), "ko", "0.18.0", "ko_0.18.0_Linux_s390x.tar.gz"),
        (KO, Platform("linux", "riscv64"), "ko", "0.18.0", "ko_0.18.0_Linux_riscv64.tar.gz"),
        (KUBECTL, AMD64, "kubectl", "1.31.0", "kubectl-linux-amd64"),
        (KUBECTL, ARM64, "kubectl", "1.31.0", "kubectl-linux-arm64"),
        (KUBECTL, ARM7, "kubectl", "1.31.0", "kubectl-linux-arm"),
        (JQ, AMD64, "jq", "1.7.1", "jq-linux-amd64"),
        (JQ, ARM7, "jq", "1.7.1", "jq-linux-armhf"),
        (JQ, X86, "jq", "1.7.1", "jq-linux-i386"),
        (JQ, Platform("linux", "ppc64le"), "jq", "1.7.1", "jq-linux-ppc64el"),
        (RIPGREP, AMD64, "ripgrep", "14.1.1", "ripgrep-14.1.1-x86_64-unknown-linux-musl.tar.gz"),
        (RIPGREP, ARM64, "ripgrep", "14.1.1", "ripgrep-14.1.1-aarch64-unknown-linux-gnu.tar.gz"),
        (RIPGREP, X86, "rg", "14.1.1", "ripgrep-14.1.1-i686-unknown-linux-gnu.tar.gz"),
        (GH, AMD64, "gh", "2.62.0", "gh_2.62.0_linux_amd64.tar.gz"),
        (GH, ARM7, "gh", "2.62.0", "gh_2.62.0_linux_armv6.tar.gz"),
        (GH, ARM6, "gh", "2.62.0", "gh_2.62.0_linux_armv6.tar.gz"),
        (KUSTOMIZE, AMD64, "kustomize", "5.4.1", "kustomize_v5.4.1_linux_amd64.tar.gz"),
        (GORELEASER, AMD64, "goreleaser", "2.4.4", "goreleaser_Linux_x86_64.tar.gz"),
        (GORELEASER, ARM7, "goreleaser", "2.4.4", "goreleaser_Linux_armv7.tar.gz"),
        (BUN, AMD64, "bun", "1.1.38", "bun-linux-x64.zip"),
        (BUN, ARM64, "bun", "1.1.38", "bun-linux-aarch64.zip"),
        (HUGO, AMD64, "hugo", "0.139.0", "hugo_0.139.0_linux-amd64.tar.gz"),
        (HUGO, ARM64, "hugo", "0.139.0", "hugo_0.139.0_linux-arm64.tar.gz"),
        (COSIGN, AMD64, "cosign", "2.4.1", "cosign-linux-amd64"),
        (COSIGN, ARM7, "cosign", "2.4.1", "cosign-linux-arm"),
        (PROTOC, AMD64, "protoc", "28.3", "protoc-28.3-linux-x86_64.zip"),
        (PROTOC, ARM64, "protoc", "28.3", "protoc-28.3-linux-aarch_64.zip"),
        (NODE, AMD64, "node", "22.11.0", "node-v22.11.0-linux-x64.tar.gz"),
        (NODE, ARM7, "node", "22.11.0", "node-v22.11.0-linux-armv7l.tar.gz"),
        (["tool-1.0.tar.gz"], ARM64, "tool", "1.0", "tool-1.0.tar.gz"),
        (["tool-linux.tar.gz", "tool-linux-arm64.tar.gz"], AMD64, "tool", "1.0", "tool-linux.tar.gz"),
        (["tool-amd64", "tool-amd64-static", "tool-amd64-debug"], AMD64, "tool", "1.0", "tool-amd64-static"),
    ],
)
def test_the_tool_is_found_by_itself(
    names: list[str], platform: Platform, tool: str, version: str, expected: str
) -> None:
    assert _pick(names, platform, tool, version) == expected


@settings(deadline=None)
@given(st.permutations(RIPGREP), st.sampled_from([AMD64, ARM64, X86]))
def test_the_listing_s_order_decides_nothing(names: list[str], platform: Platform) -> None:
    assert _pick(names, platform, "rg", "14.1.1") == _pick(RIPGREP, platform, "rg", "14.1.1")


def test_a_wrong_platform_is_never_taken() -> None:
    with pytest.raises(NoMatchingAsset) as raised:
        _pick(KUSTOMIZE, ARM7, "kustomize", "5.4.1")
    message = str(raised.value)
    assert "for linux/arm/v7" in message
    assert "kustomize_v5.4.1_linux_amd64.tar.gz" in message
    assert "checksums.txt" not in message
    assert "asset =" in (raised.value.hint or "")
    with pytest.raises(NoMatchingAsset):
        _pick(["tool-linux.tar.gz", "tool-linux-amd64.tar.gz"], ARM64, "tool", "1.0")


def test_a_tie_is_named_with_a_pattern_to_choose_by() -> None:
    with pytest.raises(NoMatchingAsset) as raised:
        _pick(["tool_1.0_Linux-x86_64.tar.gz", "tool_1.0_linux-amd64.tar.gz"], AMD64, "tool", "1.0")
    assert "several files" in str(raised.value)
    assert raised.value.hint == "choose one with asset = 'tool_{version}_{os}-{arch}.tar.gz'"


def test_a_release_without_files_says_so() -> None:
    with pytest.raises(NoMatchingAsset, match=r"release v1\.0 has no files"):
        _pick([], AMD64, "tool", "1.0")


@pytest.mark.parametrize(
    ("names", "pattern", "platform", "expected"),
    [
        (KO, "ko_{version}_{os}_{arch}.tar.gz", AMD64, "ko_0.18.0_Linux_x86_64.tar.gz"),
        (KO, "KO_{version}_{os}_{arch}.tar.*", ARM64, "ko_0.18.0_Linux_arm64.tar.gz"),
        (KO, "ko_*_{os}_{arch}.tar.gz.sbom", AMD64, "ko_0.18.0_Linux_x86_64.tar.gz.sbom"),
        (HUGO, "hugo_extended_0.139.0_{os}-{arch}.tar.gz", AMD64, "hugo_extended_0.139.0_linux-amd64.tar.gz"),
        (BUN, "bun-{os}-{arch}-musl.zip", AMD64, "bun-linux-x64-musl.zip"),
        (KUSTOMIZE, "kustomize_{tag}_{os}_{arch}.tar.gz", AMD64, None),
        (JQ, "jq-[lm]*-{arch}", AMD64, "jq-linux-amd64"),
    ],
)
def test_a_pattern_stands_for_all_spellings(
    names: list[str], pattern: str, platform: Platform, expected: str | None
) -> None:
    if expected is None:
        with pytest.raises(NoMatchingAsset, match="matches asset ="):
            _pick(names, platform, "ko", "0.18.0", pattern=pattern)
    else:
        assert _pick(names, platform, "ko", "0.18.0", pattern=pattern) == expected


def test_a_pattern_s_braces_are_checked() -> None:
    with pytest.raises(ResolveError, match=r"no placeholder \{platform\}"):
        _pick(KO, AMD64, "ko", "0.18.0", pattern="ko-{platform}")
