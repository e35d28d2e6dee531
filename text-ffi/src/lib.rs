//! Tokenizers, chat templates and grammars behind a small C ABI:
//! include/text_ffi.h, which also says what each function does.
//!
//! Every entry point catches panics. A panic is taken for a defect of the
//! input (a model file, a template, a grammar), which is all that can cause one.

// What callers must hold to is in the header.
#![allow(clippy::missing_safety_doc)]

mod byte_level;
mod counting_allocator;
mod error;
mod ffi;
mod grammar;
mod grammar_source;
mod matcher;
mod own_thread;
mod template;
mod tokenizer;

use std::ffi::{c_char, CStr, CString};
use std::sync::Arc;

use error::{Error, Kind};
use ffi::{guard, slice, text, Buffer, FfiError};
use grammar::{Grammar, Limits};
use matcher::Matcher;
use template::ChatTemplate;
use tokenizer::{DecodeStream, Tokenizer};

#[global_allocator]
static ALLOCATOR: counting_allocator::CountingAllocator = counting_allocator::CountingAllocator;

fn boxed<T>(value: T) -> *mut T {
    Box::into_raw(Box::new(value))
}

/// A null pointer is allowed, as to free().
unsafe fn release<T>(pointer: *mut T) {
    if !pointer.is_null() {
        drop(Box::from_raw(pointer));
    }
}

#[no_mangle]
pub unsafe extern "C" fn tf_bytes_free(bytes: Buffer<u8>) {
    bytes.release()
}

#[no_mangle]
pub unsafe extern "C" fn tf_ids_free(ids: Buffer<u32>) {
    ids.release()
}

#[no_mangle]
pub unsafe extern "C" fn tf_message_free(message: *mut c_char) {
    if !message.is_null() {
        drop(CString::from_raw(message));
    }
}

// ---- tokenizer

pub struct TfTokenizer {
    tokenizer: Arc<Tokenizer>,
}

#[no_mangle]
pub unsafe extern "C" fn tf_tokenizer_new(
    json: *const c_char,
    length: usize,
    error: *mut FfiError,
) -> *mut TfTokenizer {
    guard(error, Kind::BadModel, std::ptr::null_mut(), || {
        let tokenizer = Tokenizer::from_json(slice(json.cast(), length))?;
        Ok(boxed(TfTokenizer {
            tokenizer: Arc::new(tokenizer),
        }))
    })
}

#[no_mangle]
pub unsafe extern "C" fn tf_tokenizer_free(tokenizer: *mut TfTokenizer) {
    release(tokenizer)
}

#[no_mangle]
pub unsafe extern "C" fn tf_vocab_size(tokenizer: *const TfTokenizer) -> usize {
    (*tokenizer).tokenizer.id_end() as usize
}

#[no_mangle]
pub unsafe extern "C" fn tf_encode(
    tokenizer: *const TfTokenizer,
    data: *const c_char,
    length: usize,
    add_special: bool,
    error: *mut FfiError,
) -> Buffer<u32> {
    guard(error, Kind::BadModel, Buffer::NONE, || {
        let text = text(data, length)?;
        (*tokenizer)
            .tokenizer
            .encode(text, add_special)
            .map(Buffer::new)
    })
}

#[no_mangle]
pub unsafe extern "C" fn tf_decode(
    tokenizer: *const TfTokenizer,
    ids: *const u32,
    length: usize,
    skip_special: bool,
    error: *mut FfiError,
) -> Buffer<u8> {
    guard(error, Kind::BadModel, Buffer::NONE, || {
        let text = (*tokenizer)
            .tokenizer
            .decode(slice(ids, length), skip_special)?;
        Ok(Buffer::new(text.into_bytes()))
    })
}

#[no_mangle]
pub unsafe extern "C" fn tf_token_to_piece(
    tokenizer: *const TfTokenizer,
    id: u32,
    error: *mut FfiError,
) -> Buffer<u8> {
    guard(error, Kind::BadModel, Buffer::NONE, || {
        let piece = (*tokenizer).tokenizer.piece(id).unwrap_or_default();
        Ok(Buffer::new(piece.into_bytes()))
    })
}

#[no_mangle]
pub unsafe extern "C" fn tf_token_to_bytes(
    tokenizer: *const TfTokenizer,
    id: u32,
    error: *mut FfiError,
) -> Buffer<u8> {
    guard(error, Kind::BadModel, Buffer::NONE, || {
        Ok(Buffer::new((*tokenizer).tokenizer.bytes(id)))
    })
}

#[no_mangle]
pub unsafe extern "C" fn tf_token_to_id(
    tokenizer: *const TfTokenizer,
    data: *const c_char,
    length: usize,
    error: *mut FfiError,
) -> i64 {
    guard(error, Kind::BadModel, -1, || {
        let piece = text(data, length)?;
        Ok((*tokenizer).tokenizer.find(piece).map_or(-1, i64::from))
    })
}

// ---- decode stream

pub struct TfDecodeStream {
    stream: DecodeStream,
}

