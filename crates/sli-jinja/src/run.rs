//! A template at work: statements.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

use chrono::NaiveDateTime;

use crate::arguments::Args;
use crate::ast::{
    Applied, Block, Body, CallBlock, For, Frame, Load, Macro, Name, Place, Set, SetBlock,
    Statement, StatementKind, Target, Tree,
};
use crate::error::{Error, Kind, Outcome, fail, value_error};
use crate::iterate::{Iter, collect};
use crate::loops::{self, Loop};
use crate::value::Value;

/// Bytes that a step pays for.
const STEP_BYTES: usize = 64;
/// How deeply macros and recursive loops may call each other.
const DEEPEST_CALLS: usize = 190;

/// The variables of a function that was called.
#[derive(Debug)]
pub(crate) struct Activation {
    slots: RefCell<Vec<Option<Value>>>,
    outer: Option<Rc<Activation>>,
}

impl Activation {
    fn new(slots: usize, outer: Option<&Rc<Self>>) -> Rc<Self> {
        Rc::new(Self {
            slots: RefCell::new(vec![None; slots]),
            outer: outer.cloned(),
        })
    }

    pub fn get(&self, place: Place) -> Option<Value> {
        let mut at = self;
        for _ in 0..place.up {
            at = at.outer.as_deref()?;
        }
        at.slots.borrow().get(place.slot).cloned().flatten()
    }

    fn set(&self, slot: usize, value: Option<Value>) {
        if let Some(found) = self.slots.borrow_mut().get_mut(slot) {
            *found = value;
        }
    }
}

/// Names of the template's top level, and what it was given.
#[derive(Debug, Default)]
pub(crate) struct Context {
    vars: RefCell<HashMap<Rc<str>, Value>>,
    given: HashMap<Rc<str>, Value>,
}

impl Context {
    pub fn new(given: HashMap<Rc<str>, Value>) -> Rc<Self> {
        Rc::new(Self {
            vars: RefCell::default(),
            given,
        })
    }

    fn get(&self, name: &str) -> Option<Value> {
        let own = self.vars.borrow().get(name).cloned();
        own.or_else(|| self.given.get(name).cloned())
    }
}

/// A macro and where it was defined.
#[derive(Debug)]
pub(crate) struct Closure {
    pub code: Rc<Macro>,
    outer: Rc<Activation>,
    context: Rc<Context>,
}

/// The condition of a loop at work.
#[derive(Debug)]
pub(crate) struct LoopCondition {
    node: Rc<For>,
    activation: Rc<Activation>,
}

/// What comes after a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    Next,
    Break,
    Continue,
}

/// A template that is being rendered.
pub(crate) struct Run<'t> {
    tree: &'t Tree,
    steps: u64,
    context: Rc<Context>,
    /// Texts that are being made, the template's own first.
    outputs: Vec<String>,
    /// Characters of the template's own text.
    characters: usize,
    generation: Vec<Range<usize>>,
    calls: usize,
    pub now: NaiveDateTime,
}

impl<'t> Run<'t> {
    pub fn new(tree: &'t Tree, steps: u64, context: Rc<Context>, now: NaiveDateTime) -> Self {
        Self {
            tree,
            steps,
            context,
            outputs: vec![String::new()],
            characters: 0,
            generation: Vec::new(),
            calls: 0,
            now,
        }
    }

    /// Renders the template: its text, and the characters in `{% generation %}` blocks.
    pub fn template(mut self) -> Outcome<(String, Vec<Range<usize>>)> {
        let tree = self.tree;
        let activation = Activation::new(tree.slots, None);
        self.enter(&tree.frame, &activation);
        self.body(&tree.body, &activation)?;
        Ok((self.outputs.pop().unwrap_or_default(), self.generation))
    }

    /// Pays for so many steps.
    pub fn pay(&mut self, steps: u64) -> Outcome<()> {
        match self.steps.checked_sub(steps) {
            Some(left) => {
                self.steps = left;
                Ok(())
            }
            None => {
                self.steps = 0;
                Err(Error::steps())
            }
        }
    }

