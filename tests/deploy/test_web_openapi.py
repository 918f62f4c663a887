"""The interface against its own OpenAPI document: schemathesis makes requests, valid ones and others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.python import asgi
from tests.conftest import TinyCohort
from tests.deploy.web_bench import fit_small

from twobe3.deploy.web.app import make_app
from twobe3.deploy.web.bounds import Bounds
from twobe3.deploy.web.server import read_models

TOKEN = "t" * 32
AUTHORISED = {"Authorization": f"Bearer {TOKEN}"}
EXAMPLES = 25


@pytest.fixture
def document(tmp_path_factory: pytest.TempPathFactory, new_tiny_cohort: Callable[[Path], TinyCohort]) -> Iterator[Any]:
    """The document of an application that predicts nothing, so that every upload waits."""
    folder = tmp_path_factory.mktemp("web")
    model = fit_small(new_tiny_cohort(folder).patients(12), folder)
    bounds = Bounds(waiting=100_000)
    app = make_app(read_models([model]), folder / "serve", token=TOKEN, local=False, bounds=bounds, workers=0)
    yield schemathesis.openapi.from_asgi("/openapi.json", app, headers=AUTHORISED)
    asgi.shutdown_lifespans()


def test_every_answer_is_documented(document: Any) -> None:
    operations = [found.ok() for found in document.get_all_operations()]
    assert len(operations) == 5
    for operation in operations:
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

            @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, phases=(Phase.generate,),
                      suppress_health_check=list(HealthCheck))  # fmt: skip
            @given(case=operation.as_strategy(generation_mode=mode))
            def check(case: schemathesis.Case) -> None:
                case.call_and_validate(headers=AUTHORISED)

            check()
