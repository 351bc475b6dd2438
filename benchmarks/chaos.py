"""Runs a plan through sessions that end badly, one after the other in one run file, and checks each for lasting harm.

session ─▶ killed ─▶ resumed ─▶ GPU lost ─▶ resumed ─▶ disk full ─▶ … ─▶ complete ─▶ castbench verify
        └ after each: exit code, what was said, every round that was written kept, in order, once ┘
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from castbench import pipeline
from castbench.errors import HardwareError, Interrupted, RunFileError
from castbench.findings import case_findings
from castbench.records import RunRecord, Status
from castbench.store import read_run

FAULTY = Path(__file__).with_name("faulty.py")
TOLD = "told: "
DEADLINE_S = 120.0
"""A session that takes longer hangs: on the virtual clock a whole run takes seconds."""
RATE = 0.004
"""Chance of each kind of fault at each call of the rig."""
LOOK_S = 0.002
TORN_SHARE = 0.5
LATEST_CALL = 400
"""Of the rig, at which what is scripted ends a session; small runs have fewer calls."""
LATEST_SIGNAL_S = 1.0
MEAN_ROOM_BYTES = 50_000
_DROP_BOUND, _OVERRIDE_CAPS = 24, (1, 2)
"""prctl(PR_CAPBSET_DROP) of CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH: what lets root write everywhere."""


@dataclass(frozen=True, slots=True)
class End:
    """A way a session ends before its time: the exit code it leaves, unless the run was finished first.

    signal      what is sent to it; a line may then be in the file that nobody was told of: written, and ended at once
    is_scripted the faulty rig does it by itself
    """

    name: str
    code: int | None = None
    signal: signal.Signals | None = None
    is_scripted: bool = False


KILL = End("killed while it measures", -signal.SIGKILL, signal.SIGKILL)
KILL_EARLY = End("killed at any moment", -signal.SIGKILL, signal.SIGKILL)
CTRL_C = End("Ctrl-C", Interrupted.exit_code, signal.SIGINT)
TERMINATE = End("asked to end (SIGTERM)", Interrupted.exit_code, signal.SIGTERM)
GPU_LOST = End("gpu-lost", HardwareError.exit_code, is_scripted=True)
NO_WORKER = End("no-worker", HardwareError.exit_code, is_scripted=True)
DISK_FULL = End("disk full", RunFileError.exit_code)
READ_ONLY = End("read-only place", RunFileError.exit_code)
BUDGET = End("budget ended")
NOTHING = End("nothing ends it")
ENDS = (READ_ONLY, GPU_LOST, NO_WORKER, DISK_FULL, KILL_EARLY, KILL, CTRL_C, TERMINATE, BUDGET)


@dataclass(frozen=True, slots=True)
class Session:
    """A process that has ended: its exit code (None: it hung), what it said to the user, what it told of itself."""

    end: End
    code: int | None
    said: tuple[str, ...]
    told: tuple[tuple[object, ...], ...]
    seconds: float

    def told_of(self, kind: str) -> list[tuple[object, ...]]:
        """The rest of every told line of that kind."""
        return [line[1:] for line in self.told if line[0] == kind]


def command(*arguments: str | Path, script: dict[str, object] | None = None) -> list[str]:
    """The command line as a process; with a script, on the faulty rig."""
    program = ["-m", "castbench"] if script is None else [str(FAULTY), json.dumps(script)]
    return [sys.executable, *program, *map(str, arguments)]


def started(
    arguments: Sequence[str], *, limit: Callable[[], None] | None = None, cwd: Path | None = None
) -> subprocess.Popen[str]:
    """The process, its two streams in pipes."""
    return subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, cwd=cwd,
        preexec_fn=limit,  # noqa: PLW1509 - there are no threads here
    )  # fmt: skip


def ended(process: subprocess.Popen[str], end: End = NOTHING, began: float | None = None) -> Session:
    """The process once it has ended; one that does not is killed and has no exit code."""
    began = time.monotonic() if began is None else began
    code: int | None
    try:
        _, stderr = process.communicate(timeout=DEADLINE_S)
        code = process.returncode
    except subprocess.TimeoutExpired:
        process.kill()
        _, stderr = process.communicate()
        code = None
    lines = stderr.splitlines()
    told = [json.loads(line.removeprefix(TOLD)) for line in lines if line.startswith(TOLD)]
    said = tuple(line for line in lines if not line.startswith(TOLD))
    return Session(end, code, said, tuple(map(tuple, told)), time.monotonic() - began)


def disk_of(size: int) -> Callable[[], None]:
    """For a process that may make no file larger than this."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def like_a_user() -> None:
    """For a process that may write only where it is allowed to, even if it is root's."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        for capability in _OVERRIDE_CAPS:
            if libc.prctl(_DROP_BOUND, capability, 0, 0, 0):
                raise OSError(ctypes.get_errno(), "prctl")


def size_of(path: Path) -> int:
    """Bytes in the file; 0 where there is none."""
    return path.stat().st_size if path.exists() else 0


@contextmanager
def read_only(path: Path) -> Iterator[None]:
    """While neither the file nor its folder can be written by an ordinary user."""
    places = [(place, place.stat().st_mode) for place in (path, path.parent) if place.exists()]
    for place, mode in places:
        place.chmod(mode & ~0o222)
    try:
        yield
    finally:
        for place, mode in places:
            place.chmod(mode)


@dataclass(slots=True)
class Campaign:
    """One run file through many sessions. `problems` says what should never happen; `injected` counts what was.

    came_of     how many sessions of each end left which exit code
    record      the run as the last session left it; None before there is one
    """

    profile: Path
    path: Path
    seed: int
    rate: float = RATE
    problems: list[str] = field(default_factory=list)
    came_of: Counter[tuple[str, int | None]] = field(default_factory=Counter)
    injected: Counter[str] = field(default_factory=Counter)
    record: RunRecord | None = None
    sessions: int = 0
    longest_s: float = 0.0
    _draw: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._draw = random.Random(self.seed)

    @property
    def is_complete(self) -> bool:
        """Whether the run has ended with all that was planned."""
        return self.record is not None and self.record.ended is not None and self.record.ended.complete

    def run(self, ends: Sequence[End]) -> RunRecord | None:
        """Every end in turn while anything is left, then a session that nothing ends; verify must find it whole."""
        for end in ends:
            if not self.is_complete:
                self.session(end)
        self.session(NOTHING)
        if self.record is None or not self.is_complete:
            self.problems.append("a session that nothing ended did not complete the run")
        else:
            self.problems += wholeness_problems(self.record)
        return self.record

    def session(self, end: End) -> Session:
        """One process on the run file, ended as asked, and looked at afterwards."""
        self.sessions += 1
        session = self._played(end)
        self.longest_s = max(self.longest_s, session.seconds)
        self.came_of[end.name, session.code] += 1
        self.injected.update(str(what) for (what,) in session.told_of("fault"))
        for problem in (*self._what_it_left(session), *self._how_it_ended(session)):
            self.problems.append(f"session {self.sessions} ({end.name}, exit {session.code}): {problem}")
        if self.record is not None and session.code == -signal.SIGKILL and self._draw.random() < TORN_SHARE:
            self._tear(self.record)
        return session

    def _played(self, end: End) -> Session:
        """Start it, let it be ended."""
        draw, began = self._draw, time.monotonic()
        script: dict[str, object] = {"draw": f"{self.seed}|{self.sessions}", "rate": self.rate}
        if end.is_scripted:
            script |= {"end": end.name, "at": draw.randint(1, LATEST_CALL)}
        budget = ("--budget", f"{draw.uniform(0.5, 60):.1f}s") if end is BUDGET else ()
        asked = command("profile", *self._which(), *budget, script=script)
        if end is READ_ONLY:
            with read_only(self.path):
                return ended(started(asked, limit=like_a_user), end, began)
        if end is DISK_FULL:
            room = int(draw.expovariate(1 / MEAN_ROOM_BYTES))
            return ended(started(asked, limit=disk_of(size_of(self.path) + room)), end, began)
        process, size = started(asked), size_of(self.path)
        if end.signal is not None:
            while end is not KILL_EARLY and process.poll() is None and size_of(self.path) <= size:
                time.sleep(LOOK_S)
            with suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=draw.uniform(0.0, LATEST_SIGNAL_S))
            process.send_signal(end.signal)
        return ended(process, end, began)

    def _which(self) -> tuple[str | Path, ...]:
        """A new run, or going on with the one there is."""
        if size_of(self.path):
            return ("--resume", self.path)
        return (self.profile, "--device", "fake", "--out", self.path)

    def _how_it_ended(self, session: Session) -> Iterator[str]:
        """What is wrong with its exit code and with what it said."""
        end, code = session.end, session.code
        sentences = [line for line in session.said if line.startswith("castbench: ")]
        if code is None:
            yield f"it did not end within {DEADLINE_S:.0f} s"
        elif code not in (0, 1, end.code) and not (self.is_complete and end.signal and code == -end.signal):
            # A run that is over can be hit while the interpreter ends: then the system's own answer to a signal holds.
            yield f"wrong exit code; it said {session.said[-3:]}"
        if any("Traceback" in line or "internal error" in line for line in session.said):
            yield f"it frightened its user: {session.said[-8:]}"
        if code in (3, 4, 130) and not sentences:
            yield "it ended without a word"
        if code == RunFileError.exit_code and len(sentences) != 1:
            yield f"not one sentence: {sentences}"
        is_to_go_on = code in (3, 4, 130) and session.told_of("round") and not self.is_complete
        if is_to_go_on and not any("castbench profile --resume" in line for line in sentences):
            yield f"it did not say how to go on: {sentences}"
        if code == HardwareError.exit_code and not session.told_of("end"):
            yield f"no hardware failed: {sentences}"
        if end is READ_ONLY and (code != end.code or session.told):
            yield f"it measured where nothing can be written: {session.told[:3]}"

    def _what_it_left(self, session: Session) -> Iterator[str]:
        """What is wrong with the file."""
        before = self.record
        if not size_of(self.path):
            if before is not None or session.told_of("round"):
                yield "what was measured is gone"
            if session.code == RunFileError.exit_code and self.path.exists():
                yield "nothing was measured, and a file is left"
            return
        try:
            record = self.record = read_run(self.path)
        except RunFileError as error:
            yield f"the file cannot be read: {error}"
            return
        yield from order_problems(record)
        if self.is_complete and len(record.groups) < len(record.header.plan.groups):
            yield f"called complete with {len(record.groups)} of {len(record.header.plan.groups)} groups"
        if record.damage and session.code != -signal.SIGKILL and session.end is not READ_ONLY:
            yield f"damaged: {record.damage}"
        if before is not None and (
            record.rounds[: len(before.rounds)] != before.rounds or record.groups[: len(before.groups)] != before.groups
        ):
            yield "earlier lines were changed"
        yield from _untold(
            session, "round", [(r.group, r.purpose, r.round) for r in record.rounds][_count(before, "rounds") :]
        )
        yield from _untold(session, "group", [(g.group,) for g in record.groups][_count(before, "groups") :])
        if session.code in (0, 1) and (
            record.ended is None or session.code != int(not pipeline.baseline_was_measured(record))
        ):
            yield f"exit code {session.code} of a run that {'was not ended' if record.ended is None else 'was'}"

    def _tear(self, record: RunRecord) -> None:
        """Leave a part of a line behind, as a kill within a write would; reading must leave out that part alone."""
        line = self.path.read_bytes().splitlines()[-1]
        with self.path.open("ab") as file:
            file.write(line[: self._draw.randint(1, len(line))])
        self.injected["last line torn"] += 1
        torn = read_run(self.path)
        if not torn.damage or torn.rounds != record.rounds or torn.groups != record.groups:
            self.problems.append(f"session {self.sessions}: a torn last line costs more than itself")


def _count(record: RunRecord | None, what: str) -> int:
    """How many rounds or groups a record holds."""
    return 0 if record is None else len(getattr(record, what))


def _untold(session: Session, kind: str, fresh: list[tuple[object, ...]]) -> Iterator[str]:
    """What is wrong where the file's new lines are not those whose writing had returned."""
    told = session.told_of(kind)
    if fresh != told and not (session.end.signal is not None and fresh[:-1] == told):
        yield f"{len(told)} {kind}s were written, {len(fresh)} are in the file: {told[-2:]} against {fresh[-2:]}"


