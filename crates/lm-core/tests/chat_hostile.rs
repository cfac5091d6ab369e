//! Templates that come with a model are not trusted: each of these ends in a text or an error, never in an abort.

use lm_core::chat::{ChatTemplate, Conversation, RenderLimits, RenderOptions, TemplateError};

const CAP: usize = 128 << 10;

fn conversation() -> Conversation {
    Conversation::new().system("Be kind.").user("Hello!")
}

fn render(source: &str) -> Result<String, TemplateError> {
    ChatTemplate::new(source, "hostile.jinja")?.render(&conversation(), &RenderOptions::default())
}

/// `head`, as many `link`s as fit below the cap, `tail`.
fn chain(head: &str, link: &str, tail: &str) -> String {
    let links = (CAP - head.len() - tail.len()) / link.len();
    let source = format!("{head}{}{tail}", link.repeat(links));
    assert!(source.len() <= CAP && source.len() + link.len() > CAP);
    source
}

/// The parser recurses along these chains; without the big stack the process aborts. Whether the engine refuses or
/// renders them is its business.
#[test]
fn the_longest_chains_do_not_exhaust_the_stack() {
    for (name, source) in [
        ("attributes", chain("{{ x", ".a", " }}")),
        ("filters", chain("{{ x", "|d", " }}")),
        ("elif", chain("{% if a %}", "{% elif a %}", "{% endif %}")),
        ("parentheses", chain("{{ ", "(", "1 }}")),
        ("lists", chain("{{ ", "[", " }}")),
        ("subscripts", chain("{{ x", "[0]", " }}")),
        ("calls", chain("{{ x", "()", " }}")),
        ("blocks", chain("", "{% if true %}", "")),
        ("loops", chain("", "{% for a in messages %}", "")),
        ("conditions", chain("{{ 1", " if 1 else 1", " }}")),
        ("conjunctions", chain("{{ 1", " and 1", " }}")),
        ("tests", chain("{{ 1", " is odd", " }}")),
    ] {
        let result = render(&source);
        assert!(
            !matches!(result, Err(TemplateError::Engine { .. })),
            "{name}: {result:?}"
        );
    }
}

/// Chains of operators are refused before the engine sees them: it needs minutes for the longest. What is accepted is
/// cheap, as often as it fits into a template.
#[test]
fn long_chains_of_operators_are_refused() {
    for (name, operator) in [
        ("not", "not "),
        ("minus", "-"),
        ("additions", "1+"),
        ("joins", "1~"),
        ("powers", "1**"),
        ("comparisons", "1<"),
    ] {
        let error = render(&chain("\n{{ ", operator, "1 }}")).unwrap_err();
        assert!(
            matches!(
                error,
                TemplateError::TooManyOperators {
                    line: 2,
                    limit: 512,
                    ..
                }
            ),
            "{name}: {error}"
        );
        let characters = operator.chars().filter(|c| "~+-*<".contains(*c)).count();
        let longest = format!("{{{{ {}1 }}}}", operator.repeat(512 / characters.max(1)));
        assert!(
            render(&longest.repeat(CAP / longest.len())).is_ok(),
            "{name}"
        );
    }
}

/// Values nested by the template are printed, compared, serialised and dropped recursively.
#[test]
fn deeply_nested_values_do_not_exhaust_the_stack() {
    let nest = |body: &str| {
        format!(
            "{{% set ns = namespace(x=[]) %}}{{% for a in range(9000) %}}{{% for b in range(9000) %}}{{% set ns.x = {body} %}}{{% endfor %}}{{% endfor %}}"
        )
    };
    for (name, source) in [
        ("dropped when out of fuel", nest("[ns.x]")),
        ("maps", nest("{'a': ns.x}")),
        ("text", "{% set ns = namespace(x='') %}{% for a in range(9999) %}{% set ns.x = ns.x ~ ns.x ~ 'aaaaaaaaaaaaaaaa' %}{% endfor %}".to_owned()),
    ] {
        let error = render(&source).unwrap_err();
        assert!(matches!(error, TemplateError::OutOfFuel { .. }), "{name}: {error}");
    }
    let depth = "{% set ns = namespace(x=[], y=[]) %}{% for a in range(9000) %}{% for b in range(10) %}{% set ns.x = [ns.x] %}{% set ns.y = [ns.y] %}{% endfor %}{% endfor %}";
    for (name, end, expected) in [
        ("dropped", "done", Some("done")),
        ("printed", "{{ ns.x }}", None),
        (
            "made a string",
            "{{ (ns.x | string) | length }}",
            Some("180002"),
        ),
        ("compared", "{{ ns.x == ns.y }}", Some("True")),
        ("sorted", "{{ [ns.x, ns.y] | sort | length }}", Some("2")),
    ] {
        let text = render(&format!("{depth}{end}")).unwrap();
        match expected {
            Some(expected) => assert_eq!(text, expected, "{name}"),
            None => assert_eq!(text.len(), 180_002, "{name}"),
        }
    }
    let error = render(&format!("{depth}{{{{ ns.x | tojson }}}}")).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("tojson: nested deeper than 128"),
        "{error}"
    );
}

