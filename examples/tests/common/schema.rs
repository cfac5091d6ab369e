//! As much of JSON Schema as `docs/schemas/` uses. A keyword this does not know fails the test, so that no schema claims what
//! nothing checks.

use std::path::Path;

use serde_json::{Map, Value};

/// Panics with the place where `value` breaks the schema `docs/schemas/<name>.json`.
pub(crate) fn assert_valid(name: &str, value: &Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs/schemas")
        .join(format!("{name}.json"));
    let root = super::json(path);
    if let Err(problem) = check(&root, &root, value, "$") {
        panic!("{name}: {problem}");
    }
}

fn check(root: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    let schema: &Map<String, Value> = schema
        .as_object()
        .ok_or(format!("{at}: the schema is no object"))?;
    let fail = |keyword: &str| {
        Err(format!(
            "{at}: {keyword} {} against {value}",
            schema[keyword]
        ))
    };
    let length = value.as_array().map(Vec::len);
    let properties = value.as_object();
    for (keyword, rule) in schema {
        let number = |found: Option<usize>, fits: fn(u64, u64) -> bool| {
            found.is_none_or(|found| fits(found as u64, rule.as_u64().unwrap_or_default()))
        };
        let fits = match keyword.as_str() {
            "$schema" | "$id" | "$defs" | "title" | "description" => true,
            "$ref" => {
                let pointer = rule.as_str().unwrap_or_default().trim_start_matches('#');
                let target = root.pointer(pointer).ok_or(format!("no {rule}"))?;
                check(root, target, value, at)?;
                true
            }
            "type" => match rule {
                Value::Array(types) => types.iter().any(|name| is(name, value)),
                name => is(name, value),
            },
            "const" => rule == value,
            "enum" => rule.as_array().is_some_and(|all| all.contains(value)),
            "minimum" => value
                .as_f64()
                .is_none_or(|value| value >= rule.as_f64().unwrap_or(f64::NAN)),
            "maximum" => value
                .as_f64()
                .is_none_or(|value| value <= rule.as_f64().unwrap_or(f64::NAN)),
            "minLength" => number(value.as_str().map(|text| text.chars().count()), |a, b| {
                a >= b
            }),
            "maxLength" => number(value.as_str().map(|text| text.chars().count()), |a, b| {
                a <= b
            }),
            "minItems" => number(length, |a, b| a >= b),
            "maxItems" => number(length, |a, b| a <= b),
            "minProperties" => number(properties.map(Map::len), |a, b| a >= b),
            "maxProperties" => number(properties.map(Map::len), |a, b| a <= b),
            "required" => rule.as_array().into_iter().flatten().all(|name| {
                properties.is_none_or(|found| found.contains_key(name.as_str().unwrap_or_default()))
            }),
            "properties" => {
                for (name, value) in properties.into_iter().flatten() {
                    if let Some(rule) = rule.get(name) {
                        check(root, rule, value, &format!("{at}.{name}"))?;
                    }
                }
                true
            }
            "additionalProperties" if rule == &Value::Bool(false) => {
                properties.is_none_or(|found| {
                    found
                        .keys()
                        .all(|name| schema["properties"].get(name).is_some())
                })
            }
            "items" | "prefixItems" => {
                for (index, value) in value.as_array().into_iter().flatten().enumerate() {
                    let rule = if keyword == "items" {
                        Some(rule)
                    } else {
                        rule.get(index)
                    };
                    if let Some(rule) = rule {
                        check(root, rule, value, &format!("{at}[{index}]"))?;
                    }
                }
                true
            }
            unknown => return Err(format!("{at}: unknown keyword {unknown}")),
        };
        if !fits {
            return fail(keyword);
        }
    }
    Ok(())
}

fn is(name: &Value, value: &Value) -> bool {
    match name.as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("number") => value.is_number(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("null") => value.is_null(),
        _ => false,
    }
}
