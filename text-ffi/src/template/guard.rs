//! Checks between the instructions of a compiled template.
//!
//! After every instruction that can make a large or deep value stands one that
//! checks the value (template/limits.rs). Two operations are exchanged: "~"
//! joins as Python writes values, and a loop over a text goes over a list of
//! its characters, because only lists tell the loop their length.

use minijinja::machinery::{Instruction, Instructions};
use minijinja::value::{Value, ValueKind};
use minijinja::{Environment, Error};

use super::python::failure;
use super::{limits, python};

// No template can write these names.
const CHECK: &str = "#check";
const CHECK_STORED: &str = "#check_stored";
const TICK: &str = "#tick";
const ITEMS: &str = "#items";
const CONCAT: &str = "#concat";

/// Looked up by name instead of in the table that the compiler made.
const NO_LOCAL_ID: u8 = !0;

pub fn add_filters(env: &mut Environment) {
    env.add_filter(CHECK, limits::check_value);
    env.add_filter(CHECK_STORED, limits::check_stored);
    env.add_filter(TICK, |value: Value| limits::check().map(|()| value));
    env.add_filter(ITEMS, |value: Value| match value.kind() {
        ValueKind::String => limits::collect(&value),
        // minijinja takes it for an empty list.
        ValueKind::None => Err(failure("'NoneType' object is not iterable")),
        _ => Ok(value),
    });
    env.add_filter(CONCAT, |a: &Value, b: &Value| -> Result<Value, Error> {
        let mut text = python::to_str(a)?;
        python::write_str(&mut text, b)?;
        limits::check_text(text.len())?;
        Ok(Value::from(text))
    });
}

pub fn guarded<'source>(original: &Instructions<'source>) -> Instructions<'source> {
    let mut guarded = Instructions::new(original.name(), original.source());
    let mut new_index = Vec::new();
    let mut end = 0;
    while let Some(instruction) = original.get(new_index.len() as u32) {
        let line = original.get_line(new_index.len() as u32).unwrap_or(0);
        new_index.push(end);
        for instruction in with_checks(instruction) {
            end = guarded.add_with_line(instruction, line as u16) + 1;
        }
    }
    new_index.push(end);
    for index in 0..end {
        if let Some(target) = guarded.get_mut(index).and_then(jump_target) {
            *target = new_index[*target as usize];
        }
    }
    guarded
}

fn with_checks<'source>(instruction: &Instruction<'source>) -> Vec<Instruction<'source>> {
    let filter = |name, arguments| Instruction::ApplyFilter(name, Some(arguments), NO_LOCAL_ID);
    let instruction = instruction.clone();
    match instruction {
        Instruction::StringConcat => vec![filter(CONCAT, 2)],
        Instruction::PushLoop(_) => vec![filter(ITEMS, 1), instruction],
        Instruction::Iterate(_) => vec![instruction, filter(TICK, 1)],
        // The stack has the value, and above it the namespace.
        Instruction::SetAttr(_) => vec![
            Instruction::Swap,
            filter(CHECK_STORED, 1),
            Instruction::Swap,
            instruction,
        ],
        Instruction::Add
        | Instruction::Mul
        | Instruction::Slice
        | Instruction::ApplyFilter(..)
        | Instruction::CallFunction(..)
        | Instruction::CallMethod(..)
        | Instruction::CallObject(_)
        | Instruction::EndCapture
        | Instruction::BuildMap(_)
        | Instruction::BuildList(_)
        | Instruction::BuildTuple(_) => vec![instruction, filter(CHECK, 1)],
        _ => vec![instruction],
    }
}

fn jump_target<'a>(instruction: &'a mut Instruction<'_>) -> Option<&'a mut u32> {
    match instruction {
        Instruction::Iterate(target)
        | Instruction::Jump(target)
        | Instruction::JumpIfFalse(target)
        | Instruction::JumpIfFalseOrPop(target)
        | Instruction::JumpIfTrueOrPop(target)
        | Instruction::BuildMacro(_, target, _) => Some(target),
        _ => None,
    }
}
