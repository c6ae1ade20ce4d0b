//! The page around the parts of a report.

use std::fmt::Write;

use super::markup::escape;

/// How a page begins.
pub const BEGIN: &str = "<!doctype html>";

/// What the page looks like, and what sorts its tables.
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// A part of a report.
pub struct Section {
    title: String,
    html: String,
    charts: String,
    after: String,
}

impl Section {
    /// One without content.
    pub fn new(title: &str) -> Self {
        Self {
            title: title.to_owned(),
            html: String::new(),
            charts: String::new(),
            after: String::new(),
        }
    }

    /// A sentence.
    pub fn note(&mut self, text: &str) {
        let _ = write!(self.html, "<p>{}</p>", escape(text));
    }

    /// Numbers with their names.
    pub fn facts(&mut self, facts: &[(&str, String)]) {
        self.html += "<dl class=facts>";
        for (name, value) in facts {
            let _ = write!(
                self.html,
                "<div><dt>{}<dd>{}</div>",
                escape(name),
                escape(value)
            );
        }
        self.html += "</dl>";
    }

    /// A chart, where there is something to show.
    pub fn chart(&mut self, title: &str, note: &str, svg: Option<String>) {
        self.figure("", title, note, svg);
    }

    /// A chart as wide as the page.
    pub fn wide_chart(&mut self, title: &str, note: &str, svg: Option<String>) {
        self.figure(" class=broad", title, note, svg);
    }

    fn figure(&mut self, class: &str, title: &str, note: &str, svg: Option<String>) {
        if let Some(svg) = svg {
            let (title, note) = (escape(title), escape(note));
            let _ = write!(
                self.charts,
                "\n<figure{class}><h3>{title}</h3><figcaption>{note}</figcaption><div class=wide>{svg}</div></figure>"
            );
        }
    }

    /// A table below the charts.
    pub fn table(&mut self, title: &str, table: &str) {
        let _ = write!(self.after, "<h3>{}</h3>{table}", escape(title));
    }

    /// A table that opens when it is wanted.
    pub fn hidden_table(&mut self, title: &str, table: &str) {
        let _ = write!(
            self.after,
            "<details><summary>{}</summary>{table}</details>",
            escape(title)
        );
    }

    fn html(&self) -> String {
        let title = escape(&self.title);
        let charts = if self.charts.is_empty() {
            String::new()
        } else {
            format!("<div class=charts>{}</div>", self.charts)
        };
        format!(
            "\n<section><h2>{title}</h2>{}{charts}{}</section>",
            self.html, self.after
        )
    }
}

/// The page. It loads nothing and may not, whatever is in it.
pub fn page(title: &str, subtitle: &str, sections: &[Section], foot: &[String]) -> String {
    let (title, subtitle) = (escape(title), escape(subtitle));
    let sections: String = sections.iter().map(Section::html).collect();
    let foot: Vec<String> = foot.iter().map(|line| escape(line)).collect();
    let foot = foot.join("<br>");
    format!(
        "{BEGIN}\n<html lang=en><head><meta charset=utf-8>\
         <meta http-equiv=Content-Security-Policy content=\"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\
         <meta name=viewport content=\"width=device-width, initial-scale=1\"><meta name=color-scheme content=\"light dark\">\
         <title>{title}</title><style>{STYLE}</style></head>\n<body><header><h1>{title}</h1><p>{subtitle}</p></header>\
         <main>{sections}</main>\n<footer>{foot}</footer><script>{SCRIPT}</script></body></html>\n"
    )
}