    /// Pays for making so many bytes.
    pub fn pay_bytes(&mut self, bytes: usize) -> Outcome<()> {
        self.pay((bytes / STEP_BYTES) as u64)
    }

    fn write(&mut self, text: &str) -> Outcome<()> {
        self.pay_bytes(text.len())?;
        if self.outputs.len() == 1 {
            self.characters += crate::text::length(text);
        }
        if let Some(output) = self.outputs.last_mut() {
            output.push_str(text);
        }
        Ok(())
    }

    fn enter(&self, frame: &Frame, at: &Activation) {
        for (slot, load) in frame {
            match load {
                Load::Parameter => {}
                Load::Missing => at.set(*slot, None),
                Load::Resolve(name) => at.set(*slot, self.context.get(name)),
                Load::Alias(place) => at.set(*slot, at.get(*place)),
            }
        }
    }

    fn leave(frame: &Frame, at: &Activation) {
        for (slot, _) in frame {
            at.set(*slot, None);
        }
    }

    pub fn body(&mut self, body: &Body, at: &Rc<Activation>) -> Outcome<Flow> {
        for statement in body {
            let flow = self.statement(statement, at)?;
            if flow != Flow::Next {
                return Ok(flow);
            }
        }
        Ok(Flow::Next)
    }

    fn statement(&mut self, statement: &Statement, at: &Rc<Activation>) -> Outcome<Flow> {
        self.pay(1)?;
        match &statement.kind {
            StatementKind::Output(nodes) => {
                for node in nodes {
                    let value = self.eval(node, at)?;
                    let text = self.string(&value)?;
                    self.write(&text)?;
                }
            }
            StatementKind::For(node) => return self.for_loop(node, at),
            StatementKind::If(node) => {
                for (test, body) in &node.branches {
                    if self.eval(test, at)?.is_true()? {
                        return self.body(body, at);
                    }
                }
                return self.body(&node.otherwise, at);
            }
            StatementKind::Macro(name, code, top_level) => {
                let value = Value::Macro(self.closure(code, at));
                if *top_level {
                    self.export(&name.id, &value);
                }
                at.set(name.place.slot, Some(value));
            }
            StatementKind::CallBlock(node) => self.call_block(node, at)?,
            StatementKind::Filter(node) => {
                self.enter(&node.frame, at);
                let (text, flow) = self.captured(&node.body, at)?;
                if flow != Flow::Next {
                    return Ok(flow);
                }
                let value = self.filtered(Value::from(text), &node.filters, at)?;
                let text = self.string(&value)?;
                self.write(&text)?;
                Self::leave(&node.frame, at);
            }
            StatementKind::With(node) => {
                self.enter(&node.frame, at);
                for (target, value) in node.targets.iter().zip(&node.values) {
                    let value = self.eval(value, at)?;
                    self.assign(target, value, at)?;
                }
                let flow = self.body(&node.body, at)?;
                Self::leave(&node.frame, at);
                return Ok(flow);
            }
            StatementKind::Set(node) => self.set(node, at)?,
            StatementKind::SetBlock(node) => return self.set_block(node, at),
            StatementKind::Scope(frame, body) => {
                self.enter(frame, at);
                let flow = self.body(body, at)?;
                Self::leave(frame, at);
                return Ok(flow);
            }
            StatementKind::Block(name, scoped, stores) => {
                let tree = self.tree;
                let block = tree.blocks.iter().find(|(known, _)| known == name);
                if let Some((_, block)) = block {
                    self.block(block, *scoped, stores, at)?;
                }
            }
            StatementKind::Other(what, template, _) => {
                self.eval(template, at)?;
                let problem = format!("`{what}` needs other templates, of which there are none");
                return fail(Kind::Other, problem);
            }
            StatementKind::Break => return Ok(Flow::Break),
            StatementKind::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Next)
    }

    /// The text that statements make.
    fn captured(&mut self, body: &Body, at: &Rc<Activation>) -> Outcome<(String, Flow)> {
        self.outputs.push(String::new());
        let flow = self.body(body, at)?;
        Ok((self.outputs.pop().unwrap_or_default(), flow))
    }

