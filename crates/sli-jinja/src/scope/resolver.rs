//! Names in expressions, and the filters and tests that there are.

use std::rc::Rc;

use super::symbols::{Slots, Symbols};
use crate::ast::{Applied, Arguments, Expr, Name};
use crate::error::{Outcome, other};
use crate::{filters, tests};

/// Where a statement stands.
#[derive(Clone)]
pub(super) struct Scope {
    pub symbols: Rc<Symbols>,
    /// Nothing but conditions around it.
    pub top_level: bool,
    /// Directly in a condition: unknown filters fail only when they are called.
    pub soft: bool,
    /// `break` and `continue` may stand here.
    pub in_loop: bool,
}

impl Scope {
    /// In a frame inside of this one.
    pub fn inner(&self, symbols: Symbols) -> Self {
        Self {
            symbols: Rc::new(symbols),
            top_level: false,
            soft: false,
            in_loop: self.in_loop,
        }
    }

    /// The same in a condition.
    pub fn soft(&self) -> Self {
        Self {
            soft: true,
            ..self.clone()
        }
    }
}

/// What has found the slots so far.
pub(super) struct Resolver {
    pub slots: Slots,
    /// A name that Jinja2 does not find either: one in a filter of a `set` block only.
    pub lost: Option<Rc<str>>,
}

impl Resolver {
    pub fn place(&mut self, name: &mut Name, symbols: &Symbols) {
        match symbols.place(&name.id, self.slots.depth()) {
            Some(place) => name.place = place,
            None => self.lost = Some(Rc::clone(&name.id)),
        }
    }

    pub fn filters(&mut self, filters: &mut [Applied], scope: &Scope) -> Outcome<()> {
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

    pub fn arguments(&mut self, arguments: &mut Arguments, scope: &Scope) -> Outcome<()> {
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

    pub fn expr(&mut self, expr: &mut Expr, scope: &Scope) -> Outcome<()> {
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
