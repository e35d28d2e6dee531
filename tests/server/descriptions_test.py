"""What compares all traffic with the descriptions finds what is wrong."""

import json

import pytest

import descriptions

CHUNK = {
    "id": "chatcmpl-1",
    "object": "chat.completion.chunk",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": None}],
}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "content": [],
    "model": "m",
    "stop_reason": None,
    "stop_sequence": None,
    "usage": {"input_tokens": 1, "output_tokens": 0},
}
TEXT = {"type": "text", "text": ""}
DELTA = {"type": "text_delta", "text": "x"}
MESSAGE_EVENTS = [
    {"type": "message_start", "message": MESSAGE},
    {"type": "ping"},
    {"type": "content_block_start", "index": 0, "content_block": TEXT},
    {"type": "content_block_delta", "index": 0, "delta": DELTA},
    {"type": "content_block_stop", "index": 0},
    {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": None},
        "usage": {"output_tokens": 1},
    },
    {"type": "message_stop"},
]
LINE = {
    "model": "m",
    "created_at": "2025-01-01T00:00:00Z",
    "message": {"role": "assistant", "content": "x"},
    "done": False,
}


def wrong_in_stream(path, events):
    """What is found first in (name, data) pairs, up to the end."""
    stream = descriptions.STREAMS[path]()
    for name, data in events:
        text = data if isinstance(data, str) else json.dumps(data)
        found = stream.event(name, text)
        if found:
            return found
    return stream.end()


def without(value, field):
    return {key: each for key, each in value.items() if key != field}


def test_a_whole_answer_is_compared():
    def wrong(value, status=200, path="/v1/messages"):
        return descriptions.wrong_in_answer("POST", path, status, json.dumps(value))

    assert wrong(MESSAGE) is None
    for field in MESSAGE:
        assert field in wrong(without(MESSAGE, field))
    assert "stop_reason" in wrong({**MESSAGE, "stop_reason": "stop"})
    assert "content" in wrong({**MESSAGE, "content": [{"type": "image"}]})
    error = {"type": "error", "error": {"type": "api_error", "message": "m"}}
    assert wrong(error, 500) is None
    assert wrong(error, 500, "/v1/chat/completions") is not None
    assert wrong(error, 500, "/api/chat") is not None


def test_chunks_are_compared():
    path = "/v1/chat/completions"
    done = (None, "[DONE]")
    assert wrong_in_stream(path, [(None, CHUNK), done]) is None
    for field in CHUNK:
        assert field in wrong_in_stream(path, [(None, without(CHUNK, field)), done])
    assert "no end" in wrong_in_stream(path, [(None, CHUNK)])
    assert "after" in wrong_in_stream(path, [done, (None, CHUNK)])
    other = {**CHUNK, "id": "chatcmpl-2"}
    assert "id" in wrong_in_stream(path, [(None, CHUNK), (None, other), done])


def test_events_of_messages_are_compared_with_their_order():
    def wrong(events):
        return wrong_in_stream("/v1/messages", [(e["type"], e) for e in events])

    assert wrong(MESSAGE_EVENTS) is None
    for i, event in enumerate(MESSAGE_EVENTS):
        rest = MESSAGE_EVENTS[:i] + MESSAGE_EVENTS[i + 1 :]
        # A ping may be left out, a delta and nothing else too.
        may_lack = event["type"] in ("ping", "content_block_delta")
        assert (wrong(rest) is None) == may_lack, event
        may_repeat = event["type"] in ("ping", "content_block_delta")
        twice = MESSAGE_EVENTS[: i + 1] + MESSAGE_EVENTS[i:]
        assert (wrong(twice) is None) == may_repeat, event
    assert "ping" in wrong_in_stream("/v1/messages", [("pong", {"type": "ping"})])


def test_events_of_responses_are_compared_with_their_numbers():
    delta = {
        "type": "response.reasoning_text.delta",
        "item_id": "rs_1",
        "output_index": 0,
        "content_index": 0,
        "delta": "x",
        "sequence_number": 0,
    }

    def wrong(*events):
        return wrong_in_stream("/v1/responses", [(e["type"], e) for e in events])

    assert wrong(delta) == "the stream has no end"
    assert "number" in wrong(delta, delta)
    assert "item_id" in wrong(without(delta, "item_id"))
    assert "of type" in wrong({**delta, "type": "response.thought"})


@pytest.mark.parametrize("field", LINE)
def test_lines_are_compared(field):
    path = "/api/chat"
    assert "no end" in wrong_in_stream(path, [(None, LINE)])
    assert field in wrong_in_stream(path, [(None, without(LINE, field))])
    # The last one has more.
    assert "required" in wrong_in_stream(path, [(None, {**LINE, "done": True})])
