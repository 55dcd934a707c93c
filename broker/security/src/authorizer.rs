use std::fmt;

/// Who a connection has shown to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Principal {
    /// Nobody in particular: everything that is not closed.
    #[default]
    Anonymous,
    /// The services of the house, by their key.
    Service,
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "User:ANONYMOUS",
            Self::Service => "User:service",
        })
    }
}

/// Decides by name: there is one rule, and it holds for topics, groups and transactional ids.
#[derive(Clone, Debug, Default)]
pub struct Authorizer {
    closed_prefixes: Vec<String>,
}

impl Authorizer {
    /// `closed_prefixes` are whole beginnings of names, such as `__auth.`; empty ones are ignored.
    #[must_use]
    pub fn new(mut closed_prefixes: Vec<String>) -> Self {
        closed_prefixes.retain(|prefix| !prefix.is_empty());
        Self { closed_prefixes }
    }

    /// Whether the name is for the services alone.
    #[must_use]
    pub fn is_closed(&self, name: &str) -> bool {
        self.closed_prefixes.iter().any(|prefix| name.starts_with(prefix.as_str()))
    }

    /// Whether the principal may read, write, describe or change what has this name.
    #[must_use]
    pub fn allows(&self, principal: Principal, name: &str) -> bool {
        match principal {
            Principal::Service => true,
            Principal::Anonymous => !self.is_closed(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Authorizer, Principal};

    #[test]
    fn closed_names_are_for_the_services_alone() {
        let authorizer = Authorizer::new(vec!["__auth.".to_owned(), String::new()]);
        assert!(!authorizer.allows(Principal::Anonymous, "__auth.users"));
        assert!(authorizer.allows(Principal::Service, "__auth.users"));
        for open in ["__auth", "__authors", "auth.users", "__consumer_offsets", ""] {
            assert!(authorizer.allows(Principal::Anonymous, open), "{open}");
        }
    }
}
