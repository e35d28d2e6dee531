"""Whether an answer, and each event of a stream, is what the descriptions of
the three APIs say (tests/data/api-specs). Says what is wrong, in words.

Where a description is behind its own service, or says nothing:

* OpenAI's has no schema of its own for pieces of a text completion: they are
  text completions whose finish_reason may be null.
* In OpenAI's, a completion's log-probabilities are numbers. With `echo`, the
  prompt's first token has none, which OpenAI's service tells as null.
* OpenAI's knows embeddings as arrays of numbers alone, although a request may
  ask for base64, as its client does.
* Ollama's requires nothing, and has no schema for errors within a stream.
  What its client needs is required here.
"""

import copy
import json
import os
import re

import jsonschema

FOLDER = os.path.join(
    os.path.dirname(os.path.abspath(__file__)), "..", "data", "api-specs"
)
PREFIX = "#/components/schemas/"
NULL = {"type": "null"}


def or_null(schema):
    return {"anyOf": [schema, NULL]}


def openai_schemas(schemas):
    completion = schemas["CreateCompletionResponse"]
    arrays = completion["properties"]["choices"]["items"]["properties"]["logprobs"]
    arrays = arrays["anyOf"][0]["properties"]
    for name in ("token_logprobs", "top_logprobs"):
        arrays[name]["items"] = or_null(arrays[name]["items"])
    chunk = copy.deepcopy(completion)
    choice = chunk["properties"]["choices"]["items"]["properties"]
    choice["finish_reason"] = or_null(choice["finish_reason"])
    chunk["properties"]["usage"] = or_null(chunk["properties"]["usage"])
    schemas["CompletionChunk"] = chunk
    embedding = schemas["Embedding"]["properties"]
    base64 = {"type": "string", "pattern": "^([A-Za-z0-9+/]{4})*[A-Za-z0-9+/]{2,4}={0,2}$"}
    embedding["embedding"] = {"anyOf": [embedding["embedding"], base64]}


def ollama_schemas(schemas):
    for name in ("ChatResponse", "GenerateResponse"):
        text = "message" if name == "ChatResponse" else "response"
        always = ["model", "created_at", text, "done"]
        at_end = [
            "done_reason",
            "total_duration",
            "load_duration",
            "prompt_eval_count",
            "prompt_eval_duration",
            "eval_count",
            "eval_duration",
        ]
        event = name.replace("Response", "StreamEvent")
        # Whatever a whole answer may have, with the same types.
        more = {**schemas[name]["properties"], **schemas[event]["properties"]}
        schemas[event] = {"type": "object", "properties": more, "required": always}
        schemas["Last" + event] = {**schemas[event], "required": always + at_end}
        # An empty request only loads the model, or lets it go.
        schemas[name]["required"] = always + ["done_reason"]
        schemas[name]["anyOf"] = [
            {"properties": {"done_reason": {"enum": ["load", "unload"]}}},
            {"required": at_end},
        ]
    schemas["ErrorResponse"]["required"] = ["error"]
    schemas["ListResponse"]["required"] = ["models"]
    schemas["PsResponse"]["required"] = ["models"]
    schemas["ShowResponse"]["required"] = ["details", "model_info", "capabilities"]
    schemas["VersionResponse"]["required"] = ["version"]
    schemas["EmbedResponse"]["required"] = [
        "model",
        "embeddings",
        "total_duration",
        "load_duration",
        "prompt_eval_count",
    ]


class Description:
    """One API's schemas."""

    def __init__(self, name, change=None):
        with open(os.path.join(FOLDER, name + ".json"), encoding="utf-8") as file:
            self.schemas = json.load(file)["components"]["schemas"]
        if change:
            change(self.schemas)
        self.validators = {}

    def wrong(self, schema, value):
        """What is wrong with the value, or None."""
        if schema not in self.validators:
            # So that references are found: a document with the schema on top.
            self.validators[schema] = jsonschema.Draft202012Validator(
                {"$ref": PREFIX + schema, "components": {"schemas": self.schemas}}
            )
        error = jsonschema.exceptions.best_match(
            self.validators[schema].iter_errors(value)
        )
        if error is None:
            return None
        return f"{schema} at {error.json_path}: {error.message[:500]}"

    def members(self, union):
        """The schemas of a union by the `type` that each is for."""
        found = {}
        for each in next(iter(self.schemas[union].values())):
            name = each["$ref"].removeprefix(PREFIX)
            kind = self.schemas[name]["properties"]["type"]
            found[kind.get("const") or kind["enum"][0]] = name
        return found


OPENAI = Description("openai", openai_schemas)
ANTHROPIC = Description("anthropic")
OLLAMA = Description("ollama", ollama_schemas)
RESPONSE_EVENTS = OPENAI.members("ResponseStreamEvent")
MESSAGE_EVENTS = ANTHROPIC.members("MessageStreamEvent")

