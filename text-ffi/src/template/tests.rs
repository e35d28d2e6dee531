//! What the recorded renderings of real templates (src/text/chat_template_test.cpp)
//! do not reach.

use super::*;
use crate::error::Kind;
use serde_json::json;

fn render(source: &str, context: serde_json::Value) -> Result<String> {
    ChatTemplate::new(source)?.render(context.to_string().as_bytes(), 0)
}

fn text(source: &str) -> String {
    render(source, json!({})).unwrap()
}

fn failure(source: &str) -> String {
    let error = render(source, json!({})).unwrap_err();
    error.message
}

#[test]
fn loops_over_a_text_know_their_end() {
    let source = "{% for c in s %}{{ c }}{% if not loop.last %},{% endif %}{% endfor %}";
    assert_eq!(render(source, json!({"s": "añb"})).unwrap(), "a,ñ,b");
}

#[test]
fn none_is_no_list_and_undefined_is_an_empty_one() {
    assert_eq!(
        text("{{ none is iterable }} {{ u is iterable }}"),
        "False True"
    );
    assert!(failure("{% for x in none %}{% endfor %}").contains("not iterable"));
    assert_eq!(
        text("{% for x in u %}{% endfor %}{{ u|items|list }}{{ u|first }}"),
        "[]"
    );
}

#[test]
fn values_are_joined_as_python_writes_them() {
    assert_eq!(text("{{ [1, none] ~ true ~ 1.0 }}"), "[1, None]True1.0");
    assert_eq!(text("{{ ['a', none]|join('-') }}"), "a-None");
    assert_eq!(text("{{ '-'.join(['a', 'b']) }}"), "a-b");
}

#[test]
fn generation_tags_are_scopes_without_text() {
    let source = "{% set x = 1 %}\n  {%- generation -%}\n a{% set x = 2 %}{{ x }}\n{% endgeneration %}\n{{ x }}{{ '{% generation %}' }}";
    assert_eq!(text(source), "a2\n1{% generation %}");
}

#[test]
fn conversions_with_defaults() {
    let source = "{{ '1_0'|int }} {{ 'x'|int(7) }} {{ ' 2.9'|int }} {{ 'ff'|int(base=16) }} \
                  {{ none|int }} {{ 'x'|float }} {{ '1e3'|float }} {{ missing|length }}";
    assert_eq!(text(source), "10 7 2 255 0 0.0 1000.0 0");
}

#[test]
fn indentation_and_replacement() {
    assert_eq!(text("{{ 'a\n\nb'|indent(2) }}"), "a\n\n  b");
    assert_eq!(text("{{ 'a\nb'|indent('--', first=true) }}"), "--a\n--b");
    assert_eq!(text("{{ 'aaa'|replace('a', 'b', 2) }}"), "bba");
    assert_eq!(text("{{ 'aaa'.replace('a', 'b', 1) }}"), "baa");
}

#[test]
fn maps_filters_and_attributes() {
    let source = "{{ l|map(attribute='a.b', default='-')|list }} {{ l|map('length')|list }}";
    let context = json!({"l": [{"a": {"b": 1}}, {"c": 2, "d": 3}]});
    assert_eq!(render(source, context).unwrap(), "[1, '-'] [1, 2]");
}

#[test]
fn texts_are_cut() {
    assert_eq!(text("{{ 'a b c d e f'|truncate(6, leeway=0) }}"), "a...");
    assert_eq!(
        text("{{ 'a b c d e f'|truncate(6, true, '', leeway=0) }}"),
        "a b c "
    );
    assert_eq!(text("{{ 'a b c'|truncate(3) }}"), "a b c");
    assert_eq!(text("{{ ' a b  c '.rsplit() }}"), "['a', 'b', 'c']");
    assert_eq!(text("{{ ' a b  c '.rsplit(none, 1) }}"), "[' a b', 'c']");
    assert_eq!(text("{{ 'a,b,c'.rsplit(',', 1) }}"), "['a,b', 'c']");
}

#[test]
fn sorting() {
    assert_eq!(text("{{ [1, 3, 2]|sort(true) }}"), "[3, 2, 1]");
    let source = "{{ [[2, 'b'], [1, 'a']]|sort(attribute=0)|map(attribute=1)|join }}";
    assert_eq!(text(source), "ab");
}

#[test]
fn errors_name_reason_and_line() {
    assert_eq!(
        failure("\n{{ raise_exception('not this way') }}"),
        "not this way (line 2)"
    );
    let error = ChatTemplate::new("a\n{% if %}").err().unwrap();
    assert_eq!(error.kind, Kind::BadModel);
    assert!(error.message.contains("line 2"), "{}", error.message);
    assert!(failure("{{ 'a'.frobnicate() }}").contains("frobnicate"));
}

#[test]
fn endless_templates_end() {
    let nested = "{% for a in range(100000) %}".repeat(4) + &"{% endfor %}".repeat(4);
    assert!(failure(&nested).contains("too long"));
    assert!(failure("{% for i in range(10**12) %}{% endfor %}").contains("range"));
    failure("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}");
}

