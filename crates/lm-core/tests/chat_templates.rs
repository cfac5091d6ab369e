//! Rendered conversations, byte by byte, against Jinja2 as transformers uses it (`golden/chat-templates`).

mod chat_cases;

use std::collections::HashMap;

use lm_core::chat::{ChatTemplate, Conversation, Message, RenderOptions, Role, TemplateError};
use lm_core::weights::gguf::Gguf;
use lm_testkit::{demo_model_or_skip, golden_folder};
use serde::Deserialize;

use chat_cases::{Options, tokens};

#[derive(Deserialize)]
struct Expected {
    now: f64,
    conversations: HashMap<String, Conversation>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    template: String,
    conversation: String,
    options: Options,
    text: Option<String>,
    error: Option<String>,
}

const DEMO: &str = "demo model";

fn expected() -> Expected {
    let path = golden_folder().join("chat-templates/expected.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn template(file: &str) -> ChatTemplate {
    let path = golden_folder().join("chat-templates/templates").join(file);
    let source = std::fs::read_to_string(path).unwrap();
    ChatTemplate::new(source, file)
        .unwrap()
        .with_special_tokens(tokens())
}

/// Renders the cases of one template and returns how many there were.
fn check(template: &ChatTemplate, name: &str, expected: &Expected) -> usize {
    let cases: Vec<&Case> = expected
        .cases
        .iter()
        .filter(|case| case.template == name)
        .collect();
    for case in &cases {
        let conversation = &expected.conversations[&case.conversation];
        let found = template.render(conversation, &case.options.at(expected.now));
        match (found, &case.text, &case.error) {
            (Ok(found), Some(text), _) => assert_eq!(&found, text, "{name}, {}", case.conversation),
            (Err(TemplateError::Raised { message, .. }), _, Some(error)) => {
                assert_eq!(&message, error, "{name}, {}", case.conversation);
            }
            (found, ..) => panic!("{name}, {}: {found:?}", case.conversation),
        }
    }
    cases.len()
}

#[test]
fn every_template_renders_as_transformers_does() {
    let expected = expected();
    for name in [
        "chatml.jinja",
        "features.jinja",
        "llama2-style.jinja",
        "llama3-style.jinja",
        "reasoning-style.jinja",
        "zephyr-style.jinja",
    ] {
        assert!(check(&template(name), name, &expected) >= 50, "{name}");
    }
}

#[test]
fn the_demo_models_template_renders_as_transformers_does() {
    let model = demo_model_or_skip!();
    let file = std::fs::read(model).unwrap();
    let gguf = Gguf::parse(&file).unwrap();
    let source = gguf.metadata().str("tokenizer.chat_template").unwrap();
    let template = ChatTemplate::new(source, DEMO)
        .unwrap()
        .with_special_tokens(tokens());
    assert!(check(&template, DEMO, &expected()) >= 50);
}

/// Expected texts by hand: transformers cuts the header of an empty answer's turn as well, where the template trims.
#[test]
fn an_empty_answer_is_continued_right_after_the_header() {
    let conversation = Conversation::new().user("Hi").assistant("");
    let options = RenderOptions::for_reply(&conversation);
    assert!(options.continue_final_message && !options.add_generation_prompt);
    let text = template("llama3-style.jinja")
        .render(&conversation, &options.with_extra("date_string", "today"))
        .unwrap();
    assert!(
        text.ends_with("<|start_header_id|>assistant<|end_header_id|>\n\n"),
        "{text:?}"
    );
    let text = template("chatml.jinja")
        .render(&conversation, &RenderOptions::for_reply(&conversation))
        .unwrap();
    assert!(text.ends_with("<|im_start|>assistant\n"), "{text:?}");
}

#[test]
fn an_answer_that_occurs_elsewhere_is_cut_at_its_own_place() {
    let template = ChatTemplate::new(
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<end>The answer was: yes",
        "test",
    )
    .unwrap();
    let conversation = Conversation::new().user("yes?").assistant("yes");
    let text = template
        .render(&conversation, &RenderOptions::for_reply(&conversation))
        .unwrap();
    assert_eq!(text, "<user>yes?<assistant>yes");

    let template = ChatTemplate::new(
        "{{ messages[1].content }}|{{ messages[1].content }}!",
        "test",
    );
    let text = template
        .unwrap()
        .render(&conversation, &RenderOptions::for_reply(&conversation));
    assert_eq!(text.unwrap(), "yes|yes");
}

#[test]
fn what_cannot_be_continued_is_an_error() {
    let template = template("chatml.jinja");
    let user_last = Conversation::new().user("Hi");
    let assistant_last = Conversation::new().user("Hi").assistant("Hello");
    let mut options = RenderOptions::default();
    options.continue_final_message = true;

    let error = template.render(&user_last, &options).unwrap_err();
    assert!(matches!(&error, TemplateError::NotAssistant { found } if found == "user"));
    let error = template.render(&Conversation::new(), &options).unwrap_err();
    assert!(matches!(error, TemplateError::EmptyConversation));
    let silent = ChatTemplate::new("{{ messages[0].content }}", "silent.jinja").unwrap();
    let error = silent.render(&assistant_last, &options).unwrap_err();
    assert!(
        matches!(&error, TemplateError::FinalMessageLost { origin } if origin == "silent.jinja")
    );
    options.add_generation_prompt = true;
    let error = template.render(&assistant_last, &options).unwrap_err();
    assert!(matches!(error, TemplateError::ConflictingOptions));
}

#[test]
fn conversations_have_the_json_form_of_hugging_face() {
    let text = r#"[{"role":"system","content":"a"},{"role":"assistant","content":"b","name":"c"},{"role":"developer","content":""}]"#;
    let conversation: Conversation = serde_json::from_str(text).unwrap();
    assert_eq!(conversation.messages()[0], Message::new(Role::System, "a"));
    assert_eq!(conversation.messages()[1].extra["name"], "c");
    assert_eq!(
        conversation.messages()[2].role,
        Role::Other("developer".to_owned())
    );
    assert_eq!(serde_json::to_string(&conversation).unwrap(), text);
    assert!(serde_json::from_str::<Conversation>(r#"[{"role":"user"}]"#).is_err());
}

#[test]
fn a_folder_keeps_its_template_in_one_of_three_files() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let conversation = Conversation::new().user("x");
    let render = || {
        ChatTemplate::from_folder(folder.path())
            .map(|found| found.map(|t| t.render(&conversation, &RenderOptions::default()).unwrap()))
    };
    assert_eq!(render().unwrap(), None);

    write(
        "tokenizer_config.json",
        r#"{"bos_token": {"content": "<b>", "special": true}, "eos_token": null, "chat_template": [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "{{ bos_token }}D{{ eos_token }}"}]}"#,
    );
    assert_eq!(render().unwrap().as_deref(), Some("<b>D"));
    write(
        "chat_template.json",
        r#"{"chat_template": "{{ bos_token }}J"}"#,
    );
    assert_eq!(render().unwrap().as_deref(), Some("<b>J"));
    write("chat_template.jinja", "{{ bos_token }}F");
    assert_eq!(render().unwrap().as_deref(), Some("<b>F"));

    write("chat_template.jinja", "line 1\n{% if %}");
    let error = render().unwrap_err();
    assert!(
        matches!(&error, TemplateError::Syntax { line: Some(2), origin, .. } if origin.ends_with("chat_template.jinja")),
        "{error}"
    );
    std::fs::remove_file(folder.path().join("chat_template.jinja")).unwrap();
    std::fs::remove_file(folder.path().join("chat_template.json")).unwrap();
    write(
        "tokenizer_config.json",
        r#"{"chat_template": [{"name": "tool_use", "template": "T"}]}"#,
    );
    let error = render().unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("no template named `default`; it has tool_use"),
        "{error}"
    );
}
