//! The names of a frame, and the slots that they get.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use super::names;
use crate::ast::{Arguments, Body, Expr, Frame, Load, Place, StatementKind, Target};

/// Where a variable is: in which function (0 is the outermost), and its slot there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Variable {
    function: usize,
    slot: usize,
}

impl Variable {
    fn seen_from(self, function: usize) -> Place {
        Place {
            up: function - self.function,
            slot: self.slot,
        }
    }
}

#[derive(Clone, Debug)]
enum Loading {
    Parameter,
    Missing,
    Resolve(Rc<str>),
    Alias(Variable),
}

/// A function: slots by level and name.
type Function = HashMap<(usize, Rc<str>), usize>;

/// The functions that a statement is in, the outermost first.
#[derive(Default)]
pub(super) struct Slots(Vec<Function>);

impl Slots {
    /// Begins a function.
    pub fn open(&mut self) {
        self.0.push(Function::default());
    }

    /// Ends a function; how many slots it has.
    pub fn close(&mut self) -> usize {
        self.0.pop().map_or(0, |function| function.len())
    }

    /// The number of the innermost function.
    pub fn depth(&self) -> usize {
        self.0.len() - 1
    }

    fn slot(&mut self, level: usize, name: &Rc<str>) -> Variable {
        let function = self.depth();
        let slots = &mut self.0[function];
        let next = slots.len();
        let slot = *slots.entry((level, Rc::clone(name))).or_insert(next);
        Variable { function, slot }
    }
}

/// The names of a frame.
#[derive(Clone, Debug, Default)]
pub(super) struct Symbols {
    level: usize,
    parent: Option<Rc<Symbols>>,
    refs: HashMap<Rc<str>, Variable>,
    /// In the order in which they are entered.
    loads: Vec<(Variable, Loading)>,
    stores: BTreeSet<Rc<str>>,
}

impl Symbols {
    pub fn inner(parent: &Rc<Self>) -> Self {
        Self {
            level: parent.level + 1,
            parent: Some(Rc::clone(parent)),
            ..Self::default()
        }
    }

    /// Where a name's variable is, seen from a function.
    pub fn place(&self, name: &str, function: usize) -> Option<Place> {
        self.find(name).map(|variable| variable.seen_from(function))
    }

    fn find(&self, name: &str) -> Option<Variable> {
        let own = self.refs.get(name).copied();
        own.or_else(|| self.parent.as_ref()?.find(name))
    }

    fn define(&mut self, name: &Rc<str>, loading: Loading, slots: &mut Slots) -> Variable {
        let variable = slots.slot(self.level, name);
        self.refs.insert(Rc::clone(name), variable);
        self.set_load(variable, loading);
        variable
    }

    fn set_load(&mut self, variable: Variable, loading: Loading) {
        match self.loads.iter_mut().find(|(known, _)| *known == variable) {
            Some(load) => load.1 = loading,
            None => self.loads.push((variable, loading)),
        }
    }

    pub fn parameter(&mut self, name: &Rc<str>, slots: &mut Slots) {
        self.stores.insert(Rc::clone(name));
        self.define(name, Loading::Parameter, slots);
    }

    fn store(&mut self, name: &Rc<str>, slots: &mut Slots) {
        self.stores.insert(Rc::clone(name));
        if self.refs.contains_key(name) {
            return;
        }
        let outer = self.parent.as_ref().and_then(|parent| parent.find(name));
        let loading = outer.map_or(Loading::Missing, Loading::Alias);
        self.define(name, loading, slots);
    }

    fn load(&mut self, name: &Rc<str>, slots: &mut Slots) {
        if self.find(name).is_none() {
            self.define(name, Loading::Resolve(Rc::clone(name)), slots);
        }
    }

    pub fn expr(&mut self, expr: &Expr, slots: &mut Slots) {
        names::in_expr(expr, &mut |name, _| self.load(&name.id, slots));
    }

    pub fn arguments(&mut self, arguments: &Arguments, slots: &mut Slots) {
        names::in_arguments(arguments, &mut |name, _| self.load(&name.id, slots));
    }

