//! Tokens to trees: statements here, expressions in [`expression`].

mod expression;

use std::rc::Rc;

use crate::ast::{
    Applied, Block, Body, CallBlock, Expr, FilterBlock, For, If, LoopTest, Macro, Name, Set,
    SetBlock, Statement, StatementKind, Target, Tree, With,
};
use crate::error::{Error, Kind, Outcome};
use crate::lexer::tokens;
use crate::token::{Token, TokenKind};

/// How deeply tags and brackets may hold each other.
const DEEPEST: usize = 200;

/// The tree of a template.
pub(crate) fn parse(source: &str) -> Outcome<Tree> {
    let mut parser = Parser {
        tokens: tokens(source)?,
        at: 0,
        depth: 0,
        blocks: Vec::new(),
    };
    let body = parser.body(&[])?;
    Ok(Tree {
        body,
        frame: Vec::new(),
        slots: 0,
        blocks: parser.blocks,
    })
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
    blocks: Vec<(Rc<str>, Block)>,
}

const END: &TokenKind = &TokenKind::End;

impl Parser {
    fn peek(&self) -> &TokenKind {
        self.tokens.get(self.at).map_or(END, |token| &token.kind)
    }

    fn peek_second(&self) -> &TokenKind {
        self.tokens
            .get(self.at + 1)
            .map_or(END, |token| &token.kind)
    }

    fn line(&self) -> u32 {
        let last = self.tokens.len().saturating_sub(1);
        self.tokens
            .get(self.at.min(last))
            .map_or(1, |token| token.line)
    }

    fn fail<T>(&self, message: impl Into<String>) -> Outcome<T> {
        Err(Error::new(Kind::Other, message).at(self.line()))
    }

    fn unexpected<T>(&self, expected: &str) -> Outcome<T> {
        self.fail(format!(
            "expected {expected}, got {}",
            self.peek().describe()
        ))
    }

