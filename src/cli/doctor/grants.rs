//! Finds which privileges a MySQL user lacks on a database, from the output of SHOW GRANTS. Entry point:
//! [`missing`]. It asks no server.

/// The privileges among `wanted` that no grant gives on the whole `database`.
pub fn missing(grants: &[String], database: &str, wanted: &[&'static str]) -> Vec<&'static str> {
    let given: Vec<String> = grants.iter().filter_map(|grant| given_on(grant, database)).collect();
    let has = |privilege: &str| {
        given.iter().any(|list| {
            list.split(',').map(str::trim).any(|one| one == privilege || one == "ALL PRIVILEGES" || one == "ALL")
        })
    };
    wanted.iter().copied().filter(|privilege| !has(privilege)).collect()
}

/// Whether a grant is of a role. The role's own privileges are not among the grants.
pub fn has_roles(grants: &[String]) -> bool {
    grants.iter().any(|grant| grant.starts_with("GRANT ") && !grant.contains(" ON "))
}

/// The privileges of a grant on the whole database.
fn given_on(grant: &str, database: &str) -> Option<String> {
    let rest = grant.strip_prefix("GRANT ")?;
    let (privileges, rest) = rest.split_once(" ON ")?;
    let (object, _) = rest.split_once(" TO ")?;
    let object = object.replace(['`', '"', '\''], "");
    let of = object.strip_suffix(".*")?;
    (of == "*" || matches(of, database)).then(|| privileges.to_ascii_uppercase())
}

/// A grant's database is a pattern: `_` is any character and `%` any text, unless a
/// backslash stands before.
fn matches(pattern: &str, name: &str) -> bool {
    let mut chars = pattern.chars();
    match chars.next() {
        None => name.is_empty(),
        Some('%') => (0..=name.len()).any(|at| name.is_char_boundary(at) && matches(chars.as_str(), &name[at..])),
        Some('_') => name.chars().next().is_some_and(|first| matches(chars.as_str(), &name[first.len_utf8()..])),
        Some(escape) => {
            let literal = if escape == '\\' { chars.next().unwrap_or(escape) } else { escape };
            name.strip_prefix(literal).is_some_and(|rest| matches(chars.as_str(), rest))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn privileges_that_no_grant_gives_on_the_database_are_missing() {
        let grants = [
            "GRANT USAGE ON *.* TO `ctl`@`%`",
            r"GRANT SELECT, INSERT ON `ctl\_db`.* TO `ctl`@`%`",
            "GRANT UPDATE ON `ctl%`.* TO `ctl`@`%`",
            "GRANT DELETE ON `ctl_db`.`families` TO `ctl`@`%`",
            "GRANT ALL PRIVILEGES ON `other`.* TO `ctl`@`%`",
        ]
        .map(str::to_owned);
        let wanted = ["SELECT", "INSERT", "UPDATE", "DELETE"];
        assert_eq!(missing(&grants, "ctl_db", &wanted), ["DELETE"]);
        assert_eq!(missing(&grants, "ctlxdb", &wanted), ["SELECT", "INSERT", "DELETE"]);
        assert_eq!(missing(&grants, "other", &wanted), [""; 0]);
        assert_eq!(missing(&[], "other", &["SELECT"]), ["SELECT"]);
        assert!(!has_roles(&grants) && has_roles(&["GRANT `writers`@`%` TO `ctl`@`%`".to_owned()]));
        let root = ["GRANT ALL PRIVILEGES ON *.* TO `root`@`localhost` WITH GRANT OPTION".to_owned()];
        assert_eq!(missing(&root, "ctl_db", &wanted), [""; 0]);
    }
}
