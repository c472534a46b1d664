//! Reading a recipe, and refusing what a program would take for something else: nothing of it may
//! become an option, a second argument or a line of a file.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use super::document::{FileEntry, Recipe, User};
use super::error::RecipeError;

impl Recipe {
    /// Reads the recipe in `text` and checks every value.
    ///
    /// # Errors
    /// [`RecipeError::Syntax`], [`RecipeError::Value`].
    pub(super) fn parse(text: &str) -> Result<Self, RecipeError> {
        let recipe: Self = toml::from_str(text)
            .map_err(|e| RecipeError::Syntax(e.to_string().trim().to_owned()))?;
        recipe.check()?;
        Ok(recipe)
    }

    fn check(&self) -> Result<(), RecipeError> {
        word("suite", &self.suite, "")?;
        all("mirrors", &self.mirrors, |key, value| {
            let url = ["http://", "https://", "file:///"].iter().any(|s| value.starts_with(s));
            // a whole line of sources.list, too: mmdebstrap takes both
            let line = value.starts_with("deb ") && self.base.is_debian();
            let sound = (url && value.bytes().all(|b| b.is_ascii_graphic())) || line;
            let sound = sound && !value.contains(['\n', '\r']);
            refuse(!sound, key, value, "write a URL, or for Debian a line of sources.list")
        })?;
        // dnf takes no package whose signature it cannot check, and this host's keys are not asked
        let why = "name the file with the keys of these mirrors, in the recipe's folder";
        let unknown = !self.base.is_debian() && !self.mirrors.is_empty() && self.keyring.is_none();
        refuse(unknown, "keyring", "", why)?;
        all("components", &self.components, |key, value| word(key, value, ""))?;
        all("packages", &self.packages, |key, value| word(key, value, "+:~="))?;
        self.kernel.iter().try_for_each(|kernel| word("kernel", kernel, "+:~="))?;
        for (key, units) in [
            ("services.enable", &self.services.enable),
            ("services.disable", &self.services.disable),
            ("services.mask", &self.services.mask),
        ] {
            all(key, units, |key, value| word(key, value, "@:\\"))?;
        }
        all("commands", &self.commands, |key, value| {
            refuse(value.contains('\0'), key, value, "a command has no NUL byte")
        })?;
        self.files.iter().try_for_each(check_file)?;
        self.users.iter().try_for_each(check_user)
    }
}

fn check_file(file: &FileEntry) -> Result<(), RecipeError> {
    let path = Path::new(&file.path);
    let plain = path.components().skip(1).all(|part| matches!(part, Component::Normal(_)));
    let sound = path.is_absolute() && plain && path.file_name().is_some();
    let key = "files.path";
    refuse(
        !sound || file.path.ends_with('/'),
        key,
        &file.path,
        "write an absolute path without ..",
    )?;
    let why = "give either source or content";
    refuse(file.source.is_some() == file.content.is_some(), key, &file.path, why)?;
    file.permissions().map(drop)
}

impl FileEntry {
    /// The mode that is given, if one is.
    pub(super) fn permissions(&self) -> Result<Option<u32>, RecipeError> {
        let Some(text) = &self.mode else { return Ok(None) };
        match u32::from_str_radix(text, 8) {
            Ok(mode) if mode <= 0o7777 && !text.starts_with('+') => Ok(Some(mode)),
            _ => Err(value("files.mode", text, "write an octal number, such as \"0644\"")),
        }
    }
}

fn check_user(user: &User) -> Result<(), RecipeError> {
    word("users.name", &user.name, "")?;
    all("users.groups", &user.groups, |key, value| word(key, value, ""))?;
    for (key, path) in [("users.shell", &user.shell), ("users.home", &user.home)] {
        let Some(path) = path else { continue };
        let sound = path.starts_with('/') && !path.contains([':', '\n', '\0']);
        refuse(!sound, key, path, "write an absolute path")?;
    }
    let Some(hash) = &user.password_hash else { return Ok(()) };
    let key = "users.password-hash";
    let why = "whoever can reach the swarm can read it; if that is meant, add \
               allow-password-hash = true";
    // the hash itself is not repeated in a message
    refuse(!user.allow_password_hash, key, &user.name, why)?;
    let sound = hash.starts_with('$') && hash.bytes().all(|b| b.is_ascii_graphic() && b != b':');
    refuse(!sound, key, &user.name, "write a hash as in /etc/shadow, such as mkpasswd makes")
}

/// A name: letters, digits, `.`, `_`, `-` and what else is allowed, beginning with a letter or
/// digit, so that nothing is taken for an option.
fn word(key: &str, text: &str, further: &str) -> Result<(), RecipeError> {
    let start = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    let known = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c) || further.contains(c);
    refuse(!start || !text.chars().all(known), key, text, "no such name can be")
}

fn all(
    key: &str,
    values: &[String],
    check: impl Fn(&str, &str) -> Result<(), RecipeError>,
) -> Result<(), RecipeError> {
    values.iter().try_for_each(|value| check(key, value))
}

fn refuse(bad: bool, key: &str, text: &str, why: &'static str) -> Result<(), RecipeError> {
    if bad { Err(value(key, text, why)) } else { Ok(()) }
}

fn value(key: &str, text: &str, why: &'static str) -> RecipeError {
    RecipeError::Value { key: key.to_owned(), value: text.to_owned(), why }
}

/// A file in the recipe's folder.
///
/// # Errors
/// [`RecipeError::File`] when it is none, or leads out of the folder.
pub(super) fn beside(folder: &Path, file: &Path) -> Result<PathBuf, RecipeError> {
    let path = folder.join(file);
    let error = |source| RecipeError::File { path: path.clone(), source };
    let real = fs::canonicalize(&path).map_err(error)?;
    if !real.starts_with(fs::canonicalize(folder).map_err(error)?) {
        return Err(error(io::Error::other("it leads out of the folder")));
    }
    if !fs::metadata(&real).map_err(error)?.is_file() {
        return Err(error(io::Error::other("it is no regular file")));
    }
    Ok(real)
}