    fn closure(&self, code: &Rc<Macro>, at: &Rc<Activation>) -> Rc<Closure> {
        Rc::new(Closure {
            code: Rc::clone(code),
            outer: Rc::clone(at),
            context: Rc::clone(&self.context),
        })
    }

    fn export(&self, name: &Rc<str>, value: &Value) {
        let mut vars = self.context.vars.borrow_mut();
        vars.insert(Rc::clone(name), value.clone());
    }

    fn call_block(&mut self, node: &CallBlock, at: &Rc<Activation>) -> Outcome<()> {
        let caller = self.closure(&node.body, at);
        let Some((callee, arguments)) = &node.call else {
            let text = self.call_macro(&caller, Args::default())?;
            let start = self.characters;
            let end = start + crate::text::length(&text);
            self.generation.push(start..end);
            return self.write(&text);
        };
        let callee = self.eval(callee, at)?;
        let mut args = self.arguments(arguments, at)?;
        if args.take("caller").is_some() {
            return fail(Kind::Type, "`caller` is given twice");
        }
        args.keyword.push(("caller".into(), Value::Macro(caller)));
        let value = self.call(&callee, args)?;
        let text = self.string(&value)?;
        self.write(&text)
    }

    fn set(&mut self, node: &Set, at: &Rc<Activation>) -> Outcome<()> {
        check_namespaces(&node.target, at)?;
        let value = self.eval(&node.value, at)?;
        self.assign(&node.target, value, at)?;
        if node.top_level {
            self.export_target(&node.target, at);
        }
        Ok(())
    }

    /// What the filters of a block make of its text, one after the other.
    fn filtered(
        &mut self,
        mut value: Value,
        filters: &[Applied],
        at: &Rc<Activation>,
    ) -> Outcome<Value> {
        for filter in filters {
            let args = self.arguments(&filter.arguments, at)?;
            value = self.filter(&filter.name, &value, args)?;
        }
        Ok(value)
    }

    fn set_block(&mut self, node: &SetBlock, at: &Rc<Activation>) -> Outcome<Flow> {
        self.enter(&node.frame, at);
        let (text, flow) = self.captured(&node.body, at)?;
        if flow != Flow::Next {
            return Ok(flow);
        }
        let value = self.filtered(Value::from(text), &node.filters, at)?;
        self.assign(&node.target, value, at)?;
        if node.top_level {
            self.export_target(&node.target, at);
        }
        Self::leave(&node.frame, at);
        Ok(Flow::Next)
    }

    fn export_target(&self, target: &Target, at: &Activation) {
        match target {
            Target::Name(name) => {
                if let Some(value) = at.get(name.place) {
                    self.export(&name.id, &value);
                }
            }
            Target::Attribute(..) => {}
            Target::Tuple(targets) => {
                for target in targets {
                    self.export_target(target, at);
                }
            }
        }
    }

    fn assign(&mut self, target: &Target, value: Value, at: &Rc<Activation>) -> Outcome<()> {
        match target {
            Target::Name(name) => at.set(name.place.slot, Some(value)),
            Target::Attribute(name, attribute) => {
                let Some(Value::Namespace(namespace)) = at.get(name.place) else {
                    return not_a_namespace();
                };
                check_attribute(attribute)?;
                namespace.borrow_mut().set_str(attribute, value);
            }
            Target::Tuple(targets) => {
                let items = collect(&value, self)?;
                if items.len() != targets.len() {
                    return value_error(format!(
                        "{} values for {} names",
                        items.len(),
                        targets.len()
                    ));
                }
                for (target, item) in targets.iter().zip(items) {
                    self.assign(target, item, at)?;
                }
            }
        }
        Ok(())
    }

