//! Which variable a name means: Jinja2's own rules, which are decided before anything runs.
//!
//! A *function* is a template, a macro, the condition of a loop, a recursive loop or a block: it has slots.
//! A *frame* is a level of scope in a function. When a frame is entered, its variables get what outer
//! variables or the context hold then; what is set in it later stays in it.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use crate::ast::{
    Applied, Arguments, Block, Body, Expr, For, Frame, Load, Macro, Name, Place, StatementKind,
    Target, Tree,
};
use crate::error::{Outcome, other};
use crate::names;
use crate::{filters, tests};

/// Finds the slot of every name of a tree, and checks what Jinja2 checks when it compiles.
pub(crate) fn resolve(tree: &mut Tree) -> Outcome<()> {
    if names::reads(&tree.body, "self") {
        return other("`self` is not supported");
    }
    let mut resolver = Resolver {
        functions: vec![Function::default()],
        lost: None,
    };
    let mut symbols = Symbols::default();
    symbols.body(&tree.body, &mut resolver);
    tree.frame = symbols.frame(0);
    let scope = Scope {
        symbols: Rc::new(symbols),
        top_level: true,
        soft: false,
        in_loop: false,
    };
    resolver.body(&mut tree.body, &scope)?;
    tree.slots = resolver.slots();
    for (_, block) in &mut tree.blocks {
        resolver.block(block)?;
    }
    match resolver.lost {
        Some(name) => other(format!("`{name}` belongs to no scope here")),
        None => Ok(()),
    }
}

/// Where a variable is: in which function (0 is the outermost), and its slot there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Variable {
    function: usize,
    slot: usize,
}

#[derive(Clone, Debug)]
enum Loading {
    Parameter,
    Missing,
    Resolve(Rc<str>),
    Alias(Variable),
}

/// A function: slots by level and name.
#[derive(Default)]
struct Function {
    slots: HashMap<(usize, Rc<str>), usize>,
}

/// The names of a frame.
#[derive(Clone, Debug, Default)]
struct Symbols {
    level: usize,
    parent: Option<Rc<Symbols>>,
    refs: HashMap<Rc<str>, Variable>,
    /// In the order in which they are entered.
    loads: Vec<(Variable, Loading)>,
    stores: BTreeSet<Rc<str>>,
}

impl Symbols {
    fn inner(parent: &Rc<Self>) -> Self {
        Self {
            level: parent.level + 1,
            parent: Some(Rc::clone(parent)),
            ..Self::default()
        }
    }

    fn find(&self, name: &str) -> Option<Variable> {
        let own = self.refs.get(name).copied();
        own.or_else(|| self.parent.as_ref()?.find(name))
    }