    pub fn target(&mut self, target: &Target, parameter: bool, slots: &mut Slots) {
        match target {
            Target::Name(name) if parameter => self.parameter(&name.id, slots),
            Target::Name(name) => self.store(&name.id, slots),
            Target::Attribute(name, _) => self.load(&name.id, slots),
            Target::Tuple(targets) => {
                for target in targets {
                    self.target(target, parameter, slots);
                }
            }
        }
    }

    /// The names that statements use in this frame itself.
    pub fn body(&mut self, body: &Body, slots: &mut Slots) {
        for statement in body {
            match &statement.kind {
                StatementKind::Output(nodes) => {
                    for node in nodes {
                        self.expr(node, slots);
                    }
                }
                StatementKind::For(node) => self.expr(&node.iterable, slots),
                StatementKind::If(node) => self.branches(&node.branches, &node.otherwise, slots),
                StatementKind::Macro(name, _, _) => self.store(&name.id, slots),
                StatementKind::CallBlock(node) => {
                    if let Some((callee, arguments)) = &node.call {
                        self.expr(callee, slots);
                        self.arguments(arguments, slots);
                    }
                }
                StatementKind::Filter(node) => {
                    for filter in &node.filters {
                        self.arguments(&filter.arguments, slots);
                    }
                }
                StatementKind::With(node) => {
                    for value in &node.values {
                        self.expr(value, slots);
                    }
                }
                StatementKind::Set(node) => {
                    self.expr(&node.value, slots);
                    self.target(&node.target, false, slots);
                }
                StatementKind::SetBlock(node) => self.target(&node.target, false, slots),
                StatementKind::Other(_, template, names) => {
                    self.expr(template, slots);
                    for name in names {
                        self.store(&name.id, slots);
                    }
                }
                StatementKind::Scope(..)
                | StatementKind::Block(..)
                | StatementKind::Break
                | StatementKind::Continue => {}
            }
        }
    }

    /// A condition: what one branch sets, others may not have set.
    fn branches(&mut self, branches: &[(Expr, Body)], otherwise: &Body, slots: &mut Slots) {
        let Some(((test, body), rest)) = branches.split_first() else {
            return;
        };
        self.expr(test, slots);
        let mut first = self.clone();
        first.body(body, slots);
        // Each further condition is a condition of its own.
        let mut others = self.clone();
        for branch in rest {
            others.branches(std::slice::from_ref(branch), &Vec::new(), slots);
        }
        let mut last = self.clone();
        last.body(otherwise, slots);
        self.join([first, others, last]);
    }

    fn join(&mut self, branches: [Self; 3]) {
        let mut stores: BTreeSet<Rc<str>> = BTreeSet::new();
        for branch in &branches {
            stores.extend(branch.stores.iter().cloned());
        }
        stores.retain(|name| !self.stores.contains(name));
        for branch in branches {
            self.refs.extend(branch.refs);
            for (variable, loading) in branch.loads {
                self.set_load(variable, loading);
            }
            self.stores.extend(branch.stores);
        }
        for name in stores {
            let Some(variable) = self.find(&name) else {
                continue;
            };
            let outer = self.parent.as_ref().and_then(|parent| parent.find(&name));
            let loading = outer.map_or_else(|| Loading::Resolve(name), Loading::Alias);
            self.set_load(variable, loading);
        }
    }

    /// What entering the frame does; `function` is the one that it is in.
    pub fn frame(&self, function: usize) -> Frame {
        let loads = self.loads.iter().map(|(variable, loading)| {
            let load = match loading {
                Loading::Parameter => Load::Parameter,
                Loading::Missing => Load::Missing,
                Loading::Resolve(name) => Load::Resolve(Rc::clone(name)),
                Loading::Alias(outer) => Load::Alias(outer.seen_from(function)),
            };
            (variable.slot, load)
        });
        loads.collect()
    }

    /// Every name that is set here or further out, and where it is.
    pub fn all_stores(&self, function: usize) -> Vec<(Rc<str>, Place)> {
        let mut found: Vec<(Rc<str>, Place)> = Vec::new();
        let mut at = Some(self);
        while let Some(symbols) = at {
            for name in &symbols.stores {
                if found.iter().all(|(known, _)| known != name)
                    && let Some(variable) = self.find(name)
                {
                    found.push((Rc::clone(name), variable.seen_from(function)));
                }
            }
            at = symbols.parent.as_deref();
        }
        found
    }
}
