//! Texts of the settings with places for what is known of a node: `{name}`, `{mac}`, `{address}`, `{bmc}`.

use serde::Deserialize;

use super::Subject;
use crate::error::ConfigError;

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
    /// Where a management controller is: a password goes there.
    pub(super) fn controller(self, field: &str) -> Result<Self, ConfigError> {
        if self.0.contains(&Part::Address) {
            return Err(ConfigError::Setting(format!(
                "{field}: {{address}} is that of whoever sent the node's last event, and the password would \
                 go there; write {{bmc}}, and put the controllers into the inventory"
            )));
        }
        Ok(self)
    }

    /// The same, for one node.
    pub(super) fn fill_controller(&self, subject: &Subject) -> Result<String, String> {
        if self.0.contains(&Part::Name) && !subject.listed {
            return Err(
                "the inventory does not have it, and {name} would be the order's".to_owned()
            );
        }
        self.fill(subject)
    }

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
            listed: false,
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

    #[test]
    fn a_password_goes_where_the_admin_said() {
        let template = |text: &str| Template::try_from(text.to_owned()).unwrap();
        let error = template("https://{address}").controller("[reimage.redfish] url").unwrap_err();
        assert!(error.to_string().contains("write {bmc}"), "{error}");
        let host = template("{name}-bmc").controller("[reimage.ipmi] host").unwrap();
        let of = |listed| Subject {
            name: "n01".to_owned(),
            listed,
            mac: "52:54:00:00:00:01".parse().unwrap(),
            address: None,
            bmc: None,
        };
        assert_eq!(host.fill_controller(&of(true)).unwrap(), "n01-bmc");
        assert!(host.fill_controller(&of(false)).unwrap_err().contains("inventory"));
    }
}
