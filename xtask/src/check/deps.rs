//! Licences, bans and sources of dependencies, from `cargo metadata` and without the network.
//!
//! cargo-deny does this and more, but takes minutes to build on two cores; what is checked on every change has to be cheap.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};

use super::licence::satisfied;
use super::policy::{BANNED, LICENCES, ONE_VERSION};
use super::{Metadata, Package};
use crate::host::Host;

pub(super) fn run(host: &Host) -> Result<()> {
    let metadata = Metadata::read(host)?;
    let ours: BTreeSet<&str> = metadata
        .workspace_members
        .iter()
        .map(String::as_str)
        .collect();
    let others: Vec<&Package> = metadata
        .packages
        .iter()
        .filter(|package| !ours.contains(package.id.as_str()))
        .collect();
    let violations = violations(&others);
    if !violations.is_empty() {
        bail!(
            "dependencies break the policy (xtask/src/check/policy.rs):\n  {}",
            violations.join("\n  ")
        );
    }
    println!("{} packages of others fit the policy", others.len());
    Ok(())
}

/// One line for each rule a package breaks.
fn violations(packages: &[&Package]) -> Vec<String> {
    let mut violations = Vec::new();
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in packages {
        let Package { name, version, .. } = package;
        let mut broken = |what: String| violations.push(format!("{name} {version}: {what}"));
        match &package.license {
            None => broken("states no licence".to_owned()),
            Some(licence) => match satisfied(licence, LICENCES) {
                Ok(true) => {}
                Ok(false) => broken(format!("its licence `{licence}` is not accepted")),
                Err(reason) => broken(format!("its licence `{licence}` cannot be read: {reason}")),
            },
        }
        match &package.source {
            Some(source) if source.starts_with("registry+") => {}
            Some(source) => broken(format!("comes from {source}, not from the registry")),
            None => broken("lies outside the workspace".to_owned()),
        }
        if let Some((_, why)) = BANNED.iter().find(|(banned, _)| banned == name) {
            broken(format!("is banned: {why}"));
        }
        versions.entry(name).or_default().insert(version);
    }
    let registries: BTreeSet<_> = packages
        .iter()
        .filter_map(|package| package.source.as_deref())
        .collect();
    if registries.len() > 1 {
        violations.push(format!(
            "packages come from {} sources, not from one registry",
            registries.len()
        ));
    }
    for name in ONE_VERSION {
        if let Some(found) = versions.get(name).filter(|found| found.len() > 1) {
            let list: Vec<_> = found.iter().copied().collect();
            violations.push(format!(
                "{name}: there are {} versions of it ({})",
                found.len(),
                list.join(", ")
            ));
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, version: &str, licence: Option<&str>, source: Option<&str>) -> Package {
        Package {
            id: format!("{name} {version}"),
            name: name.to_owned(),
            version: version.to_owned(),
            license: licence.map(str::to_owned),
            source: source.map(str::to_owned),
            targets: Vec::new(),
            features: BTreeMap::new(),
        }
    }

    #[test]
    fn each_rule_bites() {
        let registry = Some("registry+index");
        let good = package("good", "1.0.0", Some("MIT OR Apache-2.0"), registry);
        assert_eq!(violations(&[&good]), Vec::<String>::new());

        let cases = [
            (
                package("a", "1.0.0", None, registry),
                "a 1.0.0: states no licence",
            ),
            (
                package("a", "1.0.0", Some("AGPL-3.0-only"), registry),
                "a 1.0.0: its licence `AGPL-3.0-only` is not accepted",
            ),
            (
                package("a", "1.0.0", Some("MIT OR"), registry),
                "a 1.0.0: its licence `MIT OR` cannot be read: a licence is missing at the end",
            ),
            (
                package("openssl-sys", "1.0.0", Some("MIT"), registry),
                "openssl-sys 1.0.0: is banned: needs the system's OpenSSL",
            ),
            (
                package("a", "1.0.0", Some("MIT"), None),
                "a 1.0.0: lies outside the workspace",
            ),
        ];
        for (bad, expected) in cases {
            assert_eq!(violations(&[&good, &bad]), [expected]);
        }

        let git = package("a", "1.0.0", Some("MIT"), Some("git+somewhere"));
        assert_eq!(
            violations(&[&good, &git]),
            [
                "a 1.0.0: comes from git+somewhere, not from the registry",
                "packages come from 2 sources, not from one registry"
            ]
        );
        let (old, new) = (
            package("tch", "0.16.0", Some("MIT"), registry),
            package("tch", "0.17.0", Some("MIT"), registry),
        );
        assert_eq!(
            violations(&[&old, &new]),
            ["tch: there are 2 versions of it (0.16.0, 0.17.0)"]
        );
    }
}