def order_problems(record: RunRecord) -> Iterator[str]:
    """What is wrong with the order of lines: rounds twice or missing, a group closed twice, a broken chain."""
    numbers: dict[tuple[str, str], list[int]] = {}
    for r in record.rounds:
        numbers.setdefault((r.group, r.purpose), []).append(r.round)
    for (group, purpose), found in numbers.items():
        if found != list(range(len(found))):
            yield f"{group}: rounds to {purpose} are {found}"
    closed = Counter(g.group for g in record.groups)
    yield from (f"{group} was closed {times} times" for group, times in closed.items() if times > 1)
    if record.unchained:
        yield f"lines that do not follow from the one before: {record.unchained}"


def wholeness_problems(record: RunRecord) -> Iterator[str]:
    """What is missing in a complete run, and what `castbench verify` finds wrong with it."""
    plan, closed = record.header.plan, {g.group: g for g in record.groups}
    for group in plan.groups:
        outcomes = {o.label for o in closed[group.key].outcomes} if group.key in closed else set()
        missing = [arm.label for arm in plan.arms_of(group) if arm.label not in outcomes]
        if missing:
            yield f"{group.key}: no outcome for {missing}"
    for case in case_findings(record):
        where = f"{case.group.key}: {case.arm.label}: {case.status}"
        if case.status is Status.INTERRUPTED:
            yield f"{where} in a complete run"
        if case.status is not Status.OK and not case.reason:
            yield f"{where} without a reason"
        if case.status is Status.OK and case.mean_step_s is None:
            yield f"{where} without a number"
    _, checks = pipeline.verify(str(record.path))
    yield from (f"verify: {check.what}: {check.detail}" for check in checks if not check.ok)


