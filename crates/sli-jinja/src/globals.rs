//! Functions that every template has, and the objects that they make.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::arguments::text;
use crate::attributes::check_namespace;
use crate::error::{Kind, Outcome, fail, other, type_error};
use crate::iterate::collect;
use crate::methods::from_keys;
use crate::range::Range;
use crate::repr::to_str;
use crate::run::Run;
use crate::strftime::strftime;
use crate::value::{Args, Dict, Object, Value};

/// Most items of a range.
const LONGEST_RANGE: i64 = 100_000;

/// The functions and their names.
pub(crate) fn functions() -> [(Rc<str>, Value); 8] {
    [
        ("range", Function::Range),
        ("dict", Function::Dict),
        ("lipsum", Function::Lipsum),
        ("cycler", Function::Cycler),
        ("joiner", Function::Joiner),
        ("namespace", Function::Namespace),
        ("raise_exception", Function::RaiseException),
        ("strftime_now", Function::StrftimeNow),
    ]
    .map(|(name, function)| (name.into(), Value::object(function)))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Function {
    Range,
    Dict,
    Namespace,
    Cycler,
    Joiner,
    Lipsum,
    RaiseException,
    StrftimeNow,
}

impl Object for Function {
    fn type_name(&self) -> &'static str {
        "function"
    }

    fn methods(&self) -> &'static [&'static str] {
        match self {
            Self::Dict => &["fromkeys"],
            _ => &[],
        }
    }

    fn call_method(&self, _name: &str, args: Args, run: &mut Run) -> Outcome<Value> {
        from_keys(&args, run)
    }

    fn is_callable(&self) -> bool {
        true
    }

    fn call(&self, args: Args, run: &mut Run) -> Outcome<Value> {
        match self {
            Self::Range => range(&args),
            Self::Dict => new_dict(&args, run).map(Value::dict),
            Self::Namespace => {
                let dict = new_dict(&args, run)?;
                for (name, _) in dict.iter() {
                    if let Some(name) = name.as_str() {
                        check_namespace(name)?;
                    }
                }
                Ok(Value::Namespace(Rc::new(RefCell::new(dict))))
            }
            Self::Cycler => {
                if args.positional.is_empty() || !args.keyword.is_empty() {
                    return type_error("cycler() takes one item or more");
                }
                Ok(Value::object(Cycler {
                    items: args.positional,
                    at: Cell::new(0),
                }))
            }
            Self::Joiner => {
                let [separator] = args.bind("joiner", ["sep"], 0)?;
                Ok(Value::object(Joiner {
                    separator: separator.unwrap_or_else(|| Value::str(", ")),
                    used: Cell::new(false),
                }))
            }
            Self::Lipsum => other("`lipsum` gives other words each time"),
            Self::RaiseException => {
                let [message] = args.bind("raise_exception", ["message"], 1)?;
                let message = message.unwrap_or(Value::None);
                let message = to_str(&message, run)?;
                other(&*message)
            }
            Self::StrftimeNow => {
                let [format] = args.bind("strftime_now", ["format"], 1)?;
                let format = format.unwrap_or(Value::None);
                let format = text(&format, "strftime_now")?;
                strftime(format, run).map(Value::from)
            }
        }
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

/// `dict(..)`.
fn new_dict(args: &Args, run: &mut Run) -> Outcome<Dict> {
    let mut dict = Dict::default();
    if args.positional.len() > 1 {
        return type_error("dict() takes one argument and keywords");
    }
    match args.positional.first() {
        None => {}
        Some(Value::Dict(given)) => dict.clone_from(given),
        Some(pairs) => {
            for pair in collect(pairs, run)? {
                let pair = collect(&pair, run)?;
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
    run.pay(dict.len() as u64)?;
    Ok(dict)
}

/// What `cycler(..)` makes.
#[derive(Debug)]
struct Cycler {
    items: Vec<Value>,
    at: Cell<usize>,
}

impl Object for Cycler {
    fn type_name(&self) -> &'static str {
        "Cycler"
    }

    fn attribute(&self, name: &str, _run: &mut Run) -> Outcome<Option<Value>> {
        Ok(match name {
            "current" => self.items.get(self.at.get()).cloned(),
            "items" => Some(Value::tuple(self.items.clone())),
            "pos" => Some(Value::length(self.at.get())),
            _ => None,
        })
    }

    fn methods(&self) -> &'static [&'static str] {
        &["next", "reset"]
    }

    fn call_method(&self, name: &str, args: Args, _run: &mut Run) -> Outcome<Value> {
        args.none(name)?;
        let at = self.at.get();
        if name == "reset" {
            self.at.set(0);
            return Ok(Value::None);
        }
        self.at.set((at + 1) % self.items.len().max(1));
        Ok(self.items.get(at).cloned().unwrap_or(Value::None))
    }
}

/// What `joiner(..)` makes: it gives nothing once, and its separator ever after.
#[derive(Debug)]
struct Joiner {
    separator: Value,
    used: Cell<bool>,
}

impl Object for Joiner {
    fn type_name(&self) -> &'static str {
        "Joiner"
    }

    fn attribute(&self, name: &str, _run: &mut Run) -> Outcome<Option<Value>> {
        Ok(match name {
            "sep" => Some(self.separator.clone()),
            "used" => Some(Value::Bool(self.used.get())),
            _ => None,
        })
    }

    fn is_callable(&self) -> bool {
        true
    }

    fn call(&self, args: Args, _run: &mut Run) -> Outcome<Value> {
        args.bind("joiner", [], 0)?;
        Ok(if self.used.replace(true) {
            self.separator.clone()
        } else {
            Value::str("")
        })
    }
}