#[test]
fn greedy_templates_are_stopped() {
    let double = "{% set ns = namespace(x='ab') %}{% for i in range(99) %}";
    let end = "{% endfor %}";
    for step in [
        "{% set ns.x = ns.x ~ ns.x %}",
        "{% set ns.x = ns.x + ns.x %}",
        "{% set ns.x = ns.x * 2 %}",
        "{% set ns.x = ns.x|replace('a', 'aa') %}",
        "{% set ns.x = ns.x.replace('a', 'aa') %}",
        "{% set ns.x = [ns.x, ns.x]|join %}",
        "{% set ns.x = ''.join([ns.x, ns.x]) %}",
        "{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset %}",
        "{% set ns.x = '%s%s'|format(ns.x, ns.x) %}",
        "{% set ns.x = '{}{}'.format(ns.x, ns.x) %}",
        "{% set ns.x = [ns.x, ns.x] %}",
        "{% set ns.x = {'a': ns.x, 'b': ns.x} %}",
        "{% set ns.x = dict(a=ns.x, b=ns.x) %}",
        "{% set ns.x = [ns.x] %}{% set ns.x = ns.x + ns.x %}",
        "{% set ns.x = ns.x|list %}{% set ns.x = ns.x * 2 %}",
        "{% set ns.x = ns.x|list %}{% set ns.x = ns.x|zip(ns.x) %}",
    ] {
        failure(&format!("{double}{step}{end}"));
    }
    let wide = format!(
        "{}{{{{ 'x' * 1000000 }}}}{end}",
        "{% for i in range(9999) %}"
    );
    assert!(failure(&wide).contains("256 MB"), "{}", failure(&wide));
    for source in [
        "{{ 'x' * 10**9 }}",
        "{{ '%1000000000d'|format(1) }}",
        "{{ '{:1000000000}'.format(1) }}",
        "{{ [1]|batch(10**12, 0) }}",
        "{{ [1]|slice(10**12) }}",
        "{{ 'a\nb'|indent(10**12) }}",
        "{{ [1]|tojson(indent=10**12) }}",
        "{% set x = ['x' * 10**7] * 10**5 %}{{ x|map('upper')|list|length }}",
        "{% set x = ['x' * 10**7] * 10**5 %}{{ x }}",
        "{% set x = ['x' * 10**7] * 10**5 %}{{ x|tojson }}",
    ] {
        failure(source);
    }
}

#[test]
fn deep_templates_are_refused() {
    let repeated = |part: &str, count: usize| part.repeat(count);
    failure(&format!("{{{{ a{} }}}}", repeated("~a", 10_000)));
    failure(&format!(
        "{{{{ {}1{} }}}}",
        repeated("[", 5000),
        repeated("]", 5000)
    ));
    failure(&format!("{{{{ {}1 }}}}", repeated("not ", 10_000)));
    failure(&format!(
        "{{% if a %}}{}{{% endif %}}",
        repeated("{% elif a %}", 2000)
    ));
    failure(&format!(
        "{}{}",
        repeated("{% if a %}", 5000),
        repeated("{% endif %}", 5000)
    ));
    failure(&"x".repeat(1 << 20));
    // As deep as is taken.
    text(&format!("{{{{ a{} }}}}", repeated("~a", 4000)));
    text(&format!(
        "{{% if a %}}{}{{% endif %}}",
        repeated("{% elif a %}", 999)
    ));
    text(&format!("{{{{ {}1 }}}}", repeated("not ", 8000)));
}

#[test]
fn no_value_contains_itself() {
    let ns = "{% set ns = namespace() %}";
    failure(&format!("{ns}{{% set ns.a = ns %}}"));
    failure(&format!("{ns}{{% set ns.a = [{{'b': ns}}] %}}"));
    let lazy = "{% for i in range(99999) %}{% set ns.a = ns.a[0:] %}{% endfor %}{{ ns.a|length }}";
    assert_eq!(
        text(&format!("{{% set ns = namespace(a=[1, 2]) %}}{lazy}")),
        "2"
    );
}

#[test]
fn what_panics_is_an_error() {
    assert!(failure("{% for x in [1] %}{{ loop.cycle() }}{% endfor %}").contains("failed"));
}

#[test]
fn contexts_are_objects() {
    let template = ChatTemplate::new("{{ a }}").unwrap();
    assert_eq!(template.render(br#"{"a": 1}"#, 0).unwrap(), "1");
    for bad in ["[1]", "{", "", "\"a\""] {
        let error = template.render(bad.as_bytes(), 0).unwrap_err();
        assert_eq!(error.kind, Kind::InvalidArgument);
    }
    let deep = format!("{{\"a\": {}{}}}", "[".repeat(1000), "]".repeat(1000));
    template.render(deep.as_bytes(), 0).unwrap_err();
}