# The schemas of whole answers and of streams' lines.
ROUTES = [
    ("POST", "/v1/chat/completions", OPENAI, "CreateChatCompletionResponse"),
    ("POST", "/v1/completions", OPENAI, "CreateCompletionResponse"),
    ("POST", "/v1/responses", OPENAI, "Response"),
    ("GET", "/v1/responses/[^/]+", OPENAI, "Response"),
    ("POST", "/v1/embeddings", OPENAI, "CreateEmbeddingResponse"),
    ("GET", "/v1/models", OPENAI, "ListModelsResponse"),
    ("GET", "/v1/models/.+", OPENAI, "Model"),
    ("POST", "/v1/messages", ANTHROPIC, "Message"),
    ("POST", "/v1/messages/count_tokens", ANTHROPIC, "CountTokensResponse"),
    ("POST", "/api/chat", OLLAMA, "ChatResponse"),
    ("POST", "/api/generate", OLLAMA, "GenerateResponse"),
    ("POST", "/api/embed", OLLAMA, "EmbedResponse"),
    ("GET", "/api/tags", OLLAMA, "ListResponse"),
    ("GET", "/api/ps", OLLAMA, "PsResponse"),
    ("POST", "/api/show", OLLAMA, "ShowResponse"),
    ("GET", "/api/version", OLLAMA, "VersionResponse"),
]


def description_of(path):
    if path.startswith("/v1/messages"):
        return ANTHROPIC
    return OLLAMA if path.startswith("/api/") else OPENAI


def wrong_in_answer(method, path, status, body):
    """What is wrong with an answer that came as a whole, or None."""
    if status >= 400:
        return description_of(path).wrong("ErrorResponse", json.loads(body))
    for of_method, of_path, description, schema in ROUTES:
        if method == of_method and re.fullmatch(of_path, path):
            return description.wrong(schema, json.loads(body))
    return None  # of a route of our own, or without a body


class Stream:
    """Takes a stream's events in order. `wrong` says what is wrong first."""

    def __init__(self):
        self.failed = False  # an error was told
        self.ended = False

    def event(self, name, data):
        if self.ended or self.failed:
            return f"after the end of the stream: {data}"
        return self.check(name, data)

    def end(self):
        if not self.ended and not self.failed:
            return "the stream has no end"
        return None


class ChunkStream(Stream):
    """Of chat completions and completions."""

    def __init__(self, schema):
        super().__init__()
        self.schema = schema
        self.id = None

    def check(self, name, data):
        if name is not None:
            return f"an event with a name: {name}"
        if data == "[DONE]":
            self.ended = True
            return None
        value = json.loads(data)
        if "error" in value:
            self.failed = True
            return OPENAI.wrong("ErrorResponse", value)
        wrong = OPENAI.wrong(self.schema, value)
        if wrong is None and self.id not in (None, value["id"]):
            wrong = f"the id changes from {self.id} to {value['id']}"
        self.id = value.get("id")
        return wrong


class ResponseStream(Stream):
    def __init__(self):
        super().__init__()
        self.count = 0

    def check(self, name, data):
        value = json.loads(data)
        kind = value.get("type")
        if name != kind:
            return f"the event {name} is of type {kind}"
        if value["sequence_number"] != self.count:
            return f"number {value['sequence_number']} comes after {self.count - 1}"
        if kind == "response.created" and self.count != 0:
            return "response.created is not the first event"
        self.count += 1
        self.ended = kind in (
            "response.completed",
            "response.incomplete",
            "response.failed",
        )
        if kind not in RESPONSE_EVENTS:
            return f"an event of type {kind}"
        return OPENAI.wrong(RESPONSE_EVENTS[kind], value)


class MessageStream(Stream):
    """Checks the order of events, too."""

    def __init__(self):
        super().__init__()
        self.begun = False
        self.block = None  # the open one's number
        self.blocks = 0
        self.closing = False  # message_delta was seen

    def check(self, name, data):
        value = json.loads(data)
        kind = value.get("type")
        if name != kind:
            return f"the event {name} is of type {kind}"
        if kind == "error":
            self.failed = True
            return ANTHROPIC.wrong("ErrorResponse", value)
        if kind not in MESSAGE_EVENTS:
            return f"an event of type {kind}"
        wrong = ANTHROPIC.wrong(MESSAGE_EVENTS[kind], value)
        if wrong is None and not self.in_order(kind, value):
            return f"out of order: {data}"
        return wrong

    def in_order(self, kind, value):
        if kind == "message_start":
            first, self.begun = not self.begun, True
            return first
        if kind == "ping":
            return self.begun
        if kind == "content_block_start":
            right = self.block is None and not self.closing
            self.block = self.blocks
            self.blocks += 1
            return self.begun and right and value["index"] == self.block
        if kind == "content_block_delta":
            return value["index"] == self.block
        if kind == "content_block_stop":
            block, self.block = self.block, None
            return value["index"] == block
        if kind == "message_delta":
            again, self.closing = self.closing, True
            return self.begun and self.block is None and not again
        self.ended = True  # message_stop
        return self.closing


class LineStream(Stream):
    """Of Ollama's API: a JSON object in each line."""

    def __init__(self, schema):
        super().__init__()
        self.schema = schema

    def check(self, name, data):
        value = json.loads(data)
        if "error" in value:
            self.failed = True
            return OLLAMA.wrong("ErrorResponse", value)
        self.ended = value.get("done") is True
        return OLLAMA.wrong(("Last" if self.ended else "") + self.schema, value)


STREAMS = {
    "/v1/chat/completions": lambda: ChunkStream("CreateChatCompletionStreamResponse"),
    "/v1/completions": lambda: ChunkStream("CompletionChunk"),
    "/v1/responses": ResponseStream,
    "/v1/messages": MessageStream,
    "/api/chat": lambda: LineStream("ChatStreamEvent"),
    "/api/generate": lambda: LineStream("GenerateStreamEvent"),
}
