"""Tokens that end in the middle of a push."""

from __future__ import annotations

import itertools
import json

from kobuild.image.image import ImageSet
from kobuild.image.mutate import gather
from kobuild.oci.reference import Reference
from tests.support.fakeregistry import Behaviour, run_fake
from tests.support.images import ARM64, random_image
from tests.support.scripted import Reply, Seen, serve
from tests.unit.registry.conftest import make_client


def push_whose_token_ends_before(number: int, images: ImageSet) -> int:
    """Push, with the token refused from the request of that number on; returns how many tokens were fetched."""
    numbers, let_in = itertools.count(), itertools.count(1)

    def issue(_: Seen) -> Reply:
        fake.behaviour.tokens = {f"token{next(numbers)}"}
        return Reply(200, json.dumps({"token": next(iter(fake.behaviour.tokens))}).encode())

    with serve(issue) as tokens, run_fake(Behaviour(tokens=set(), realm=tokens.url)) as fake:
        handled = fake.respond

        def respond(seen: Seen) -> Reply:
            if fake.behaviour.tokens and next(let_in) == number:
                fake.behaviour.tokens = set()
            return handled(seen)

        assert fake.server is not None
        fake.server.respond = respond
        make_client().push(images, [Reference.parse(f"{fake.host}/team/app:1")])
        assert fake.manifests["team/app", "1"][1] == images.root.raw
        assert fake.uploads == {}
        return len(tokens.log)


def test_a_token_may_end_before_any_request_of_a_push() -> None:
    """401 in the middle, each request in turn: a new token, the body once more from its start, and the push goes on."""
    images = gather([random_image(1), random_image(2, platform=ARM64)])
    number = 1
    while push_whose_token_ends_before(number, images) > 1:
        number += 1
    assert number > 20, "it ended before each of the requests"
