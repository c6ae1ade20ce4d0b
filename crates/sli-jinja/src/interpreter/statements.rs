//! Statements at work.

use std::rc::Rc;

use super::activation::{Activation, Flow};
use super::expressions::{arguments, call, eval, filter};
use super::for_loops::run_loop;
use super::macros::Closure;
use super::targets::{assign, check_namespaces, export};
use crate::ast::{
    Applied, Block, Body, CallBlock, FilterBlock, Place, Set, SetBlock, Statement, StatementKind,
    With,
};
use crate::error::{Kind, Outcome, fail};
use crate::repr::to_str;
use crate::run::Run;
use crate::value::{Args, Value};

/// Carries out statements in order, up to one that leaves a loop or its round.
pub(super) fn execute(body: &Body, at: &Rc<Activation>, run: &mut Run) -> Outcome<Flow> {
    for statement in body {
        let flow = one(statement, at, run)?;
        if flow != Flow::Next {
            return Ok(flow);
        }
    }
    Ok(Flow::Next)
}

fn one(statement: &Statement, at: &Rc<Activation>, run: &mut Run) -> Outcome<Flow> {
    run.pay(1)?;
    match &statement.kind {
        StatementKind::Output(nodes) => {
            for node in nodes {
                let value = eval(node, at, run)?;
                write(&value, run)?;
            }
        }
        StatementKind::For(node) => return run_loop(node, at, execute, run),
        StatementKind::If(node) => {
            for (test, body) in &node.branches {
                if eval(test, at, run)?.is_true()? {
                    return execute(body, at, run);
                }
            }
            return execute(&node.otherwise, at, run);
        }
        StatementKind::Macro(name, code, top_level) => {
            let value = Value::object(Closure::new(code, at, execute));
            if *top_level {
                at.context.export(&name.id, &value);
            }
            at.set(name, Some(value));
        }
        StatementKind::CallBlock(node) => call_block(node, at, run)?,
        StatementKind::Filter(node) => return filter_block(node, at, run),
        StatementKind::With(node) => return with(node, at, run),
        StatementKind::Set(node) => set(node, at, run)?,
        StatementKind::SetBlock(node) => return set_block(node, at, run),
        StatementKind::Scope(frame, body) => {
            at.enter(frame);
            let flow = execute(body, at, run)?;
            at.leave(frame);
            return Ok(flow);
        }
        StatementKind::Block(name, scoped, stores) => {
            let context = Rc::clone(&at.context);
            let block = context.blocks.iter().find(|(known, _)| known == name);
            if let Some((_, code)) = block {
                block_body(code, scoped.then_some(stores), at, run)?;
            }
        }
        StatementKind::Other(what, template, _) => {
            eval(template, at, run)?;
            let problem = format!("`{what}` needs other templates, of which there are none");
            return fail(Kind::Other, problem);
        }
        StatementKind::Break => return Ok(Flow::Break),
        StatementKind::Continue => return Ok(Flow::Continue),
    }
    Ok(Flow::Next)
}

fn write(value: &Value, run: &mut Run) -> Outcome<()> {
    let text = to_str(value, run)?;
    run.write(&text)
}

/// The text that statements make.
fn captured(body: &Body, at: &Rc<Activation>, run: &mut Run) -> Outcome<(String, Flow)> {
    run.begin_text();
    let flow = execute(body, at, run)?;
    Ok((run.end_text(), flow))
}

fn call_block(node: &CallBlock, at: &Rc<Activation>, run: &mut Run) -> Outcome<()> {
    let caller = Closure::new(&node.body, at, execute);
    let Some((callee, given)) = &node.call else {
        let text = caller.text(Args::default(), run)?;
        return run.write_generation(&text);
    };
    let callee = eval(callee, at, run)?;
    let mut args = arguments(given, at, run)?;
    if args.take("caller").is_some() {
        return fail(Kind::Type, "`caller` is given twice");
    }
    args.keyword.push(("caller".into(), Value::object(caller)));
    let value = call(&callee, args, run)?;
    write(&value, run)
}

/// What the filters of a block make of its text, one after the other.
fn filtered(
    mut value: Value,
    filters: &[Applied],
    at: &Rc<Activation>,
    run: &mut Run,
) -> Outcome<Value> {
    for applied in filters {
        let args = arguments(&applied.arguments, at, run)?;
        value = filter(&applied.name, &value, args, run)?;
    }
    Ok(value)
}

fn filter_block(node: &FilterBlock, at: &Rc<Activation>, run: &mut Run) -> Outcome<Flow> {
    at.enter(&node.frame);
    let (text, flow) = captured(&node.body, at, run)?;
    if flow != Flow::Next {
        return Ok(flow);
    }
    let value = filtered(Value::from(text), &node.filters, at, run)?;
    write(&value, run)?;
    at.leave(&node.frame);
    Ok(Flow::Next)
}

fn with(node: &With, at: &Rc<Activation>, run: &mut Run) -> Outcome<Flow> {
    at.enter(&node.frame);
    for (target, value) in node.targets.iter().zip(&node.values) {
        let value = eval(value, at, run)?;
        assign(target, value, at, run)?;
    }
    let flow = execute(&node.body, at, run)?;
    at.leave(&node.frame);
    Ok(flow)
}

fn set(node: &Set, at: &Rc<Activation>, run: &mut Run) -> Outcome<()> {
    check_namespaces(&node.target, at)?;
    let value = eval(&node.value, at, run)?;
    assign(&node.target, value, at, run)?;
    if node.top_level {
        export(&node.target, at);
    }
    Ok(())
}

fn set_block(node: &SetBlock, at: &Rc<Activation>, run: &mut Run) -> Outcome<Flow> {
    at.enter(&node.frame);
    let (text, flow) = captured(&node.body, at, run)?;
    if flow != Flow::Next {
        return Ok(flow);
    }
    let value = filtered(Value::from(text), &node.filters, at, run)?;
    assign(&node.target, value, at, run)?;
    if node.top_level {
        export(&node.target, at);
    }
    at.leave(&node.frame);
    Ok(Flow::Next)
}

/// Carries out a block, which sees the context only, and what is set around it where it is `scoped`.
fn block_body(
    code: &Block,
    stores: Option<&Vec<(Rc<str>, Place)>>,
    at: &Activation,
    run: &mut Run,
) -> Outcome<()> {
    let context = match stores {
        None => Rc::clone(&at.context),
        Some(stores) => {
            let set = stores.iter().filter_map(|(name, place)| {
                let value = at.get(*place)?;
                Some((Rc::clone(name), value))
            });
            at.context.with(set)
        }
    };
    let activation = Activation::outermost(code.slots, context);
    activation.enter(&code.frame);
    execute(&code.body, &activation, run)?;
    Ok(())
}
