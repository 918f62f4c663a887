"""Read the JSON artefacts of a study, checked against a schema."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError, EnvironmentFailure
from twobe3.io.files import SCHEMA_VERSION

T = TypeVar("T")


def read_artefact(path: Path, schema: TypeAdapter[T]) -> T:
    """Read one JSON artefact; keys that the schema doesn't have are passed over.

    Raises
    ------
    ConfigurationError
        ``ARTEFACT_MISSING``, naming the file.
    EnvironmentFailure
        ``ARTEFACT_DAMAGED``, naming the file and the key that is not as this version writes it.
    """
    try:
        document = from_json(path.read_bytes(), allow_inf_nan=False)
        if not isinstance(document, dict) or document.get("schema") != SCHEMA_VERSION:
            raise ValueError("schema: it is of another version, or of another program")
        return schema.validate_python(document)
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigurationError(Code.ARTEFACT_MISSING, f"{path.name} is not in the study folder") from None
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        what = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    except ValueError as error:
        what = str(error)
    raise EnvironmentFailure(Code.ARTEFACT_DAMAGED, f"{path.name}: {what}; schema {SCHEMA_VERSION} is expected")
