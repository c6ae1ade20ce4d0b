//! Where a template's names have their values while it is rendered.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use crate::ast::{Block, Body, Frame, Load, Name, Place};
use crate::error::Outcome;
use crate::run::Run;
use crate::value::Value;

/// Names of the template's top level, what it was given, and its blocks.
#[derive(Debug)]
pub(super) struct Context {
    vars: RefCell<HashMap<Rc<str>, Value>>,
    given: HashMap<Rc<str>, Value>,
    pub blocks: Rc<Vec<(Rc<str>, Block)>>,
}

impl Context {
    pub fn new(given: HashMap<Rc<str>, Value>, blocks: &Rc<Vec<(Rc<str>, Block)>>) -> Rc<Self> {
        Rc::new(Self {
            vars: RefCell::default(),
            given,
            blocks: Rc::clone(blocks),
        })
    }

    /// A context of what this one holds now, and more.
    pub fn with(&self, more: impl IntoIterator<Item = (Rc<str>, Value)>) -> Rc<Self> {
        let mut given = self.given.clone();
        given.extend(self.vars.borrow().clone());
        given.extend(more);
        Self::new(given, &self.blocks)
    }

    /// Sets a name of the top level.
    pub fn export(&self, name: &Rc<str>, value: &Value) {
        let mut vars = self.vars.borrow_mut();
        vars.insert(Rc::clone(name), value.clone());
    }

    fn get(&self, name: &str) -> Option<Value> {
        let own = self.vars.borrow().get(name).cloned();
        own.or_else(|| self.given.get(name).cloned())
    }
}

/// The variables of a function that was called.
#[derive(Debug)]
pub(super) struct Activation {
    slots: RefCell<Vec<Option<Value>>>,
    outer: Option<Rc<Activation>>,
    pub context: Rc<Context>,
}

impl Activation {
    /// Of a function that sees the context only.
    pub fn outermost(slots: usize, context: Rc<Context>) -> Rc<Self> {
        Rc::new(Self {
            slots: RefCell::new(vec![None; slots]),
            outer: None,
            context,
        })
    }

    /// Of a function that stands in another one.
    pub fn within(slots: usize, outer: &Rc<Self>) -> Rc<Self> {
        Rc::new(Self {
            slots: RefCell::new(vec![None; slots]),
            outer: Some(Rc::clone(outer)),
            context: Rc::clone(&outer.context),
        })
    }

    pub fn get(&self, place: Place) -> Option<Value> {
        let mut at = self;
        for _ in 0..place.up {
            at = at.outer.as_deref()?;
        }
        at.slots.borrow().get(place.slot).cloned().flatten()
    }

    /// What a name of this function itself holds.
    pub fn own(&self, name: &Name) -> Option<Value> {
        let slots = self.slots.borrow();
        slots.get(name.place.slot).cloned().flatten()
    }

    /// Sets a name of this function itself.
    pub fn set(&self, name: &Name, value: Option<Value>) {
        self.set_slot(name.place.slot, value);
    }

    fn set_slot(&self, slot: usize, value: Option<Value>) {
        if let Some(found) = self.slots.borrow_mut().get_mut(slot) {
            *found = value;
        }
    }

    /// Gives the variables of a frame what they hold at its beginning.
    pub fn enter(&self, frame: &Frame) {
        for (slot, load) in frame {
            match load {
                Load::Parameter => {}
                Load::Missing => self.set_slot(*slot, None),
                Load::Resolve(name) => self.set_slot(*slot, self.context.get(name)),
                Load::Alias(place) => self.set_slot(*slot, self.get(*place)),
            }
        }
    }

    /// Empties the variables of a frame.
    pub fn leave(&self, frame: &Frame) {
        for (slot, _) in frame {
            self.set_slot(*slot, None);
        }
    }
}

/// What comes after a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    Next,
    Break,
    Continue,
}

/// What carries out statements. Macros and loops are given it, since statements stand above them: they hold
/// statements, and statements make them.
pub(super) type Execute = fn(&Body, &Rc<Activation>, &mut Run) -> Outcome<Flow>;
