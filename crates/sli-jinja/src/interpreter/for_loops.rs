//! `for`.

use std::mem;
use std::rc::Rc;

use super::activation::{Activation, Execute, Flow};
use super::expressions::eval;
use super::targets::{assign, value_of};
use crate::ast::For;
use crate::error::Outcome;
use crate::iterate::{Iter, iterate, sized};
use crate::loops::{Loop, Recurse};
use crate::run::Run;
use crate::value::{Iterate, Value};

/// Carries out a loop.
pub(super) fn run_loop(
    node: &Rc<For>,
    at: &Rc<Activation>,
    execute: Execute,
    run: &mut Run,
) -> Outcome<Flow> {
    let iterable = eval(&node.iterable, at, run)?;
    if !node.recursive {
        return rounds(node, &iterable, [at, at], 0, execute, run);
    }
    let recursion = Recursion {
        node: Rc::clone(node),
        outer: Rc::clone(at),
        execute,
    };
    let text = recursion.recurse(&iterable, 0, run)?;
    run.write(&text)?;
    Ok(Flow::Next)
}

/// A recursive loop and where it stands.
#[derive(Clone, Debug)]
struct Recursion {
    node: Rc<For>,
    outer: Rc<Activation>,
    execute: Execute,
}

impl Recurse for Recursion {
    fn recurse(&self, iterable: &Value, depth: usize, run: &mut Run) -> Outcome<String> {
        run.deeper(|run| {
            let activation = Activation::within(self.node.slots, &self.outer);
            run.begin_text();
            let places = [&activation, &self.outer];
            rounds(&self.node, iterable, places, depth, self.execute, run)?;
            Ok(run.end_text())
        })
    }
}

/// The items that the condition of a loop takes.
#[derive(Debug)]
struct Condition {
    source: Iter,
    node: Rc<For>,
    at: Rc<Activation>,
}

impl Iterate for Condition {
    fn next(&mut self, run: &mut Run) -> Outcome<Option<Value>> {
        run.pay(1)?;
        while let Some(item) = self.source.next(run)? {
            let Some(test) = &self.node.test else {
                return Ok(Some(item));
            };
            assign(&test.target, item, &self.at, run)?;
            if eval(&test.test, &self.at, run)?.is_true()? {
                return Ok(Some(value_of(&test.target, &self.at)));
            }
        }
        Ok(None)
    }
}

/// All rounds of a loop, in its own function or the one around it, which is where its condition looks.
fn rounds(
    node: &Rc<For>,
    iterable: &Value,
    [at, outer]: [&Rc<Activation>; 2],
    depth: usize,
    execute: Execute,
    run: &mut Run,
) -> Outcome<Flow> {
    let (mut iter, mut length) = (iterate(iterable)?, sized(iterable));
    if let Some(test) = &node.test {
        let activation = Activation::within(test.slots, outer);
        activation.enter(&test.frame);
        iter = Iter::Own(Box::new(Condition {
            source: iter,
            node: Rc::clone(node),
            at: activation,
        }));
        length = None;
    }
    let state = node.loop_name.as_ref().map(|name| {
        let recurse = node.recursive.then(|| -> Box<dyn Recurse> {
            Box::new(Recursion {
                node: Rc::clone(node),
                outer: Rc::clone(outer),
                execute,
            })
        });
        let iter = mem::replace(&mut iter, Iter::Done);
        (name, Rc::new(Loop::new(iter, length, depth, recurse)))
    });
    let mut no_round = true;
    loop {
        let item = match &state {
            Some((_, state)) => state.advance(run)?,
            None => iter.next(run)?,
        };
        let Some(item) = item else { break };
        assign(&node.target, item, at, run)?;
        if let Some((name, state)) = &state {
            let state = Rc::clone(state);
            at.set(name, Some(Value::Object(state)));
        }
        at.enter(&node.frame);
        match execute(&node.body, at, run)? {
            Flow::Next => no_round = false,
            Flow::Continue => {}
            Flow::Break => break,
        }
    }
    at.leave(&node.frame);
    if !no_round || node.otherwise.is_empty() {
        return Ok(Flow::Next);
    }
    at.enter(&node.else_frame);
    let flow = execute(&node.otherwise, at, run)?;
    at.leave(&node.else_frame);
    Ok(flow)
}