def together(profile: Path, directory: Path) -> list[str]:
    """What goes wrong when one profile is measured twice at once in one folder, in the same (virtual) second."""
    both = [started(command("-q", "profile", profile.resolve(), "--device", "fake"), cwd=directory) for _ in range(2)]
    problems = [f"exit {s.code}: {s.said}" for s in map(ended, both) if s.code != 0 or s.said]
    files = sorted((directory / "castbench-runs").glob("*.jsonl"))
    if len(files) != len(both):
        problems.append(f"{len(both)} runs left {len(files)} files")
    return problems + [problem for path in files for problem in wholeness_problems(read_run(path))]


def second_writer(profile: Path, path: Path) -> list[str]:
    """What goes wrong when others want a file that a run is writing: they get a sentence and 4, the run goes on."""
    first, problems = started(command("-q", "profile", profile, "--device", "fake", "--out", path)), []
    while first.poll() is None and not size_of(path):
        time.sleep(LOOK_S)
    first.send_signal(signal.SIGSTOP)  # so that it is still writing, however slow the others are to start
    for asked in (("profile", profile, "--device", "fake", "--out", path), ("profile", "--resume", path)):
        second = ended(started(command(*asked)))
        if second.code != RunFileError.exit_code or len(second.said) != 1 or "written by another" not in second.said[0]:
            problems.append(f"second writer: exit {second.code}: {second.said}")
    first.send_signal(signal.SIGCONT)
    session = ended(first)
    if session.code != 0 or session.said:
        return [*problems, f"first writer: exit {session.code}: {session.said}"]
    record = read_run(path)
    return [*problems, *order_problems(record), *wholeness_problems(record)]


