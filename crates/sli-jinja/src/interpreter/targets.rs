//! Assignments.

use std::rc::Rc;

use super::activation::Activation;
use crate::ast::Target;
use crate::attributes::check_namespace;
use crate::error::{Kind, Outcome, fail, value_error};
use crate::iterate::collect;
use crate::run::Run;
use crate::value::Value;

/// Sets what a target names.
pub(super) fn assign(
    target: &Target,
    value: Value,
    at: &Rc<Activation>,
    run: &mut Run,
) -> Outcome<()> {
    match target {
        Target::Name(name) => at.set(name, Some(value)),
        Target::Attribute(name, attribute) => {
            let Some(Value::Namespace(namespace)) = at.get(name.place) else {
                return not_a_namespace();
            };
            check_namespace(attribute)?;
            namespace.borrow_mut().set_str(attribute, value);
        }
        Target::Tuple(targets) => {
            let items = collect(&value, run)?;
            if items.len() != targets.len() {
                return value_error(format!(
                    "{} values for {} names",
                    items.len(),
                    targets.len()
                ));
            }
            for (target, item) in targets.iter().zip(items) {
                assign(target, item, at, run)?;
            }
        }
    }
    Ok(())
}

/// The value that the names of a target make together.
pub(super) fn value_of(target: &Target, at: &Activation) -> Value {
    match target {
        Target::Name(name) | Target::Attribute(name, _) => at.own(name).unwrap_or(Value::None),
        Target::Tuple(targets) => {
            Value::tuple(targets.iter().map(|target| value_of(target, at)).collect())
        }
    }
}

/// Gives what a target names to the context.
pub(super) fn export(target: &Target, at: &Activation) {
    match target {
        Target::Name(name) => {
            if let Some(value) = at.get(name.place) {
                at.context.export(&name.id, &value);
            }
        }
        Target::Attribute(..) => {}
        Target::Tuple(targets) => {
            for target in targets {
                export(target, at);
            }
        }
    }
}

/// Whether every attribute in a target is one of a namespace.
pub(super) fn check_namespaces(target: &Target, at: &Activation) -> Outcome<()> {
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

fn not_a_namespace<T>() -> Outcome<T> {
    fail(
        Kind::Other,
        "cannot assign an attribute of what is no namespace",
    )
}
