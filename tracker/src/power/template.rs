//! Texts of the settings with places for what is known of a node: `{name}`, `{mac}`, `{address}`, `{bmc}`.

use serde::Deserialize;

use super::Subject;

/// A text with places.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Name,
    Mac,
    Address,
    Bmc,
}

/// A place that nobody can fill.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} names something else than {{name}}, {{mac}}, {{address}} and {{bmc}}")]
pub(super) struct TemplateError(String);

impl TryFrom<String> for Template {
    type Error = TemplateError;

    fn try_from(text: String) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut rest = text.as_str();
        while let Some((fixed, behind)) = rest.split_once('{') {
            let (place, behind) =
                behind.split_once('}').ok_or_else(|| TemplateError(text.clone()))?;
            parts.push(Part::Text(fixed.to_owned()));
            parts.push(match place {
                "name" => Part::Name,
                "mac" => Part::Mac,
                "address" => Part::Address,
                "bmc" => Part::Bmc,
                _ => return Err(TemplateError(text.clone())),
            });
            rest = behind;
        }
        parts.push(Part::Text(rest.to_owned()));
        Ok(Self(parts))
    }
}

impl Template {
    pub(super) fn fill(&self, subject: &Subject) -> Result<String, String> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(fixed) => text.push_str(fixed),
                Part::Name => text.push_str(&subject.name),
                Part::Mac => text.push_str(&subject.mac.to_string()),
                Part::Address => match subject.address {
                    Some(address) => text.push_str(&address.to_canonical().to_string()),
                    None => return Err("its address is not known: it was never heard".to_owned()),
                },
                Part::Bmc => match &subject.bmc {
                    Some(bmc) => text.push_str(&bmc.to_string()),
                    None => return Err("the inventory names no bmc for it".to_owned()),
                },
            }
        }
        Ok(text)
    }
}

pub(super) fn fill_all(words: &[Template], subject: &Subject) -> Result<Vec<String>, String> {
    words.iter().map(|word| word.fill(subject)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_filled_or_named() {
        let template = |text: &str| Template::try_from(text.to_owned());
        let subject = Subject {
            name: "n01; reboot".to_owned(),
            mac: "52:54:00:00:00:01".parse().unwrap(),
            address: Some("::ffff:10.0.0.1".parse().unwrap()),
            bmc: None,
        };
        for (text, filled) in [
            ("", ""),
            ("reboot", "reboot"),
            ("root@{name}", "root@n01; reboot"),
            ("{mac}/{address}.", "52:54:00:00:00:01/10.0.0.1."),
        ] {
            assert_eq!(template(text).unwrap().fill(&subject).unwrap(), filled);
        }
        for bad in ["{node}", "{name", "a{}"] {
            assert!(template(bad).unwrap_err().to_string().contains("{address}"), "{bad}");
        }
        assert!(template("{bmc}").unwrap().fill(&subject).unwrap_err().contains("inventory"));
    }
}