    fn define(&mut self, name: &Rc<str>, loading: Loading, resolver: &mut Resolver) -> Variable {
        let variable = resolver.slot(self.level, name);
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

    fn parameter(&mut self, name: &Rc<str>, resolver: &mut Resolver) {
        self.stores.insert(Rc::clone(name));
        self.define(name, Loading::Parameter, resolver);
    }

    fn store(&mut self, name: &Rc<str>, resolver: &mut Resolver) {
        self.stores.insert(Rc::clone(name));
        if self.refs.contains_key(name) {
            return;
        }
        let outer = self.parent.as_ref().and_then(|parent| parent.find(name));
        let loading = outer.map_or(Loading::Missing, Loading::Alias);
        self.define(name, loading, resolver);
    }

    fn load(&mut self, name: &Rc<str>, resolver: &mut Resolver) {
        if self.find(name).is_none() {
            self.define(name, Loading::Resolve(Rc::clone(name)), resolver);
        }
    }

    fn expr(&mut self, expr: &Expr, resolver: &mut Resolver) {
        names::in_expr(expr, &mut |name, _| self.load(&name.id, resolver));
    }

    fn arguments(&mut self, arguments: &Arguments, resolver: &mut Resolver) {
        names::in_arguments(arguments, &mut |name, _| self.load(&name.id, resolver));
    }

    fn target(&mut self, target: &Target, parameter: bool, resolver: &mut Resolver) {
        match target {
            Target::Name(name) if parameter => self.parameter(&name.id, resolver),
            Target::Name(name) => self.store(&name.id, resolver),
            Target::Attribute(name, _) => self.load(&name.id, resolver),
            Target::Tuple(targets) => {
                for target in targets {
                    self.target(target, parameter, resolver);
                }
            }
        }
    }

    /// The names that statements use in this frame itself.
    fn body(&mut self, body: &Body, resolver: &mut Resolver) {
        for statement in body {
            match &statement.kind {
                StatementKind::Output(nodes) => {
                    for node in nodes {
                        self.expr(node, resolver);
                    }
                }
                StatementKind::For(node) => self.expr(&node.iterable, resolver),
                StatementKind::If(node) => self.branches(&node.branches, &node.otherwise, resolver),
                StatementKind::Macro(name, _, _) => self.store(&name.id, resolver),
                StatementKind::CallBlock(node) => {
                    if let Some((callee, arguments)) = &node.call {
                        self.expr(callee, resolver);
                        self.arguments(arguments, resolver);
                    }
                }
                StatementKind::Filter(node) => {
                    for filter in &node.filters {
                        self.arguments(&filter.arguments, resolver);
                    }
                }
                StatementKind::With(node) => {
                    for value in &node.values {
                        self.expr(value, resolver);
                    }
                }
                StatementKind::Set(node) => {
                    self.expr(&node.value, resolver);
                    self.target(&node.target, false, resolver);
                }
                StatementKind::SetBlock(node) => self.target(&node.target, false, resolver),
                StatementKind::Other(_, template, names) => {
                    self.expr(template, resolver);
                    for name in names {
                        self.store(&name.id, resolver);
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
    fn branches(&mut self, branches: &[(Expr, Body)], otherwise: &Body, resolver: &mut Resolver) {
        let Some(((test, body), rest)) = branches.split_first() else {
            return;
        };
        self.expr(test, resolver);
        let mut first = self.clone();
        first.body(body, resolver);
        // Each further condition is a condition of its own.
        let mut others = self.clone();
        for branch in rest {
            others.branches(std::slice::from_ref(branch), &Vec::new(), resolver);
        }
        let mut last = self.clone();
        last.body(otherwise, resolver);
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
    fn frame(&self, function: usize) -> Frame {
        let loads = self.loads.iter().map(|(variable, loading)| {
            let load = match loading {
                Loading::Parameter => Load::Parameter,
                Loading::Missing => Load::Missing,
                Loading::Resolve(name) => Load::Resolve(Rc::clone(name)),
                Loading::Alias(outer) => Load::Alias(Place {
                    up: function - outer.function,
                    slot: outer.slot,
                }),
            };
            (variable.slot, load)
        });
        loads.collect()
    }

    /// Every name that is set here or further out, and where it is.
    fn all_stores(&self, function: usize) -> Vec<(Rc<str>, Place)> {
        let mut found: Vec<(Rc<str>, Place)> = Vec::new();
        let mut at = Some(self);
        while let Some(symbols) = at {
            for name in &symbols.stores {
                if found.iter().all(|(known, _)| known != name)
                    && let Some(variable) = self.find(name)
                {
                    let place = Place {
                        up: function - variable.function,
                        slot: variable.slot,
                    };
                    found.push((Rc::clone(name), place));
                }
            }
            at = symbols.parent.as_deref();
        }
        found
    }
}

/// Where a statement stands.
#[derive(Clone)]
struct Scope {
    symbols: Rc<Symbols>,
    /// Nothing but conditions around it.
    top_level: bool,
    /// Directly in a condition: unknown filters fail only when they are called.
    soft: bool,
    /// `break` and `continue` may stand here.
    in_loop: bool,
}

impl Scope {
    fn inner(&self, symbols: Symbols) -> Self {
        Self {
            symbols: Rc::new(symbols),
            top_level: false,
            soft: false,
            in_loop: self.in_loop,
        }
    }

    fn soft(&self) -> Self {
        Self {
            soft: true,
            ..self.clone()
        }
    }
}

struct Resolver {
    functions: Vec<Function>,
    /// A name that Jinja2 does not find either: one in a filter of a `set` block only.
    lost: Option<Rc<str>>,
}

impl Resolver {
    fn depth(&self) -> usize {
        self.functions.len() - 1
    }

    fn slot(&mut self, level: usize, name: &Rc<str>) -> Variable {
        let function = self.depth();
        let slots = &mut self.functions[function].slots;
        let next = slots.len();
        let slot = *slots.entry((level, Rc::clone(name))).or_insert(next);
        Variable { function, slot }
    }

    /// Ends a function; how many slots it has.
    fn slots(&mut self) -> usize {
        self.functions
            .pop()
            .map_or(0, |function| function.slots.len())
    }

    fn place(&mut self, name: &mut Name, symbols: &Symbols) {
        let Some(variable) = symbols.find(&name.id) else {
            self.lost = Some(Rc::clone(&name.id));
            return;
        };
        name.place = Place {
            up: self.depth() - variable.function,
            slot: variable.slot,
        };
    }

    fn body(&mut self, body: &mut Body, scope: &Scope) -> Outcome<()> {
        for statement in body {
            let line = statement.line;
            self.statement(&mut statement.kind, scope)
                .map_err(|error| error.at(line))?;
        }
        Ok(())
    }

    fn statement(&mut self, kind: &mut StatementKind, scope: &Scope) -> Outcome<()> {
        match kind {
            StatementKind::Output(nodes) => {
                for node in nodes {
                    self.expr(node, scope)?;
                }
            }
            StatementKind::For(node) => {
                if let Some(node) = Rc::get_mut(node) {
                    self.for_loop(node, scope)?;
                }
            }
            StatementKind::If(node) => {
                let soft = scope.soft();
                for (test, body) in &mut node.branches {
                    self.expr(test, &soft)?;
                    self.body(body, &soft)?;
                }
                self.body(&mut node.otherwise, &soft)?;
            }
            StatementKind::Macro(name, node, top_level) => {
                *top_level = scope.top_level;
                self.place(name, &scope.symbols);
                if let Some(node) = Rc::get_mut(node) {
                    self.macro_body(node, scope)?;
                }
            }
            StatementKind::CallBlock(node) => {
                if let Some(body) = Rc::get_mut(&mut node.body) {
                    self.macro_body(body, scope)?;
                }
                if let Some((callee, arguments)) = &mut node.call {
                    self.expr(callee, scope)?;
                    self.arguments(arguments, scope)?;
                }
            }
            StatementKind::Filter(node) => {
                let mut symbols = Symbols::inner(&scope.symbols);
                symbols.body(&node.body, self);
                for filter in &node.filters {
                    symbols.arguments(&filter.arguments, self);
                }
                node.frame = symbols.frame(self.depth());
                let inner = scope.inner(symbols);
                self.body(&mut node.body, &inner)?;
                self.filters(&mut node.filters, &inner)?;
            }
            StatementKind::With(node) => {
                let mut symbols = Symbols::inner(&scope.symbols);
                for target in &node.targets {
                    symbols.target(target, true, self);
                }
                symbols.body(&node.body, self);
                node.frame = symbols.frame(self.depth());
                let inner = scope.inner(symbols);
                for target in &mut node.targets {
                    self.target(target, &inner.symbols);
                }
                for value in &mut node.values {
                    self.expr(value, scope)?;
                }
                self.body(&mut node.body, &inner)?;
            }
            StatementKind::Set(node) => {
                node.top_level = scope.top_level;
                self.target(&mut node.target, &scope.symbols);
                self.expr(&mut node.value, scope)?;
            }
            StatementKind::SetBlock(node) => {
                node.top_level = scope.top_level;
                let mut symbols = Symbols::inner(&scope.symbols);
                symbols.body(&node.body, self);
                node.frame = symbols.frame(self.depth());
                let inner = scope.inner(symbols);
                self.body(&mut node.body, &inner)?;
                self.target(&mut node.target, &scope.symbols);
                self.filters(&mut node.filters, &inner)?;
            }
            StatementKind::Scope(frame, body) => {
                let mut symbols = Symbols::inner(&scope.symbols);
                symbols.body(body, self);
                *frame = symbols.frame(self.depth());
                let inner = scope.inner(symbols);
                self.body(body, &inner)?;
            }
            StatementKind::Block(_, scoped, stores) => {
                if *scoped {
                    *stores = scope.symbols.all_stores(self.depth());
                }
            }
            StatementKind::Other(what, template, _) => {
                if *what == "extends" && !scope.top_level {
                    return other("`extends` must stand at the top");
                }
                self.expr(template, scope)?;
            }
            StatementKind::Break | StatementKind::Continue => {
                if !scope.in_loop {
                    return other("`break` and `continue` must stand in a loop");
                }
            }
        }
        Ok(())
    }

    fn for_loop(&mut self, node: &mut For, scope: &Scope) -> Outcome<()> {
        let mut sets_loop = names::sets(&node.body, "loop") || names::sets(&node.otherwise, "loop");
        names::in_target(&node.target, &mut |name, _| {
            sets_loop |= &*name.id == "loop";
        });
        if sets_loop {
            return other("`loop` cannot be set in a loop");
        }
        let scoped_block = |body: &Body| has_scoped_block(body);
        let extended = node.recursive
            || names::reads(&node.body, "loop")
            || scoped_block(&node.body)
            || scoped_block(&node.otherwise);
        if let Some(test) = &mut node.test {
            self.functions.push(Function::default());
            let mut symbols = Symbols::inner(&scope.symbols);
            symbols.target(&test.target, true, self);
            symbols.expr(&test.test, self);
            test.frame = symbols.frame(self.depth());
            let inner = Scope {
                in_loop: false,
                ..scope.inner(symbols)
            };
            self.target(&mut test.target, &inner.symbols);
            self.expr(&mut test.test, &inner)?;
            test.slots = self.slots();
        }
        if !node.recursive {
            self.expr(&mut node.iterable, scope)?;
        }
        if node.recursive {
            self.functions.push(Function::default());
        }
        let mut symbols = Symbols::inner(&scope.symbols);
        if extended {
            let id: Rc<str> = "loop".into();
            symbols.parameter(&id, self);
            node.loop_name = Some(Name::new("loop"));
        }
        symbols.target(&node.target, true, self);
        symbols.body(&node.body, self);
        node.frame = symbols.frame(self.depth());
        let inner = Scope {
            in_loop: true,
            ..scope.inner(symbols)
        };
        if let Some(name) = &mut node.loop_name {
            self.place(name, &inner.symbols);
        }
        self.target(&mut node.target, &inner.symbols);
        self.body(&mut node.body, &inner)?;
        let mut symbols = Symbols::inner(&scope.symbols);
        symbols.body(&node.otherwise, self);
        node.else_frame = symbols.frame(self.depth());
        let inner = Scope {
            in_loop: scope.in_loop && !node.recursive,
            ..scope.inner(symbols)
        };
        self.body(&mut node.otherwise, &inner)?;
        if node.recursive {
            node.slots = self.slots();
            self.expr(&mut node.iterable, scope)?;
        }
        Ok(())
    }

    fn macro_body(&mut self, node: &mut Macro, scope: &Scope) -> Outcome<()> {
        self.functions.push(Function::default());
        let mut symbols = Symbols::inner(&scope.symbols);
        for name in &node.arguments {
            symbols.parameter(&name.id, self);
        }
        let argument = |special: &str| {
            let at = node.arguments.iter().position(|name| &*name.id == special);
            at.map(|at| at + node.defaults.len() >= node.arguments.len())
        };
        let reads = |special: &str| names::reads(&node.body, special);
        let special = |special: &str| reads(special) && argument(special).is_none();
        if reads("caller") && argument("caller") == Some(false) {
            return other("the argument `caller` needs a default");
        }
        let [caller, kwargs, varargs] =
            ["caller", "kwargs", "varargs"].map(|name| special(name).then(|| Name::new(name)));
        for name in [&caller, &kwargs, &varargs].into_iter().flatten() {
            symbols.parameter(&name.id, self);
        }
        for value in &node.defaults {
            symbols.expr(value, self);
        }
        symbols.body(&node.body, self);
        node.frame = symbols.frame(self.depth());
        let inner = Scope {
            in_loop: false,
            ..scope.inner(symbols)
        };
        (node.caller, node.kwargs, node.varargs) = (caller, kwargs, varargs);
        for name in &mut node.arguments {
            self.place(name, &inner.symbols);
        }
        let special = [&mut node.caller, &mut node.kwargs, &mut node.varargs];
        for name in special.into_iter().flatten() {
            self.place(name, &inner.symbols);
        }
        for value in &mut node.defaults {
            self.expr(value, &inner)?;
        }
        self.body(&mut node.body, &inner)?;
        node.slots = self.slots();
        Ok(())
    }

    fn block(&mut self, block: &mut Block) -> Outcome<()> {
        for special in ["self", "super"] {
            if names::reads(&block.body, special) {
                return other(format!("`{special}` is not supported"));
            }
        }
        self.functions.push(Function::default());
        let mut symbols = Symbols::default();
        symbols.body(&block.body, self);
        block.frame = symbols.frame(self.depth());
        let scope = Scope {
            symbols: Rc::new(symbols),
            top_level: false,
            soft: false,
            in_loop: false,
        };
        self.body(&mut block.body, &scope)?;
        block.slots = self.slots();
        Ok(())
    }

    fn target(&mut self, target: &mut Target, symbols: &Symbols) {
        match target {
            Target::Name(name) | Target::Attribute(name, _) => self.place(name, symbols),
            Target::Tuple(targets) => {
                for target in targets {
                    self.target(target, symbols);
                }
            }
        }
    }

    fn filters(&mut self, filters: &mut [Applied], scope: &Scope) -> Outcome<()> {
        for filter in filters {
            known(
                filters::is_known(&filter.name),
                "filter",
                &filter.name,
                scope,
            )?;
            self.arguments(&mut filter.arguments, scope)?;
        }
        Ok(())
    }

    fn arguments(&mut self, arguments: &mut Arguments, scope: &Scope) -> Outcome<()> {
        for value in &mut arguments.positional {
            self.expr(value, scope)?;
        }
        for (_, value) in &mut arguments.keyword {
            self.expr(value, scope)?;
        }
        let more = [&mut arguments.more_positional, &mut arguments.more_keyword];
        for value in more.into_iter().flatten() {
            self.expr(value, scope)?;
        }
        Ok(())
    }

    fn expr(&mut self, expr: &mut Expr, scope: &Scope) -> Outcome<()> {
        match expr {
            Expr::Data(_) | Expr::Literal(_) => {}
            Expr::Name(name) => self.place(name, &scope.symbols),
            Expr::Tuple(items) | Expr::List(items) | Expr::Concat(items) => {
                for item in items {
                    self.expr(item, scope)?;
                }
            }
            Expr::Dict(items) => {
                for (key, value) in items {
                    self.expr(key, scope)?;
                    self.expr(value, scope)?;
                }
            }
            Expr::Condition(parts) => {
                let soft = scope.soft();
                self.expr(&mut parts.0, &soft)?;
                self.expr(&mut parts.1, &soft)?;
                if let Some(otherwise) = &mut parts.2 {
                    self.expr(otherwise, &soft)?;
                }
            }
            Expr::Call(call) => {
                self.expr(&mut call.0, scope)?;
                self.arguments(&mut call.1, scope)?;
            }
            Expr::Filter(applied) => {
                known(
                    filters::is_known(&applied.name),
                    "filter",
                    &applied.name,
                    scope,
                )?;
                self.applied(applied, scope)?;
            }
            Expr::Test(applied) => {
                known(tests::is_known(&applied.name), "test", &applied.name, scope)?;
                self.applied(applied, scope)?;
            }
            Expr::Attribute(node, _)
            | Expr::Negative(node)
            | Expr::Positive(node)
            | Expr::Not(node) => self.expr(node, scope)?,
            Expr::Item(pair) | Expr::Binary(_, pair) | Expr::And(pair) | Expr::Or(pair) => {
                self.expr(&mut pair.0, scope)?;
                self.expr(&mut pair.1, scope)?;
            }
            Expr::Sliced(parts) => {
                self.expr(&mut parts.0, scope)?;
                let slice = &mut parts.1;
                let parts = [&mut slice.start, &mut slice.stop, &mut slice.step];
                for part in parts.into_iter().flatten() {
                    self.expr(part, scope)?;
                }
            }
            Expr::Slice(slice) => {
                let parts = [&mut slice.start, &mut slice.stop, &mut slice.step];
                for part in parts.into_iter().flatten() {
                    self.expr(part, scope)?;
                }
            }
            Expr::Compare(first, rest) => {
                self.expr(first, scope)?;
                for (_, item) in rest {
                    self.expr(item, scope)?;
                }
            }
        }
        Ok(())
    }

    fn applied(&mut self, applied: &mut Applied, scope: &Scope) -> Outcome<()> {
        if let Some(to) = &mut applied.to {
            self.expr(to, scope)?;
        }
        self.arguments(&mut applied.arguments, scope)
    }
}

/// Outside of conditions, an unknown filter or test is found when a template is compiled.
fn known(is_known: bool, what: &str, name: &str, scope: &Scope) -> Outcome<()> {
    if is_known || scope.soft {
        Ok(())
    } else {
        other(format!("no {what} named `{name}`"))
    }
}

fn has_scoped_block(body: &Body) -> bool {
    body.iter().any(|statement| match &statement.kind {
        StatementKind::Block(_, scoped, _) => *scoped,
        StatementKind::For(node) => {
            has_scoped_block(&node.body) || has_scoped_block(&node.otherwise)
        }
        StatementKind::If(node) => {
            node.branches.iter().any(|(_, body)| has_scoped_block(body))
                || has_scoped_block(&node.otherwise)
        }
        StatementKind::Filter(node) => has_scoped_block(&node.body),
        StatementKind::With(node) => has_scoped_block(&node.body),
        StatementKind::SetBlock(node) => has_scoped_block(&node.body),
        StatementKind::Scope(_, body) => has_scoped_block(body),
        _ => false,
    })
}
