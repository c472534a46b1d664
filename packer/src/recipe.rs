//! A recipe as a source: mmdebstrap or dnf installs the packages, then files, users, services and
//! commands follow.
//!
//! What runs in the root runs in namespaces that end with this program: neither a mount nor a
//! process stays when it is killed.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use proto::hash::Sha256Digest;

use crate::archive::{self, Kind, Layout, Member, Role, Tree};
use crate::error::PackError;
use crate::event::{Event, Observer};
use crate::tool::{Place, Tool};

mod bootstrap;
mod check;
mod document;
mod error;

use bootstrap::{bootstrap, contained};
use document::{FileEntry, Recipe, User};
pub use error::RecipeError;

/// Mounts what programs expect, and becomes a shell in the root. `$1` is the root, `$2` the script.
const ENTER: &str = r#"
for dir in proc sys dev run tmp; do mkdir -p "$1/$dir"; done
mount -t proc proc "$1/proc"
mount -t sysfs -o ro sysfs "$1/sys"
mount --rbind /dev "$1/dev"
mount -t tmpfs -o mode=755 tmpfs "$1/run"
mount -t tmpfs -o mode=1777 tmpfs "$1/tmp"
exec chroot "$1" /bin/sh -eu -c "$2"
"#;

/// What is removed once all packages are in: an initrd that is of no use, caches, and what must not
/// be the same on all nodes. An empty machine-id means a fresh one at each boot.
const TRIM: &str = r"
rm -rf /boot/initrd.img-* /initrd.img* /var/lib/apt/lists/* /var/cache/apt/* /var/cache/dnf/* \
    /var/cache/libdnf5/* /var/log/*.log /var/log/apt/* /etc/ssh/ssh_host_*_key \
    /etc/ssh/ssh_host_*_key.pub
: >/etc/machine-id
";

/// What the base has from this host, and goes unless the recipe has such a file.
const OF_HOST: [&str; 2] = ["/etc/hostname", "/etc/resolv.conf"];

/// A recipe that was read and understood.
#[derive(Debug)]
pub(crate) struct Plan {
    path: PathBuf,
    folder: PathBuf,
    digest: Sha256Digest,
    recipe: Recipe,
}

impl Plan {
    /// Reads the recipe at `path`, and looks whether the files that it names are there.
    ///
    /// # Errors
    /// [`PackError::Recipe`].
    pub(crate) fn read(path: &Path) -> Result<Self, PackError> {
        let failed = |source| PackError::Recipe { path: path.to_owned(), source };
        let text = fs::read_to_string(path);
        let text = text.map_err(|source| failed(RecipeError::Read { source }))?;
        let recipe = Recipe::parse(&text).map_err(failed)?;
        let folder = path.parent().filter(|dir| !dir.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new(".")).to_owned();
        let files = recipe.files.iter().filter_map(|file| file.source.as_deref());
        for file in files.chain(recipe.keyring.as_deref()) {
            check::beside(&folder, file).map_err(failed)?;
        }
        let digest = Sha256Digest::of(text.as_bytes());
        Ok(Self { path: path.to_owned(), folder, digest, recipe })
    }

    /// For the manifest of the revision.
    pub(crate) fn facts(&self) -> Vec<(&'static str, String)> {
        let base = format!("{} {}", self.recipe.base.name(), self.recipe.suite);
        let digest = format!("sha256:{}", self.digest);
        vec![("source", "recipe".to_owned()), ("source-base", base), ("source-recipe", digest)]
    }

    /// Makes the root in a new directory `into`. Needs root, and a mirror.
    ///
    /// # Errors
    /// [`PackError::ToolFailed`] with what the program says, [`PackError::Recipe`],
    /// [`PackError::DiskFull`].
    pub(crate) fn build(
        &self,
        into: &Path,
        place: &Place<'_>,
        observe: Observer<'_>,
    ) -> Result<(), PackError> {
        let recipe = &self.recipe;
        let failed = |source| PackError::Recipe { path: self.path.clone(), source };
        let keyring = recipe.keyring.as_deref().map(|file| check::beside(&self.folder, file));
        let keyring = keyring.transpose().map_err(failed)?;
        // dnf wants it to be there, mmdebstrap takes it when it is empty
        fs::create_dir(into).map_err(|e| place.write_error(into.to_owned(), e))?;
        let into = &fs::canonicalize(into).map_err(|e| place.write_error(into.to_owned(), e))?;
        let (tool, args) = bootstrap(recipe, keyring.as_deref(), into);
        tool.require()?;
        let mut command = contained(tool.program);
        // kernel packages: no initrd, ours is made when the image is packed
        command.args(args).env("INITRD", "No");
        let output = tool.run(command, |_| {})?;
        if !output.status.success() {
            let remedy = "See that the recipe's packages exist, and that this host reaches the \
                          mirror and has its keys";
            return Err(tool.failed(&output, place, remedy));
        }
        self.enter(into, TRIM, &[], "trimming", place)?;
        self.put_files(into, place)?;
        for user in &recipe.users {
            let (script, env) = add_user(user);
            self.enter(into, &script, &env, "adding a user", place)?;
        }
        for (verb, units) in [
            ("enable", &recipe.services.enable),
            ("disable", &recipe.services.disable),
            ("mask", &recipe.services.mask),
        ] {
            if !units.is_empty() {
                let script = format!("systemctl {verb} -- {}", quoted(units));
                self.enter(into, &script, &[("SYSTEMD_OFFLINE", "1")], "changing services", place)?;
            }
        }
        for command in &recipe.commands {
            self.enter(into, command, &[], "running a command", place)?;
        }
        let mut paths = OF_HOST.map(str::to_owned).to_vec();
        paths.retain(|path| !recipe.files.iter().any(|file| file.path == *path));
        let last = format!("rm -f -- {}\n{TRIM}", quoted(&paths));
        self.enter(into, &last, &[], "trimming", place)?;
        if recipe.kernel.is_none() {
            let text = "the recipe names no kernel package";
            observe(Event::Warning { text: text.to_owned() });
        }
        Ok(())
    }

    /// Runs a script in the root.
    fn enter(
        &self,
        root: &Path,
        script: &str,
        env: &[(&str, &str)],
        doing: &str,
        place: &Place<'_>,
    ) -> Result<(), PackError> {
        let mut command = contained("sh");
        command.args(["-eu", "-c", ENTER, "sh"]).arg(root).arg(script);
        command.env("HOME", "/root").env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.envs(env.iter().copied());
        const SHELL: Tool = Tool { program: "sh", purpose: "works in the root", package: "dash" };
        let output = SHELL.run(command, |_| {})?;
        if output.status.success() {
            return Ok(());
        }
        let shown: String = script.trim().chars().take(300).collect();
        let remedy = format!("That was {doing}, in the root of {}:\n{shown}", self.path.display());
        Err(SHELL.failed(&output, place, &remedy))
    }

    fn put_files(&self, root: &Path, place: &Place<'_>) -> Result<(), PackError> {
        if self.recipe.files.is_empty() {
            return Ok(());
        }
        let mut tree =
            Tree::new(root, Role::Root).map_err(|e| place.write_error(root.to_owned(), e))?;
        for file in &self.recipe.files {
            let failed = |source| PackError::Recipe { path: self.path.clone(), source };
            let put = match (&file.source, &file.content) {
                (Some(source), _) => {
                    let path = check::beside(&self.folder, source).map_err(failed)?;
                    let error = |source| failed(RecipeError::File { path: path.clone(), source });
                    let mut open = File::open(&path).map_err(error)?;
                    let meta = open.metadata().map_err(error)?;
                    let executable = meta.permissions().mode() & 0o111 != 0;
                    let default = if executable { 0o755 } else { 0o644 };
                    let member = member(file, default, meta.len()).map_err(failed)?;
                    tree.put(&member, &mut open)
                }
                (None, content) => {
                    let content = content.as_deref().unwrap_or_default().as_bytes();
                    let member = member(file, 0o644, content.len() as u64).map_err(failed)?;
                    tree.put(&member, &mut io::Cursor::new(content))
                }
            };
            put.map_err(|e| PackError::archive(self.path.display().to_string(), e, place))?;
        }
        Ok(())
    }
}

fn member(file: &FileEntry, mode: u32, length: u64) -> Result<Member, RecipeError> {
    Ok(Member {
        path: file.path.clone().into_bytes(),
        kind: Kind::File(Layout::Whole(length)),
        mode: file.permissions()?.unwrap_or(mode),
        owner: (file.uid, file.gid),
        // when a checkout put it there is no fact about the image
        modified: archive::BEGIN,
        attributes: Vec::new(),
        has_acl: false,
    })
}

/// The script that adds a user, and its environment: a hash is in no command line.
fn add_user(user: &User) -> (String, Vec<(&'static str, &str)>) {
    use std::fmt::Write as _;
    let mut script = "useradd --create-home".to_owned();
    let options = [
        ("--uid", user.uid.map(|uid| uid.to_string())),
        ("--shell", user.shell.clone()),
        ("--home-dir", user.home.clone()),
        ("--groups", (!user.groups.is_empty()).then(|| user.groups.join(","))),
    ];
    for (name, value) in options {
        if let Some(value) = value {
            // writing to a String cannot fail
            let _ = write!(script, " {name} {}", quote(&value));
        }
    }
    let _ = write!(script, " -- {}", quote(&user.name));
    let mut env = Vec::new();
    if let Some(hash) = &user.password_hash {
        let _ = write!(
            script,
            "\nprintf '%s:%s\\n' {} \"$BEESWARM_HASH\" | chpasswd -e",
            quote(&user.name)
        );
        env.push(("BEESWARM_HASH", hash.as_str()));
    }
    (script, env)
}

fn quoted(words: &[String]) -> String {
    words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ")
}

/// One word for the shell, whatever is in it.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_user_is_read_by_the_shell() {
        let user = User {
            name: "admin".to_owned(),
            uid: Some(1500),
            groups: vec!["sudo".to_owned(), "users".to_owned()],
            shell: Some("/bin/it's $HOME".to_owned()),
            home: None,
            password_hash: Some("$6$s$h".to_owned()),
            allow_password_hash: true,
        };
        let (script, env) = add_user(&user);
        let add = r"useradd --create-home --uid '1500' --shell '/bin/it'\''s $HOME' --groups 'sudo,users' -- 'admin'";
        assert_eq!(script.lines().next(), Some(add));
        assert!(!script.contains("$6$"), "the hash would be in a command line");
        assert_eq!(env, [("BEESWARM_HASH", "$6$s$h")]);
    }
}
