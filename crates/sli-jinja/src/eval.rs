//! A template at work: expressions and calls.

use std::cell::RefCell;
use std::rc::Rc;

use crate::access;
use crate::arguments::{Args, text};
use crate::arithmetic;
use crate::ast::{Applied, Arguments, Expr, Literal};
use crate::compare::{equal, order};
use crate::dict::Dict;
use crate::error::{Kind, Outcome, fail, other, type_error};
use crate::iterate::{collect, iterate};
use crate::numbers;
use crate::operators::Comparison;
use crate::repr;
use crate::run::{Activation, Run, check_attribute};
use crate::strftime::strftime;
use crate::value::{Function, Range, Value, View};
use crate::{filters, loops, methods, tests};

/// Most items of a range.
const LONGEST_RANGE: i64 = 100_000;

impl Run<'_> {
    /// `str(value)`.
    pub fn string(&mut self, value: &Value) -> Outcome<Rc<str>> {
        repr::to_str(value, self)
    }

    pub fn eval(&mut self, expr: &Expr, at: &Rc<Activation>) -> Outcome<Value> {
        self.pay(1)?;
        Ok(match expr {
            Expr::Data(text) => Value::Str(Rc::clone(text)),
            Expr::Literal(literal) => spelled(literal),
            Expr::Name(name) => match at.get(name.place) {
                Some(value) => value,
                None => Value::undefined(format!("`{}` is undefined", name.id)),
            },
            Expr::Tuple(items) => Value::tuple(self.all(items, at)?),
            Expr::List(items) => Value::list(self.all(items, at)?),
            Expr::Dict(items) => {
                let mut dict = Dict::default();
                for (key, value) in items {
                    let key = self.eval(key, at)?;
                    let value = self.eval(value, at)?;
                    dict.set(key, value)?;
                }
                Value::dict(dict)
            }
            Expr::Condition(parts) => {
                let (test, value, otherwise) = &**parts;
                if self.eval(test, at)?.is_true()? {
                    return self.eval(value, at);
                }
                match otherwise {
                    Some(otherwise) => return self.eval(otherwise, at),
                    None => Value::undefined("the condition is false and there is no `else`"),
                }
            }
            Expr::Call(call) => {
                let callee = self.eval(&call.0, at)?;
                let args = self.arguments(&call.1, at)?;
                return self.call(&callee, args);
            }
            Expr::Filter(applied) => {
                let (value, args) = self.applied(applied, at)?;
                return self.filter(&applied.name, &value, args);
            }
            Expr::Test(applied) => {
                let (value, args) = self.applied(applied, at)?;
                return tests::apply(&applied.name, &value, &args, self).map(Value::Bool);
            }
            Expr::Attribute(node, name) => {
                let value = self.eval(node, at)?;
                return access::attribute(&value, name, self);
            }
            Expr::Item(pair) => {
                let value = self.eval(&pair.0, at)?;
                let key = self.eval(&pair.1, at)?;
                return access::item(&value, &key, self);
            }
            Expr::Sliced(parts) => {
                let value = self.eval(&parts.0, at)?;
                let slice = &parts.1;
                let [start, stop, step] = [&slice.start, &slice.stop, &slice.step].map(|part| {
                    part.as_ref()
                        .map_or(Ok(Value::None), |part| self.eval(part, at))
                });
                return access::slice(&value, &start?, &stop?, &step?, self);
            }
            Expr::Slice(_) => Value::undefined("a slice among subscripts"),
            Expr::Binary(operator, pair) => {
                let left = self.eval(&pair.0, at)?;
                let right = self.eval(&pair.1, at)?;
                return arithmetic::binary(*operator, &left, &right, self);
            }
            Expr::Negative(node) => numbers::signed(&self.eval(node, at)?, true)?,
            Expr::Positive(node) => numbers::signed(&self.eval(node, at)?, false)?,
            Expr::Not(node) => Value::Bool(!self.eval(node, at)?.is_true()?),
            Expr::And(pair) => {
                let left = self.eval(&pair.0, at)?;
                if left.is_true()? {
                    return self.eval(&pair.1, at);
                }
                left
            }
            Expr::Or(pair) => {
                let left = self.eval(&pair.0, at)?;
                if !left.is_true()? {
                    return self.eval(&pair.1, at);
                }
                left
            }
            Expr::Concat(parts) => {
                let mut joined = String::new();
                for value in self.all(parts, at)? {
                    let part = self.string(&value)?;
                    self.pay_bytes(part.len())?;
                    joined.push_str(&part);
                }
                Value::from(joined)
            }
            Expr::Compare(first, rest) => {
                let mut left = self.eval(first, at)?;
                for (comparison, right) in rest {
                    let right = self.eval(right, at)?;
                    if !self.compare(*comparison, &left, &right)? {
                        return Ok(Value::Bool(false));
                    }
                    left = right;
                }
                Value::Bool(true)
            }
        })
    }

    fn all(&mut self, items: &[Expr], at: &Rc<Activation>) -> Outcome<Vec<Value>> {
        items.iter().map(|item| self.eval(item, at)).collect()
    }

    fn applied(&mut self, applied: &Applied, at: &Rc<Activation>) -> Outcome<(Value, Args)> {
        let value = match &applied.to {
            Some(to) => self.eval(to, at)?,
            None => Value::None,
        };
        Ok((value, self.arguments(&applied.arguments, at)?))
    }

    pub fn arguments(&mut self, arguments: &Arguments, at: &Rc<Activation>) -> Outcome<Args> {
        let mut args = Args::of(self.all(&arguments.positional, at)?);
        for (name, value) in &arguments.keyword {
            let value = self.eval(value, at)?;
            args.keyword.push((Rc::clone(name), value));
        }
        if let Some(more) = &arguments.more_positional {
            let more = self.eval(more, at)?;
            args.positional.extend(collect(&more, self)?);
        }
        if let Some(more) = &arguments.more_keyword {
            let more = self.eval(more, at)?;
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
    pub fn filter(&mut self, name: &str, value: &Value, args: Args) -> Outcome<Value> {
        self.pay(1)?;
        filters::apply(name, value, args, self)
    }

    pub fn compare(&mut self, comparison: Comparison, one: &Value, two: &Value) -> Outcome<bool> {
        use std::cmp::Ordering::{Equal, Greater, Less};
        self.pay(1)?;
        Ok(match comparison {
            Comparison::Eq => equal(one, two)?,
            Comparison::Ne => !equal(one, two)?,
            Comparison::Lt => order(one, two, "<")? == Some(Less),
            Comparison::Le => matches!(order(one, two, "<=")?, Some(Less | Equal)),
            Comparison::Gt => order(one, two, ">")? == Some(Greater),
            Comparison::Ge => matches!(order(one, two, ">=")?, Some(Greater | Equal)),
            Comparison::In => self.contains(two, one)?,
            Comparison::NotIn => !self.contains(two, one)?,
        })
    }

    /// `item in container`.
    pub fn contains(&mut self, container: &Value, item: &Value) -> Outcome<bool> {
        match container {
            Value::Str(whole) | Value::Markup(whole) => {
                let part = text(item, "`in` a string")?;
                self.pay_bytes(whole.len())?;
                Ok(whole.contains(&**part))
            }
            Value::Dict(dict) | Value::View(dict, View::Keys) => Ok(dict.get(item)?.is_some()),
            Value::Range(range) if item.as_int().is_some() || matches!(item, Value::Float(_)) => {
                let whole = match item {
                    Value::Float(value) if value.fract() == 0.0 => *value as i64,
                    item => match item.as_i64() {
                        Some(value) => value,
                        None => return Ok(false),
                    },
                };
                let offset = i128::from(whole) - i128::from(range.start);
                let step = i128::from(range.step);
                Ok(offset % step == 0 && (0..i128::from(range.len())).contains(&(offset / step)))
            }
            container => {
                let mut iter = iterate(container)?;
                while let Some(found) = iter.next(self)? {
                    if crate::compare::is_same(&found, item) && !matches!(found, Value::Float(_))
                        || equal(&found, item)?
                    {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
        }
    }

    /// `callee(..)`.
    pub fn call(&mut self, callee: &Value, args: Args) -> Outcome<Value> {
        self.pay(1)?;
        match callee {
            Value::Macro(closure) => self.call_macro(closure, args).map(Value::from),
            Value::Method(method) => methods::call(&method.0, &method.1, args, self),
            Value::Function(function) => self.call_function(*function, args),
            Value::Joiner(joiner) => {
                args.bind("joiner", [], 0)?;
                let used = joiner.1.replace(true);
                Ok(if used {
                    joiner.0.clone()
                } else {
                    Value::str("")
                })
            }
            Value::Loop(state) => {
                let [iterable] = args.bind("loop", ["iterable"], 1)?;
                let (recurse, depth) = {
                    let state = state.borrow();
                    (state.recurse.clone(), state.depth0 + 1)
                };
                match (recurse, iterable) {
                    (Some((node, outer)), Some(iterable)) => self
                        .recurse(&node, &iterable, &outer, depth)
                        .map(Value::from),
                    _ => type_error("`loop` can be called in a recursive loop only"),
                }
            }
            Value::Undefined(reason) => fail(Kind::Other, &**reason),
            callee => type_error(format!("a `{}` cannot be called", callee.type_name())),
        }
    }

    fn call_function(&mut self, function: Function, args: Args) -> Outcome<Value> {
        match function {
            Function::Range => range(&args),
            Function::Dict => self.new_dict(&args).map(Value::dict),
            Function::Namespace => {
                let dict = self.new_dict(&args)?;
                for (name, _) in dict.iter() {
                    if let Some(name) = name.as_str() {
                        check_attribute(name)?;
                    }
                }
                Ok(Value::Namespace(Rc::new(RefCell::new(dict))))
            }
            Function::Cycler => {
                if args.positional.is_empty() || !args.keyword.is_empty() {
                    return type_error("cycler() takes one item or more");
                }
                Ok(Value::Cycler(Rc::new((args.positional, RefCell::new(0)))))
            }
            Function::Joiner => {
                let [separator] = args.bind("joiner", ["sep"], 0)?;
                let separator = separator.unwrap_or_else(|| Value::str(", "));
                Ok(Value::Joiner(Rc::new((separator, RefCell::new(false)))))
            }
            Function::Lipsum => other("`lipsum` gives other words each time"),
            Function::RaiseException => {
                let [message] = args.bind("raise_exception", ["message"], 1)?;
                let message = message.unwrap_or(Value::None);
                let message = self.string(&message)?;
                other(&*message)
            }
            Function::StrftimeNow => {
                let [format] = args.bind("strftime_now", ["format"], 1)?;
                let format = format.unwrap_or(Value::None);
                let format = text(&format, "strftime_now")?;
                strftime(format, self).map(Value::from)
            }
        }
    }

    /// `dict(..)`.
    pub fn new_dict(&mut self, args: &Args) -> Outcome<Dict> {
        let mut dict = Dict::default();
        if args.positional.len() > 1 {
            return type_error("dict() takes one argument and keywords");
        }
        match args.positional.first() {
            None => {}
            Some(Value::Dict(given)) => dict.clone_from(given),
            Some(pairs) => {
                for pair in collect(pairs, self)? {
                    let pair = collect(&pair, self)?;
                    let Ok([key, value]) = <[Value; 2]>::try_from(pair) else {
                        return fail(Kind::Value, "dict() takes pairs");
                    };
                    dict.set(key, value)?;
                }
            }
        }
        for (name, value) in &args.keyword {
            dict.set_str(name, value.clone());
        }
        self.pay(dict.len() as u64)?;
        Ok(dict)
    }

    /// `len(value)`.
    pub fn length(&mut self, value: &Value) -> Outcome<i64> {
        match value {
            Value::Loop(state) => loops::length(state, self),
            value => match loops::sized(value) {
                Some(length) => {
                    if let Some(text) = value.as_str() {
                        self.pay_bytes(text.len())?;
                    }
                    Ok(length as i64)
                }
                None => type_error(format!("a `{}` has no length", value.type_name())),
            },
        }
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

fn range(args: &Args) -> Outcome<Value> {
    let [first, second, third] = args.only("range", 1)?;
    let int = |value: &Value| value.to_i64("range()");
    let first = int(&first.unwrap_or(Value::None))?;
    let (start, stop) = match second {
        Some(second) => (first, int(&second)?),
        None => (0, first),
    };
    let step = third.map_or(Ok(1), |third| int(&third))?;
    if step == 0 {
        return fail(Kind::Value, "the step of a range must not be zero");
    }
    let range = Range { start, stop, step };
    if range.len() > LONGEST_RANGE {
        return other(format!("a range has more than {LONGEST_RANGE} items"));
    }
    Ok(Value::Range(range))
}