/// A list that holds itself twice, forty times over, has 2^40 leaves in a few hundred bytes.
#[test]
fn a_small_value_that_prints_exponentially_is_stopped() {
    let double = "{% set ns = namespace(x=['leaf']) %}{% for a in range(40) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}";
    for end in [
        "{{ ns.x | tojson }}",
        "{{ ns.x | tojson(indent=2) }}",
        "{{ ns.x }}",
    ] {
        let error = render(&format!("{double}{end}")).unwrap_err();
        assert!(
            matches!(
                error,
                TemplateError::OutOfFuel { .. } | TemplateError::OutputTooLong { .. }
            ),
            "{end}: {error}"
        );
    }
}

#[test]
fn endless_work_runs_out_of_fuel() {
    for source in [
        "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}{% endfor %}{% endfor %}{% endfor %}",
        "{% macro m() %}{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}{% endmacro %}{{ m() }}",
        "{{ 'x' * 4000000000 }}",
    ] {
        let error = render(source).unwrap_err();
        assert!(
            matches!(&error, TemplateError::OutOfFuel { origin, line: Some(1), fuel: 2_000_000 } if origin == "hostile.jinja"),
            "{error:?}"
        );
    }
    // A template that calls itself is stopped by the engine's limit of recursion.
    assert!(render("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}").is_err());
}

#[test]
fn a_flood_of_output_is_stopped() {
    let limits = RenderLimits {
        output_bytes: 1000,
        ..RenderLimits::default()
    };
    let flood = "{% for a in range(9999) %}0123456789{% endfor %}";
    let template = ChatTemplate::new(flood, "flood.jinja")
        .unwrap()
        .with_limits(limits);
    let error = template
        .render(&conversation(), &RenderOptions::default())
        .unwrap_err();
    assert!(
        matches!(&error, TemplateError::OutputTooLong { limit: 1000, origin } if origin == "flood.jinja")
    );
    let exact = ChatTemplate::new("{{ 'x' * 1000 }}", "exact.jinja")
        .unwrap()
        .with_limits(limits);
    assert_eq!(
        exact
            .render(&conversation(), &RenderOptions::default())
            .unwrap()
            .len(),
        1000
    );
}

#[test]
fn a_template_over_the_cap_is_refused() {
    let source = "x".repeat(CAP + 1);
    let error = render(&source).unwrap_err();
    assert!(
        matches!(error, TemplateError::TooLarge { found, limit, .. } if found == CAP + 1 && limit == CAP)
    );
    assert_eq!(render(&source[1..]).unwrap().len(), CAP);
}

#[test]
fn errors_name_the_file_the_line_and_the_reason() {
    for (source, expected) in [
        (
            "a\nb {{ nothing() }}",
            "hostile.jinja, line 2: unknown function: nothing is unknown",
        ),
        (
            "\n\n{{ messages | nothing }}",
            "hostile.jinja, line 3: unknown filter: filter nothing is unknown",
        ),
        (
            "{{ messages[0].content.center(9) }}",
            "hostile.jinja, line 1: unknown method: string has no method named center",
        ),
        (
            "{{ nothing.at_all }}",
            "hostile.jinja, line 1: undefined value",
        ),
        (
            "{% include 'file' %}",
            "hostile.jinja, line 1: template not found: tried to include non-existing template 'file'",
        ),
        (
            "{{ strftime_now('%Q') }}",
            "hostile.jinja, line 1: invalid operation: strftime_now: unknown directive `%Q`",
        ),
        (
            "x\n{{ raise_exception('System role is not supported') }}",
            "hostile.jinja, line 2: the template refuses this conversation: System role is not supported",
        ),
    ] {
        assert_eq!(render(source).unwrap_err().to_string(), expected);
    }
    let error = render("x\n\n{% for %}").unwrap_err();
    assert!(
        matches!(&error, TemplateError::Syntax { line: Some(3), .. }),
        "{error:?}"
    );
}

/// The attributes by which sandboxed Jinja2 was escaped do not exist here.
#[test]
fn python_internals_are_out_of_reach() {
    for source in [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.__init__.__globals__ }}",
        "{{ self.__dict__ }}",
        "{{ raise_exception.__globals__ }}",
    ] {
        let text = render(source).unwrap_or_default();
        assert_eq!(text, "", "{source}");
    }
}
