//! Names in statements: which frame each of them opens.

use std::rc::Rc;

use super::names;
use super::resolver::{Resolver, Scope};
use super::symbols::Symbols;
use crate::ast::{Block, Body, For, Macro, Name, StatementKind, Target};
use crate::error::{Outcome, other};

impl Resolver {
    pub fn body(&mut self, body: &mut Body, scope: &Scope) -> Outcome<()> {
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
                symbols.body(&node.body, &mut self.slots);
                for filter in &node.filters {
                    symbols.arguments(&filter.arguments, &mut self.slots);
                }
                node.frame = symbols.frame(self.slots.depth());
                let inner = scope.inner(symbols);
                self.body(&mut node.body, &inner)?;
                self.filters(&mut node.filters, &inner)?;
            }
            StatementKind::With(node) => {
                let mut symbols = Symbols::inner(&scope.symbols);
                for target in &node.targets {
                    symbols.target(target, true, &mut self.slots);
                }
                symbols.body(&node.body, &mut self.slots);
                node.frame = symbols.frame(self.slots.depth());
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
                symbols.body(&node.body, &mut self.slots);
                node.frame = symbols.frame(self.slots.depth());
                let inner = scope.inner(symbols);
                self.body(&mut node.body, &inner)?;
                self.target(&mut node.target, &scope.symbols);
                self.filters(&mut node.filters, &inner)?;
            }
            StatementKind::Scope(frame, body) => {
                let mut symbols = Symbols::inner(&scope.symbols);
                symbols.body(body, &mut self.slots);
                *frame = symbols.frame(self.slots.depth());
                let inner = scope.inner(symbols);
                self.body(body, &inner)?;
            }
            StatementKind::Block(_, scoped, stores) => {
                if *scoped {
                    *stores = scope.symbols.all_stores(self.slots.depth());
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
            self.slots.open();
            let mut symbols = Symbols::inner(&scope.symbols);
            symbols.target(&test.target, true, &mut self.slots);
            symbols.expr(&test.test, &mut self.slots);
            test.frame = symbols.frame(self.slots.depth());
            let inner = Scope {
                in_loop: false,
                ..scope.inner(symbols)
            };
            self.target(&mut test.target, &inner.symbols);
            self.expr(&mut test.test, &inner)?;
            test.slots = self.slots.close();
        }
        if !node.recursive {
            self.expr(&mut node.iterable, scope)?;
        }
        if node.recursive {
            self.slots.open();
        }
        let mut symbols = Symbols::inner(&scope.symbols);
        if extended {
            let id: Rc<str> = "loop".into();
            symbols.parameter(&id, &mut self.slots);
            node.loop_name = Some(Name::new("loop"));
        }
        symbols.target(&node.target, true, &mut self.slots);
        symbols.body(&node.body, &mut self.slots);
        node.frame = symbols.frame(self.slots.depth());
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
        symbols.body(&node.otherwise, &mut self.slots);
        node.else_frame = symbols.frame(self.slots.depth());
        let inner = Scope {
            in_loop: scope.in_loop && !node.recursive,
            ..scope.inner(symbols)
        };
        self.body(&mut node.otherwise, &inner)?;
        if node.recursive {
            node.slots = self.slots.close();
            self.expr(&mut node.iterable, scope)?;
        }
        Ok(())
    }

    fn macro_body(&mut self, node: &mut Macro, scope: &Scope) -> Outcome<()> {
        self.slots.open();
        let mut symbols = Symbols::inner(&scope.symbols);
        for name in &node.arguments {
            symbols.parameter(&name.id, &mut self.slots);
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
            symbols.parameter(&name.id, &mut self.slots);
        }
        for value in &node.defaults {
            symbols.expr(value, &mut self.slots);
        }
        symbols.body(&node.body, &mut self.slots);
        node.frame = symbols.frame(self.slots.depth());
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
        node.slots = self.slots.close();
        Ok(())
    }

    pub fn block(&mut self, block: &mut Block) -> Outcome<()> {
        for special in ["self", "super"] {
            if names::reads(&block.body, special) {
                return other(format!("`{special}` is not supported"));
            }
        }
        self.slots.open();
        let mut symbols = Symbols::default();
        symbols.body(&block.body, &mut self.slots);
        block.frame = symbols.frame(self.slots.depth());
        let scope = Scope {
            symbols: Rc::new(symbols),
            top_level: false,
            soft: false,
            in_loop: false,
        };
        self.body(&mut block.body, &scope)?;
        block.slots = self.slots.close();
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
