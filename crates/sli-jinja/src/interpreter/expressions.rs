//! Expressions at work.

use std::rc::Rc;

use super::activation::Activation;
use crate::access;
use crate::arguments::text;
use crate::arithmetic;
use crate::ast::{Applied, Arguments, Expr, Literal};
use crate::comparison::compare;
use crate::error::{Kind, Outcome, fail, type_error};
use crate::iterate::collect;
use crate::numbers;
use crate::repr::to_str;
use crate::run::Run;
use crate::value::{Args, Dict, Value};
use crate::{filters, methods, tests};

/// The value of an expression.
pub(super) fn eval(expr: &Expr, at: &Rc<Activation>, run: &mut Run) -> Outcome<Value> {
    run.pay(1)?;
    Ok(match expr {
        Expr::Data(text) => Value::Str(Rc::clone(text)),
        Expr::Literal(literal) => spelled(literal),
        Expr::Name(name) => match at.get(name.place) {
            Some(value) => value,
            None => Value::undefined(format!("`{}` is undefined", name.id)),
        },
        Expr::Tuple(items) => Value::tuple(all(items, at, run)?),
        Expr::List(items) => Value::list(all(items, at, run)?),
        Expr::Dict(items) => {
            let mut dict = Dict::default();
            for (key, value) in items {
                let key = eval(key, at, run)?;
                let value = eval(value, at, run)?;
                dict.set(key, value)?;
            }
            Value::dict(dict)
        }
        Expr::Condition(parts) => {
            let (test, value, otherwise) = &**parts;
            if eval(test, at, run)?.is_true()? {
                return eval(value, at, run);
            }
            match otherwise {
                Some(otherwise) => return eval(otherwise, at, run),
                None => Value::undefined("the condition is false and there is no `else`"),
            }
        }
        Expr::Call(parts) => {
            let callee = eval(&parts.0, at, run)?;
            let args = arguments(&parts.1, at, run)?;
            return call(&callee, args, run);
        }
        Expr::Filter(node) => {
            let (value, args) = applied(node, at, run)?;
            return filter(&node.name, &value, args, run);
        }
        Expr::Test(node) => {
            let (value, args) = applied(node, at, run)?;
            return tests::apply(&node.name, &value, &args, run).map(Value::Bool);
        }
        Expr::Attribute(node, name) => {
            let value = eval(node, at, run)?;
            return access::attribute(&value, name, run);
        }
        Expr::Item(pair) => {
            let value = eval(&pair.0, at, run)?;
            let key = eval(&pair.1, at, run)?;
            return access::item(&value, &key, run);
        }
        Expr::Sliced(parts) => {
            let value = eval(&parts.0, at, run)?;
            let slice = &parts.1;
            let [start, stop, step] = [&slice.start, &slice.stop, &slice.step].map(|part| {
                part.as_ref()
                    .map_or(Ok(Value::None), |part| eval(part, at, run))
            });
            return access::slice(&value, &start?, &stop?, &step?, run);
        }
        Expr::Slice(_) => Value::undefined("a slice among subscripts"),
        Expr::Binary(operator, pair) => {
            let left = eval(&pair.0, at, run)?;
            let right = eval(&pair.1, at, run)?;
            return arithmetic::binary(*operator, &left, &right, run);
        }
        Expr::Negative(node) => numbers::signed(&eval(node, at, run)?, true)?,
        Expr::Positive(node) => numbers::signed(&eval(node, at, run)?, false)?,
        Expr::Not(node) => Value::Bool(!eval(node, at, run)?.is_true()?),
        Expr::And(pair) => {
            let left = eval(&pair.0, at, run)?;
            if left.is_true()? {
                return eval(&pair.1, at, run);
            }
            left
        }
        Expr::Or(pair) => {
            let left = eval(&pair.0, at, run)?;
            if !left.is_true()? {
                return eval(&pair.1, at, run);
            }
            left
        }
        Expr::Concat(parts) => {
            let mut joined = String::new();
            for value in all(parts, at, run)? {
                let part = to_str(&value, run)?;
                run.pay_bytes(part.len())?;
                joined.push_str(&part);
            }
            Value::from(joined)
        }
        Expr::Compare(first, rest) => {
            let mut left = eval(first, at, run)?;
            for (comparison, right) in rest {
                let right = eval(right, at, run)?;
                if !compare(*comparison, &left, &right, run)? {
                    return Ok(Value::Bool(false));
                }
                left = right;
            }
            Value::Bool(true)
        }
    })
}

fn all(items: &[Expr], at: &Rc<Activation>, run: &mut Run) -> Outcome<Vec<Value>> {
    items.iter().map(|item| eval(item, at, run)).collect()
}

fn applied(applied: &Applied, at: &Rc<Activation>, run: &mut Run) -> Outcome<(Value, Args)> {
    let value = match &applied.to {
        Some(to) => eval(to, at, run)?,
        None => Value::None,
    };
    Ok((value, arguments(&applied.arguments, at, run)?))
}

/// The arguments of a call.
pub(super) fn arguments(
    arguments: &Arguments,
    at: &Rc<Activation>,
    run: &mut Run,
) -> Outcome<Args> {
    let mut args = Args::of(all(&arguments.positional, at, run)?);
    for (name, value) in &arguments.keyword {
        let value = eval(value, at, run)?;
        args.keyword.push((Rc::clone(name), value));
    }
    if let Some(more) = &arguments.more_positional {
        let more = eval(more, at, run)?;
        args.positional.extend(collect(&more, run)?);
    }
    if let Some(more) = &arguments.more_keyword {
        let more = eval(more, at, run)?;
        let Value::Dict(dict) = &more else {
            return type_error("what follows ** is no mapping");
        };
        for (name, value) in dict.iter() {
            let name = text(name, "a keyword")?;
            if args.keyword.iter().any(|(known, _)| known == name) {
                return type_error(format!("the argument `{name}` is there twice"));
            }
            args.keyword.push((Rc::clone(name), value.clone()));
        }
    }
    Ok(args)
}

/// A filter by its name.
pub(super) fn filter(name: &str, value: &Value, args: Args, run: &mut Run) -> Outcome<Value> {
    run.pay(1)?;
    filters::apply(name, value, args, run)
}

/// `callee(..)`.
pub(super) fn call(callee: &Value, args: Args, run: &mut Run) -> Outcome<Value> {
    run.pay(1)?;
    match callee {
        Value::Object(object) => object.call(args, run),
        Value::Method(method) => methods::call(&method.0, &method.1, args, run),
        Value::Undefined(reason) => fail(Kind::Other, &**reason),
        callee => type_error(format!("a `{}` cannot be called", callee.type_name())),
    }
}

fn spelled(literal: &Literal) -> Value {
    match literal {
        Literal::None => Value::None,
        Literal::Bool(value) => Value::Bool(*value),
        Literal::Int(value) => Value::Int(*value),
        Literal::Big(value) => Value::Big(Rc::clone(value)),
        Literal::Float(value) => Value::Float(*value),
        Literal::Text(text) => Value::Str(Rc::clone(text)),
    }
}
