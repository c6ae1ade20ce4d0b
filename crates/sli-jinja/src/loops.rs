//! The variable `loop`.

use std::cell::RefCell;
use std::fmt;
use std::mem;
use std::rc::Rc;

use crate::compare::equal;
use crate::error::{Error, Kind, Outcome, type_error};
use crate::iterate::Iter;
use crate::run::Run;
use crate::value::{Args, Iterate, Object, Value};

/// A recursive loop, which `loop(..)` begins again.
pub(crate) trait Recurse: fmt::Debug {
    /// The text of the loop over something, so many levels down.
    fn recurse(&self, iterable: &Value, depth: usize, run: &mut Run) -> Outcome<String>;
}

/// A loop at work.
#[derive(Debug)]
pub(crate) struct Loop {
    depth0: usize,
    recurse: Option<Box<dyn Recurse>>,
    state: RefCell<State>,
}

#[derive(Debug)]
struct State {
    iter: Iter,
    /// Items of what is gone through; nothing until it is known.
    length: Option<usize>,
    index0: i64,
    before: Option<Value>,
    current: Option<Value>,
    after: Option<Value>,
    changed: Option<Vec<Value>>,
}

impl Loop {
    /// A loop over an iterator, whose length may be known, so many levels down.
    pub fn new(
        iter: Iter,
        length: Option<usize>,
        depth0: usize,
        recurse: Option<Box<dyn Recurse>>,
    ) -> Self {
        Self {
            depth0,
            recurse,
            state: RefCell::new(State {
                iter,
                length,
                index0: -1,
                before: None,
                current: None,
                after: None,
                changed: None,
            }),
        }
    }

    /// The next item, which is the current one then.
    pub fn advance(&self, run: &mut Run) -> Outcome<Option<Value>> {
        let after = self.state.borrow_mut().after.take();
        let next = match after {
            Some(next) => Some(next),
            None => self.pull(run)?,
        };
        let mut state = self.state.borrow_mut();
        if let Some(next) = &next {
            state.index0 += 1;
            state.before = state.current.take();
            state.current = Some(next.clone());
        }
        Ok(next)
    }

    /// An item of the iterator, which may need the loop's own variables meanwhile.
    fn pull(&self, run: &mut Run) -> Outcome<Option<Value>> {
        let mut iter = mem::replace(&mut self.state.borrow_mut().iter, Iter::Done);
        let next = iter.next(run);
        self.state.borrow_mut().iter = iter;
        next
    }

    fn peek(&self, run: &mut Run) -> Outcome<Option<Value>> {
        let after = self.state.borrow().after.clone();
        if after.is_some() {
            return Ok(after);
        }
        let next = self.pull(run)?;
        self.state.borrow_mut().after.clone_from(&next);
        Ok(next)
    }

    /// `loop.changed(..)`.
    fn changed(&self, values: Vec<Value>) -> Outcome<bool> {
        let last = self.state.borrow().changed.clone();
        if let Some(last) = last
            && equal(&Value::tuple(last), &Value::tuple(values.clone()))?
        {
            return Ok(false);
        }
        self.state.borrow_mut().changed = Some(values);
        Ok(true)
    }

    /// `loop.cycle(..)`.
    fn cycle(&self, values: &[Value]) -> Outcome<Value> {
        let index0 = self.state.borrow().index0;
        let count = values.len() as i64;
        if count == 0 {
            return type_error("no items for cycling given");
        }
        Ok(values[index0.rem_euclid(count) as usize].clone())
    }
}

impl Object for Loop {
    fn type_name(&self) -> &'static str {
        "LoopContext"
    }

    fn attribute(&self, name: &str, run: &mut Run) -> Outcome<Option<Value>> {
        let index0 = self.state.borrow().index0;
        let or_none =
            |item: Option<Value>, reason: &str| item.unwrap_or_else(|| Value::undefined(reason));
        Ok(Some(match name {
            "index" => Value::Int(index0 + 1),
            "index0" => Value::Int(index0),
            "revindex" => Value::Int(self.length(run)? - index0),
            "revindex0" => Value::Int(self.length(run)? - index0 - 1),
            "length" => Value::Int(self.length(run)?),
            "first" => Value::Bool(index0 == 0),
            "last" => Value::Bool(self.peek(run)?.is_none()),
            "depth" => Value::length(self.depth0 + 1),
            "depth0" => Value::length(self.depth0),
            "previtem" => {
                let before = self.state.borrow().before.clone();
                or_none(before, "there is no previous item")
            }
            "nextitem" => or_none(self.peek(run)?, "there is no next item"),
            _ => return Ok(None),
        }))
    }

    fn methods(&self) -> &'static [&'static str] {
        &["cycle", "changed"]
    }

    fn call_method(&self, name: &str, args: Args, _run: &mut Run) -> Outcome<Value> {
        match name {
            "cycle" => self.cycle(&args.positional),
            _ => self.changed(args.positional).map(Value::Bool),
        }
    }

    fn is_callable(&self) -> bool {
        true
    }

    fn call(&self, args: Args, run: &mut Run) -> Outcome<Value> {
        let [iterable] = args.bind("loop", ["iterable"], 1)?;
        match (&self.recurse, iterable) {
            (Some(recurse), Some(iterable)) => recurse
                .recurse(&iterable, self.depth0 + 1, run)
                .map(Value::from),
            _ => type_error("`loop` can be called in a recursive loop only"),
        }
    }

    fn repr(&self, run: &mut Run) -> Outcome<String> {
        let index = self.state.borrow().index0 + 1;
        let length = self.length(run)?;
        Ok(format!("<LoopContext {index}/{length}>"))
    }

    fn length(&self, run: &mut Run) -> Outcome<i64> {
        let known = self.state.borrow().length;
        let length = match known {
            Some(length) => length,
            None => {
                let mut rest = Vec::new();
                while let Some(item) = self.pull(run)? {
                    rest.push(item);
                }
                let mut state = self.state.borrow_mut();
                let passed = usize::try_from(state.index0 + 1).unwrap_or(0);
                let length = rest.len() + passed + usize::from(state.after.is_some());
                state.iter = Iter::Items(Rc::new(rest), 0);
                length
            }
        };
        self.state.borrow_mut().length = Some(length);
        Ok(length as i64)
    }

    fn is_iterable(&self) -> bool {
        true
    }

    fn not_iterated(&self) -> Error {
        Error::new(Kind::Other, "going through `loop` is not supported")
    }
}
