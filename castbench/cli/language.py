"""The option for the language of what people read."""

from __future__ import annotations

from typing import Annotated

import typer

Language = Annotated[
    str,
    typer.Option(
        "--lang", envvar="CASTBENCH_LANG", help="Language of what people read: en or ja; csv and json stay English."
    ),
]
