from __future__ import annotations

import os

import pytest

from castbench.measure.threads import bound_threads, thread_settings


def test_threads_are_bound_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process started inside sees the binding; afterwards the environment is what it was."""
    for name in ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY"):
        monkeypatch.delenv(name, raising=False)
    before = dict(os.environ)
    with bound_threads():
        assert os.environ["OMP_PROC_BIND"] == "true"
    assert dict(os.environ) == before


@pytest.mark.parametrize("name", ["OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY"])
def test_the_users_own_binding_is_left_alone(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Whoever pins threads themselves gets exactly that, and it is what the run records."""
    for other in ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, "false")
    with bound_threads():
        assert [os.environ.get(n) for n in ("OMP_PROC_BIND",)] == (["false"] if name == "OMP_PROC_BIND" else [None])
    assert thread_settings(os.environ)[0] == (name, "false")


def test_what_steers_threads_is_recorded() -> None:
    """The run says castbench's own binding and every variable of the user's that matters, and no other."""
    assert thread_settings({"HOME": "/root"}) == (("OMP_PROC_BIND", "true"),)
    assert thread_settings({"OMP_NUM_THREADS": "2", "KMP_BLOCKTIME": "0", "PATH": "x"}) == (
        ("KMP_BLOCKTIME", "0"), ("OMP_NUM_THREADS", "2"), ("OMP_PROC_BIND", "true"),
    )  # fmt: skip
