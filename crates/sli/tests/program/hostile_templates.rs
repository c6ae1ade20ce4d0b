//! Chat templates that want all memory, all time or all of the stack: one error, or the text.

use serde_json::json;

use crate::place::Place;

const TWICE: &str = "{% set ns = namespace(l=[1]) %}{% for i in range(40) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}";
const DEEP: &str = "{% set ns = namespace(l=[1]) %}{% for i in range(100000) %}{% set ns.l = [ns.l] %}{% endfor %}";

/// Plans a conversation with a template and returns how that ended.
fn outcome(place: &Place, template: &str) -> crate::place::Outcome {
    place.write("model/chat_template.jinja", template);
    place.sli(&["plan", "model", "--input", "in.jsonl", "--memory", "200MiB"])
}

fn place() -> Place {
    let place = Place::with_llama();
    let record = json!({"messages": [{"role": "user", "content": "the cat"}]});
    place.write("in.jsonl", format!("{record}\n"));
    place
}

#[test]
fn templates_that_make_too_much() {
    let place = place();
    for template in [
        "{{ '%1000000000d'|format(1) }}",
        "{{ '%.1000000000f'|format(1.0) }}",
        "{{ '{:1000000000d}'.format(1) }}",
        "{{ 'x' * 900000000 }}",
        "{{ range(100000)|join('y' * 1000000) }}",
        "{{ ('y' * 1000000).join(['a'] * 1000000) }}",
        "{{ ('x' * 1000000)|replace('x', 'y' * 1000000) }}",
        "{{ ('x' * 1000000).replace('x', 'y' * 1000000) }}",
        "{{ ('x' * 1000000).replace('', 'y' * 1000000) }}",
        "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        "{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}",
        "{% for i in range(100000) %}{{ 'x' * 100000 }}{% endfor %}",
        "{{ strftime_now('%Y' * 20000000) }}",
        &format!("{TWICE}{{{{ ns.l|tojson }}}}"),
    ] {
        let outcome =
            outcome(&place, template).failure(3, &["in.jsonl, line 1", "hint: give `text`"]);
        // Which limit is met first depends on how long the thread has been watched.
        let limits = [
            "it takes too many steps",
            "takes more than the 200.0 MiB of memory",
        ];
        assert!(
            limits.iter().any(|limit| outcome.stderr.contains(limit)),
            "{outcome:?}"
        );
    }
    let separator = "{{ [1, 2]|tojson(separators=('x' * 100, 'y')) }}";
    outcome(&place, separator).failure(3, &["an indentation or separator is too long"]);
}

#[test]
fn templates_that_nest_deeply() {
    let place = place();
    for use_of in [
        "x",
        "{{ ns.l }}",
        "{{ ns.l|tojson }}",
        "{{ ns.l == [ns.l] }}",
    ] {
        let outcome = outcome(&place, &format!("{DEEP}{use_of}"));
        assert!([0, 3].contains(&outcome.code), "{outcome:?}");
    }
    for tag in [
        "{{ ".to_owned() + &"-".repeat(100_000) + "1 }}",
        "{{ a".to_owned() + &".a".repeat(100_000) + " }}",
    ] {
        outcome(&place, &tag).failure(
            3,
            &["a tag of more than 20000 characters", "chat_template.jinja"],
        );
    }
    for open in ["(", "[", "{'a': "] {
        outcome(&place, &format!("{{{{ {}", open.repeat(3_000))).failure(3, &["does not compile"]);
    }
    outcome(&place, &"x".repeat(2 << 20)).failure(3, &["longer than 1 MiB"]);
    // A long text in a string of a tag is none of these.
    let outcome = outcome(&place, &format!("{{{{ '{}' }}}}", "the cat ".repeat(9_000)));
    outcome.failure(3, &["record `0` has 18000 tokens"]);
}

#[test]
fn a_template_that_takes_the_memory_is_stopped() {
    let place = place();
    // A long conversation pays for many steps, and each for 64 bytes.
    let content = "the cat ".repeat(12_500);
    let conversation = json!({"messages": [{"role": "user", "content": content}]});
    place.write("in.jsonl", conversation.to_string());
    let twice = "{% for i in range(24) %}{% set ns.s = ns.s + ns.s %}{% endfor %}";
    let template =
        format!("{{% set ns = namespace(s='the cat ') %}}{twice}{{{{ ns.s | length }}}}");
    place.write("model/chat_template.jinja", template);
    let plan = ["plan", "model", "--input", "in.jsonl", "--memory", "60MiB"];
    place.sli(&plan).failure(
        3,
        &["the chat template takes more than", "of memory", "hint: "],
    );
}
