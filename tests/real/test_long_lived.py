"""Connections that must outlive silence: proxies cut them most often."""

from long_lived import STREAM_SECONDS, LongLived


def test_the_event_stream_runs_for_70_seconds_through_its_silence(long_lived: LongLived) -> None:
    seen = long_lived.event_stream.result(120)
    assert seen.content_type == "text/event-stream"
    pings = [seconds for seconds, line in seen.lines if line == "data: ping"]
    assert pings[0] < 5, "the first ping was held back"
    assert any(45 < seconds < 60 for seconds in pings), "no ping after 50 s of silence"
    last_seconds, last_line = seen.lines[-1]
    assert "nobody_fires_this" in last_line
    assert STREAM_SECONDS <= last_seconds < STREAM_SECONDS + 5, "the event after the silence came late"


def test_a_websocket_silent_for_130_seconds_still_works(long_lived: LongLived) -> None:
    assert long_lived.silent_websocket.result(180)


def test_a_compressed_websocket_silent_for_130_seconds_still_works(long_lived: LongLived) -> None:
    assert long_lived.silent_compressed_websocket.result(180)
