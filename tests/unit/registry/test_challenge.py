from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kobuild.registry.challenge import Challenge, parse_challenges
from kobuild.registry.scopes import join_scopes

REALM = "https://auth.example/token"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", ()),
        ("Basic", (Challenge("basic", {}),)),
        ('Basic realm="a b"', (Challenge("basic", {"realm": "a b"}),)),
        (
            f'Bearer realm="{REALM}",service="registry.example",scope="repository:a/b:pull,push"',
            (
                Challenge(
                    "bearer", {"realm": REALM, "service": "registry.example", "scope": "repository:a/b:pull,push"}
                ),
            ),
        ),
        (f'BEARER REALM="{REALM}" , Service=x', (Challenge("bearer", {"realm": REALM, "service": "x"}),)),
        (f"Bearer realm={REALM}?a=b,service=x", (Challenge("bearer", {"realm": f"{REALM}?a=b", "service": "x"}),)),
        (
            f'Negotiate, Basic realm="x", Bearer realm="{REALM}"',
            (Challenge("negotiate", {}), Challenge("basic", {"realm": "x"}), Challenge("bearer", {"realm": REALM})),
        ),
        (
            f'NTLM TlRMTVNTUAAC==, Bearer realm="{REALM}"',
            (Challenge("ntlm", {}), Challenge("bearer", {"realm": REALM})),
        ),
        ('Basic realm="say \\"hi\\", \\\\"', (Challenge("basic", {"realm": 'say "hi", \\'}),)),
        ('Basic realm = "spaced"', (Challenge("basic", {"realm": "spaced"}),)),
        (f'Bearer realm="{REALM}', (Challenge("bearer", {"realm": REALM}),)),
        (",, ,Basic,,", (Challenge("basic", {}),)),
        ('realm="nobody asked"', ()),
        (
            f'Bearer realm="{REALM}",error="insufficient_scope",scope="repository:a:pull repository:b:pull,push"',
            (
                Challenge(
                    "bearer",
                    {
                        "realm": REALM,
                        "error": "insufficient_scope",
                        "scope": "repository:a:pull repository:b:pull,push",
                    },
                ),
            ),
        ),
    ],
)
def test_every_form_seen_in_the_wild_is_read(header: str, expected: tuple[Challenge, ...]) -> None:
    assert parse_challenges(header) == expected


@given(st.text())
def test_no_header_is_too_strange(header: str) -> None:
    parse_challenges(header)


_TOKEN = st.text(alphabet="abcdefghij-_.", min_size=1, max_size=8)


@given(
    st.lists(
        st.tuples(_TOKEN, st.dictionaries(_TOKEN, st.text(alphabet=st.characters(codec="ascii")), max_size=3)),
        max_size=3,
    )
)
def test_what_is_written_by_the_rules_is_read_back(challenges: list[tuple[str, dict[str, str]]]) -> None:
    def quote(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    header = ", ".join(
        f"{scheme} {', '.join(f'{name}={quote(value)}' for name, value in parameters.items())}"
        for scheme, parameters in challenges
    )
    assert parse_challenges(header) == tuple(Challenge(scheme, parameters) for scheme, parameters in challenges)


def test_scopes_of_one_resource_are_joined() -> None:
    scopes = ("repository:a:pull", "repository:b/c:pull", "repository:a:pull,push", "", "registry:catalog:*")
    assert join_scopes(scopes) == ("repository:a:pull,push", "repository:b/c:pull", "registry:catalog:*")