    fn block(
        &mut self,
        block: &Block,
        scoped: bool,
        stores: &[(Rc<str>, Place)],
        at: &Activation,
    ) -> Outcome<()> {
        let outer = Rc::clone(&self.context);
        if scoped {
            let mut given = outer.given.clone();
            given.extend(outer.vars.borrow().clone());
            for (name, place) in stores {
                if let Some(value) = at.get(*place) {
                    given.insert(Rc::clone(name), value);
                }
            }
            self.context = Context::new(given);
        }
        let activation = Activation::new(block.slots, None);
        self.enter(&block.frame, &activation);
        self.body(&block.body, &activation)?;
        self.context = outer;
        Ok(())
    }

    fn for_loop(&mut self, node: &Rc<For>, at: &Rc<Activation>) -> Outcome<Flow> {
        let iterable = self.eval(&node.iterable, at)?;
        if node.recursive {
            let text = self.recurse(node, &iterable, at, 0)?;
            self.write(&text)?;
            return Ok(Flow::Next);
        }
        self.iterations(node, &iterable, at, at, 0)
    }

    /// A recursive loop over something: its text.
    pub fn recurse(
        &mut self,
        node: &Rc<For>,
        iterable: &Value,
        outer: &Rc<Activation>,
        depth: usize,
    ) -> Outcome<String> {
        self.deeper(|run| {
            let activation = Activation::new(node.slots, Some(outer));
            run.outputs.push(String::new());
            run.iterations(node, iterable, &activation, outer, depth)?;
            Ok(run.outputs.pop().unwrap_or_default())
        })
    }

    fn deeper<T>(&mut self, call: impl FnOnce(&mut Self) -> Outcome<T>) -> Outcome<T> {
        self.calls += 1;
        if self.calls > DEEPEST_CALLS {
            return fail(Kind::Other, "macros call each other too deeply");
        }
        let value = call(self)?;
        self.calls -= 1;
        Ok(value)
    }

    /// All rounds of a loop; `outer` is where its condition looks.
    fn iterations(
        &mut self,
        node: &Rc<For>,
        iterable: &Value,
        at: &Rc<Activation>,
        outer: &Rc<Activation>,
        depth: usize,
    ) -> Outcome<Flow> {
        let (mut iter, mut sized) = loops::source(iterable)?;
        if let Some(test) = &node.test {
            let activation = Activation::new(test.slots, Some(outer));
            self.enter(&test.frame, &activation);
            let condition = LoopCondition {
                node: Rc::clone(node),
                activation,
            };
            iter = Iter::Condition(Box::new(iter), Rc::new(condition));
            sized = None;
        }
        let mut no_round = true;
        let mut flow = Flow::Next;
        let state = node.loop_name.as_ref().map(|name| {
            let recurse = node.recursive.then(|| (Rc::clone(node), Rc::clone(outer)));
            let iter = std::mem::replace(&mut iter, Iter::Done);
            let state = Loop::new(iter, sized, depth, recurse);
            (name, Rc::new(RefCell::new(state)))
        });
        loop {
            let item = match &state {
                Some((_, state)) => loops::advance(state, self)?,
                None => iter.next(self)?,
            };
            let Some(item) = item else { break };
            self.assign(&node.target, item, at)?;
            if let Some((name, state)) = &state {
                at.set(name.place.slot, Some(Value::Loop(Rc::clone(state))));
            }
            self.enter(&node.frame, at);
            match self.body(&node.body, at)? {
                Flow::Next => no_round = false,
                Flow::Continue => {}
                Flow::Break => break,
            }
        }
        Self::leave(&node.frame, at);
        if no_round && !node.otherwise.is_empty() {
            self.enter(&node.else_frame, at);
            flow = self.body(&node.otherwise, at)?;
            Self::leave(&node.else_frame, at);
        }
        Ok(flow)
    }

    /// Whether the condition of a loop takes an item; what the loop gets then.
    pub fn loop_takes(
        &mut self,
        condition: &LoopCondition,
        item: &Value,
    ) -> Outcome<Option<Value>> {
        let Some(test) = &condition.node.test else {
            return Ok(Some(item.clone()));
        };
        self.assign(&test.target, item.clone(), &condition.activation)?;
        let takes = self.eval(&test.test, &condition.activation)?.is_true()?;
        if !takes {
            return Ok(None);
        }
        Ok(Some(of_target(&test.target, &condition.activation)))
    }