def profile_text(seed: int) -> str:
    """A profile with many groups: lengths, batch sizes, batchings, regimes, mechanisms and a stopping rule by seed."""
    draw = random.Random(f"profile {seed}")
    lengths = sorted(draw.sample(range(64, 2049, 32), draw.randint(3, 5)))
    shares = "".join(f"  - {{tokens: {n}, share: {1 / len(lengths)!r}}}\n" for n in lengths)
    regimes = draw.sample(["eager", "compiled", "graph"], draw.randint(1, 2))
    others = draw.sample(["naive", "cast: {num_clusters: 8}", "busy: {ms: 2}"], draw.randint(1, 3))
    mechanisms = "".join(f"  - {one}\n" for one in ("sdpa", *others))
    target, margin = draw.choice([(0.05, 0.02), (0.02, 0.01), (0.004, 0.001)])
    return (
        f"name: soak-{seed}\nmodel: {{layers: 2, embed_dim: 64, num_heads: 4, ffn_dim: 128}}\nlengths:\n{shares}"
        f"batch_sizes: [1, {draw.choice(['2', '2, 4'])}]\nbatching: [bucketed, padded]\n"
        f"regimes: [{', '.join(regimes)}]\n"
        f"phase: inference\ndtype: fp32\nseed: {seed}\nbaseline: sdpa\nmechanisms:\n{mechanisms}"
        "demand: {requests_per_second: 150, max_utilization: 0.7}\nprice: {usd_per_hour: 2.0}\n"
        f"sampling: {{target_ci: {target}, same_within: {margin}, max_seconds_per_case: 60, min_window_ms: 1,"
        f" largest_batch: {draw.choice(['true', 'false'])}}}\n"
    )
