//! Templates as trees. Names lead to slots once [`crate::scope`] has been over them.

use std::rc::Rc;

use num_bigint::BigInt;
use num_traits::ToPrimitive;

use crate::operators::{Binary, Comparison};

/// Where a name's value is: so many functions further out, and there in this slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub up: usize,
    pub slot: usize,
}

/// A name that is read or set.
#[derive(Clone, Debug)]
pub(crate) struct Name {
    pub id: Rc<str>,
    pub place: Place,
}

impl Name {
    pub fn new(id: &str) -> Self {
        Self {
            id: id.into(),
            place: Place::default(),
        }
    }
}

/// What a variable of a frame holds when the frame is entered.
#[derive(Clone, Debug)]
pub(crate) enum Load {
    /// What was put there before.
    Parameter,
    /// Nothing yet.
    Missing,
    /// What the context has under this name.
    Resolve(Rc<str>),
    /// What an outer variable holds.
    Alias(Place),
}

/// The variables of a frame, by slot of its function.
pub(crate) type Frame = Vec<(usize, Load)>;

/// Arguments of a call.
#[derive(Debug, Default)]
pub(crate) struct Arguments {
    pub positional: Vec<Expr>,
    pub keyword: Vec<(Rc<str>, Expr)>,
    pub more_positional: Option<Box<Expr>>,
    pub more_keyword: Option<Box<Expr>>,
}

/// A filter or a test on something.
#[derive(Debug)]
pub(crate) struct Applied {
    /// Nothing in the filter of a block.
    pub to: Option<Expr>,
    pub name: Rc<str>,
    pub arguments: Arguments,
}

/// A slice.
#[derive(Debug)]
pub(crate) struct Slice {
    pub start: Option<Expr>,
    pub stop: Option<Expr>,
    pub step: Option<Expr>,
}

/// A value that a template spells out.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Literal {
    None,
    Bool(bool),
    Int(i64),
    /// An integer beyond 64 bits.
    Big(Rc<BigInt>),
    Float(f64),
    Text(Rc<str>),
}

impl From<&BigInt> for Literal {
    fn from(value: &BigInt) -> Self {
        match value.to_i64() {
            Some(value) => Self::Int(value),
            None => Self::Big(Rc::new(value.clone())),
        }
    }
}

#[derive(Debug)]
pub(crate) enum Expr {
    /// Text between tags.
    Data(Rc<str>),
    Literal(Literal),
    Name(Name),
    Tuple(Vec<Expr>),
    List(Vec<Expr>),
    Dict(Vec<(Expr, Expr)>),
    /// Test, value, otherwise.
    Condition(Box<(Expr, Expr, Option<Expr>)>),
    Call(Box<(Expr, Arguments)>),
    Filter(Box<Applied>),
    Test(Box<Applied>),
    Attribute(Box<Expr>, Rc<str>),
    Item(Box<(Expr, Expr)>),
    Sliced(Box<(Expr, Slice)>),
    /// A slice that is part of a tuple of subscripts.
    Slice(Box<Slice>),
    Binary(Binary, Box<(Expr, Expr)>),
    Negative(Box<Expr>),
    Positive(Box<Expr>),
    Not(Box<Expr>),
    And(Box<(Expr, Expr)>),
    Or(Box<(Expr, Expr)>),
    Concat(Vec<Expr>),
    Compare(Box<Expr>, Vec<(Comparison, Expr)>),
}

/// What an assignment assigns to.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    Name(Name),
    /// An attribute of a namespace.
    Attribute(Name, Rc<str>),
    Tuple(Vec<Target>),
}

/// Statements in order.
pub(crate) type Body = Vec<Statement>;

#[derive(Debug)]
pub(crate) struct Statement {
    pub line: u32,
    pub kind: StatementKind,
}

#[derive(Debug)]
pub(crate) enum StatementKind {
    Output(Vec<Expr>),
    For(Rc<For>),
    If(If),
    Macro(Name, Rc<Macro>, bool),
    CallBlock(CallBlock),
    Filter(FilterBlock),
    With(With),
    Set(Set),
    SetBlock(SetBlock),
    Scope(Frame, Body),
    Block(Rc<str>, bool, Vec<(Rc<str>, Place)>),
    /// A tag that needs other templates: what it is, and its template.
    Other(&'static str, Expr, Vec<Name>),
    Break,
    Continue,
}

#[derive(Debug)]
pub(crate) struct For {
    pub target: Target,
    pub iterable: Expr,
    pub body: Body,
    pub otherwise: Body,
    pub test: Option<LoopTest>,
    pub recursive: bool,
    pub frame: Frame,
    pub else_frame: Frame,
    /// The variable `loop`, where it is used.
    pub loop_name: Option<Name>,
    /// Slots of the function that a recursive loop is.
    pub slots: usize,
}

/// The condition of a loop, a function of its own.
#[derive(Debug)]
pub(crate) struct LoopTest {
    pub test: Expr,
    pub target: Target,
    pub frame: Frame,
    pub slots: usize,
}

#[derive(Debug)]
pub(crate) struct If {
    /// Conditions and what follows from them.
    pub branches: Vec<(Expr, Body)>,
    pub otherwise: Body,
}

#[derive(Debug)]
pub(crate) struct Macro {
    /// Nothing: the body of a call block.
    pub name: Option<Rc<str>>,
    pub arguments: Vec<Name>,
    /// Of the last arguments.
    pub defaults: Vec<Expr>,
    pub body: Body,
    pub frame: Frame,
    pub slots: usize,
    /// The variables `caller`, `kwargs` and `varargs`, where they are used.
    pub caller: Option<Name>,
    pub kwargs: Option<Name>,
    pub varargs: Option<Name>,
}

#[derive(Debug)]
pub(crate) struct CallBlock {
    /// Nothing: `{% generation %}`.
    pub call: Option<(Expr, Arguments)>,
    pub body: Rc<Macro>,
}

#[derive(Debug)]
pub(crate) struct FilterBlock {
    /// Filters, the first is applied first.
    pub filters: Vec<Applied>,
    pub body: Body,
    pub frame: Frame,
}

#[derive(Debug)]
pub(crate) struct With {
    pub targets: Vec<Target>,
    pub values: Vec<Expr>,
    pub body: Body,
    pub frame: Frame,
}

#[derive(Debug)]
pub(crate) struct Set {
    pub target: Target,
    pub value: Expr,
    /// Its names are variables of the context too.
    pub top_level: bool,
}

#[derive(Debug)]
pub(crate) struct SetBlock {
    pub target: Target,
    pub filters: Vec<Applied>,
    pub body: Body,
    pub frame: Frame,
    pub top_level: bool,
}

/// A `{% block %}`: a function that sees the context only.
#[derive(Debug)]
pub(crate) struct Block {
    pub body: Body,
    pub frame: Frame,
    pub slots: usize,
}

/// A template.
#[derive(Debug)]
pub(crate) struct Tree {
    pub body: Body,
    pub frame: Frame,
    pub slots: usize,
    /// In the order in which they end.
    pub blocks: Rc<Vec<(Rc<str>, Block)>>,
}
