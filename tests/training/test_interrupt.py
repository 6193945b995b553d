"""Signals between stages and during training."""

import gc
import signal
import time
import weakref

import pytest

from jaxkd.errors import Interrupted
from jaxkd.training import interrupt
from jaxkd.training.interrupt import InterruptGuard, ended_by


@pytest.fixture(autouse=True)
def restored(monkeypatch):
    monkeypatch.setattr(interrupt, "_raised", [])
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in previous.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("number", "error", "status"), [(signal.SIGINT, KeyboardInterrupt, 130), (signal.SIGTERM, Interrupted, 143)])
def test_what_a_callback_swallows_stops_the_training_that_follows(number, error, status):
    signal.signal(number, interrupt.interrupt)
    with pytest.raises(error):
        signal.raise_signal(number)
    with InterruptGuard() as guard:
        assert guard.received == number
        assert ended_by(guard.received, "saved.").exit_status == status


def test_a_signal_within_a_callback_of_the_garbage_collector_is_not_swallowed():
    signal.signal(signal.SIGINT, interrupt.interrupt)
    within = []

    def called_by_it():
        signal.raise_signal(signal.SIGINT)

    def callback(phase, info):
        if not within:
            within.append(phase)
            called_by_it()
            within.append("over")

    gc.callbacks.append(callback)
    try:
        with pytest.raises(KeyboardInterrupt):
            gc.collect()
            time.sleep(30)
    finally:
        gc.callbacks.remove(callback)
    assert within == ["start", "over"]


def test_a_signal_while_a_weak_dictionary_forgets_a_key_is_not_swallowed():
    class Key:
        pass

    class Value:
        def __del__(self):
            raised.append(signal.raise_signal(signal.SIGINT))

    raised, weak, key = [], weakref.WeakKeyDictionary(), Key()
    weak[key] = Value()
    signal.signal(signal.SIGINT, interrupt.interrupt)
    with pytest.raises(KeyboardInterrupt):
        del key
        assert raised
        time.sleep(30)
    assert not weak


def test_a_second_sigterm_just_after_the_first_breaks_off_nothing(monkeypatch):
    signal.signal(signal.SIGTERM, interrupt.interrupt)
    with pytest.raises(Interrupted):
        signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)
    monkeypatch.setattr(interrupt, "_CLEAN_UP_SECONDS", 0.0)
    with pytest.raises(Interrupted):
        signal.raise_signal(signal.SIGTERM)


def test_a_signal_in_training_is_noted_and_the_second_ctrl_c_interrupts():
    with InterruptGuard() as guard:
        assert guard.received == 0
        signal.raise_signal(signal.SIGINT)
        assert guard.received == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_handlers_are_put_back():
    before = signal.getsignal(signal.SIGINT)
    with InterruptGuard():
        assert signal.getsignal(signal.SIGINT) != before
    assert signal.getsignal(signal.SIGINT) == before