    /// Calls a macro: its text.
    pub fn call_macro(&mut self, closure: &Closure, mut args: Args) -> Outcome<String> {
        let code = &*closure.code;
        let given = args.positional.len().min(code.arguments.len());
        let activation = Activation::new(code.slots, Some(&closure.outer));
        let rest = args.positional.split_off(given);
        for (name, value) in code.arguments.iter().zip(args.positional.drain(..)) {
            activation.set(name.place.slot, Some(value));
        }
        for name in code.arguments.iter().skip(given) {
            let value = args.take(&name.id);
            activation.set(name.place.slot, value);
        }
        let shown = code.name.as_deref().unwrap_or("anonymous");
        if let Some(name) = &code.caller {
            let caller = args.take("caller").filter(|caller| !caller.is_none());
            let caller = caller.unwrap_or_else(|| Value::undefined("no caller defined"));
            activation.set(name.place.slot, Some(caller));
        }
        if let Some(name) = &code.kwargs {
            let mut dict = crate::dict::Dict::default();
            for (name, value) in args.keyword.drain(..) {
                dict.set_str(&name, value);
            }
            activation.set(name.place.slot, Some(Value::dict(dict)));
        } else if let Some((name, _)) = args.keyword.first() {
            let problem = format!("the macro `{shown}` takes no argument `{name}`");
            return fail(Kind::Type, problem);
        }
        if let Some(name) = &code.varargs {
            activation.set(name.place.slot, Some(Value::tuple(rest)));
        } else if !rest.is_empty() {
            let count = code.arguments.len();
            let problem = format!("the macro `{shown}` takes {count} arguments at most");
            return fail(Kind::Type, problem);
        }
        let outer = std::mem::replace(&mut self.context, Rc::clone(&closure.context));
        let text = self.deeper(|run| run.macro_body(code, &activation))?;
        self.context = outer;
        Ok(text)
    }

    fn macro_body(&mut self, code: &Macro, at: &Rc<Activation>) -> Outcome<String> {
        self.pay(1)?;
        self.enter(&code.frame, at);
        let without = code.arguments.len() - code.defaults.len().min(code.arguments.len());
        for (index, name) in code.arguments.iter().enumerate() {
            if at.get(own(name)).is_some() {
                continue;
            }
            let default = index
                .checked_sub(without)
                .and_then(|index| code.defaults.get(index));
            let value = match default {
                Some(default) => self.eval(default, at)?,
                None => Value::undefined(format!("parameter `{}` was not provided", name.id)),
            };
            at.set(name.place.slot, Some(value));
        }
        let (text, _) = self.captured(&code.body, at)?;
        Ok(text)
    }
}

fn own(name: &Name) -> Place {
    Place {
        up: 0,
        slot: name.place.slot,
    }
}

/// The value that the names of a target make together.
fn of_target(target: &Target, at: &Activation) -> Value {
    match target {
        Target::Name(name) | Target::Attribute(name, _) => at.get(own(name)).unwrap_or(Value::None),
        Target::Tuple(targets) => {
            Value::tuple(targets.iter().map(|target| of_target(target, at)).collect())
        }
    }
}

fn not_a_namespace<T>() -> Outcome<T> {
    fail(
        Kind::Other,
        "cannot assign an attribute of what is no namespace",
    )
}

fn check_namespaces(target: &Target, at: &Activation) -> Outcome<()> {
    match target {
        Target::Name(_) => Ok(()),
        Target::Attribute(name, _) => match at.get(name.place) {
            Some(Value::Namespace(_)) => Ok(()),
            _ => not_a_namespace(),
        },
        Target::Tuple(targets) => targets
            .iter()
            .try_for_each(|target| check_namespaces(target, at)),
    }
}

/// Namespaces keep no attributes that begin with an underscore.
pub(crate) fn check_attribute(name: &str) -> Outcome<()> {
    if name.starts_with('_') {
        return fail(
            Kind::Other,
            format!("a namespace keeps no attribute `{name}`"),
        );
    }
    Ok(())
}