    /// Goes down a level, which must not be too deep.
    fn deeper<T>(&mut self, parse: impl FnOnce(&mut Self) -> Outcome<T>) -> Outcome<T> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return self.fail("too much is nested");
        }
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    fn is_operator(&self, operator: &str) -> bool {
        matches!(self.peek(), TokenKind::Operator(found) if *found == operator)
    }

    fn is_name(&self, name: &str) -> bool {
        matches!(self.peek(), TokenKind::Name(found) if found == name)
    }

    fn skip_operator(&mut self, operator: &str) -> bool {
        let found = self.is_operator(operator);
        self.at += usize::from(found);
        found
    }

    fn skip_name(&mut self, name: &str) -> bool {
        let found = self.is_name(name);
        self.at += usize::from(found);
        found
    }

    fn expect_operator(&mut self, operator: &str) -> Outcome<()> {
        if self.skip_operator(operator) {
            Ok(())
        } else {
            self.unexpected(&format!("`{operator}`"))
        }
    }

    fn expect_name(&mut self, name: &str) -> Outcome<()> {
        if self.skip_name(name) {
            Ok(())
        } else {
            self.unexpected(&format!("`{name}`"))
        }
    }

    fn name(&mut self) -> Outcome<Rc<str>> {
        match self.peek() {
            TokenKind::Name(name) => {
                let name = name.as_str().into();
                self.at += 1;
                Ok(name)
            }
            _ => self.unexpected("a name"),
        }
    }

    fn block_end(&mut self) -> Outcome<()> {
        if *self.peek() == TokenKind::BlockEnd {
            self.at += 1;
            Ok(())
        } else {
            self.unexpected("the end of the tag")
        }
    }

    /// Statements up to a tag of these names, whose name is next then; without names, up to the end.
    fn body(&mut self, ends: &[&str]) -> Outcome<Body> {
        let mut body = Body::new();
        let mut output = Vec::new();
        let mut output_line = self.line();
        loop {
            if output.is_empty() {
                output_line = self.line();
            }
            match self.peek() {
                TokenKind::Data(text) => {
                    output.push(Expr::Data(text.as_str().into()));
                    self.at += 1;
                    continue;
                }
                TokenKind::VariableBegin => {
                    self.at += 1;
                    output.push(self.tuple(true, &[], false)?);
                    if *self.peek() != TokenKind::VariableEnd {
                        return self.unexpected("the end of the expression");
                    }
                    self.at += 1;
                    continue;
                }
                _ => {}
            }
            if !output.is_empty() {
                body.push(Statement {
                    line: output_line,
                    kind: StatementKind::Output(std::mem::take(&mut output)),
                });
            }
            if *self.peek() == TokenKind::End {
                if ends.is_empty() {
                    return Ok(body);
                }
                return self.fail(format!(
                    "the template ends without `{}`",
                    ends.join("` or `")
                ));
            }
            self.at += 1;
            if ends.iter().any(|end| self.is_name(end)) {
                return Ok(body);
            }
            let line = self.line();
            let kind = self.deeper(Self::statement)?;
            if let Some(kind) = kind {
                body.push(Statement { line, kind });
            }
            self.block_end()?;
        }
    }

    /// The body of a tag: its own end, statements, and the name that ends them.
    fn tag_body(&mut self, ends: &[&str]) -> Outcome<Body> {
        self.skip_operator(":");
        self.block_end()?;
        self.body(ends)
    }

    /// The same where one name ends it, which is passed.
    fn whole_body(&mut self, end: &str) -> Outcome<Body> {
        let body = self.tag_body(&[end])?;
        self.at += 1;
        Ok(body)
    }

    fn statement(&mut self) -> Outcome<Option<StatementKind>> {
        let TokenKind::Name(tag) = self.peek() else {
            return self.unexpected("the name of a tag");
        };
        let tag = tag.clone();
        self.at += 1;
        Ok(Some(match tag.as_str() {
            "for" => StatementKind::For(Rc::new(self.for_loop()?)),
            "if" => StatementKind::If(self.condition()?),
            "set" => self.set()?,
            "with" => StatementKind::With(self.with()?),
            "macro" => {
                let name = self.target_name()?;
                let (arguments, defaults) = self.signature()?;
                let body = self.whole_body("endmacro")?;
                let id = Rc::clone(&name.id);
                StatementKind::Macro(name, macro_of(Some(id), arguments, defaults, body), false)
            }
            "call" => self.call_block()?,
            "filter" => {
                let filters = self.filters(true)?;
                let body = self.whole_body("endfilter")?;
                StatementKind::Filter(FilterBlock {
                    filters,
                    body,
                    frame: Vec::new(),
                })
            }
            "generation" => StatementKind::CallBlock(CallBlock {
                call: None,
                body: macro_of(
                    None,
                    Vec::new(),
                    Vec::new(),
                    self.whole_body("endgeneration")?,
                ),
            }),
            "print" => {
                let mut nodes = Vec::new();
                while *self.peek() != TokenKind::BlockEnd {
                    if !nodes.is_empty() {
                        self.expect_operator(",")?;
                    }
                    nodes.push(self.expression(true)?);
                }
                StatementKind::Output(nodes)
            }
            "break" => StatementKind::Break,
            "continue" => StatementKind::Continue,
            "block" => return self.block().map(Some),
            "autoescape" => match self.expression(true)? {
                Expr::Const(value) if value.is_false() => {
                    let body = self.whole_body("endautoescape")?;
                    StatementKind::Scope(Vec::new(), body)
                }
                _ => return self.fail("`autoescape` is not supported"),
            },
            "extends" => StatementKind::Other("extends", self.expression(true)?, Vec::new()),
            "include" => {
                let template = self.expression(true)?;
                if self.is_name("ignore") {
                    self.at += 1;
                    self.expect_name("missing")?;
                }
                self.import_context();
                StatementKind::Other("include", template, Vec::new())
            }
            "import" => {
                let template = self.expression(true)?;
                self.expect_name("as")?;
                let name = self.target_name()?;
                self.import_context();
                StatementKind::Other("import", template, vec![name])
            }
            "from" => self.import_names()?,
            unknown => {
                self.at -= 1;
                return self.fail(format!("the tag `{unknown}` is unknown here"));
            }
        }))
    }

    fn import_context(&mut self) {
        let context = matches!(self.peek_second(), TokenKind::Name(name) if name == "context");
        if context && (self.is_name("with") || self.is_name("without")) {
            self.at += 2;
        }
    }

    fn import_names(&mut self) -> Outcome<StatementKind> {
        let template = self.expression(true)?;
        self.expect_name("import")?;
        let mut names = Vec::new();
        loop {
            if !names.is_empty() {
                self.expect_operator(",")?;
            }
            let before = self.at;
            self.import_context();
            if self.at != before {
                break;
            }
            let mut name = self.target_name()?;
            if self.skip_name("as") {
                name = self.target_name()?;
            }
            names.push(name);
            let before = self.at;
            self.import_context();
            if self.at != before || !self.is_operator(",") {
                break;
            }
        }
        Ok(StatementKind::Other("import", template, names))
    }

    fn for_loop(&mut self) -> Outcome<For> {
        let target = self.target(&["in"], false)?;
        self.expect_name("in")?;
        let iterable = self.tuple(false, &["recursive"], false)?;
        let test = if self.skip_name("if") {
            Some(LoopTest {
                test: self.expression(true)?,
                target: target.clone(),
                frame: Vec::new(),
                slots: 0,
            })
        } else {
            None
        };
        let recursive = self.skip_name("recursive");
        let body = self.tag_body(&["endfor", "else"])?;
        let otherwise = if self.skip_name("else") {
            self.whole_body("endfor")?
        } else {
            self.at += 1;
            Body::new()
        };
        Ok(For {
            target,
            iterable,
            body,
            otherwise,
            test,
            recursive,
            frame: Vec::new(),
            else_frame: Vec::new(),
            loop_name: None,
            slots: 0,
        })
    }

    fn condition(&mut self) -> Outcome<If> {
        let mut branches = Vec::new();
        loop {
            let test = self.tuple(false, &[], false)?;
            let body = self.tag_body(&["elif", "else", "endif"])?;
            branches.push((test, body));
            if self.skip_name("elif") {
                continue;
            }
            let otherwise = if self.skip_name("else") {
                self.whole_body("endif")?
            } else {
                self.at += 1;
                Body::new()
            };
            return Ok(If {
                branches,
                otherwise,
            });
        }
    }

    fn set(&mut self) -> Outcome<StatementKind> {
        let target = self.target(&[], true)?;
        if self.skip_operator("=") {
            let value = self.tuple(true, &[], false)?;
            return Ok(StatementKind::Set(Set {
                target,
                value,
                top_level: false,
            }));
        }
        let filters = self.filters(false)?;
        let body = self.whole_body("endset")?;
        Ok(StatementKind::SetBlock(SetBlock {
            target,
            filters,
            body,
            frame: Vec::new(),
            top_level: false,
        }))
    }

    fn with(&mut self) -> Outcome<With> {
        let (mut targets, mut values) = (Vec::new(), Vec::new());
        while *self.peek() != TokenKind::BlockEnd {
            if !targets.is_empty() {
                self.expect_operator(",")?;
            }
            targets.push(self.target(&[], false)?);
            self.expect_operator("=")?;
            values.push(self.expression(true)?);
        }
        let body = self.whole_body("endwith")?;
        Ok(With {
            targets,
            values,
            body,
            frame: Vec::new(),
        })
    }

    fn call_block(&mut self) -> Outcome<StatementKind> {
        let (arguments, defaults) = if self.is_operator("(") {
            self.signature()?
        } else {
            (Vec::new(), Vec::new())
        };
        let Expr::Call(call) = self.expression(true)? else {
            return self.unexpected("a call");
        };
        let body = self.whole_body("endcall")?;
        Ok(StatementKind::CallBlock(CallBlock {
            call: Some(*call),
            body: macro_of(None, arguments, defaults, body),
        }))
    }

    fn block(&mut self) -> Outcome<StatementKind> {
        let name = self.name()?;
        let scoped = self.skip_name("scoped");
        if self.skip_name("required") {
            return self.fail("a required block needs a template that fills it");
        }
        let body = self.whole_body("endblock")?;
        self.skip_name(&name);
        if self.blocks.iter().any(|(known, _)| *known == name) {
            return self.fail(format!("the block `{name}` is there twice"));
        }
        let block = Block {
            body,
            frame: Vec::new(),
            slots: 0,
        };
        self.blocks.push((Rc::clone(&name), block));
        Ok(StatementKind::Block(name, scoped, Vec::new()))
    }

    /// Arguments of a macro, and the defaults of the last of them.
    fn signature(&mut self) -> Outcome<(Vec<Name>, Vec<Expr>)> {
        let (mut arguments, mut defaults) = (Vec::<Name>::new(), Vec::new());
        self.expect_operator("(")?;
        while !self.is_operator(")") {
            if !arguments.is_empty() {
                self.expect_operator(",")?;
            }
            let name = self.target_name()?;
            if self.skip_operator("=") {
                defaults.push(self.expression(true)?);
            } else if !defaults.is_empty() {
                return self.fail("an argument without a default follows one with a default");
            }
            if arguments.iter().any(|known| known.id == name.id) {
                return self.fail(format!("the argument `{}` is there twice", name.id));
            }
            arguments.push(name);
        }
        self.expect_operator(")")?;
        Ok((arguments, defaults))
    }

    /// A name that can be set.
    fn target_name(&mut self) -> Outcome<Name> {
        let name = self.name()?;
        if is_constant(&name) {
            return self.fail(format!("`{name}` cannot be set"));
        }
        Ok(Name::new(&name))
    }

    /// What an assignment sets: a name, names, or attributes of namespaces.
    fn target(&mut self, ends: &[&str], attributes: bool) -> Outcome<Target> {
        let mut targets = Vec::new();
        let mut is_tuple = false;
        loop {
            if !targets.is_empty() {
                self.expect_operator(",")?;
            }
            if self.is_tuple_end(ends) {
                break;
            }
            targets.push(self.one_target(attributes)?);
            if !self.is_operator(",") {
                break;
            }
            is_tuple = true;
        }
        match targets.pop() {
            Some(target) if !is_tuple => Ok(target),
            Some(target) => {
                targets.push(target);
                Ok(Target::Tuple(targets))
            }
            None => self.unexpected("a name"),
        }
    }

    fn one_target(&mut self, attributes: bool) -> Outcome<Target> {
        if self.skip_operator("(") {
            let target = self.deeper(|parser| parser.target(&[], false));
            // What stands in brackets is an ordinary expression, so namespaces are not in it.
            let target = target?;
            self.expect_operator(")")?;
            return Ok(target);
        }
        let name = self.target_name()?;
        if attributes && self.skip_operator(".") {
            return Ok(Target::Attribute(name, self.name()?));
        }
        Ok(Target::Name(name))
    }

    /// `| filter | filter`, or the first one without its sign.
    fn filters(&mut self, mut without_sign: bool) -> Outcome<Vec<Applied>> {
        let mut filters = Vec::new();
        while without_sign || self.skip_operator("|") {
            without_sign = false;
            let name = self.dotted_name()?;
            let arguments = self.optional_arguments()?;
            filters.push(Applied {
                to: None,
                name,
                arguments,
            });
        }
        Ok(filters)
    }
}

fn macro_of(
    name: Option<Rc<str>>,
    arguments: Vec<Name>,
    defaults: Vec<Expr>,
    body: Body,
) -> Rc<Macro> {
    Rc::new(Macro {
        name,
        arguments,
        defaults,
        body,
        frame: Vec::new(),
        slots: 0,
        caller: None,
        kwargs: None,
        varargs: None,
    })
}

/// Names that are values.
fn is_constant(name: &str) -> bool {
    matches!(name, "true" | "false" | "none" | "True" | "False" | "None")
}