#[no_mangle]
pub unsafe extern "C" fn tf_decode_stream_new(
    tokenizer: *const TfTokenizer,
    skip_special: bool,
    error: *mut FfiError,
) -> *mut TfDecodeStream {
    guard(error, Kind::BadModel, std::ptr::null_mut(), || {
        let tokenizer = (*tokenizer).tokenizer.clone();
        Ok(boxed(TfDecodeStream {
            stream: DecodeStream::new(tokenizer, skip_special),
        }))
    })
}

#[no_mangle]
pub unsafe extern "C" fn tf_decode_stream_free(stream: *mut TfDecodeStream) {
    release(stream)
}

#[no_mangle]
pub unsafe extern "C" fn tf_decode_stream_push(
    stream: *mut TfDecodeStream,
    id: u32,
    error: *mut FfiError,
) -> Buffer<u8> {
    guard(error, Kind::BadModel, Buffer::NONE, || {
        Ok(Buffer::new((*stream).stream.push(id)?.into_bytes()))
    })
}

#[no_mangle]
pub unsafe extern "C" fn tf_decode_stream_finish(
    stream: *mut TfDecodeStream,
    error: *mut FfiError,
) -> Buffer<u8> {
    guard(error, Kind::BadModel, Buffer::NONE, || {
        Ok(Buffer::new((*stream).stream.finish()?.into_bytes()))
    })
}

// ---- chat template

pub struct TfTemplate {
    template: ChatTemplate,
}

#[no_mangle]
pub unsafe extern "C" fn tf_template_new(
    source: *const c_char,
    length: usize,
    error: *mut FfiError,
) -> *mut TfTemplate {
    guard(error, Kind::BadModel, std::ptr::null_mut(), || {
        let source = text(source, length).map_err(|e| Error::bad_model(e.message))?;
        let template = ChatTemplate::new(source)?;
        Ok(boxed(TfTemplate { template }))
    })
}

#[no_mangle]
pub unsafe extern "C" fn tf_template_free(template: *mut TfTemplate) {
    release(template)
}

#[no_mangle]
pub unsafe extern "C" fn tf_template_render(
    template: *const TfTemplate,
    context: *const c_char,
    length: usize,
    now: i64,
    error: *mut FfiError,
) -> Buffer<u8> {
    guard(error, Kind::InvalidArgument, Buffer::NONE, || {
        let context = slice(context.cast(), length);
        let text = (*template).template.render(context, now)?;
        Ok(Buffer::new(text.into_bytes()))
    })
}

// ---- grammar

pub struct TfGrammar {
    grammar: Grammar,
}

pub struct TfMatcher {
    matcher: Matcher,
}

#[no_mangle]
pub unsafe extern "C" fn tf_grammar_new(
    tokenizer: *const TfTokenizer,
    vocab_size: usize,
    eos: u32,
    compile_cost: u64,
    lexer_states: usize,
    matcher_bytes: usize,
    shared_bytes: usize,
    error: *mut FfiError,
) -> *mut TfGrammar {
    guard(error, Kind::Unsupported, std::ptr::null_mut(), || {
        let limits = Limits {
            compile_cost,
            lexer_states,
            matcher_bytes,
            shared_bytes,
        };
        let grammar = Grammar::new(&(*tokenizer).tokenizer, vocab_size, eos, limits)?;
        Ok(boxed(TfGrammar { grammar }))
    })
}

#[no_mangle]
pub unsafe extern "C" fn tf_grammar_free(grammar: *mut TfGrammar) {
    release(grammar)
}

#[no_mangle]
pub unsafe extern "C" fn tf_grammar_check(
    grammar: *const TfGrammar,
    kind: *const c_char,
    source: *const c_char,
    length: usize,
    error: *mut FfiError,
) {
    guard(error, Kind::InvalidArgument, (), || {
        let kind = CStr::from_ptr(kind).to_str().unwrap_or_default();
        (*grammar).grammar.check(kind, text(source, length)?)
    })
}

#[no_mangle]
pub unsafe extern "C" fn tf_matcher_new(
    grammar: *const TfGrammar,
    kind: *const c_char,
    source: *const c_char,
    length: usize,
    error: *mut FfiError,
) -> *mut TfMatcher {
    guard(error, Kind::InvalidArgument, std::ptr::null_mut(), || {
        let kind = CStr::from_ptr(kind).to_str().unwrap_or_default();
        let matcher = (*grammar).grammar.matcher(kind, text(source, length)?)?;
        Ok(boxed(TfMatcher { matcher }))
    })
}

#[no_mangle]
pub unsafe extern "C" fn tf_matcher_free(matcher: *mut TfMatcher) {
    release(matcher)
}

#[no_mangle]
pub unsafe extern "C" fn tf_matcher_allowed(
    matcher: *mut TfMatcher,
    mask: *mut u32,
    words: usize,
    error: *mut FfiError,
) -> usize {
    guard(error, Kind::InvalidArgument, 0, || {
        let mask = match words {
            0 => &mut [][..],
            _ => std::slice::from_raw_parts_mut(mask, words),
        };
        (*matcher).matcher.allowed(mask)
    })
}

#[no_mangle]
pub unsafe extern "C" fn tf_matcher_commit(
    matcher: *mut TfMatcher,
    token: u32,
    error: *mut FfiError,
) -> bool {
    guard(error, Kind::InvalidArgument, false, || {
        (*matcher).matcher.commit(token)
    })
}
