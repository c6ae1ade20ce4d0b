//! Statements: tags and the text between them.

use std::rc::Rc;

use super::cursor::Parser;
use crate::ast::{
    Block, Body, CallBlock, Expr, FilterBlock, For, If, Literal, LoopTest, Macro, Name, Set,
    SetBlock, Statement, StatementKind, With,
};
use crate::error::Outcome;
use crate::token::TokenKind;

impl Parser {
    /// Statements up to a tag of these names, whose name is next then; without names, up to the end.
    pub(super) fn body(&mut self, ends: &[&str]) -> Outcome<Body> {
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
                Expr::Literal(Literal::Bool(false)) => {
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
