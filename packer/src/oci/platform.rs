//! Which kind of machine an image is for.

use std::fmt;
use std::str::FromStr;

use super::document::PlatformField;

/// A kind of machine, in the words of Go: `linux/amd64`, `linux/arm64/v8`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

impl Platform {
    /// Linux on the architecture of this program.
    #[must_use]
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "x86" => "386",
            "aarch64" => "arm64",
            "powerpc64" => "ppc64le",
            other => other,
        };
        Self { os: "linux".to_owned(), architecture: architecture.to_owned(), variant: None }
    }

    /// Whether an image with that description is for this.
    pub(super) fn fits(&self, field: &PlatformField) -> bool {
        self.os == field.os
            && self.architecture == field.architecture
            && (self.variant.is_none() || self.variant == field.variant)
    }
}

impl FromStr for Platform {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split('/').map(str::to_owned);
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(os), Some(architecture), variant, None)
                if !os.is_empty() && !architecture.is_empty() =>
            {
                Ok(Self { os, architecture, variant })
            }
            _ => Err(format!("{text:?} is no platform: write linux/amd64 or linux/arm64/v8")),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}

impl From<&PlatformField> for Platform {
    fn from(field: &PlatformField) -> Self {
        let (os, architecture) = (field.os.clone(), field.architecture.clone());
        Self { os, architecture, variant: field.variant.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variant_counts_when_it_is_named() {
        let field = |variant: Option<&str>| PlatformField {
            os: "linux".to_owned(),
            architecture: "arm64".to_owned(),
            variant: variant.map(str::to_owned),
        };
        let any: Platform = "linux/arm64".parse().unwrap();
        let v8: Platform = "linux/arm64/v8".parse().unwrap();
        assert!(any.fits(&field(None)) && any.fits(&field(Some("v8"))));
        assert!(
            v8.fits(&field(Some("v8"))) && !v8.fits(&field(None)) && !v8.fits(&field(Some("v9")))
        );
        assert_eq!(
            (any.to_string(), v8.to_string()),
            ("linux/arm64".into(), "linux/arm64/v8".into())
        );
        for bad in ["", "linux", "linux/", "/amd64", "linux/arm/v7/x"] {
            assert!(bad.parse::<Platform>().unwrap_err().contains("linux/amd64"), "{bad}");
        }
    }
}
