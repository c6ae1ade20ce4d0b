//! The names in a tree, in the order in which Jinja2 comes upon them.

use crate::ast::{Applied, Arguments, Body, Expr, Macro, Name, StatementKind, Target};

/// What happens to a name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    Read,
    Set,
}

/// Calls `f` for every name of the statements, blocks left out.
pub(super) fn in_body(body: &Body, f: &mut dyn FnMut(&Name, Use)) {
    for statement in body {
        match &statement.kind {
            StatementKind::Output(nodes) => nodes.iter().for_each(|node| in_expr(node, f)),
            StatementKind::For(node) => {
                in_target(&node.target, f);
                in_expr(&node.iterable, f);
                in_body(&node.body, f);
                in_body(&node.otherwise, f);
                if let Some(test) = &node.test {
                    in_expr(&test.test, f);
                }
            }
            StatementKind::If(node) => {
                for (test, body) in &node.branches {
                    in_expr(test, f);
                    in_body(body, f);
                }
                in_body(&node.otherwise, f);
            }
            // The name of a macro is no node.
            StatementKind::Macro(_, node, _) => in_macro(node, f),
            StatementKind::CallBlock(node) => {
                if let Some((callee, arguments)) = &node.call {
                    in_expr(callee, f);
                    in_arguments(arguments, f);
                }
                in_macro(&node.body, f);
            }
            StatementKind::Filter(node) => {
                in_body(&node.body, f);
                in_filters(&node.filters, f);
            }
            StatementKind::With(node) => {
                node.targets.iter().for_each(|target| in_target(target, f));
                node.values.iter().for_each(|value| in_expr(value, f));
                in_body(&node.body, f);
            }
            StatementKind::Set(node) => {
                in_target(&node.target, f);
                in_expr(&node.value, f);
            }
            StatementKind::SetBlock(node) => {
                in_target(&node.target, f);
                in_filters(&node.filters, f);
                in_body(&node.body, f);
            }
            StatementKind::Scope(_, body) => in_body(body, f),
            StatementKind::Other(_, template, _) => in_expr(template, f),
            StatementKind::Block(..) | StatementKind::Break | StatementKind::Continue => {}
        }
    }
}

fn in_macro(node: &Macro, f: &mut dyn FnMut(&Name, Use)) {
    node.arguments.iter().for_each(|name| f(name, Use::Set));
    node.defaults.iter().for_each(|value| in_expr(value, f));
    in_body(&node.body, f);
}

fn in_filters(filters: &[Applied], f: &mut dyn FnMut(&Name, Use)) {
    for filter in filters {
        in_arguments(&filter.arguments, f);
    }
}

pub(super) fn in_target(target: &Target, f: &mut dyn FnMut(&Name, Use)) {
    match target {
        Target::Name(name) => f(name, Use::Set),
        // A namespace is a node of its own kind, not a name.
        Target::Attribute(..) => {}
        Target::Tuple(targets) => targets.iter().for_each(|target| in_target(target, f)),
    }
}

pub(super) fn in_arguments(arguments: &Arguments, f: &mut dyn FnMut(&Name, Use)) {
    for value in &arguments.positional {
        in_expr(value, f);
    }
    for (_, value) in &arguments.keyword {
        in_expr(value, f);
    }
    let more = [&arguments.more_positional, &arguments.more_keyword];
    for value in more.into_iter().flatten() {
        in_expr(value, f);
    }
}

/// Calls `f` for every name of an expression.
pub(super) fn in_expr(expr: &Expr, f: &mut dyn FnMut(&Name, Use)) {
    match expr {
        Expr::Data(_) | Expr::Literal(_) => {}
        Expr::Name(name) => f(name, Use::Read),
        Expr::Tuple(items) | Expr::List(items) | Expr::Concat(items) => {
            for item in items {
                in_expr(item, f);
            }
        }
        Expr::Dict(items) => {
            for (key, value) in items {
                in_expr(key, f);
                in_expr(value, f);
            }
        }
        Expr::Condition(parts) => {
            let (test, value, otherwise) = &**parts;
            in_expr(test, f);
            in_expr(value, f);
            if let Some(otherwise) = otherwise {
                in_expr(otherwise, f);
            }
        }
        Expr::Call(call) => {
            in_expr(&call.0, f);
            in_arguments(&call.1, f);
        }
        Expr::Filter(applied) | Expr::Test(applied) => {
            if let Some(to) = &applied.to {
                in_expr(to, f);
            }
            in_arguments(&applied.arguments, f);
        }
        Expr::Attribute(node, _)
        | Expr::Negative(node)
        | Expr::Positive(node)
        | Expr::Not(node) => {
            in_expr(node, f);
        }
        Expr::Item(pair) | Expr::Binary(_, pair) | Expr::And(pair) | Expr::Or(pair) => {
            in_expr(&pair.0, f);
            in_expr(&pair.1, f);
        }
        Expr::Sliced(parts) => {
            in_expr(&parts.0, f);
            let slice = &parts.1;
            for part in [&slice.start, &slice.stop, &slice.step]
                .into_iter()
                .flatten()
            {
                in_expr(part, f);
            }
        }
        Expr::Slice(slice) => {
            for part in [&slice.start, &slice.stop, &slice.step]
                .into_iter()
                .flatten()
            {
                in_expr(part, f);
            }
        }
        Expr::Compare(first, rest) => {
            in_expr(first, f);
            for (_, item) in rest {
                in_expr(item, f);
            }
        }
    }
}

/// Whether statements read a special name before they set it.
pub(super) fn reads(body: &Body, special: &str) -> bool {
    let (mut found, mut hidden) = (false, false);
    in_body(body, &mut |name, used| {
        if &*name.id == special {
            match used {
                Use::Read if !hidden => found = true,
                Use::Read => {}
                Use::Set => hidden = true,
            }
        }
    });
    found
}

/// Whether statements set a name anywhere.
pub(super) fn sets(body: &Body, special: &str) -> bool {
    let mut found = false;
    in_body(body, &mut |name, used| {
        found |= &*name.id == special && used == Use::Set;
    });
    found
}
