//! Where profiles come from: the folder `profiles` beside the config first, then those that come with the program.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use toml::Spanned;

use super::diagnostic::{Diagnostic, Diagnostics, did_you_mean};
use super::section;
use crate::bus::profile::{self, Profile};

/// All profiles that were asked for.
#[derive(Debug)]
pub(super) struct Profiles {
    folder: PathBuf,
    loaded: HashMap<String, Option<Rc<Loaded>>>,
}

/// A profile whose spans are places among the config's files.
#[derive(Debug)]
pub(super) struct Loaded {
    pub profile: Profile,
}

impl Profiles {
    /// Those of a config in this folder.
    pub fn beside(config: &Path) -> Self {
        Self { folder: config.join("profiles"), loaded: HashMap::new() }
    }

    /// The profile of this name; none after an error.
    pub fn find(&mut self, name: &Spanned<String>, uart: bool, out: &mut Diagnostics) -> Option<Rc<Loaded>> {
        let loaded = match self.loaded.get(name.get_ref()) {
            Some(loaded) => loaded.clone(),
            None => {
                let loaded = self.load(name, out).map(Rc::new);
                self.loaded.insert(name.get_ref().clone(), loaded.clone());
                loaded
            }
        }?;
        if loaded.profile.uart != uart {
            let (is, not) = if uart { ("Modbus", "a `uart`") } else { ("a `uart` bus", "Modbus") };
            let why = format!("profile `{}` is for {is}, and this bus is {not}", name.get_ref());
            out.push(Diagnostic::error(why).at(name.span()));
            return None;
        }
        Some(loaded)
    }

    fn load(&self, name: &Spanned<String>, out: &mut Diagnostics) -> Option<Loaded> {
        let wanted = name.get_ref();
        let path = self.folder.join(format!("{wanted}.toml"));
        let is_name = !wanted.is_empty() && !wanted.contains(['/', '\0']);
        let file = if is_name && path.exists() {
            match out.sources.read(&path) {
                Ok(file) => file,
                Err(why) => {
                    out.push(Diagnostic::error(why).at(name.span()));
                    return None;
                }
            }
        } else if let Some(text) = profile::shipped(wanted) {
            out.sources.add(format!("{wanted}.toml (comes with fieldpost)").into(), text.to_owned())
        } else {
            let mine = self.names();
            let known = profile::SHIPPED.iter().map(|(name, _)| *name).chain(mine.iter().map(String::as_str));
            let help = did_you_mean(wanted, known);
            out.push(Diagnostic::error(format!("unknown profile `{wanted}`")).at(name.span()).help(help));
            return None;
        };
        match Profile::parse(&out.sources.in_place(file)) {
            Ok(profile) => Some(Loaded { profile }),
            Err(e) => {
                // What is not there has no place in the file; the place that asked for the file has to do.
                let nowhere = e.span().is_none_or(|span| span.end == 0);
                let diagnostic = section::explain(&e, name.span());
                out.push(if nowhere {
                    let why = format!("in {}: {}", path.display(), diagnostic.message());
                    Diagnostic::error(why).at(name.span())
                } else {
                    diagnostic
                });
                None
            }
        }
    }

    /// The profiles in the user's own folder.
    fn names(&self) -> Vec<String> {
        let files = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        files.filter_map(|file| file.file_name().to_str()?.strip_suffix(".toml").map(str::to_owned)).collect()
    }
}
