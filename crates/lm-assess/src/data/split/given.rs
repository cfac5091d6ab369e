//! Splits that somebody else made.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::{Part, Split};
use crate::data::assemble::kind;
use crate::data::error::{DataError, cut, listed};
use crate::data::read::parse_json;
use crate::data::set::DataSet;

impl Split {
    /// Parts by their items' ids.
    ///
    /// # Errors
    /// [`DataError::Split`] for an id that is not in the data set, one that comes twice, or parts of one name.
    pub fn by_ids<N: Into<String>, I: AsRef<str>>(
        data: &DataSet,
        parts: impl IntoIterator<Item = (N, Vec<I>)>,
    ) -> Result<Self, DataError> {
        let find = |name: &str, id: &I| {
            let id = id.as_ref();
            data.position(id).ok_or_else(|| {
                DataError::Split(format!(
                    "part `{}`: no item has the id `{}`",
                    cut(name),
                    cut(id)
                ))
            })
        };
        given(data, parts, find)
    }

    /// Parts by their items' indices in the data set, from 0.
    ///
    /// # Errors
    /// [`DataError::Split`] for an index that is out of range, one that comes twice, or parts of one name.
    pub fn by_indices<N: Into<String>>(
        data: &DataSet,
        parts: impl IntoIterator<Item = (N, Vec<usize>)>,
    ) -> Result<Self, DataError> {
        let find = |name: &str, index: &usize| {
            if *index < data.len() {
                Ok(*index)
            } else {
                Err(DataError::Split(format!(
                    "part `{}`: expected an index below {}, found {index}",
                    cut(name),
                    data.len()
                )))
            }
        };
        given(data, parts, find)
    }

    /// Parts from a JSON file: `{"train": […], "test": […]}` with ids as texts, or indices from 0 as numbers.
    ///
    /// # Errors
    /// [`DataError::Io`] and [`DataError::File`] for a file that is not that; as [`by_ids`](Self::by_ids) and
    /// [`by_indices`](Self::by_indices) for what it says, with the file named.
    pub fn read(path: impl AsRef<Path>, data: &DataSet) -> Result<Self, DataError> {
        let path = path.as_ref();
        let refuse = |problem: String| DataError::File {
            path: path.to_owned(),
            problem,
        };
        let text = fs::read_to_string(path).map_err(|source| DataError::Io {
            path: path.to_owned(),
            source,
        })?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let parts = match parse_json(text) {
            Ok(Value::Object(parts)) if !parts.is_empty() => parts,
            Ok(other) => {
                let expected = "an object with a list for each part";
                return Err(refuse(format!(
                    "expected {expected}, found {}",
                    kind(&other)
                )));
            }
            Err(error) => return Err(refuse(format!("not valid JSON: {error}"))),
        };
        let mut lists = Vec::new();
        for (name, list) in parts {
            let Value::Array(list) = list else {
                let found = kind(&list);
                return Err(refuse(format!(
                    "part `{}`: expected a list, found {found}",
                    cut(&name)
                )));
            };
            lists.push((name, list));
        }
        let find = |name: &str, value: &Value| {
            let at = |problem: String| DataError::Split(format!("part `{}`: {problem}", cut(name)));
            match value {
                Value::String(id) => data
                    .position(id)
                    .ok_or_else(|| at(format!("no item has the id `{}`", cut(id)))),
                Value::Number(number) => number
                    .as_u64()
                    .and_then(|index| usize::try_from(index).ok())
                    .filter(|index| *index < data.len())
                    .ok_or_else(|| {
                        at(format!(
                            "expected an index below {}, found {number}",
                            data.len()
                        ))
                    }),
                other => Err(at(format!(
                    "expected an id or an index, found {}",
                    kind(other)
                ))),
            }
        };
        given(data, lists, find).map_err(|error| match error {
            DataError::Split(problem) => refuse(problem),
            other => other,
        })
    }

    /// The text that [`read`](Self::read) reads: each part's name and ids.
    #[must_use]
    pub fn to_json(&self) -> String {
        let parts: serde_json::Map<String, Value> = self
            .parts
            .iter()
            .map(|part| (part.name.clone(), part.ids.clone().into()))
            .collect();
        Value::Object(parts).to_string()
    }
}

fn given<N: Into<String>, T>(
    data: &DataSet,
    parts: impl IntoIterator<Item = (N, Vec<T>)>,
    find: impl Fn(&str, &T) -> Result<usize, DataError>,
) -> Result<Split, DataError> {
    let mut owner: Vec<Option<usize>> = vec![None; data.len()];
    let mut names: Vec<String> = Vec::new();
    for (name, list) in parts {
        let name = name.into();
        if names.contains(&name) {
            return Err(DataError::Split(format!(
                "two parts are named `{}`",
                cut(&name)
            )));
        }
        if list.is_empty() {
            return Err(DataError::Split(format!("part `{}` is empty", cut(&name))));
        }
        for value in &list {
            let index = find(&name, value)?;
            let Some(slot) = owner.get_mut(index) else {
                continue;
            };
            if let Some(before) = slot {
                let id = data.items().get(index).map_or("", |item| item.id.as_str());
                let before = names.get(*before).unwrap_or(&name);
                let place = listed(&[before.clone(), name.clone()]);
                return Err(DataError::Split(if *before == name {
                    format!("item `{}` is twice in part `{}`", cut(id), cut(&name))
                } else {
                    format!("item `{}` is in two parts: {place}", cut(id))
                }));
            }
            *slot = Some(names.len());
        }
        names.push(name);
    }
    let of = |wanted: Option<usize>| -> Vec<usize> {
        owner
            .iter()
            .enumerate()
            .filter_map(|(index, part)| (*part == wanted).then_some(index))
            .collect()
    };
    let parts = names.iter().enumerate().map(|(at, name)| {
        let indices = of(Some(at));
        Part {
            name: name.clone(),
            ids: indices
                .iter()
                .filter_map(|index| data.items().get(*index))
                .map(|item| item.id.clone())
                .collect(),
            indices,
            strata: Default::default(),
        }
    });
    Ok(Split {
        parts: parts.collect(),
        unused: of(None),
    })
}
