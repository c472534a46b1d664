//! Whether a node is who it says.

/// Whether what a node says of a boot carries the token that its boot script gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Trust {
    /// Some of it does not: anybody may have said it.
    Without,
    /// All of it does.
    Token,
    /// It said nothing yet.
    #[default]
    Silent,
}

impl Trust {
    /// As it is stored.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Without => "without",
            Self::Token => "token",
            Self::Silent => "silent",
        }
    }

    pub(crate) fn of_word(word: &str) -> Self {
        match word {
            "token" => Self::Token,
            "silent" => Self::Silent,
            _ => Self::Without,
        }
    }
}
