"""Claims: one holder at a time, as long as it lives; a dead one is found by the clock of who waits. And the parts around them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodegraph.cache.store.remote import names
from nodegraph.cache.store.remote.claims import EXPIRY_SECONDS, Claims, Timing
from nodegraph.cache.store.remote.health import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, Health
from nodegraph.cache.store.remote.objects import Objects
from nodegraph.cache.store.remote.seals import Seal
from nodegraph.cache.store.remote.uploads import Uploads

KEY, OTHER = "a" * 64, "b" * 64
NEVER = 1e9  # seconds between two beats: in these tests, a lease is rewritten by hand


class Clock:
    """A clock that passes only while a thread sleeps. `during` is called at each sleep."""

    def __init__(self) -> None:
        self.now, self.during = 0.0, lambda: None

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.during()

    def timing(self) -> Timing:
        return Timing(beat=NEVER, clock=lambda: self.now, sleep=self.sleep)


@pytest.fixture(params=["memory", pytest.param("file", marks=pytest.mark.slow)])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    if request.param == "memory":
        return Objects(f"memory:///{tmp_path.name}")
    (tmp_path / "shared").mkdir()
    return Objects(f"file://{tmp_path}/shared")


@pytest.fixture
def clock() -> Clock:
    return Clock()


def nothing() -> None:
    pass


def acquire(claims: Claims, key: str = KEY, long_wait: Callable[[], None] = nothing) -> bool:
    return claims.acquire(key, nothing, long_wait)


def test_free_key_is_claimed_at_once(objects: Objects, clock: Clock) -> None:
    claims = Claims(objects, clock.timing())
    assert not acquire(claims)
    assert claims.holds(KEY)
    claims.release(KEY)
    assert not claims.holds(KEY)
    claims.end()
    assert list(objects.list()) == []


def test_holder_that_ends_is_waited_for(objects: Objects, clock: Clock) -> None:
    first, second = Claims(objects, clock.timing()), Claims(objects, Clock().timing())
    acquire(first)
    own, long_waits = Clock(), []
    own.during = lambda: first.release(KEY) if own.now > 5 and first.holds(KEY) else None  # type: ignore[assignment]
    second = Claims(objects, own.timing())
    assert acquire(second, long_wait=lambda: long_waits.append(own.now))
    assert 5 < own.now < 10
    assert len(long_waits) == 1


def test_dead_holder_delays_no_one_by_more_than_a_minute(objects: Objects, clock: Clock) -> None:
    dead = Claims(objects, Clock().timing())
    acquire(dead)
    acquire(dead, OTHER)
    waiting = Claims(objects, clock.timing())
    assert acquire(waiting)
    assert EXPIRY_SECONDS <= clock.now < EXPIRY_SECONDS + 5
    now = clock.now
    assert not acquire(waiting, OTHER)  # it is known to be dead
    assert clock.now == now < 60
    waiting.release(KEY)
    waiting.release(OTHER)
    waiting.end()
    assert [info.name.partition("/")[0] for info in objects.list()] == ["leases"]  # that of the dead holder


def test_living_holder_is_waited_for_as_long_as_it_takes(objects: Objects, clock: Clock) -> None:
    holder = Claims(objects, Clock().timing())
    acquire(holder)
    beaten = [0.0]

    def beat() -> None:
        if clock.now - beaten[-1] > 8 and holder.holds(KEY):
            beaten.append(clock.now)
            holder._beat()
        if clock.now > 600 and holder.holds(KEY):
            holder.release(KEY)

    clock.during = beat
    assert acquire(Claims(objects, clock.timing()))
    assert clock.now > 600


def test_lease_is_rewritten_as_long_as_a_claim_is_held(objects: Objects) -> None:
    claims = Claims(objects, Timing(beat=0.005))
    acquire(claims)
    (lease,) = [info for info in objects.list() if info.name.startswith("leases/")]
    while (objects.head(lease.name) or lease).tag == lease.tag:
        threading.Event().wait(0.002)
    claims.release(KEY)


def test_claim_whose_holder_has_no_lease_is_taken_at_once(objects: Objects, clock: Clock) -> None:
    gone = Claims(objects, Clock().timing())
    acquire(gone)
    objects.delete([info.name for info in objects.list() if info.name.startswith("leases/")])
    acquire(Claims(objects, clock.timing()))
    assert clock.now == 0


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"lease": 1}', b'{"lease": "../../records"}'])
def test_damaged_claim_is_replaced(objects: Objects, clock: Clock, content: bytes) -> None:
    objects.put(names.claim(KEY), content)
    acquire(Claims(objects, clock.timing()))
    assert clock.now == 0


def test_waiting_can_be_stopped(objects: Objects, clock: Clock) -> None:
    acquire(Claims(objects, Clock().timing()))

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Claims(objects, clock.timing()).acquire(KEY, stop, nothing)


# --- the parts around them


@settings(max_examples=50)
@given(st.binary(max_size=200), st.integers(0, 10**6), st.integers(1, 255), st.sampled_from([None, b"k" * 16]))
def test_any_changed_byte_breaks_the_seal(body: bytes, at: int, change: int, key: bytes | None) -> None:
    seal = Seal(key)
    closed = seal.close("records/a", body)
    assert seal.open("records/a", closed) == body
    assert seal.open("records/b", closed) is None
    assert Seal(b"x" * 16).open("records/a", closed) is None
    changed = bytearray(closed)
    changed[at % len(closed)] ^= change
    assert seal.open("records/a", bytes(changed)) is None
    assert seal.open("records/a", closed[: at % len(closed)]) is None


def test_names_are_parsed_as_they_are_made() -> None:
    space = Seal(b"k" * 16).space
    assert names.parse(names.blob(f"{KEY}.json")) == ("blobs", f"{KEY}.json", "")
    assert names.parse(names.record("", KEY)) == ("records", KEY, "")
    assert names.parse(names.record(space, KEY)) == ("records", KEY, space)
    assert names.parse(names.export(space, KEY, ".out.bin")) == ("exports", f"{KEY}.out.bin", space)
    assert names.parse(names.claim(KEY)) == ("claims", KEY, "")
    assert names.parse(names.lease("c" * 32)) == ("leases", "c" * 32, "")
    for other in (
        "",
        "blobs",
        f"blobs/bb/{KEY}",
        f"blobs/aa/{KEY}/x",
        f"other/aa/{KEY}",
        f"signed-x/records/aa/{KEY}.json",
        names.MARK,
    ):
        assert names.parse(other) is None


def test_failed_store_is_left_alone_for_longer_and_longer() -> None:
    clock = Clock()
    health = Health(lambda: clock.now)
    assert health.is_usable()
    pauses = []
    for _ in range(10):
        health.failed("a message")
        health.failed("of a request that began before")
        began = clock.now
        while not health.is_usable():
            clock.now += 1
        pauses.append(clock.now - began)
    assert pauses == [min(FIRST_PAUSE_SECONDS * 2**i, LONGEST_PAUSE_SECONDS) for i in range(10)]
    assert (health.take_message(), health.take_message()) == ("a message", None)
    health.worked()
    health.failed("another one")
    assert health.take_message() == "another one"


def test_uploads_are_bounded_and_leave_no_thread() -> None:
    go, done = threading.Event(), []
    uploads = Uploads(most=3)

    def job() -> None:
        go.wait(60)
        done.append(threading.current_thread())

    added = [uploads.add(job) for _ in range(20)]
    go.set()
    uploads.wait()
    assert 3 <= sum(added) <= 7  # four threads have taken one each
    assert len(done) == sum(added)
    for thread in done:
        thread.join()
    assert uploads.add(lambda: done.clear())
    uploads.wait()
    assert done == []
