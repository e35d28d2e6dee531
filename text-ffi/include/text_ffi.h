// The C ABI of the Rust library text-ffi: Hugging Face tokenizers, chat
// templates (minijinja) and grammars (llguidance). Use it through src/text.
//
// Functions with a TfError* never fail otherwise: they set `message` and
// return null, 0, -1 or an empty buffer. Texts are UTF-8 with a length, not
// ended by a 0. Pointers to objects must be alive; freeing null does nothing.
//
// Thread rule: a TfTokenizer, TfTemplate and TfGrammar may be used by any
// number of threads at a time; a TfDecodeStream and a TfMatcher by one.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct TfTokenizer TfTokenizer;
typedef struct TfDecodeStream TfDecodeStream;
typedef struct TfTemplate TfTemplate;
typedef struct TfGrammar TfGrammar;
typedef struct TfMatcher TfMatcher;

enum TfErrorKind {
  TF_INVALID_ARGUMENT = 1, // what the caller passed: text, id, context, grammar
  TF_BAD_MODEL = 2, // a tokenizer.json or a template
  TF_UNSUPPORTED = 3, // well formed, but not something this library can do
  TF_NO_MEMORY = 4, // less is left of what was given than this needs
};

typedef struct {
  int32_t kind; // TfErrorKind
  char* message; // null: no error; else for tf_message_free
} TfError;

// Memory of the library; `data` may be null.
typedef struct {
  uint8_t* data;
  size_t length, capacity;
} TfBytes;

typedef struct {
  uint32_t* data;
  size_t length, capacity;
} TfIds;

void tf_bytes_free(TfBytes);
void tf_ids_free(TfIds);
void tf_message_free(char*);

// From the text of a tokenizer.json, which is not kept.
TfTokenizer* tf_tokenizer_new(const char* json, size_t length, TfError*);
void tf_tokenizer_free(TfTokenizer*);
// One more than the largest id.
size_t tf_vocab_size(const TfTokenizer*);
TfIds tf_encode(
    const TfTokenizer*,
    const char* text,
    size_t length,
    bool add_special,
    TfError*);
TfBytes tf_decode(
    const TfTokenizer*,
    const uint32_t* ids,
    size_t length,
    bool skip_special,
    TfError*);
// The vocabulary's spelling of `id`; empty for an unused id.
TfBytes tf_token_to_piece(const TfTokenizer*, uint32_t id, TfError*);
// What `id` adds to a text when it is not the first; maybe a part of a
// character.
TfBytes tf_token_to_bytes(const TfTokenizer*, uint32_t id, TfError*);
// -1 when there is none.
int64_t
tf_token_to_id(const TfTokenizer*, const char* piece, size_t length, TfError*);

// Decoding as the ids come: what push and finish return, joined, is what
// tf_decode returns for all the ids. finish begins anew. The stream keeps what
// it needs of the tokenizer.
TfDecodeStream*
tf_decode_stream_new(const TfTokenizer*, bool skip_special, TfError*);
void tf_decode_stream_free(TfDecodeStream*);
TfBytes tf_decode_stream_push(TfDecodeStream*, uint32_t id, TfError*);
TfBytes tf_decode_stream_finish(TfDecodeStream*, TfError*);

TfTemplate* tf_template_new(const char* source, size_t length, TfError*);
void tf_template_free(TfTemplate*);
// `context_json` is an object. `now` is what strftime_now prints: seconds
// since the epoch, shifted to local time.
TfBytes tf_template_render(
    const TfTemplate*,
    const char* context_json,
    size_t length,
    int64_t now,
    TfError*);

// `vocab_size` is the model's, at least the tokenizer's. A matcher keeps what
// it needs of its grammar. Compiling one takes at most `compile_cost` steps
// (50,000 are about a millisecond), and its lexer has at most `lexer_states`
// states (about a kilobyte each). Each matcher may hold `matcher_bytes`, and
// beyond that all of them together `shared_bytes`: the one that needs more
// fails.
TfGrammar* tf_grammar_new(
    const TfTokenizer*,
    size_t vocab_size,
    uint32_t eos,
    uint64_t compile_cost,
    size_t lexer_states,
    size_t matcher_bytes,
    size_t shared_bytes,
    TfError*);
void tf_grammar_free(TfGrammar*);
// `kind` is "json_schema", "regex" or "lark", ended by a 0. Fails if there never
// is a matcher, whatever others hold now.
void tf_grammar_check(
    const TfGrammar*,
    const char* kind,
    const char* source,
    size_t length,
    TfError*);
TfMatcher* tf_matcher_new(
    const TfGrammar*,
    const char* kind,
    const char* source,
    size_t length,
    TfError*);
void tf_matcher_free(TfMatcher*);
// Sets bit i of `mask` for every token i that may come next, clears the
// others, and returns how many are set.
size_t tf_matcher_allowed(TfMatcher*, uint32_t* mask, size_t words, TfError*);
// Takes a token that may come next; true when the text is complete.
bool tf_matcher_commit(TfMatcher*, uint32_t token, TfError*);

#ifdef __cplusplus
}
#endif
